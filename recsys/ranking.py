"""Ranking metrics on item level, one target per row: a value per row, means are taken elsewhere.

The whole catalogue competes. A row whose target was not returned scores 0 in every metric; a row
that failed has no value at all and is counted by the caller, so it never enters a mean unseen.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class TargetRanks(NamedTuple):
    """Where each row's target stands in the row's recommendations.

    Attributes:
        ranks: 1 is best; one more than the number of recommendations where `found` is false.
        found: Whether the target is among the recommendations.
    """

    ranks: Int[Tensor, " batch"]
    found: Bool[Tensor, " batch"]


class PairParts(NamedTuple):
    """Sentiment following at k, with the two parts it is the product of.

    Attributes:
        both: 1 where the wanted row returns the item and the avoided row does not.
        wanted: 1 where the wanted row returns the item.
        spared: 1 where the avoided row does not return it.
    """

    both: Float[Tensor, " pair"]
    wanted: Float[Tensor, " pair"]
    spared: Float[Tensor, " pair"]


def target_ranks(
    item_ids: Int[Tensor, "batch rank"], target_item_ids: Int[Tensor, " batch"]
) -> TargetRanks:
    """Rank of each row's target among the items returned for the row.

    Args:
        item_ids: Recommended items, best first; -1 fills places where no item was returned.
        target_item_ids: The item each row should find, 0 or greater.

    Returns:
        Ranks from 1, and whether the target is there. Only the first place counts where an item
        is repeated.

    Example:
        >>> target_ranks(torch.tensor([[7, 3, 9], [7, 3, -1]]), torch.tensor([3, 8]))
        TargetRanks(ranks=tensor([2, 4]), found=tensor([ True, False]))
    """
    matches = item_ids == target_item_ids.unsqueeze(-1)
    places_before = (matches.cumsum(dim=-1) == 0).sum(dim=-1)
    return TargetRanks(ranks=places_before + 1, found=matches.any(dim=-1))


def recall_at_k(
    ranks: Int[Tensor, " batch"], found: Bool[Tensor, " batch"], *, k: int
) -> Float[Tensor, " batch"]:
    """1 where the target is among the first `k`, else 0: with one target, recall is the hit rate.

    Args:
        ranks: Rank of each row's target, 1 is best.
        found: Whether it was returned at all.
        k: Length of the list that counts, at least 1.

    Raises:
        ValueError: If `k` is below 1.
    """
    return _hits(ranks, found, k=k).float()


def ndcg_at_k(
    ranks: Int[Tensor, " batch"], found: Bool[Tensor, " batch"], *, k: int
) -> Float[Tensor, " batch"]:
    """`1 / log2(rank + 1)` where the target is among the first `k`, else 0.

    With one target per row the ideal list has it first, so the ideal gain is 1 and nothing is
    left to divide by. Between two cut-offs the sum over rows therefore grows by at least
    `new hits / log2(last rank + 1)` and at most `new hits / log2(first rank + 1)`.

    Args:
        ranks: Rank of each row's target, 1 is best.
        found: Whether it was returned at all.
        k: Length of the list that counts, at least 1.

    Raises:
        ValueError: If `k` is below 1.

    Source:
        Jarvelin and Kekalainen, 2002, doi:10.1145/582415.582418, with one relevant item.
    """
    gains = 1.0 / torch.log2(ranks.float() + 1.0)
    return torch.where(_hits(ranks, found, k=k), gains, 0.0)


def mrr_at_k(
    ranks: Int[Tensor, " batch"], found: Bool[Tensor, " batch"], *, k: int
) -> Float[Tensor, " batch"]:
    """`1 / rank` where the target is among the first `k`, else 0.

    Args:
        ranks: Rank of each row's target, 1 is best.
        found: Whether it was returned at all.
        k: Length of the list that counts, at least 1.

    Raises:
        ValueError: If `k` is below 1.
    """
    return torch.where(_hits(ranks, found, k=k), ranks.float().reciprocal(), 0.0)


def m_at_k(wanted: TargetRanks, avoided: TargetRanks, *, k: int) -> PairParts:
    """Sentiment following of pairs of rows that ask about the same item.

    A recommender that ignores what is asked gets 0, but so does one that never returns the item;
    the two parts tell these apart, so they are returned beside the product.

    Args:
        wanted: Where the item stands when the preference asks for it.
        avoided: Where the same pair's item stands when the preference asks to avoid it.
        k: Length of the list that counts, at least 1.

    Returns:
        The product and its parts, 0 or 1 per pair.

    Raises:
        ValueError: If `k` is below 1.

    Source:
        Paischer et al., 2024, arXiv:2412.08604, sentiment following.
    """
    found = recall_at_k(wanted.ranks, wanted.found, k=k)
    spared = 1.0 - recall_at_k(avoided.ranks, avoided.found, k=k)
    return PairParts(both=found * spared, wanted=found, spared=spared)


def _hits(
    ranks: Int[Tensor, " batch"], found: Bool[Tensor, " batch"], *, k: int
) -> Bool[Tensor, " batch"]:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")
    return found & (ranks <= k)
