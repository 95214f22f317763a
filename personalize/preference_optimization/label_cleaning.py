"""Wrong labels, found by how strongly an ensemble agrees with them, and what to do with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from personalize.preference_optimization.compared_rows import ComparedRows


@dataclass(frozen=True)
class Strengths:
    """How strongly an ensemble of reward models prefers the first of every pair.

    Attributes:
        mean: Mean over models of the first's score less the second's; below 0 they disagree with
            the label.
        spread: Standard deviation over models.
    """

    mean: Float[Tensor, " comparison"]
    spread: Float[Tensor, " comparison"]


def ensemble_strengths(scores: Float[Tensor, "member row"], comparisons: ComparedRows) -> Strengths:
    """Strengths of pairs from the scores that members of an ensemble give to rows.

    Each member's differences are divided by their root mean square first: members that learnt the
    same in other units would otherwise count unequally.

    Raises:
        ValueError: If there are fewer than two members, or lists are among the comparisons.

    Source:
        Wang et al., 2024, Secrets of RLHF in Large Language Models Part II, arXiv:2401.06080; the
        common unit is ours.
    """
    if len(scores) < 2:
        raise ValueError(f"An ensemble has two members or more, got {len(scores)}.")
    _check_pairs(comparisons)
    rows = comparisons.rows
    margin = scores[:, rows[:, 0]] - scores[:, rows[:, 1]]
    unit = margin.square().mean(1).sqrt().clamp_min(1e-12)
    told = margin / unit[:, None] * unit.mean()
    return Strengths(told.mean(0), told.std(0))


def doubtful(mean: Float[Tensor, " comparison"], share: float) -> Bool[Tensor, " comparison"]:
    """The share of comparisons with the least strength; of equals the first.

    Raises:
        ValueError: If the share lies outside [0, 1].

    Example:
        >>> doubtful(torch.tensor([0.3, -2.0, 1.0, -0.1]), 0.5)
        tensor([False,  True, False,  True])
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share:g}.")
    least = mean.argsort(stable=True)[: round(share * len(mean))]
    return torch.zeros_like(mean, dtype=torch.bool).index_fill(0, least, value=True)


def flipped(comparisons: ComparedRows, strengths: Strengths, *, share: float = 0.0) -> ComparedRows:
    """Pairs with the most doubtful ones turned round.

    A fixed share is right for one rate of wrong labels: a fifth repairs a set in which a quarter is
    wrong, and spoils one in which a twentieth is. Hence none by default; see `tuned_share`.

    Args:
        comparisons: Pairs.
        strengths: Of the same.
        share: Of the pairs, the least strong first.

    Raises:
        ValueError: If the share lies outside [0, 1], or lists are among the comparisons.

    Source:
        Wang et al., 2024, arXiv:2401.06080, who turn a fifth.
    """
    _check_pairs(comparisons)
    return _turned(comparisons, doubtful(strengths.mean, share))


def softened(comparisons: ComparedRows, strengths: Strengths) -> ComparedRows:
    """Pairs whose first should win with the logistic function of its strength; below 1/2 it turns.

    Raises:
        ValueError: If lists are among the comparisons.

    Source:
        Wang et al., 2024, arXiv:2401.06080.
    """
    _check_pairs(comparisons)
    turned = _turned(comparisons, strengths.mean < 0)
    return replace(turned, strength=(2 * strengths.mean.abs().sigmoid() - 1).to(turned.strength))


def with_margins(comparisons: ComparedRows, strengths: Strengths) -> ComparedRows:
    """Pairs whose first should lead by its strength; a doubtful one may trail.

    Raises:
        ValueError: If lists are among the comparisons.

    Source:
        Wang et al., 2024, arXiv:2401.06080: `-log sigma(difference - strength)`.
    """
    _check_pairs(comparisons)
    return replace(comparisons, margin=strengths.mean.to(comparisons.margin))


def tuned_share(
    shares: Sequence[float],
    right: Callable[[float], Float[Tensor, " clean"]],
    *,
    deviations: float = 1.0,
) -> float:
    """The share to turn round, chosen on a small clean set.

    Turning nothing stays unless a share is better by more than the noise of the clean set: the
    mean of the paired differences must exceed so many of its standard errors.

    Args:
        shares: To try, beside 0.
        right: Trains with a share, and says how right it is on every clean comparison: 0 to 1.
        deviations: Standard errors by which a share must beat 0.

    Returns:
        Of the shares that do, the one with the highest mean; 0 where none does.
    """
    without = right(0.0)
    best, highest = 0.0, 0.0
    for share in shares:
        gain = right(share) - without
        error = gain.std() / len(gain) ** 0.5
        if float(gain.mean() - deviations * error) > 0 and float(gain.mean()) > highest:
            best, highest = share, float(gain.mean())
    return best


def _turned(comparisons: ComparedRows, which: Bool[Tensor, " comparison"]) -> ComparedRows:
    two = {
        name: torch.where(which[:, None], getattr(comparisons, name).flip(1), value)
        for name, value in (("rows", comparisons.rows), ("grade", comparisons.grade))
    }
    return replace(comparisons, **two)


def _check_pairs(comparisons: ComparedRows) -> None:
    if comparisons.rows.shape[1] != 2:
        raise ValueError(
            f"Labels are cleaned in pairs, got lists of {comparisons.rows.shape[1]}; take pairs."
        )
