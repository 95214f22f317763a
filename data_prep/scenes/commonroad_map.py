"""A CommonRoad lanelet network as map lines, and its traffic lights over time."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from data_prep.scenes.raw_scene import (
    Area,
    Light,
    LineKind,
    RawLight,
    RawLine,
    RawMap,
    RoadClass,
)

_NOT_DRIVEN = {"sidewalk", "crosswalk", "bicycleLane", "border", "restricted_area"}
_ROAD_CLASSES: tuple[tuple[str, RoadClass], ...] = (
    ("interstate", "motorway"),
    ("highway", "motorway"),
    ("parking", "parking"),
    ("urban", "urban"),
    ("country", "rural"),
    ("rural", "rural"),
)
_LIGHTS: dict[str, Light] = {"green": "green", "yellow": "yellow", "red": "red", "redYellow": "red"}


def lanelet_map(network: Any, tags: Iterable[str]) -> RawMap:  # noqa: ANN401  (commonroad-io's own)
    """The lines of a lanelet network; equal geometry gives an equal key.

    A lanelet that vehicles may use becomes a lane centre and a drivable area; its bounds become
    lane boundaries, or road edges where no lanelet lies beyond. Inside an intersection a bound
    without a marking is no line on the road and is left out. Bounds that two lanelets share
    appear once.

    Args:
        network: A `commonroad.scenario.lanelet.LaneletNetwork`.
        tags: The scenario's tags; where they name one class of road, lanelets called urban or
            nothing belong to it.
    """
    inside = _inside_intersections(network)
    tagged = _tagged_class(tags)
    lines: list[RawLine] = []
    for lanelet in sorted(network.lanelets, key=lambda one: one.lanelet_id):
        lines += _lanelet_lines(network, lanelet, inside, tagged)
    return RawMap(_geometry_key(lines), tuple(lines))


def lights_over_time(network: Any, step_s: float, steps: int) -> tuple[RawLight, ...]:  # noqa: ANN401
    """What the lights show to each lane during a scene; only changes are written.

    Where several lights of one lane disagree (one for each direction) the state is unknown.

    Args:
        network: A `commonroad.scenario.lanelet.LaneletNetwork`.
        step_s: Seconds of one time step.
        steps: Time steps the scene lasts.
    """
    found = []
    for lanelet in sorted(network.lanelets, key=lambda one: one.lanelet_id):
        lights = [network.find_traffic_light_by_id(number) for number in _light_ids(lanelet)]
        cycles = [
            light.traffic_light_cycle
            for light in lights
            if light is not None and light.active and light.traffic_light_cycle is not None
        ]
        if not _is_driven(lanelet) or not cycles:
            continue
        states: list[Light] = [_shown(cycles, step) for step in range(max(1, steps))]
        changes = [
            step for step in range(len(states)) if step == 0 or states[step] != states[step - 1]
        ]
        found.append(
            RawLight(
                str(lanelet.lanelet_id),
                np.asarray(changes, float) * step_s,
                tuple(states[step] for step in changes),
            )
        )
    return tuple(found)


def _shown(cycles: Sequence[Any], step: int) -> Light:
    shown: set[Light] = {
        _LIGHTS.get(str(cycle.get_state_at_time_step(step).value), "unknown") for cycle in cycles
    }
    return shown.pop() if len(shown) == 1 else "unknown"


def _light_ids(lanelet: Any) -> list[int]:  # noqa: ANN401
    stop = lanelet.stop_line
    at_line = (stop.traffic_light_ref or ()) if stop is not None else ()
    return sorted({*(lanelet.traffic_lights or ()), *at_line})


def _types(lanelet: Any) -> set[str]:  # noqa: ANN401
    return {str(one.value) for one in lanelet.lanelet_type or ()}


def _is_driven(lanelet: Any) -> bool:  # noqa: ANN401
    return not _types(lanelet) & _NOT_DRIVEN


def _road_class(words: Iterable[str]) -> RoadClass:
    known = set(words)
    for word, road in _ROAD_CLASSES:
        if word in known:
            return road
    return "unknown"


def _tagged_class(tags: Iterable[str]) -> RoadClass:
    """The only class of road that the tags of a scenario name."""
    named: set[RoadClass] = {road for tag in tags if (road := _road_class([tag])) != "unknown"}
    return named.pop() if len(named) == 1 else "unknown"


def _inside_intersections(network: Any) -> set[int]:  # noqa: ANN401
    """Lanelets that cross an intersection: what its incoming lanelets lead to."""
    inside: set[int] = set()
    for intersection in network.intersections:
        for incoming in intersection.incomings:
            for group in (
                incoming.outgoing_left,
                incoming.outgoing_right,
                incoming.outgoing_straight,
            ):
                inside |= set(group or ())
    return inside


def _lanelet_lines(
    network: Any,  # noqa: ANN401
    lanelet: Any,  # noqa: ANN401
    inside: set[int],
    tagged: RoadClass,
) -> list[RawLine]:
    number, types = lanelet.lanelet_id, _types(lanelet)
    left, right = lanelet.left_vertices[:, :2], lanelet.right_vertices[:, :2]
    outline = np.concatenate([left, right[::-1]])
    if "crosswalk" in types:
        return [RawLine(f"{number}:crosswalk", "crosswalk", outline)]
    if not _is_driven(lanelet):
        return []
    in_intersection = number in inside or "intersection" in types
    area: Area = "intersection" if in_intersection else "none"
    road_class = _road_class(types)
    if road_class in ("unknown", "urban") and tagged != "unknown":
        road_class = tagged  # converters call every lanelet urban
    centre = RawLine(
        str(number),
        "lane_centre",
        lanelet.center_vertices[:, :2],
        speed_limit_mps=_speed_limit(network, lanelet),
        width_m=float(np.median(np.linalg.norm(left - right, axis=1))),
        successors=tuple(str(one) for one in lanelet.successor),
        left=_neighbour(network, lanelet.adj_left, lanelet.adj_left_same_direction),
        right=_neighbour(network, lanelet.adj_right, lanelet.adj_right_same_direction),
        road_class=road_class,
        area=area,
        has_signal=bool(_light_ids(lanelet)),
    )
    lines = [centre, RawLine(f"{number}:area", "drivable_area", outline, area=area)]
    lines += _bounds(lanelet, left, right, in_intersection=in_intersection)
    if lanelet.stop_line is not None and lanelet.stop_line.start is not None:
        points = np.stack([lanelet.stop_line.start[:2], lanelet.stop_line.end[:2]])
        lines.append(RawLine(f"{number}:stop", "stop_line", points))
    return lines


def _bounds(
    lanelet: Any,  # noqa: ANN401
    left: np.ndarray,
    right: np.ndarray,
    *,
    in_intersection: bool,
) -> list[RawLine]:
    """Left and right bound; one that two lanelets share is the right one of the left lanelet."""
    found = []
    sides = (
        ("left", left, lanelet.adj_left, lanelet.adj_left_same_direction),
        ("right", right, lanelet.adj_right, lanelet.adj_right_same_direction),
    )
    for side, points, beside, same_direction in sides:
        twice = beside is not None and (
            side == "left" if same_direction else beside < lanelet.lanelet_id
        )
        marking = str(getattr(lanelet, f"line_marking_{side}_vertices").value)
        if twice or (in_intersection and marking in ("unknown", "no_marking")):
            continue
        kind: LineKind = "road_edge" if beside is None and not in_intersection else "lane_boundary"
        found.append(RawLine(f"{lanelet.lanelet_id}:{side}", kind, points))
    return found


def _neighbour(network: Any, number: int | None, same_direction: bool | None) -> str | None:  # noqa: ANN401
    if number is None or not same_direction:
        return None
    other = network.find_lanelet_by_id(number)
    return str(number) if other is not None and _is_driven(other) else None


def _speed_limit(network: Any, lanelet: Any) -> float | None:  # noqa: ANN401
    """The lowest limit in metres per second that a sign of the lanelet gives."""
    signs = [network.find_traffic_sign_by_id(one) for one in sorted(lanelet.traffic_signs or ())]
    limits = [
        float(element.additional_values[0])
        for sign in signs
        if sign is not None
        for element in sign.traffic_sign_elements
        if element.traffic_sign_element_id.name == "MAX_SPEED" and element.additional_values
    ]
    return min((limit for limit in limits if 0 < limit < 100), default=None)


def _geometry_key(lines: Iterable[RawLine]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        shown = (
            line.key,
            line.kind,
            line.successors,
            line.left,
            line.right,
            line.speed_limit_mps,
            line.road_class,
            line.area,
            line.has_signal,
        )
        digest.update(repr(shown).encode())
        digest.update(np.round(np.asarray(line.points_m, float), 4).tobytes())
    return digest.hexdigest()[:16]
