"""Plane geometry of map lines: rings, areas, and which lane follows or lies beside which."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float


def open_ring(points_m: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "open 2"]:
    """The ring without its last point where that repeats the first."""
    return points_m[:-1] if (points_m[0] == points_m[-1]).all() else points_m


def ring_area(points_m: Float[np.ndarray, "point 2"]) -> float:
    """Area of a ring in square metres, positive whichever way round it runs (shoelace formula)."""
    x, y = (points_m - points_m[0]).T
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def polyline_length(points_m: Float[np.ndarray, "point 2"]) -> float:
    """Length of a line in metres."""
    return float(np.linalg.norm(np.diff(points_m, axis=0), axis=1).sum())


def resampled(points_m: Float[np.ndarray, "point 2"], count: int) -> Float[np.ndarray, "count 2"]:
    """The given number of points, evenly spaced along a line, its two ends among them.

    Args:
        points_m: At least two points.
        count: At least 2.
    """
    along_m = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points_m, axis=0), axis=1))]
    wanted_m = np.linspace(0.0, along_m[-1], count)
    return np.stack([np.interp(wanted_m, along_m, points_m[:, axis]) for axis in (0, 1)], axis=1)


def is_inside(point_m: Float[np.ndarray, " 2"], ring_m: Float[np.ndarray, "point 2"]) -> bool:
    """Whether a point lies inside a ring, by the number of edges a ray to the right crosses."""
    start, end = ring_m, np.roll(ring_m, -1, axis=0)
    crosses = (start[:, 1] > point_m[1]) != (end[:, 1] > point_m[1])
    start, end = start[crosses], end[crosses]
    share = (point_m[1] - start[:, 1]) / (end[:, 1] - start[:, 1])
    return bool(np.sum(start[:, 0] + share * (end[:, 0] - start[:, 0]) > point_m[0]) % 2)


def nesting_depths(rings_m: Sequence[Float[np.ndarray, "_ 2"]]) -> list[int]:
    """Inside how many of the other rings each ring lies; rings must not cross.

    An even depth is an outer border of the area they bound, an odd one a hole.

    Args:
        rings_m: Rings of at least three points.
    """
    low = np.array([ring.min(axis=0) for ring in rings_m]).reshape(-1, 2)
    high = np.array([ring.max(axis=0) for ring in rings_m]).reshape(-1, 2)
    depths = []
    for index, ring in enumerate(rings_m):
        point = ring[0]
        around = ((low <= point) & (high >= point)).all(axis=1)
        depths.append(
            sum(
                is_inside(point, rings_m[other])
                for other in np.flatnonzero(around).tolist()
                if other != index
            )
        )
    return depths


def _directions(vectors: Float[np.ndarray, "line 2"]) -> Float[np.ndarray, "line 2"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def following(
    lines_m: Sequence[Float[np.ndarray, "_ 2"]],
    *,
    gap_m: float = 0.5,
    turn_rad: float = 0.7,
) -> Bool[np.ndarray, "line line"]:
    """Which line begins where which ends, and goes on in its direction.

    Args:
        lines_m: Lane centres in the direction of travel.
        gap_m: The farthest the beginning may lie from the end, in metres.
        turn_rad: The sharpest bend between the two, in radians.

    Returns:
        True at (before, after).
    """
    starts = np.array([line[0] for line in lines_m])
    ends = np.array([line[-1] for line in lines_m])
    leaves = _directions(np.array([line[-1] - line[-2] for line in lines_m]))
    enters = _directions(np.array([line[1] - line[0] for line in lines_m]))
    near = np.linalg.norm(ends[:, None] - starts[None], axis=2) <= gap_m
    follows = near & (leaves @ enters.T >= np.cos(turn_rad))
    np.fill_diagonal(follows, val=False)
    return follows


def lateral_neighbours(
    lines_m: Sequence[Float[np.ndarray, "_ 2"]],
    *,
    closest_m: float = 2.0,
    farthest_m: float = 5.0,
    turn_rad: float = 0.35,
) -> tuple[list[int | None], list[int | None]]:
    """Which line runs beside which, in the same direction, to the left and to the right.

    Two lanes are neighbours if each one's middle lies beside the other's: about as far along, and
    between `closest_m` and `farthest_m` to the side; the nearest on each side is taken.

    Args:
        lines_m: Lane centres in the direction of travel.
        closest_m: The nearest sideways distance of two lanes, in metres.
        farthest_m: The farthest one, in metres.
        turn_rad: The largest angle between the two, in radians.

    Returns:
        The left and the right neighbour's index per line; None where there is none.
    """
    sampled = np.array([resampled(line, 3) for line in lines_m]).reshape(-1, 3, 2)
    lengths = np.array([polyline_length(line) for line in lines_m])
    middles, ways = sampled[:, 1], _directions(sampled[:, 2] - sampled[:, 0] + 1e-9)
    offset = middles[None] - middles[:, None]
    along = np.abs(np.einsum("abi,ai->ab", offset, ways))
    aside = np.einsum("abi,ai->ab", offset, np.stack([-ways[:, 1], ways[:, 0]], axis=1))
    beside = (along <= 0.25 * np.minimum(lengths[:, None], lengths[None])) & (
        ways @ ways.T >= np.cos(turn_rad)
    )

    def nearest(sign: int) -> list[int | None]:
        distance = sign * aside
        valid = beside & (distance >= closest_m) & (distance <= farthest_m)
        best = np.where(valid, distance, np.inf)
        return [int(row.argmin()) if np.isfinite(row.min()) else None for row in best]

    return (nearest(1), nearest(-1)) if len(lines_m) else ([], [])
