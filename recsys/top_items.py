"""The best items of a score for every item of the catalogue, under filters."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recsys.batch import HistoryBatch
from recsys.recommender import Filters, Recommendations


def top_items(
    scores: Float[Tensor, "batch item"],
    batch: HistoryBatch,
    *,
    count: int,
    filters: Filters | None = None,
) -> Recommendations:
    """The `count` best items of each row that the filters allow.

    Args:
        scores: Score of every item for every row; higher is better.
        batch: The rows, for the items of their histories.
        count: Number of items to return, at least 1.
        filters: Which items may be returned; None allows all.

    Returns:
        Items best first; -1 with a score of `-inf` where fewer are allowed than asked for.
    """
    chosen = filters or Filters()
    if chosen.exclude_history:
        met = torch.where(batch.history_mask, batch.history_item_ids, scores.shape[1])
        scores = torch.cat([scores, scores[:, :1]], dim=1)
        scores = scores.scatter(1, met, -torch.inf)[:, :-1]
    if chosen.allowed_items is not None:
        scores = scores.masked_fill(~chosen.allowed_items.to(scores.device), -torch.inf)
    best, item_ids = scores.topk(min(count, scores.shape[1]), dim=1)
    item_ids = torch.where(best.isneginf(), -1, item_ids)
    missing = count - item_ids.shape[1]
    item_ids = torch.nn.functional.pad(item_ids, (0, missing), value=-1)
    best = torch.nn.functional.pad(best.float(), (0, missing), value=-torch.inf)
    return Recommendations(item_ids=item_ids, scores=best)


def last_real_items(batch: HistoryBatch) -> Int[Tensor, " batch"]:
    """The newest item of every history; 0 where the history is empty."""
    last = (batch.history_mask.sum(dim=1) - 1).clamp_min(0)
    return batch.history_item_ids.gather(1, last.unsqueeze(1)).squeeze(1)
