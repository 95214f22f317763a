"""What is measured of one stretch of driving: the list of measures, and their values in a batch."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        name: Its name, which ends in the unit.
        unit: Its unit.
        meaning: What it is, and when it is known.
        floor: The smallest spread that is told apart from noise, in the same unit.
        logarithmic: Ratios matter, not differences: it is compared after taking the logarithm.
        least: Smallest value that says something of the style: who never had to brake is no gentle
            braker. The measure has smaller values too, but nobody is compared by them.
    """

    name: str
    unit: str
    meaning: str
    floor: float
    logarithmic: bool = False
    least: float = -math.inf


MEASURES: tuple[Measure, ...] = (
    Measure("mean_speed_mps", "m/s", "mean speed along the heading", 0.5),
    Measure("peak_speed_mps", "m/s", "highest speed", 0.5),
    Measure("speed_to_limit", "1", "mean of speed over speed limit, where a limit is known", 0.03),
    Measure(
        "free_speed_mps",
        "m/s",
        "mean speed where nobody and no bend hinders the ego and it holds its speed",
        0.5,
    ),
    Measure("free_speed_to_limit", "1", "the same over the limit, where a limit is known", 0.03),
    Measure(
        "peak_acceleration_mps2",
        "m/s2",
        "highest acceleration along the heading, or 0",
        0.2,
        least=0.5,
    ),
    Measure("mean_acceleration_mps2", "m/s2", "mean of its positive part", 0.1),
    Measure("peak_braking_mps2", "m/s2", "highest deceleration, or 0", 0.2, least=0.8),
    Measure("peak_jerk_mps3", "m/s3", "highest change of acceleration, either way", 0.6),
    Measure("jerk_deviation_mps3", "m/s3", "standard deviation of the jerk", 0.3),
    Measure("heading_change_rad", "rad", "how far the heading moved, from end to end", 0.02),
    Measure(
        "peak_lateral_acceleration_mps2", "m/s2", "highest speed times yaw rate, either way", 0.15
    ),
    Measure("distance_m", "m", "length of the way driven", 1.0),
    Measure(
        "time_gap_s",
        "s",
        "mean time gap to the leader while both hold their speed for at least 3.5 s",
        0.1,
        logarithmic=True,
    ),
    Measure(
        "smallest_time_to_collision_s",
        "s",
        "smallest time to collision with the leader, where they close in",
        0.3,
        logarithmic=True,
    ),
    Measure("smallest_gap_m", "m", "smallest gap to the leader, bumper to bumper", 0.5),
    Measure(
        "lane_change_peak_speed_mps", "m/s", "highest speed across the lane in a lane change", 0.1
    ),
    Measure(
        "lane_change_peak_acceleration_mps2",
        "m/s2",
        "highest acceleration across the lane in a lane change",
        0.15,
    ),
    Measure(
        "rear_gap_m",
        "m",
        "gap to the next one behind in the new lane as the line is crossed, bumper to bumper",
        1.0,
        logarithmic=True,
    ),
    Measure(
        "post_encroachment_s",
        "s",
        "time between the first leaving and the second reaching the point where their ways cross",
        0.2,
    ),
    Measure(
        "went_first", "1", "1 where the ego was first at that point, 0 where it was second", 1.0
    ),
    Measure(
        "stop_deceleration_mps2",
        "m/s2",
        "mean deceleration over the last three metres before standstill",
        0.15,
    ),
)
MEASURE_NAMES: tuple[str, ...] = tuple(measure.name for measure in MEASURES)
PLACE: dict[str, int] = {name: number for number, name in enumerate(MEASURE_NAMES)}


@dataclass(frozen=True)
class Measures:
    """The measures of a batch of windows.

    Attributes:
        values: One column per entry of `MEASURES`; 0 where the mask is false.
        mask: What could be measured.
    """

    values: Float[Tensor, "batch measure"]
    mask: Bool[Tensor, "batch measure"]

    def column(self, name: str) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """One measure by name, with its mask."""
        return self.values[:, PLACE[name]], self.mask[:, PLACE[name]]


Column = tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]


def measures_of(columns: dict[str, Column]) -> Measures:
    """The measures in their order; what is not finite counts as not measured.

    Raises:
        ValueError: If a measure is missing or unknown.
    """
    if set(columns) != set(MEASURE_NAMES):
        odd = ", ".join(sorted(set(columns) ^ set(MEASURE_NAMES)))
        raise ValueError(f"columns must be the measures, these are missing or unknown: {odd}.")
    values = torch.stack([columns[name][0] for name in MEASURE_NAMES], -1)
    mask = torch.stack([columns[name][1] for name in MEASURE_NAMES], -1) & values.isfinite()
    return Measures(torch.where(mask, values, 0.0), mask)
