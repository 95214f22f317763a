"""How well styles that were read from traffic agree with the true ones of simulated drivers."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS, STYLE_LABELS
from personalize.evaluation.intervals import Interval
from personalize.evaluation.rank_correlation import rank_correlation

RESAMPLES = 1000
FEWEST_DRIVERS = 5


@dataclass(frozen=True)
class Agreement:
    """Agreement of read with true styles.

    Attributes:
        windows: Windows whose driver's style is known.
        drivers: Drivers.
        macro_f1: Of the labels of windows against the driver's preset.
        macro_f1_of_normal: What calling everything normal would get.
        rank_correlation: Spearman's, per dimension, of drivers' mean values with the true ones;
            dimensions that were read of fewer than five drivers are left out.
    """

    windows: int
    drivers: int
    macro_f1: Interval
    macro_f1_of_normal: float
    rank_correlation: Mapping[str, Interval]

    def notes(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The same in words, one line per number."""
        found = [
            f"against the true styles of {self.drivers} simulated drivers, {self.windows} windows:",
            f"  macro-F1 of the labels {_shown(self.macro_f1)}; "
            f"{self.macro_f1_of_normal:.2f} if all were called normal",
        ]
        found += [
            f"  rank correlation of {name} {_shown(interval)}, {interval.rows} drivers"
            for name, interval in self.rank_correlation.items()
        ]
        return found


def agreement(
    drivers: Int[np.ndarray, " sample"],
    labels: tuple[Int[np.ndarray, " sample"], Int[np.ndarray, " sample"]],
    read: tuple[Float[np.ndarray, "sample style"], Bool[np.ndarray, "sample style"]],
    true_values: Float[np.ndarray, "sample style"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Macro-F1 of the labels and rank correlation of every dimension.

    Intervals come from drawing whole drivers: windows of one driver are not independent.

    Args:
        drivers: Whose window it is.
        labels: Read and true label, as places in `STYLE_LABELS`.
        read: Values and mask of the read style vectors.
        true_values: The true style of the window's driver.
        resamples: Number of draws.
        seed: Seed of the draws.

    Raises:
        ValueError: If there is no window.
    """
    if not len(drivers):
        raise ValueError("agreement needs at least one window.")
    _, first, number = np.unique(drivers, return_index=True, return_inverse=True)
    count = len(first)
    confusion = np.zeros((count, 3, 3))
    np.add.at(confusion, (number, labels[1], labels[0]), 1.0)
    normal = np.full_like(labels[0], STYLE_LABELS.index("normal"))
    always = np.zeros((3, 3))
    np.add.at(always, (labels[1], normal), 1.0)
    macro = _bootstrap(
        count, lambda drawn: macro_f1(confusion[drawn].sum(0)), resamples=resamples, seed=seed
    )
    values, mask = read
    correlations = {}
    for place, name in enumerate(STYLE_DIMENSIONS):
        windows = np.bincount(number, weights=mask[:, place], minlength=count)
        total = np.bincount(number, weights=values[:, place] * mask[:, place], minlength=count)
        known = windows > 0
        if known.sum() >= FEWEST_DRIVERS:
            mean, truth = (total / np.maximum(windows, 1))[known], true_values[first, place][known]
            correlations[name] = _bootstrap(
                len(mean), _correlation_of(mean, truth), resamples=resamples, seed=seed
            )
    return Agreement(len(drivers), count, macro, macro_f1(always), correlations)


def macro_f1(confusion: Float[np.ndarray, "true read"]) -> float:
    """Mean of the F1 scores of the labels that occur, truly or as read; 0 where nothing fits.

    Args:
        confusion: Counts, a row per true label.

    Example:
        >>> macro_f1(np.array([[1.0, 1.0], [0.0, 2.0]]))  # F1 of 2/3 and 4/5
        0.7333333333333334
    """
    hits = np.diag(confusion)
    whole = confusion.sum(0) + confusion.sum(1)
    occurs = whole > 0
    scores = 2 * hits[occurs] / whole[occurs]
    return float(scores.mean()) if len(scores) else 0.0


def _correlation_of(
    mean: Float[np.ndarray, " driver"], truth: Float[np.ndarray, " driver"]
) -> Callable[[Int[np.ndarray, " drawn"]], float]:
    return lambda drawn: rank_correlation(mean[drawn], truth[drawn])


def _bootstrap(
    count: int, statistic: Callable[[np.ndarray], float], *, resamples: int, seed: int
) -> Interval:
    """A statistic of all drivers, with the percentile interval of drawing as many again."""
    generator = np.random.default_rng(seed)
    drawn = [statistic(generator.integers(0, count, count)) for _ in range(resamples)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(statistic(np.arange(count)), float(low), float(high), count)


def _shown(interval: Interval) -> str:
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
