"""What is known of a driver before a moment: preferences from earlier windows of that driver."""

from collections import deque
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from personalize.preferences.record import Evidence, Preference
from personalize.preferences.rows import PreferenceRows

MOST_WINDOWS = 20
HALF_SURE_WINDOWS = 4
_SMALLEST = 1e-4

_WORDS = {
    "speed": ("drives faster", "drives slower"),
    "time_gap": ("keeps a longer time gap", "keeps a shorter time gap"),
    "acceleration": ("accelerates harder", "accelerates more gently"),
    "braking": ("brakes harder", "brakes more gently"),
    "jerk": ("drives with more jerk", "drives more smoothly"),
    "lateral_acceleration": ("takes curves faster", "takes curves more slowly"),
    "lane_change_assertiveness": ("changes lane more assertively", "changes lane more carefully"),
    "yielding_margin": ("leaves others more time", "leaves others less time"),
}


def dimension_words(dimension: str, value: float) -> str:
    """What a driver does who is at this side of a dimension, as in "drives faster"."""
    return _WORDS[dimension][0 if value > 0 else 1]


@dataclass(frozen=True)
class Reading:
    """The styles of all windows as somebody read them.

    Attributes:
        values: -1 to 1 per sample and dimension.
        mask: What was read.
        extractor: Who read it.
        extractor_version: Its version.
    """

    values: Float[np.ndarray, "sample style"]
    mask: Bool[np.ndarray, "sample style"]
    extractor: str
    extractor_version: str


def driver_preferences(
    samples: pl.DataFrame, readings: tuple[Reading, ...], *, window_steps: int
) -> pl.DataFrame:
    """The preferences of every driver as known at every sample, by the table `preferences`.

    Only windows of the same driver count that end at or before the sample's step, the latest 20
    that measured the dimension. Strength is the size of their mean; `like` means more of what the
    dimension's name says than is usual in the same situation. Confidence is n / (n + 4) of n
    windows. A sample without an earlier window has no preferences.

    Args:
        samples: Rows of `SAMPLES`, in the order of `values`.
        readings: Styles of the windows, by reader.
        window_steps: Steps from a sample's step to the end of its window.
    """
    rows = PreferenceRows()
    ordered = samples.with_row_index("row").sort("driver_id", "step")
    for driver in ordered.partition_by("driver_id", maintain_order=True):
        places = driver.select("row", "sample_id", "step", "driver_id").rows()
        past: list[list[deque[tuple[float, Evidence]]]] = [
            [deque(maxlen=MOST_WINDOWS) for _ in STYLE_DIMENSIONS] for _ in readings
        ]
        seen = 0
        for _, _, step, driver_id in places:
            while seen < len(places) and places[seen][2] + window_steps <= step:
                _remember(past, readings, places[seen], window_steps)
                seen += 1
            found = [
                preference
                for reading, windows in zip(readings, past, strict=True)
                for preference in _known(driver_id, step, reading, windows)
            ]
            found.sort(key=lambda p: (-p.strength * p.confidence, p.aspect, p.extractor))
            for number, preference in enumerate(found):
                rows.add(number, preference)
    return rows.frame()


def _remember(
    past: list[list[deque[tuple[float, Evidence]]]],
    readings: tuple[Reading, ...],
    place: tuple[int, int, int, int],
    window_steps: int,
) -> None:
    row, sample_id, step, _ = place
    evidence = Evidence(sample_id, step, step + window_steps + 1)
    for reading, windows in zip(readings, past, strict=True):
        for number in np.flatnonzero(reading.mask[row]):
            windows[number].append((float(reading.values[row, number]), evidence))


def _known(
    driver_id: int, step: int, reading: Reading, windows: list[deque[tuple[float, Evidence]]]
) -> list[Preference]:
    found = []
    for dimension, remembered in zip(STYLE_DIMENSIONS, windows, strict=True):
        mean = float(np.mean([value for value, _ in remembered])) if remembered else 0.0
        if abs(mean) < _SMALLEST:
            continue
        words = dimension_words(dimension, mean)
        found.append(
            Preference(
                subject_id=driver_id,
                valid_from=step,
                text=f"The driver {words} than most in the same situation.",
                polarity="like" if mean > 0 else "avoid",
                aspect=dimension,
                strength=min(abs(mean), 1.0),
                confidence=len(remembered) / (len(remembered) + HALF_SURE_WINDOWS),
                evidence=tuple(evidence for _, evidence in remembered),
                extractor=reading.extractor,
                extractor_version=reading.extractor_version,
            )
        )
    return found
