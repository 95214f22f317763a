"""Intervals and paired tests for means over rows, seeded and exact to repeat."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_CHUNK = 250
_VALUES_PER_CHUNK = 4_000_000
_FEW = 256
"""Distinct values up to which their counts are drawn instead of rows: ranks have few."""


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Attributes:
        mean: Mean over the rows.
        low: Lower end.
        high: Upper end.
        rows: Number of rows (or groups of rows) that were resampled.
    """

    mean: float
    low: float
    high: float
    rows: int

    def excludes(self, value: float) -> bool:
        """Whether a value lies outside the interval."""
        return value < self.low or value > self.high


@dataclass(frozen=True)
class PairedComparison:
    """How one list of values differs from another on the same rows.

    Attributes:
        difference: Mean of candidate minus baseline, with its interval.
        p_value: Two-sided p-value of the randomisation test.
        wins: Rows where the candidate is higher.
        ties: Rows where both are equal.
        losses: Rows where the candidate is lower.
    """

    difference: Interval
    p_value: float
    wins: int
    ties: int
    losses: int


def bootstrap_interval(
    values: Float[np.ndarray, " row"],
    *,
    groups: Int[np.ndarray, " labelled"] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of the mean.

    Rows of one group (one user) are not independent; with `groups`, whole groups are drawn.

    Args:
        values: One value per row.
        groups: Group of each row; None draws rows.
        confidence: Share of resampled means inside the interval.
        resamples: Number of resamples.
        seed: Seed of the draws; the same seed gives the same interval.

    Returns:
        The mean and the interval's ends. A single row gives an interval of no width.

    Raises:
        ValueError: If there are no values, one is not finite, or lengths differ.

    Source:
        Efron and Tibshirani, 1993, An Introduction to the Bootstrap, chapter 13.
    """
    _check(values, "values")
    sums, counts = _group_sums(values, groups)
    means = _resampled_means(sums, counts, resamples=resamples, seed=seed)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(values.mean()), float(low), float(high), len(sums))


def paired_comparison(
    candidate: Float[np.ndarray, " row"],
    baseline: Float[np.ndarray, " paired"],
    *,
    groups: Int[np.ndarray, " labelled"] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedComparison:
    """Candidate minus baseline on the same rows: interval, randomisation test and counts.

    The test flips the sign of each row's (or group's) difference at random; its p-value is the
    share of flips at least as far from zero as what was seen, the seen one included.

    Args:
        candidate: One value per row.
        baseline: The other system's values, in the same order.
        groups: Group of each row; None treats rows as independent.
        confidence: Share of resampled means inside the interval.
        resamples: Number of resamples and of sign flips.
        seed: Seed of the draws.

    Raises:
        ValueError: If there are no values, one is not finite, or lengths differ.

    Source:
        Smucker, Allan and Carterette, 2007, doi:10.1145/1321440.1321528.
    """
    _check(candidate, "candidate")
    _check(baseline, "baseline")
    if len(candidate) != len(baseline):
        raise ValueError(
            f"candidate and baseline must have equal lengths, got {len(candidate)} "
            f"and {len(baseline)}."
        )
    difference = candidate.astype(np.float64) - baseline
    interval = bootstrap_interval(
        difference, groups=groups, confidence=confidence, resamples=resamples, seed=seed
    )
    sums, _ = _group_sums(difference, groups)
    return PairedComparison(
        difference=interval,
        p_value=_sign_flip_p_value(sums, resamples=resamples, seed=seed),
        wins=int((difference > 0).sum()),
        ties=int((difference == 0).sum()),
        losses=int((difference < 0).sum()),
    )


def holm(p_values: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """P-values corrected for the number of tests, in the order given.

    Raises:
        ValueError: If a p-value lies outside [0, 1].

    Source:
        Holm, 1979, A simple sequentially rejective multiple test procedure.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    if p_values.size and not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError("p_values must lie in [0, 1].")
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    result = np.empty_like(corrected)
    result[order] = corrected
    return result


def _check(values: np.ndarray, name: str) -> None:
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must be a list of at least one number.")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite; leave failed rows out and say how many.")


def _group_sums(
    values: np.ndarray, groups: np.ndarray | None
) -> tuple[Float[np.ndarray, " group"], Float[np.ndarray, " group"]]:
    """Sum and number of rows of every group; without groups every row is its own."""
    if groups is None:
        return values.astype(np.float64), np.ones(len(values))
    if len(groups) != len(values):
        raise ValueError(
            f"groups must have one entry per value, got {len(groups)} for {len(values)}."
        )
    _, number = np.unique(groups, return_inverse=True)
    return np.bincount(number, weights=values), np.bincount(number).astype(np.float64)


def _resampled_means(
    sums: np.ndarray, counts: np.ndarray, *, resamples: int, seed: int
) -> Float[np.ndarray, " resample"]:
    generator = np.random.default_rng(seed)
    distinct, repeats = np.unique(np.stack([sums, counts]), axis=1, return_counts=True)
    if distinct.shape[1] <= _FEW:  # how often each distinct value is drawn: the same law, faster
        drawn = generator.multinomial(len(sums), repeats / len(sums), size=resamples)
        return (drawn @ distinct[0]) / (drawn @ distinct[1])
    step = max(1, min(_CHUNK, _VALUES_PER_CHUNK // len(sums)))
    means = np.empty(resamples)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = generator.integers(0, len(sums), size=(size, len(sums)), dtype=np.int32)
        means[start : start + size] = sums[drawn].sum(1) / counts[drawn].sum(1)
    return means


def _sign_flip_p_value(sums: np.ndarray, *, resamples: int, seed: int) -> float:
    moved = sums[sums != 0]
    if not len(moved):
        return 1.0
    generator = np.random.default_rng(seed)
    seen, at_least = abs(moved.sum()), 0
    sizes, repeats = np.unique(np.abs(moved), return_counts=True)
    if len(sizes) <= _FEW:  # how many of each size keep their sign: the same law, faster
        kept = generator.binomial(repeats, 0.5, size=(resamples, len(sizes)))
        flipped = np.abs((2 * kept - repeats) @ sizes)
        return (int((flipped >= seen * (1 - 1e-12)).sum()) + 1) / (resamples + 1)
    step = max(1, min(_CHUNK, _VALUES_PER_CHUNK // len(moved)))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        signs = generator.integers(0, 2, size=(size, len(moved)), dtype=np.int8) * 2 - 1
        flipped = np.abs(signs @ moved)
        at_least += int((flipped >= seen * (1 - 1e-12)).sum())
    return (at_least + 1) / (resamples + 1)
