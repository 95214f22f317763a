"""Intervals of weighted statistics whose rows belong to contexts: whole contexts are drawn."""

import numpy as np
from jaxtyping import Bool, Float, Int

from personalize.evaluation.intervals import Interval
from personalize.evaluation.steerability import worst_mean

_TAILS = (0.025, 0.975)


class ContextBootstrap:
    """Percentile bootstrap intervals of 95 % over contexts.

    Every statistic of one bootstrap is drawn with the same contexts, so statistics of systems that
    answered the same rows may be compared draw by draw.

    Args:
        contexts: Context of every row.
        weights: Weight of every row.
        resamples: Number of resamples.
        seed: Of the draws.

    Raises:
        ValueError: If there is no row, or a weight is not positive.

    Source:
        Efron and Tibshirani, 1993, An Introduction to the Bootstrap, chapter 13.
    """

    def __init__(
        self,
        contexts: Int[np.ndarray, " row"],
        weights: Float[np.ndarray, " row"],
        *,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        if not len(contexts) or not (weights > 0).all():
            raise ValueError("weights must be positive, and of at least one row.")
        distinct, self._number = np.unique(contexts, return_inverse=True)
        self._weights, self._size = weights, len(distinct)
        even = np.full(self._size, 1 / self._size)
        generator = np.random.default_rng(seed)
        self._times = generator.multinomial(self._size, even, size=resamples).astype(np.float64)

    def mean(
        self, values: Float[np.ndarray, " row"], rows: Bool[np.ndarray, " row"] | None = None
    ) -> Interval | None:
        """Weighted mean of the values that are not NaN; None where there are none.

        Args:
            values: One per row.
            rows: Rows to look at; None looks at all.
        """
        counts = ~np.isnan(values) if rows is None else ~np.isnan(values) & rows
        return self.quotient(np.where(counts, values, 0.0), counts.astype(np.float64))

    def quotient(
        self, above: Float[np.ndarray, " row"], below: Float[np.ndarray, " row"]
    ) -> Interval | None:
        """Quotient of two weighted sums; None where the lower one has no row."""
        counts = below != 0
        if not counts.any():
            return None
        sums = [self._sums(above), self._sums(below)]
        upper, lower = (self._times @ of_context for of_context in sums)
        drawn = upper[lower != 0] / lower[lower != 0]
        value = float(sums[0].sum() / sums[1].sum())
        return self._interval(value, drawn, counts)

    def worst_mean(self, values: Float[np.ndarray, " row"]) -> Interval | None:
        """Mean of the worst tenth, see `steerability.worst_mean`; NaN values are left out."""
        counts = ~np.isnan(values)
        if not counts.any():
            return None
        number, weights, shown = self._number[counts], self._weights[counts], values[counts]
        drawn = [
            worst_mean(shown, weights * times[number])
            for times in self._times
            if times[number].any()
        ]
        return self._interval(worst_mean(shown, weights), np.array(drawn), counts)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._number, weights=self._weights * values, minlength=self._size)

    def _interval(self, value: float, drawn: np.ndarray, counts: np.ndarray) -> Interval:
        low, high = np.quantile(drawn, _TAILS)
        return Interval(value, float(low), float(high), len(np.unique(self._number[counts])))
