"""What followed the last item most often: a first-order Markov chain."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recsys.baselines.popularity import count_interactions, popularity_shares
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.recommender import Filters, Recommendations, Recommender
from recsys.top_items import last_real_items, top_items


class Markov(Recommender):
    """Ranks items by how often they followed the last item, then by popularity.

    Popularity breaks ties between equally frequent followers and fills up where few followers
    are known; it is below one transition, so it never outweighs one.

    Source:
        Rendle, Freudenthaler and Schmidt-Thieme, 2010, doi:10.1145/1772690.1772773, the chain
        without factors or persons; the tie-break is ours.
    """

    counts: Int[Tensor, " item"]

    def __init__(self, catalogue: Catalogue) -> None:
        """No transition was seen yet.

        Args:
            catalogue: The items.
        """
        super().__init__()
        items = catalogue.item_count
        self.register_buffer("counts", torch.zeros(items, dtype=torch.int64))
        self._item_count = items
        self._pairs = torch.zeros(2, 0, dtype=torch.int64)
        self._new_pairs: list[Tensor] = []

    def loss(self, batch: HistoryBatch) -> Float[Tensor, ""]:
        """Count the batch's transitions; there is nothing to minimise."""
        count_interactions(self.counts, batch)
        history, targets = batch.history_item_ids, batch.target_item_ids
        if history.shape != targets.shape:
            history = last_real_items(batch).unsqueeze(1)
        seen = batch.target_mask & batch.history_mask[:, : history.shape[1]]
        self._new_pairs.append((history * self._item_count + targets)[seen].cpu())
        return torch.zeros((), device=self.counts.device)

    def recommend(
        self, batch: HistoryBatch, *, count: int, filters: Filters | None = None
    ) -> Recommendations:
        """The most frequent followers of each row's last item."""
        device = batch.history_item_ids.device
        scores = popularity_shares(self.counts).to(device).repeat(len(batch), 1)
        keys, seen = self.get_extra_state().to(device)
        last = last_real_items(batch)
        known = batch.history_mask.any(dim=1)
        starts = torch.searchsorted(keys, last * self._item_count)
        ends = torch.searchsorted(keys, (last + 1) * self._item_count)
        lengths = torch.where(known, ends - starts, 0)
        rows = torch.arange(len(batch), device=device).repeat_interleave(lengths)
        skipped = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        places = torch.arange(len(rows), device=device) - skipped + starts[rows]
        followers = keys[places] - last[rows] * self._item_count
        scores.index_put_((rows, followers), seen[places].double(), accumulate=True)
        return top_items(scores, batch, count=count, filters=filters)

    def get_extra_state(self) -> Int[Tensor, "two pair"]:
        """Every transition seen, as `last item * items + next item`, in order, and its count."""
        if self._new_pairs:
            keys = torch.cat([self._pairs[0], *self._new_pairs])
            counts = torch.cat(
                [self._pairs[1], torch.ones(len(keys) - self._pairs.shape[1], dtype=torch.int64)]
            )
            distinct, where = keys.unique(return_inverse=True)
            totals = torch.zeros_like(distinct).index_add_(0, where, counts)
            self._pairs, self._new_pairs = torch.stack([distinct, totals]), []
        return self._pairs

    def set_extra_state(self, state: Int[Tensor, "two pair"]) -> None:
        """Go on from transitions that were counted before."""
        self._pairs, self._new_pairs = state.cpu(), []
