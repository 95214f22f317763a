"""The continuous style vector: named dimensions, from measures compared with their like."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.style.measures import MEASURES, PLACE

HALF_WAY_DEVIATIONS = 2.0


@dataclass(frozen=True)
class Need:
    """What must have been measured at least for a dimension to mean anything.

    Attributes:
        measure: Name of the measure.
        least: Its smallest value.
    """

    measure: str
    least: float


@dataclass(frozen=True)
class Dimension:
    """How one dimension of style is read from measures.

    Attributes:
        parts: Measures and their signs; those that were measured are averaged.
        needs: One of these must hold; with none given, nothing more is asked.
        otherwise: What is read instead where none of the parts was measured.
    """

    parts: Mapping[str, float]
    needs: tuple[Need, ...] = ()
    otherwise: Mapping[str, float] = field(default_factory=dict)


_MOVING = (Need("peak_speed_mps", 2.0),)
DIMENSIONS: Mapping[str, Dimension] = {
    "speed": Dimension(
        {"free_speed_to_limit": 1.0, "free_speed_mps": 1.0},
        _MOVING,
        otherwise={"speed_to_limit": 1.0, "mean_speed_mps": 1.0},
    ),
    "time_gap": Dimension({"time_gap_s": 1.0}),
    "acceleration": Dimension({"peak_acceleration_mps2": 1.0}, _MOVING),
    "braking": Dimension({"peak_braking_mps2": 1.0, "stop_deceleration_mps2": 1.0}, _MOVING),
    "jerk": Dimension({"peak_jerk_mps3": 1.0, "jerk_deviation_mps3": 1.0}, _MOVING),
    "lateral_acceleration": Dimension(
        {"peak_lateral_acceleration_mps2": 1.0},
        (Need("heading_change_rad", 0.3),),
    ),
    "lane_change_assertiveness": Dimension(
        {
            "lane_change_peak_speed_mps": 1.0,
            "lane_change_peak_acceleration_mps2": 1.0,
            "rear_gap_m": -1.0,
        },
        (Need("lane_change_peak_speed_mps", 0.0),),
    ),
    "yielding_margin": Dimension({"post_encroachment_s": 1.0}),
}
"""One entry per `STYLE_DIMENSIONS`; larger is more of what the name says."""


def style_vector(
    values: Float[np.ndarray, "sample measure"],
    mask: Bool[np.ndarray, "sample measure"],
    deviations: Float[np.ndarray, "sample measure"],
    known: Bool[np.ndarray, "sample measure"],
) -> tuple[Float[np.ndarray, "sample style"], Bool[np.ndarray, "sample style"]]:
    """The style of every sample: how far its measures are from what is usual in their context.

    A dimension is the mean of its measures' deviations, squeezed by `tanh(d / 2)`: one robust
    standard deviation gives 0.46, two give 0.76, and nothing reaches 1.

    Args:
        values: The measures.
        mask: What was measured.
        deviations: The same in deviations from the context (`StyleScale.apply`).
        known: What could be compared.

    Returns:
        Values in (-1, 1), 0 where the mask is false: nothing to read it from in this window.
    """
    result = np.zeros((len(values), len(STYLE_DIMENSIONS)), dtype=np.float32)
    there = np.zeros(result.shape, dtype=bool)
    for number, name in enumerate(STYLE_DIMENSIONS):
        dimension = DIMENSIONS[name]
        mean, count = _mean_of(dimension.parts, deviations, known)
        if dimension.otherwise:
            instead, others = _mean_of(dimension.otherwise, deviations, known)
            mean, count = np.where(count > 0, mean, instead), np.maximum(count, others)
        there[:, number] = (count > 0) & _needed(dimension.needs, values, mask)
        result[:, number] = np.where(there[:, number], np.tanh(mean / HALF_WAY_DEVIATIONS), 0.0)
    return result, there


def _mean_of(
    parts: Mapping[str, float],
    deviations: Float[np.ndarray, "sample measure"],
    known: Bool[np.ndarray, "sample measure"],
) -> tuple[np.ndarray, np.ndarray]:
    """Mean deviation of some measures, turned by their signs, and how many there are."""
    places = [PLACE[part] for part in parts]
    usable = known[:, places]
    count = usable.sum(1)
    total = (deviations[:, places] * np.array(list(parts.values())) * usable).sum(1)
    return total / np.maximum(count, 1), count


def _needed(
    needs: tuple[Need, ...],
    values: Float[np.ndarray, "sample measure"],
    mask: Bool[np.ndarray, "sample measure"],
) -> Bool[np.ndarray, " sample"]:
    if not needs:
        return np.ones(len(values), dtype=bool)
    held = [
        mask[:, PLACE[need.measure]] & (values[:, PLACE[need.measure]] >= need.least)
        for need in needs
    ]
    return np.logical_or.reduce(held)


def measure_columns(
    values: Float[np.ndarray, "sample measure"], mask: Bool[np.ndarray, "sample measure"]
) -> dict[str, list[float | None]]:
    """The measures as table columns, with nothing where nothing was measured."""
    return {
        measure.name: [
            float(value) if seen else None
            for value, seen in zip(values[:, number], mask[:, number], strict=True)
        ]
        for number, measure in enumerate(MEASURES)
    }
