"""From the roadblocks of a nuPlan route to the lane centres that the ego follows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from data_prep.scenes.raw_scene import RawLine

if TYPE_CHECKING:
    from data_prep.scenes.nuplan_lanes import NuPlanLanes

_SPACING_M = 2.0
_JUMP_COST = 50.0  # in places that were driven elsewhere: rather a wrong lane than a gap
_SIDE_COST = 5.0


def joined_routes(routes: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Routes that were given piece by piece as one, without what they share.

    The next piece is laid over the end of the last one at their longest overlap.

    Example:
        >>> joined_routes([["1", "2", "3"], ["2", "3", "4"], ["3", "4"], []])
        ('1', '2', '3', '4')
    """
    whole: list[str] = []
    for route in routes:
        piece = [block for block in route if block]
        if _contains(whole, piece):
            continue
        shared = next(
            (
                count
                for count in range(min(len(whole), len(piece)), 0, -1)
                if whole[-count:] == piece[:count]
            ),
            0,
        )
        whole += piece[shared:]
    return tuple(whole)


def route_lanes(
    lanes: "NuPlanLanes", roadblocks: Sequence[str], driven_m: Float[np.ndarray, "sample 2"]
) -> tuple[str, ...]:
    """One lane of each roadblock: connected where that can be, close to where was driven.

    The chain of lanes with the least cost: places every two metres of the trail that lie nearer
    to another lane of the same roadblock, and a fixed cost for every step to a lane that is no
    successor of the one before (less if it is one of the lane beside it, which is a lane change).

    Args:
        lanes: The map's.
        roadblocks: Numbers of lane groups and lane group connectors, in order; unknown ones are
            skipped.
        driven_m: Where the ego drove.

    Returns:
        Keys of lane centres; empty if no roadblock is known.
    """
    stages = [lanes.roadblocks[block] for block in roadblocks if block in lanes.roadblocks]
    stages = [[key for key in stage if key in lanes.lines] for stage in stages]
    stages = [stage for stage in stages if stage]
    if not stages:
        return ()
    driven_m = _thinned(driven_m)
    best = {key: (cost, (key,)) for key, cost in _costs(lanes.lines, stages[0], driven_m).items()}
    for stage in stages[1:]:
        own = _costs(lanes.lines, stage, driven_m)
        best = {
            key: min(
                (cost + _step_cost(lanes.lines, chain[-1], key) + own[key], (*chain, key))
                for cost, chain in best.values()
            )
            for key in stage
        }
    return min(best.values())[1]


def _thinned(driven_m: Float[np.ndarray, "sample 2"]) -> Float[np.ndarray, "place 2"]:
    """The trail without what is nearer than two metres, so that no clock and no stop counts."""
    gone_m = np.append(0.0, np.cumsum(np.hypot(*np.diff(driven_m, axis=0).T)))
    return driven_m[np.unique(gone_m // _SPACING_M, return_index=True)[1]]


def _contains(whole: Sequence[str], piece: Sequence[str]) -> bool:
    count = len(piece)
    starts = range(len(whole) - count + 1)
    return any(list(whole[at : at + count]) == list(piece) for at in starts)


def _costs(
    lines: Mapping[str, RawLine], stage: Sequence[str], driven_m: Float[np.ndarray, "sample 2"]
) -> dict[str, float]:
    """How many places that lie beside the roadblock are nearer to another of its lanes."""
    distances = np.stack([_distance(lines[key].points_m, driven_m) for key in stage])
    beside = distances.min(0) < 4.0
    nearest = distances.argmin(0)[beside]
    return {key: float((nearest != at).sum()) for at, key in enumerate(stage)}


def _distance(
    points: Float[np.ndarray, "point 2"], places: Float[np.ndarray, "sample 2"]
) -> Float[np.ndarray, " sample"]:
    start, step = points[:-1], np.diff(points, axis=0)
    offset = places[:, None] - start
    along = np.clip((offset * step).sum(-1) / (step**2).sum(-1), 0.0, 1.0)
    return np.hypot(*np.moveaxis(offset - along[..., None] * step, -1, 0)).min(-1)


def _step_cost(lines: Mapping[str, RawLine], before: str, after: str) -> float:
    line = lines[before]
    if after in line.successors or after == before:
        return 0.0
    beside = [lines[key] for key in (line.left, line.right) if key is not None and key in lines]
    if any(after in neighbour.successors for neighbour in beside):
        return _SIDE_COST
    return _JUMP_COST
