"""What kind of scene a window of driving is, in StyleDrive's taxonomy: one rule after another."""

from dataclasses import dataclass

from data_prep.scenes.raw_scene import Area, RoadClass

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

INTERIOR_LIMIT_MPS = 6.0


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
