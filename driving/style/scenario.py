"""What kind of scene a window of driving is, in StyleDrive's taxonomy: one rule after another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_prep.scenes.raw_scene import Area, LineKind, RoadClass

SCENARIO_TYPES: tuple[str, ...] = (
    "lane_following",
    "lane_change",
    "protected_intersections",
    "unprotected_intersections",
    "crosswalks",
    "side_ego_to_main",
    "side_to_main_ego",
    "countryside_road",
    "roundout_entrance",
    "roundout_interior",
    "carpark areas",
    "special_interior_road",
)
"""Spelt as in StyleDrive's label files, so that theirs and ours can be compared."""

LOOK_AHEAD_M = 15.0
ON_LANE_M = 3.0
MOST_ANGLE_RAD = np.pi / 4
INTERIOR_LIMIT_MPS = 6.0
MERGE_REACH_M = 40.0


@dataclass(frozen=True)
class NearbyLine:
    """One line of the map near a sample, in the world frame of the sample.

    Attributes:
        line_id: Its number in the map.
        kind: What it is.
        points_m: Its points; a polygon does not repeat its first one.
        area: Where it lies.
        road_class: What kind of road it belongs to.
        has_signal: A traffic light may stop traffic on it.
        speed_limit_mps: Its speed limit, where known.
        successor_ids: Lane centres that follow.
    """

    line_id: int
    kind: LineKind
    points_m: Float[np.ndarray, "point 2"]
    area: Area = "none"
    road_class: RoadClass = "unknown"
    has_signal: bool = False
    speed_limit_mps: float | None = None
    successor_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """Facts about where a window of driving takes place.

    Attributes:
        road_class: Class of the road at the beginning.
        areas: Area at the beginning, at the end, and 15 m beyond the end.
        has_signal: A lane it drives on in an intersection, or reaches within 15 m, has a signal.
        crosses_crosswalk: The way, or the 15 m beyond it, crosses a crosswalk.
        speed_limit_mps: Speed limit at the beginning, where known.
        merges_into_main: It drives on the lesser of two lanes that become one.
        others_merge: It drives on the greater of two lanes that become one, and somebody is on
            the other.
        changes_lane: It changes lane.
    """

    road_class: RoadClass = "unknown"
    areas: tuple[Area, Area, Area] = ("none", "none", "none")
    has_signal: bool = False
    crosses_crosswalk: bool = False
    speed_limit_mps: float | None = None
    merges_into_main: bool = False
    others_merge: bool = False
    changes_lane: bool = False


def scenario_type(facts: Surroundings) -> tuple[str, str]:
    """The type of scene, and the rule that decides it: the first that holds, in this order.

    The order puts places that govern behaviour (car parks, roundabouts) first, then what the ego
    does (changing lane, merging), then where it does it. The names are StyleDrive's; their rules
    are not public, these are ours.
    """
    start, end, beyond = facts.areas
    limit = facts.speed_limit_mps
    at_intersection = "intersection" in facts.areas
    interior = limit is not None and limit <= INTERIOR_LIMIT_MPS
    rules = (
        ("carpark areas", "it starts in a parking area", start == "parking"),
        ("carpark areas", "the road is for parking", facts.road_class == "parking"),
        ("roundout_interior", "it starts on a roundabout", start == "roundabout"),
        ("roundout_entrance", "it reaches a roundabout", "roundabout" in (end, beyond)),
        ("side_ego_to_main", "its lane ends in a greater one", facts.merges_into_main),
        ("side_to_main_ego", "somebody's lane ends in its own", facts.others_merge),
        ("lane_change", "it changes lane", facts.changes_lane),
        (
            "protected_intersections",
            "its way meets an intersection and its lane has a signal",
            at_intersection and facts.has_signal,
        ),
        (
            "unprotected_intersections",
            "its way meets an intersection and no lane on it has a signal",
            at_intersection,
        ),
        ("crosswalks", "its way crosses a crosswalk", facts.crosses_crosswalk),
        ("countryside_road", "the road is rural", facts.road_class == "rural"),
        ("special_interior_road", f"the limit is at most {INTERIOR_LIMIT_MPS:g} m/s", interior),
    )
    for name, reason, holds in rules:
        if holds:
            return name, reason
    return "lane_following", "nothing else holds"


