"""Does a tuned policy rank what is preferred higher, and could it have done so?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from personalize.evaluation.intervals import Interval, bootstrap_interval


@dataclass(frozen=True)
class PairScores:
    """Log-probabilities of two responses to one context, the preferred one first.

    Attributes:
        winner: Of what is preferred, under the tuned policy.
        loser: Of the other.
        reference_winner: Of what is preferred, under the policy before tuning.
        reference_loser: Of the other.

    Raises:
        ValueError: If lengths differ, there is no pair, or a value is not finite.
    """

    winner: Float[np.ndarray, " pair"]
    loser: Float[np.ndarray, " pair"]
    reference_winner: Float[np.ndarray, " pair"]
    reference_loser: Float[np.ndarray, " pair"]

    def __post_init__(self) -> None:
        if not len(self.winner):
            raise ValueError("there must be at least one pair.")
        for name, values in vars(self).items():
            if not np.isfinite(values).all():
                raise ValueError(f"{name} must be finite.")

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.winner)

    @property
    def margin(self) -> Float[np.ndarray, " pair"]:
        """By how much the policy puts the preferred one ahead, in nats."""
        return self.winner - self.loser

    @property
    def reference_margin(self) -> Float[np.ndarray, " pair"]:
        """The same before tuning."""
        return self.reference_winner - self.reference_loser

    def some(self, chosen: Bool[np.ndarray, " pair"] | Int[np.ndarray, " chosen"]) -> "PairScores":
        """Some of the pairs."""
        return PairScores(**{name: values[chosen] for name, values in vars(self).items()})


@dataclass(frozen=True)
class RankingReport:
    """How pairs are ranked, with intervals over pairs or over their contexts.

    Attributes:
        accuracy: Share of pairs whose preferred response is likelier.
        reference_accuracy: The same before tuning.
        implicit_accuracy: Share of pairs whose margin grew: the accuracy of the reward that a
            policy implies beside its reference. It is 1/2 without tuning, and may be 1 where the
            ranking accuracy is not.
        idealised_accuracy: The best that the objective could reach; None without a share of judges.
        alignment_gap: Idealised less reached accuracy, pair by pair; None likewise.
        errors_flipped: Share of the pairs wrong before that are right after; None where none was.
        successes_kept: Share of the pairs right before that still are; None where none was.
        difficulty: See `difficulty`.
        loss: The DPO loss.
    """

    accuracy: Interval
    reference_accuracy: Interval
    implicit_accuracy: Interval
    idealised_accuracy: Interval | None
    alignment_gap: Interval | None
    errors_flipped: Interval | None
    successes_kept: Interval | None
    difficulty: Interval
    loss: Interval


def ahead(margin: Float[np.ndarray, "*pair"]) -> Float[np.ndarray, "*pair"]:
    """1 where a margin is positive, 0 where it is negative, 1/2 at 0.

    Example:
        >>> ahead(np.array([2.0, -1.0, 0.0])).tolist()
        [1.0, 0.0, 0.5]
    """
    return (margin > 0) + 0.5 * (margin == 0)


def difficulty(pairs: PairScores) -> Float[np.ndarray, " pair"]:
    """How far the reference puts the wrong response ahead, in nats; negative where it is right."""
    return -pairs.reference_margin


def dpo_loss(pairs: PairScores, beta: float) -> Float[np.ndarray, " pair"]:
    """The DPO loss of every pair.

    Args:
        pairs: The pairs.
        beta: What margins are multiplied by, above 0.
    """
    return np.logaddexp(0.0, -beta * (pairs.margin - pairs.reference_margin))


def ranking_loss(difficulty: Float[np.ndarray, " pair"], beta: float) -> Float[np.ndarray, " pair"]:
    """The DPO loss at or below which a pair of this difficulty is ranked correctly, and only then.

    It is smaller the more the reference prefers the wrong response, so a mean loss that looks small
    may leave hard pairs wrong.

    Source:
        Chen et al., 2024, Preference Learning Algorithms Do Not Learn Preference Rankings,
        arXiv:2405.19534, theorem on ranking accuracy and DPO loss.

    Example:
        >>> ranking_loss(np.array([0.0]), beta=0.1).round(4).tolist()
        [0.6931]
    """
    return np.logaddexp(0.0, -beta * difficulty)


def idealised_margin(
    pairs: PairScores, share: Float[np.ndarray, " pair"] | float, beta: float
) -> Float[np.ndarray, " pair"]:
    """The margin of the policy that minimises the DPO loss exactly.

    It keeps the reference's ratio times `(share / (1 - share)) ** (1 / beta)`.

    Args:
        pairs: The pairs; only the reference's scores are read.
        share: Share of judges who prefer the winner, above 0, at most 1; 1 gives `+inf`.
        beta: As in the loss.

    Raises:
        ValueError: If a share lies outside (0, 1], or `beta` is not positive.

    Source:
        Chen et al., 2024, arXiv:2405.19534.
    """
    share = np.broadcast_to(np.asarray(share, dtype=np.float64), (len(pairs),))
    if not ((share > 0) & (share <= 1)).all():
        raise ValueError("share must lie above 0 and at most at 1.")
    _check_beta(beta)
    with np.errstate(divide="ignore"):
        odds = np.log(share) - np.log1p(-share)
    return pairs.reference_margin + odds / beta


def ranking_report(
    pairs: PairScores,
    *,
    beta: float = 0.1,
    share: Float[np.ndarray, " pair"] | float | None = None,
    contexts: Int[np.ndarray, " pair"] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> RankingReport:
    """How pairs are ranked after tuning, beside before and beside the best that was possible.

    The released code divides log-probabilities by one another in its unnormalised branch; here they
    are subtracted, as in the paper's text.

    Args:
        pairs: Log-probabilities, summed over steps.
        beta: Of the loss; above 0.
        share: Share of judges who prefer the winner, where it is known. The paper takes 0.75 for
            simulated judges.
        contexts: Context of each pair, drawn together; None draws pairs.
        resamples: Of every interval.
        seed: Of the bootstrap.

    Raises:
        ValueError: If `beta` is not positive, or a share lies outside (0, 1].
    """
    _check_beta(beta)

    def of(values: np.ndarray, rows: np.ndarray | None = None) -> Interval:
        groups = contexts if contexts is None or rows is None else contexts[rows]
        kept = values if rows is None else values[rows]
        return bootstrap_interval(kept, groups=groups, resamples=resamples, seed=seed)

    def where(values: np.ndarray, rows: np.ndarray) -> Interval | None:
        return of(values, rows) if rows.any() else None

    right = ahead(pairs.margin)
    ideal = None if share is None else ahead(idealised_margin(pairs, share, beta))
    return RankingReport(
        accuracy=of(right),
        reference_accuracy=of(ahead(pairs.reference_margin)),
        implicit_accuracy=of(ahead(pairs.margin - pairs.reference_margin)),
        idealised_accuracy=None if ideal is None else of(ideal),
        alignment_gap=None if ideal is None else of(ideal - right),
        errors_flipped=where(right, pairs.reference_margin < 0),
        successes_kept=where(right, pairs.reference_margin > 0),
        difficulty=of(difficulty(pairs)),
        loss=of(dpo_loss(pairs, beta)),
    )


def _check_beta(beta: float) -> None:
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta:g}.")
