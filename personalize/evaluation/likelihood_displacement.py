"""Likelihood displacement: what is preferred grows less likely while its lead grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from personalize.evaluation.intervals import Interval, bootstrap_interval
from personalize.evaluation.ranking_accuracy import PairScores

ELSEWHERE = "elsewhere"
_ROUNDING = 1e-3


@dataclass(frozen=True)
class DisplacementReport:
    """How log-probabilities moved, in nats, with intervals over pairs or over their contexts.

    Attributes:
        winner_change: Mean change of what is preferred.
        loser_change: Mean change of the other.
        winner_falls: Share of pairs whose preferred response grew less likely.
        displaced: Share of pairs where it did although its lead grew: the loss is content, and the
            probability went to something that no pair names.
    """

    winner_change: Interval
    loser_change: Interval
    winner_falls: Interval
    displaced: Interval


def displacement_report(
    pairs: PairScores,
    *,
    contexts: Int[np.ndarray, " pair"] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> DisplacementReport:
    """How much likelier what is preferred became, and what is not.

    Args:
        pairs: Log-probabilities after and before tuning.
        contexts: Context of each pair, drawn together; None draws pairs.
        resamples: Of every interval.
        seed: Of the bootstrap.

    Source:
        Razin et al., 2024, Unintentional Unalignment: Likelihood Displacement in Direct Preference
        Optimization, arXiv:2410.08847, in the manner of; the four numbers are ours.
    """

    def interval(values: np.ndarray) -> Interval:
        return bootstrap_interval(
            values.astype(np.float64), groups=contexts, resamples=resamples, seed=seed
        )

    winner = pairs.winner - pairs.reference_winner
    loser = pairs.loser - pairs.reference_loser
    return DisplacementReport(
        winner_change=interval(winner),
        loser_change=interval(loser),
        winner_falls=interval(winner < 0),
        displaced=interval((winner < 0) & (winner > loser)),
    )


def mass_moved(
    before: Float[np.ndarray, "context candidate"],
    after: Float[np.ndarray, "context candidate"],
    kind: Int[np.ndarray, "context candidate"],
    present: Bool[np.ndarray, "context candidate"],
    names: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, Interval]:
    """Where probability went: its mean change on every kind of response, and on all that is left.

    Args:
        before: Log-probabilities of distinct responses of each context before tuning.
        after: The same after.
        kind: What each response is, as a number among `names`.
        present: Which places are filled.
        names: Of the kinds: winners, losers, newly found.
        seed: Of the bootstrap.

    Returns:
        Changes by name, and one named `elsewhere` that makes their sum 0.

    Raises:
        ValueError: If probabilities of one context sum to more than 1: then responses are repeated,
            or the scores are no log-probabilities.
    """
    shares = [np.where(present, np.exp(values), 0.0) for values in (before, after)]
    if max(float(share.sum(1).max()) for share in shares) > 1 + _ROUNDING:
        raise ValueError(
            "probabilities of a context must sum to 1 at most: responses are repeated, or scores "
            "are no log-probabilities."
        )
    change = shares[1] - shares[0]
    moved = {
        name: bootstrap_interval(
            np.where(present & (kind == number), change, 0.0).sum(1), seed=seed
        )
        for number, name in enumerate(names)
    }
    return {**moved, ELSEWHERE: bootstrap_interval(-change.sum(1), seed=seed)}
