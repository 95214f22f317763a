"""The items met most often, the same for everyone."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.recommender import Filters, Recommendations, Recommender
from recsys.top_items import top_items


class Popularity(Recommender):
    """Ranks items by how often they were a training target or the first item of a history.

    Equally popular items are ranked by their number, so that the answer is the same everywhere.
    """

    counts: Int[Tensor, " item"]

    def __init__(self, catalogue: Catalogue) -> None:
        """Nothing was met yet.

        Args:
            catalogue: The items.
        """
        super().__init__()
        self.register_buffer("counts", torch.zeros(catalogue.item_count, dtype=torch.int64))

    def loss(self, batch: HistoryBatch) -> Float[Tensor, ""]:
        """Count the batch's interactions; there is nothing to minimise."""
        count_interactions(self.counts, batch)
        return torch.zeros((), device=self.counts.device)

    def recommend(
        self, batch: HistoryBatch, *, count: int, filters: Filters | None = None
    ) -> Recommendations:
        """The most popular items that the filters allow."""
        scores = popularity_shares(self.counts).expand(len(batch), -1)
        return top_items(scores, batch, count=count, filters=filters)


def count_interactions(counts: Int[Tensor, " item"], batch: HistoryBatch) -> None:
    """Add the targets of a batch, and the first item of a history where its row begins with it.

    Every interaction but a person's first is a target of exactly one row; the first one is met
    where a history has a single step before the first target.
    """
    counts.index_add_(0, batch.target_item_ids.flatten(), batch.target_mask.flatten().long())
    steps_before = batch.history_mask.sum(dim=1) - batch.target_mask.sum(dim=1)
    counts.index_add_(0, batch.history_item_ids[:, 0], (steps_before == 0).long())


def popularity_shares(counts: Int[Tensor, " item"]) -> Float[Tensor, " item"]:
    """A number between 0 and 1 for every item, all different, higher for the more popular."""
    order = counts.argsort(descending=True, stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return 1.0 - (places + 1).double() / (len(counts) + 1)
