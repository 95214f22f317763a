"""How fast a driver takes bends: a speed limit along a route that keeps lateral acceleration."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

GRID_M = 1.0
"""Distance of the points at which a bend's limit is kept."""
_SMOOTHING_M = 3.0
_STRAIGHT_PER_M = 1e-4
"""A bend of a radius beyond 10 km is straight."""


@dataclass(frozen=True)
class RouteBends:
    """The curvature along one route.

    Attributes:
        starts_m: Where each lane begins, along the route; lanes side by side begin alike.
        curvature_per_m: Every `GRID_M` from the route's beginning; never negative.
    """

    starts_m: Mapping[str, float]
    curvature_per_m: Float[np.ndarray, " place"]


def curvature_of(line_m: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, " place"]:
    """Absolute curvature along a line, every `GRID_M`.

    The line is smoothed over a few metres first, so that a corner between two lanes becomes a
    tight bend, not an infinite one.

    Args:
        line_m: Points; repeated points are taken once.
    """
    steps_m = np.linalg.norm(np.diff(line_m, axis=0), axis=1)
    line_m = np.concatenate([line_m[:1], line_m[1:][steps_m > 1e-6]])
    along_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line_m, axis=0), axis=1))])
    grid_m = np.arange(0.0, max(along_m[-1], 4 * GRID_M), GRID_M)
    even_m = np.stack([np.interp(grid_m, along_m, line_m[:, axis]) for axis in (0, 1)], axis=1)
    heading_rad = np.unwrap(np.arctan2(*np.gradient(even_m, axis=0).T[::-1]))
    reach = round(3 * _SMOOTHING_M / GRID_M)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * GRID_M / _SMOOTHING_M) ** 2)
    padded = np.pad(heading_rad, reach, mode="edge")
    smooth_rad = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    return np.abs(np.gradient(smooth_rad, GRID_M))


def bend_limit(
    curvature_per_m: Float[np.ndarray, " place"],
    *,
    lateral_acceleration_mps2: float,
    braking_mps2: float,
    jerk_mps3: float,
) -> Float[np.ndarray, " place"]:
    """The greatest speed at each place of a route that a driver allows himself for the bends ahead.

    In a bend, lateral acceleration `speed² · curvature` stays within the driver's; before a bend,
    the limit falls so that comfortable braking is enough to meet it, and braking sets in and ends
    over `braking / jerk` seconds.

    Args:
        curvature_per_m: Curvature every `GRID_M`, not negative.
        lateral_acceleration_mps2: The most the driver accepts.
        braking_mps2: Comfortable braking, positive.
        jerk_mps3: How fast braking sets in, positive.

    Returns:
        Metres per second.
    """
    place_m = np.arange(len(curvature_per_m)) * GRID_M
    squared = lateral_acceleration_mps2 / np.maximum(curvature_per_m, _STRAIGHT_PER_M)
    reachable = squared + 2 * braking_mps2 * place_m  # of the squared speed, seen from place 0
    ahead = np.minimum.accumulate(reachable[::-1])[::-1]
    limit_mps = np.sqrt(ahead - 2 * braking_mps2 * place_m)
    typical_mps = min(25.0, float(np.median(limit_mps)))
    width = max(1, round(typical_mps * braking_mps2 / jerk_mps3 / GRID_M)) | 1
    padded = np.pad(limit_mps, width - 1, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(padded, width).min(axis=1)
    return np.convolve(lowest, np.full(width, 1 / width), mode="valid")