def surroundings(
    lines: Sequence[NearbyLine],
    poses: Float[np.ndarray, "step 3"],
    *,
    others_m: Float[np.ndarray, "agent 2"],
    changes_lane: bool = False,
) -> Surroundings:
    """The facts that decide the type of scene.

    Args:
        lines: Lines of the map near the sample, in its world frame.
        poses: The ego over the window.
        others_m: Where the other vehicles are at the beginning.
        changes_lane: Whether the ego changes lane in the window.
    """
    lanes = [line for line in lines if line.kind == "lane_centre" and len(line.points_m) > 1]
    last = poses[-1]
    ahead = last + LOOK_AHEAD_M * np.array([np.cos(last[2]), np.sin(last[2]), 0.0])
    under = [_lane_at(lanes, pose) for pose in (poses[0], poses[len(poses) // 2], last, ahead)]
    first = under[0]
    areas = tuple("none" if lane is None else lane.area for lane in (first, under[2], under[3]))
    signals = [lane for lane in under if lane is not None and lane.has_signal]
    way = np.concatenate([poses[:: max(1, len(poses) // 8), :2], last[None, :2], ahead[None, :2]])
    crosswalks = [line.points_m for line in lines if line.kind == "crosswalk"]
    merging, joined = _merge(lanes, first, poses[0], others_m)
    return Surroundings(
        road_class="unknown" if first is None else first.road_class,
        areas=areas,  # pyright: ignore[reportArgumentType]
        has_signal=bool(signals),
        crosses_crosswalk=any(way_crosses(way, polygon) for polygon in crosswalks),
        speed_limit_mps=None if first is None else first.speed_limit_mps,
        merges_into_main=merging,
        others_merge=joined,
        changes_lane=changes_lane,
    )


def _lane_at(lanes: Sequence[NearbyLine], pose: Float[np.ndarray, "3"]) -> NearbyLine | None:
    """The lane centre nearest to a pose of those that run its way, within 3 m."""
    best, nearest = None, ON_LANE_M
    for lane in lanes:
        start, along = lane.points_m[:-1], np.diff(lane.points_m, axis=0)
        length2 = np.maximum((along**2).sum(-1), 1e-12)
        share = np.clip(((pose[:2] - start) * along).sum(-1) / length2, 0.0, 1.0)
        away = np.hypot(*(pose[:2] - start - share[:, None] * along).T)
        turned = np.arctan2(along[:, 1], along[:, 0]) - pose[2]
        usable = np.cos(turned) > np.cos(MOST_ANGLE_RAD)
        distance = away[usable].min() if usable.any() else np.inf
        if distance < nearest:
            best, nearest = lane, distance
    return best


def way_crosses(way: Float[np.ndarray, "step 2"], polygon: Float[np.ndarray, "point 2"]) -> bool:
    """Whether a polyline crosses the edge of a polygon.

    Example:
        >>> square = np.array([[0.0, -1.0], [2.0, -1.0], [2.0, 1.0], [0.0, 1.0]])
        >>> way_crosses(np.array([[-1.0, 0.0], [5.0, 0.0]]), square)
        True
        >>> way_crosses(np.array([[-1.0, 2.0], [5.0, 2.0]]), square)
        False
    """
    edge = np.roll(polygon, -1, axis=0) - polygon
    move = np.diff(way, axis=0)
    between = polygon[None] - way[:-1, None]
    turned = move[:, None, 0] * edge[None, :, 1] - move[:, None, 1] * edge[None, :, 0]
    safe = np.where(np.abs(turned) > 1e-9, turned, np.inf)
    on_way = (between[..., 0] * edge[:, 1] - between[..., 1] * edge[:, 0]) / safe
    on_edge = (between[..., 0] * move[:, None, 1] - between[..., 1] * move[:, None, 0]) / safe
    meets = (on_way >= 0) & (on_way <= 1) & (on_edge >= 0) & (on_edge <= 1) & np.isfinite(safe)
    return bool(meets.any())


def _merge(
    lanes: Sequence[NearbyLine],
    own: NearbyLine | None,
    pose: Float[np.ndarray, "3"],
    others_m: Float[np.ndarray, "agent 2"],
) -> tuple[bool, bool]:
    """Whether the ego's lane runs into a greater one, and whether somebody's runs into the ego's.

    Two lanes become one where they share a successor, outside of intersections and roundabouts
    and within 40 m of the ego. The greater one has the higher limit, or bends less where the
    limits are equal or unknown.
    """
    if own is None or own.area in ("intersection", "roundabout") or not own.successor_ids:
        return False, False
    if np.hypot(*(own.points_m[-1] - pose[:2])) > MERGE_REACH_M:
        return False, False
    by_id = {lane.line_id: lane for lane in lanes}
    shared = [by_id[number] for number in own.successor_ids if number in by_id]
    shared = [lane for lane in shared if lane.area not in ("intersection", "roundabout")]
    for successor in shared:
        for other in lanes:
            if other.line_id == own.line_id or successor.line_id not in other.successor_ids:
                continue
            if _greatness(other, successor) > _greatness(own, successor):
                return True, False
            if len(others_m) and _distance(others_m, other.points_m).min() <= ON_LANE_M:
                return False, True
    return False, False


def _greatness(lane: NearbyLine, successor: NearbyLine) -> tuple[float, float]:
    """What orders two lanes that merge: the speed limit, then how straight on they go."""
    into = lane.points_m[-1] - lane.points_m[0]
    out = successor.points_m[-1] - successor.points_m[0]
    length = max(float(np.hypot(*into) * np.hypot(*out)), 1e-9)
    return lane.speed_limit_mps or 0.0, round(float(into @ out) / length, 3)


def _distance(
    places_m: Float[np.ndarray, "agent 2"], points_m: Float[np.ndarray, "point 2"]
) -> Float[np.ndarray, " agent"]:
    """Distance of places to the nearest point of a line that is filled to a point per 2 m."""
    pieces = np.maximum(np.hypot(*np.diff(points_m, axis=0).T) / 2.0, 1.0).astype(int)
    filled = np.concatenate(
        [
            np.linspace(start, end, count + 1)
            for start, end, count in zip(points_m[:-1], points_m[1:], pieces, strict=True)
        ]
    )
    return np.hypot(*(places_m[:, None] - filled).transpose(2, 0, 1)).min(-1)
