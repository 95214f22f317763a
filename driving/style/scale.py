"""How unusual a measure is for its context: robust statistics, fitted on training samples only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from data_prep.errors import ArtifactMismatch
from driving.style.measures import MEASURE_NAMES, MEASURES

SPREAD_OF_NORMAL = 1.349
MOST_DEVIATIONS = 5.0
FEWEST_SAMPLES = 50
_SMALLEST = 1e-2


@dataclass(frozen=True)
class Context:
    """What a window of driving is compared with.

    Attributes:
        scenario_type: One of StyleDrive's types.
        leader: Whether somebody drives ahead.
        road_class: What kind of road it is.
    """

    scenario_type: str
    leader: bool
    road_class: str

    def chain(self) -> tuple[str, ...]:
        """Names of this context and of its parents, from narrow to wide.

        Example:
            >>> Context("lane_change", True, "urban").chain()[1:]
            ('lane_change/leader', 'lane_change', 'leader', 'all')
        """
        leader = "leader" if self.leader else "free"
        narrow = f"{self.scenario_type}/{leader}"
        return f"{narrow}/{self.road_class}", narrow, self.scenario_type, leader, "all"


@dataclass(frozen=True)
class Spread:
    """Where a measure lies in one context.

    Attributes:
        median: Middle value (of the logarithm, for measures whose ratios matter).
        deviation: Interquartile range over 1.349: the standard deviation, were it normal.
        samples: Number of values.
    """

    median: float
    deviation: float
    samples: int


@dataclass(frozen=True)
class StyleScale:
    """Robust statistics of every measure in every context with enough samples.

    Attributes:
        spreads: By context name, then by measure.
        fewest_samples: Values a context needs; with fewer, its parent speaks.
    """

    spreads: Mapping[str, Mapping[str, Spread]]
    fewest_samples: int = FEWEST_SAMPLES

    @classmethod
    def fit(
        cls,
        values: Float[np.ndarray, "sample measure"],
        mask: Bool[np.ndarray, "sample measure"],
        contexts: Sequence[Context],
        *,
        fewest_samples: int = FEWEST_SAMPLES,
    ) -> "StyleScale":
        """The statistics of these samples, which must all be training samples.

        The context of all samples is kept however few there are, so that every measure that was
        seen at all has a scale.

        Raises:
            ValueError: If there is not one context per sample.
        """
        if len(contexts) != len(values):
            raise ValueError(f"{len(values)} samples need as many contexts, got {len(contexts)}.")
        rows: dict[str, list[int]] = {"all": []}
        for row, context in enumerate(contexts):
            for name in context.chain():
                rows.setdefault(name, []).append(row)
        scaled = _scaled(values)
        spreads: dict[str, dict[str, Spread]] = {}
        for name, chosen in sorted(rows.items()):
            fewest = 1 if name == "all" else fewest_samples
            found = {}
            for column, measure in enumerate(MEASURES):
                telling = mask[chosen, column] & (values[chosen, column] >= measure.least)
                kept = scaled[chosen, column][telling]
                if len(kept) >= fewest:
                    found[measure.name] = _spread(kept, measure.floor, measure.logarithmic)
            if found:
                spreads[name] = found
        return cls(spreads, fewest_samples)

    def apply(
        self,
        values: Float[np.ndarray, "sample measure"],
        mask: Bool[np.ndarray, "sample measure"],
        contexts: Sequence[Context],
    ) -> tuple[Float[np.ndarray, "sample measure"], Bool[np.ndarray, "sample measure"]]:
        """Deviations from the context's median in robust standard deviations, clipped to 5.

        Returns:
            The deviations, 0 where the returned mask is false: what was not measured or is below
            the least telling value, and measures of which no context has statistics.
        """
        scaled = _scaled(values)
        deviations = np.zeros_like(scaled)
        known = np.zeros_like(mask)
        telling = mask & (values >= np.array([measure.least for measure in MEASURES]))
        tables = {context: self._table(context) for context in set(contexts)}
        for row, context in enumerate(contexts):
            median, deviation, there = tables[context]
            deviations[row] = (scaled[row] - median) / deviation
            known[row] = telling[row] & there
        clipped = np.clip(deviations, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        return np.where(known, clipped, 0.0).astype(np.float32), known

    def _table(
        self, context: Context
    ) -> tuple[
        Float[np.ndarray, " measure"], Float[np.ndarray, " measure"], Bool[np.ndarray, " measure"]
    ]:
        """Median and deviation of every measure, from the narrowest context that has them."""
        median = np.zeros(len(MEASURES))
        deviation = np.ones(len(MEASURES))
        there = np.zeros(len(MEASURES), dtype=bool)
        for column, name in enumerate(MEASURE_NAMES):
            for level in context.chain():
                if (spread := self.spreads.get(level, {}).get(name)) is not None:
                    median[column], deviation[column] = spread.median, spread.deviation
                    there[column] = True
                    break
        return median, deviation, there

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        contexts = {
            name: {
                measure: [spread.median, spread.deviation, spread.samples]
                for measure, spread in found.items()
            }
            for name, found in self.spreads.items()
        }
        return {"fewest_samples": self.fewest_samples, "median_deviation_samples": contexts}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> "StyleScale":
        """What `to_json` wrote.

        Raises:
            ArtifactMismatch: If it is something else.
        """
        try:
            contexts = json.loads(json.dumps(document["median_deviation_samples"]))
            spreads = {
                name: {
                    measure: Spread(float(row[0]), float(row[1]), int(row[2]))
                    for measure, row in found.items()
                }
                for name, found in contexts.items()
            }
            fewest = int(str(document["fewest_samples"]))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ArtifactMismatch(f"This is no style scale: {error}.") from error
        return cls(spreads, fewest)


def _scaled(values: Float[np.ndarray, "sample measure"]) -> Float[np.ndarray, "sample measure"]:
    """The values, with the logarithm taken where ratios matter."""
    scaled = values.astype(np.float64)
    for column, measure in enumerate(MEASURES):
        if measure.logarithmic:
            scaled[:, column] = np.log(np.maximum(scaled[:, column], _SMALLEST))
    return scaled


def _spread(values: Float[np.ndarray, " value"], floor: float, logarithmic: bool) -> Spread:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    if logarithmic:  # the floor is in the measure's unit; at the median it is a ratio
        floor = floor / max(float(np.exp(median)), _SMALLEST)
    return Spread(float(median), max(float(high - low) / SPREAD_OF_NORMAL, floor), len(values))
