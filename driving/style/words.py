"""A window of driving in the words that people search by: where, among whom, and how it is driven.

`driving.style.describe` tells a language model what was measured, in numbers. A sentence model
makes little of numbers, so this text says in words what they mean, and nothing else: scenes that
are alike have the same text.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from data_prep.scenes.style_dimensions import StyleLabel
from driving.style.describe import Neighbours

STANDING_MPS = 0.5
SLOW_MPS = 3.0
TURN_RAD = 0.8
ABOVE_LIMIT = 1.1
HARD_BRAKING_MPS2, HARD_ACCELERATION_MPS2 = 3.0, 2.5
CLOSE_S, FAR_S = 1.0, 2.2
HEAVY_VEHICLES, SOME_VEHICLES = 12, 4
MARKED = 0.4
"""A style that is farther from usual than this is worth a word: most of a robust deviation."""

_PLACES: Mapping[str, str] = {
    "lane_following": "on a road",
    "lane_change": "on a road with several lanes",
    "protected_intersections": "at an intersection with traffic lights",
    "unprotected_intersections": "at an intersection without traffic lights",
    "crosswalks": "at a pedestrian crosswalk",
    "side_ego_to_main": "merging from a side road into the main road",
    "side_to_main_ego": "on a main road where another vehicle merges in",
    "countryside_road": "on a rural country road",
    "roundout_entrance": "entering a roundabout",
    "roundout_interior": "inside a roundabout",
    "carpark areas": "in a car park",
    "special_interior_road": "on a narrow road with a very low speed limit",
}
_HIGHWAY: Mapping[str, str] = {
    "lane_following": "on a highway, a motorway",
    "lane_change": "overtaking on a highway, a motorway",
}
_BENT = ("roundout_entrance", "roundout_interior", "side_ego_to_main")
"""Where turning goes without saying."""
_WAYS: Mapping[StyleLabel, str] = {
    "conservative": "Careful, conservative driving",
    "normal": "Normal driving",
    "aggressive": "Aggressive driving",
}
_LANE_CHANGES: Mapping[StyleLabel, str] = {
    "conservative": "A careful lane change",
    "normal": "A lane change",
    "aggressive": "An aggressive lane change",
}
_MARKED: Mapping[str, tuple[str, str]] = {
    "speed": ("drives faster than most", "drives slower than most"),
    "jerk": ("drives jerkily", "drives smoothly"),
    "lateral_acceleration": ("takes the curve fast", "takes the curve slowly"),
    "lane_change_assertiveness": ("cuts in assertively", "changes lane carefully"),
    "yielding_margin": ("leaves crossing traffic much time", "cuts it close with crossing traffic"),
}


@dataclass(frozen=True)
class Window:
    """What is known of a window of driving.

    Attributes:
        scenario_type: What kind of scene it is.
        road_class: Class of the road.
        label: How it is driven.
        leader: Somebody drives ahead.
        measures: What was measured, by name.
        style: What could be compared, -1 to 1, by dimension.
        neighbours: Who else is near.
    """

    scenario_type: str
    road_class: str
    label: StyleLabel
    leader: bool
    measures: Mapping[str, float]
    style: Mapping[str, float]
    neighbours: Neighbours


def in_words(window: Window) -> str:
    """The window in a few plain sentences; the same input gives the same text."""
    parts = [_head(window), *_motion(window), *_following(window), _traffic(window)]
    marked = [
        words[0] if window.style[name] > 0 else words[1]
        for name, words in _MARKED.items()
        if abs(window.style.get(name, 0.0)) >= MARKED
    ]
    if marked:
        parts.append(f"The driver {_listed(marked)}")
    return " ".join(f"{part}." for part in parts)


def _head(window: Window) -> str:
    kind = window.scenario_type
    place = _PLACES.get(kind, kind.replace("_", " "))
    if window.road_class == "motorway":
        place = _HIGHWAY.get(kind, place)
    if "lane_change_peak_speed_mps" in window.measures:
        return f"{_LANE_CHANGES[window.label]} {place}"
    turned = window.measures.get("heading_change_rad", 0.0) > TURN_RAD
    turning = ", turning" if turned and kind not in _BENT else ""
    fast = window.measures.get("speed_to_limit", 0.0) > ABOVE_LIMIT
    speeding = ", speeding above the limit" if fast else ""
    return f"{_WAYS[window.label]}{turning}{speeding} {place}"


def _motion(window: Window) -> list[str]:
    found = window.measures
    if found.get("peak_speed_mps", 0.0) < STANDING_MPS:
        return [_standing(window)]
    said = []
    if "stop_deceleration_mps2" in found:
        said.append("The vehicle brakes to a stop")
    elif found.get("mean_speed_mps", 0.0) < SLOW_MPS:
        jam = window.neighbours.vehicles >= HEAVY_VEHICLES
        said.append("Stop and go in a traffic jam" if jam else "The vehicle moves slowly")
    if found.get("peak_braking_mps2", 0.0) > HARD_BRAKING_MPS2:
        said.append("Hard braking")
    if found.get("peak_acceleration_mps2", 0.0) > HARD_ACCELERATION_MPS2:
        said.append("Hard acceleration")
    return said


def _standing(window: Window) -> str:
    if window.scenario_type == "protected_intersections":
        return "The vehicle is stopped at a traffic light and waits"
    if window.leader:
        jam = ", a traffic jam" if window.neighbours.vehicles >= HEAVY_VEHICLES else ""
        return f"The vehicle stands still in a queue behind another vehicle{jam}"
    return "The vehicle stands still"


def _following(window: Window) -> list[str]:
    if not window.leader or window.measures.get("peak_speed_mps", 0.0) < STANDING_MPS:
        return []
    gap_s = window.measures.get("time_gap_s")
    if gap_s is None:
        return ["Another vehicle is ahead"]
    if gap_s < CLOSE_S:
        return ["It is following the vehicle ahead very closely, tailgating with a short time gap"]
    if gap_s > FAR_S:
        return ["It keeps a long distance to the vehicle ahead"]
    return ["It follows the vehicle ahead"]


def _traffic(window: Window) -> str:
    near = window.neighbours
    vehicles = (
        "Heavy traffic with many vehicles near"
        if near.vehicles >= HEAVY_VEHICLES
        else "Some traffic, with other vehicles near"
        if near.vehicles >= SOME_VEHICLES
        else "Little traffic, a few vehicles near"
        if near.vehicles
        else "Hardly any traffic"
        if window.leader
        else "An empty road without other vehicles"
    )
    others = [
        name
        for name, count in (("pedestrians", near.pedestrians), ("cyclists", near.cyclists))
        if count
    ]
    return f"{vehicles}, and {_listed(others)}" if others else vehicles


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
