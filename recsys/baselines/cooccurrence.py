"""Items that stood near those of the history: the strongest baseline without a gradient."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.cooccurrence import CooccurrencePrior, CooccurrenceSettings
from recsys.recommender import Filters, Recommendations, Recommender
from recsys.top_items import top_items


class Cooccurrence(Recommender):
    """Ranks items by the co-occurrence prior alone; see `CooccurrencePrior`."""

    surveys: ClassVar[bool] = True

    def __init__(
        self, catalogue: Catalogue, *, settings: CooccurrenceSettings | None = None
    ) -> None:
        """Nothing was counted yet.

        Args:
            catalogue: The items.
            settings: How pairs are counted and weighed.
        """
        super().__init__()
        self.prior = CooccurrencePrior(catalogue.item_count, settings)

    def survey(self, batches: Iterable[HistoryBatch]) -> None:
        """Count the pairs of all training histories."""
        self.prior.survey(batches)

    def loss(self, batch: HistoryBatch) -> Float[Tensor, ""]:
        """Nothing: all there is to learn was counted before the first step."""
        return torch.zeros((), device=batch.row_ids.device)

    def recommend(
        self, batch: HistoryBatch, *, count: int, filters: Filters | None = None
    ) -> Recommendations:
        """The items most likely under the prior."""
        return top_items(self.prior(batch), batch, count=count, filters=filters)
