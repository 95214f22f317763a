"""The roads of simulated traffic: a motorway, a signalled grid, a roundabout, a rural road."""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from data_prep.scenes.raw_scene import Area
from data_prep.scenes.traffic_networks import Flow, RoadPlan

_MOTORWAY_LANE_M = 3.5


def bends(
    pieces: tuple[tuple[float, float], ...], step_m: float = 4.0
) -> Float[np.ndarray, "point 2"]:
    """A line of straights and bends, starting at the origin along x.

    Curvature changes linearly over a quarter of a piece at each of its ends, as on built roads.

    Args:
        pieces: Length in metres and radius in metres of each piece; a left bend has a positive
            radius, a straight an infinite one.
        step_m: Distance of its points.

    Returns:
        Points every `step_m`.
    """
    curvature_per_m: list[float] = []
    for length_m, radius_m in pieces:
        count = max(2, round(length_m / step_m))
        middle = np.arange(count) + 0.5
        ramp = np.minimum(1.0, 4.0 * np.minimum(middle, count - middle) / count)
        curvature_per_m.extend(ramp / radius_m)
    heading_rad = np.concatenate([[0.0], np.cumsum(curvature_per_m)]) * step_m
    middle_rad = (heading_rad[:-1] + heading_rad[1:]) / 2
    moves_m = step_m * np.stack([np.cos(middle_rad), np.sin(middle_rad)], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(moves_m, axis=0)])


def motorway() -> RoadPlan:
    """Three lanes one way, in a wide bend, with an on-ramp and an off-ramp."""
    step_m = 5.0
    line_m = bends(((450.0, math.inf), (750.0, -900.0), (450.0, math.inf)), step_m)
    places = {"a": 0, "b": 80, "c": 130, "d": 190, "e": 240, "f": len(line_m) - 1}
    ahead = np.gradient(line_m, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    aside = np.stack([ahead[:, 1], -ahead[:, 0]], axis=1)
    ramp_m = line_m + 3.5 * _MOTORWAY_LANE_M * aside  # the added lane lies right of the three
    merge, leave = places["b"], places["e"]
    on_m = ramp_m[merge] - 240 * ahead[merge] + 30 * aside[merge]
    off_m = ramp_m[leave] + 240 * ahead[leave] + 30 * aside[leave]
    nodes = [_node(key, line_m[index]) for key, index in places.items()]
    nodes += [_node("on", on_m - 60 * ahead[merge]), _node("off", off_m)]
    edges = [
        _edge(
            start,
            end,
            4 if start + end in ("bc", "de") else 3,
            120 / 3.6,
            priority="10",
            width=str(_MOTORWAY_LANE_M),
            spreadType="right",
            shape=_shape(line_m[places[start] : places[end] + 1]),
        )
        for start, end in zip("abcde", "bcdef", strict=True)
    ]
    on_curve = _curve(on_m, ahead[merge], ramp_m[merge], ahead[merge])
    on_shape = np.concatenate([(on_m - 60 * ahead[merge])[None], on_curve])
    off_shape = _curve(ramp_m[leave], ahead[leave], off_m, ahead[leave])
    for start, end, shape_m in (("on", "b", on_shape), ("e", "off", off_shape)):
        more = {"spreadType": "center", "width": str(_MOTORWAY_LANE_M), "shape": _shape(shape_m)}
        edges.append(_edge(start, end, 1, 80 / 3.6, priority="5", **more))
    connections = (
        *_lanes("a_b", "b_c", {0: 1, 1: 2, 2: 3}),
        *_lanes("on_b", "b_c", {0: 0}),
        *_lanes("b_c", "c_d", {1: 0, 2: 1, 3: 2}),
        *_lanes("c_d", "d_e", {0: 1, 1: 2, 2: 3}),
        *_lanes("d_e", "e_f", {1: 0, 2: 1, 3: 2}),
        *_lanes("d_e", "e_off", {0: 0}),
    )
    main = ("b_c", "c_d", "d_e")
    flows = (
        Flow(("a_b", *main, "e_f"), 2800),
        Flow(("a_b", *main, "e_off"), 450),
        Flow(("on_b", *main, "e_f"), 480),
        Flow(("on_b", *main, "e_off"), 60),
    )
    return RoadPlan(
        "motorway",
        "motorway",
        tuple(nodes),
        tuple(edges),
        flows,
        connections,
        junction_areas=dict.fromkeys("abcdef", "none"),
    )


def grid() -> RoadPlan:
    """Four signalled intersections of two-lane avenues and one-lane streets, with crosswalks."""
    spacing_m, arm_m = 140.0, 130.0
    nodes, edges = [], []
    for column in range(2):
        for row in range(2):
            place = (column * spacing_m, row * spacing_m)
            nodes.append(_node(f"n{column}{row}", place, "traffic_light"))
    for row in range(2):
        y_m = row * spacing_m
        nodes += [_node(f"w{row}", (-arm_m, y_m)), _node(f"e{row}", (spacing_m + arm_m, y_m))]
        edges += _both_ways((f"w{row}", f"n0{row}", f"n1{row}", f"e{row}"), 2, 50 / 3.6)
    for column in range(2):
        x_m = column * spacing_m
        nodes += [_node(f"s{column}", (x_m, -arm_m)), _node(f"t{column}", (x_m, spacing_m + arm_m))]
        edges += _both_ways((f"s{column}", f"n{column}0", f"n{column}1", f"t{column}"), 1, 50 / 3.6)
    flows = [Flow(_edge_names(path.split()), rate) for path, rate in _GRID_PATHS.items()]
    options = (
        *("--sidewalks.guess", "--crossings.guess", "--default.junctions.radius", "9"),
        *("--default.lanewidth", "3.3", "--tls.yellow.time", "5"),
        *("--tls.green.time", "18", "--tls.allred.time", "1"),
    )
    return RoadPlan("grid", "urban", tuple(nodes), tuple(edges), tuple(flows), options=options)


_GRID_PATHS: Mapping[str, float] = {
    "w0 n00 n10 e0": 420,
    "w0 n00 n01 t0": 130,
    "w0 n00 s0": 60,
    "e0 n10 n00 w0": 380,
    "e0 n10 n11 t1": 110,
    "w1 n01 n11 e1": 400,
    "w1 n01 n00 s0": 110,
    "e1 n11 n01 w1": 420,
    "e1 n11 t1": 60,
    "e1 n11 n10 s1": 130,
    "s0 n00 n01 t0": 170,
    "s0 n00 n10 e0": 70,
    "t0 n01 n00 s0": 150,
    "t0 n01 n11 e1": 70,
    "s1 n10 n11 t1": 170,
    "s1 n10 n00 w0": 70,
    "t1 n11 n10 s1": 150,
    "t1 n11 n01 w1": 70,
}


def roundabout() -> RoadPlan:
    """A ring of one lane with four arms that yield on entering."""
    ring_m, arm_m, opening_rad, half_lane_m = 24.0, 190.0, 0.42, 1.75
    nodes, edges = [], []
    places: list[str] = []
    for quarter, name in enumerate("enws"):
        angle_rad = quarter * math.pi / 2
        out, aside = _polar(1.0, angle_rad), _polar(1.0, angle_rad + math.pi / 2)
        far_m = arm_m * out
        enter_rad, leave_rad = angle_rad + opening_rad, angle_rad - opening_rad
        nodes.append(_node(f"arm{name}", far_m))
        nodes.append(_node(f"out{name}", _polar(ring_m, leave_rad)))
        nodes.append(_node(f"in{name}", _polar(ring_m, enter_rad)))
        places += [f"out{name}", f"in{name}"]
        near_m = (ring_m + 45.0) * out
        enter_m = _curve(
            near_m + half_lane_m * aside,
            -out,
            _polar(ring_m, enter_rad),
            _polar(1.0, enter_rad + 0.75 * math.pi),
        )
        leave_m = _curve(
            _polar(ring_m, leave_rad),
            _polar(1.0, leave_rad + 0.25 * math.pi),
            near_m - half_lane_m * aside,
            out,
        )
        enter_m = np.concatenate([(far_m + half_lane_m * aside)[None], enter_m])
        leave_m = np.concatenate([leave_m, (far_m - half_lane_m * aside)[None]])
        one = {"spreadType": "center", "width": "3.5"}
        edges += [
            _edge(
                f"arm{name}", f"in{name}", 1, 50 / 3.6, priority="1", shape=_shape(enter_m), **one
            ),
            _edge(
                f"out{name}", f"arm{name}", 1, 50 / 3.6, priority="1", shape=_shape(leave_m), **one
            ),
        ]
    angles = [sign * 0.42 + quarter * math.pi / 2 for quarter in range(4) for sign in (-1, 1)]
    ring = list(zip(places, angles, strict=True))
    areas: dict[str, Area] = {}
    junction_areas: dict[str, Area] = dict.fromkeys(places, "roundabout")
    junction_areas |= {f"arm{name}": "none" for name in "enws"}
    for (start, first), (end, last) in zip(ring, [*ring[1:], ring[0]], strict=True):
        stop = last if last > first else last + 2 * math.pi
        arc_m = np.stack([_polar(ring_m, angle) for angle in np.linspace(first, stop, 9)])
        more = {"spreadType": "center", "width": "4.5", "shape": _shape(arc_m)}
        edges.append(_edge(start, end, 1, 40 / 3.6, priority="10", **more))
        areas[f"{start}_{end}"] = "roundabout"
    flows = tuple(
        Flow(_ring_path("enws", first, count), rate)
        for first in range(4)
        for count, rate in ((1, 130), (2, 240), (3, 130))
    )
    return RoadPlan(
        "roundabout",
        "urban",
        tuple(nodes),
        tuple(edges),
        flows,
        options=("--default.junctions.radius", "6", "--roundabouts.guess"),
        junction_areas=junction_areas,
        edge_areas=areas,
    )


def rural() -> RoadPlan:
    """A two-way road of one lane each way, through bends of 60 to 400 m, with one side road."""
    step_m = 4.0
    line_m = bends(
        (
            *((180.0, math.inf), (160.0, 120.0), (100.0, math.inf), (150.0, -70.0)),
            *((120.0, math.inf), (200.0, 250.0), (60.0, math.inf), (140.0, 60.0)),
            *((120.0, math.inf), (240.0, -400.0), (150.0, math.inf)),
        ),
        step_m,
    )
    middle = round(640 / step_m)
    ahead = line_m[middle + 1] - line_m[middle - 1]
    ahead /= np.linalg.norm(ahead)
    side_m = line_m[middle] + 200 * np.array([ahead[1], -ahead[0]])
    nodes = (
        _node("a", line_m[0]),
        _node("b", line_m[middle]),
        _node("c", line_m[-1]),
        _node("side", side_m),
    )
    first, second = line_m[: middle + 1], line_m[middle:]
    edges = []
    for start, end, shape_m in (("a", "b", first), ("b", "c", second)):
        for from_node, to_node, points_m in ((start, end, shape_m), (end, start, shape_m[::-1])):
            more = {"priority": "10", "width": "3.4", "shape": _shape(points_m)}
            edges.append(_edge(from_node, to_node, 1, 80 / 3.6, **more))
    for from_node, to_node in (("side", "b"), ("b", "side")):
        edges.append(_edge(from_node, to_node, 1, 60 / 3.6, priority="1", width="3.4"))
    flows = (
        Flow(("a_b", "b_c"), 480),
        Flow(("c_b", "b_a"), 480),
        Flow(("side_b", "b_c"), 80),
        Flow(("side_b", "b_a"), 80),
        Flow(("a_b", "b_side"), 70),
        Flow(("c_b", "b_side"), 70),
    )
    return RoadPlan(
        "rural",
        "rural",
        nodes,
        tuple(edges),
        flows,
        options=("--default.junctions.radius", "8"),
    )


ROADS: Mapping[str, Callable[[], RoadPlan]] = {
    "motorway": motorway,
    "grid": grid,
    "roundabout": roundabout,
    "rural": rural,
}
"""Every road there is, by its name."""


def _node(key: str, place_m: Iterable[float], kind: str = "priority") -> dict[str, str]:
    x_m, y_m = place_m
    return {"id": key, "x": f"{x_m:.3f}", "y": f"{y_m:.3f}", "type": kind}


def _edge(start: str, end: str, lanes: int, speed_mps: float, **more: str) -> dict[str, str]:
    shared = {"id": f"{start}_{end}", "from": start, "to": end}
    return shared | {"numLanes": str(lanes), "speed": f"{speed_mps:.2f}"} | more


def _both_ways(path: tuple[str, ...], lanes: int, speed_mps: float) -> list[dict[str, str]]:
    pairs = list(pairwise(path))
    pairs += [(end, start) for start, end in pairs]
    return [_edge(start, end, lanes, speed_mps) for start, end in pairs]


def _edge_names(path: list[str]) -> tuple[str, ...]:
    return tuple(f"{start}_{end}" for start, end in pairwise(path))


def _lanes(start: str, end: str, lanes: Mapping[int, int]) -> list[dict[str, str]]:
    return [
        {"from": start, "to": end, "fromLane": str(first), "toLane": str(last)}
        for first, last in lanes.items()
    ]


def _ring_path(names: str, first: int, count: int) -> tuple[str, ...]:
    """Edges from one arm of the roundabout to the one `count` further counter-clockwise."""
    path = [f"arm{names[first]}", f"in{names[first]}"]
    for step in range(1, count + 1):
        name = names[(first + step) % len(names)]
        path += [f"out{name}"] if step == count else [f"out{name}", f"in{name}"]
    return _edge_names([*path, f"arm{names[(first + count) % len(names)]}"])


def _shape(points_m: Float[np.ndarray, "point 2"]) -> str:
    return " ".join(f"{x_m:.3f},{y_m:.3f}" for x_m, y_m in points_m)


def _polar(radius_m: float, angle_rad: float) -> Float[np.ndarray, " 2"]:
    return radius_m * np.array([math.cos(angle_rad), math.sin(angle_rad)])


def _curve(
    start_m: Float[np.ndarray, " 2"],
    start_direction: Float[np.ndarray, " 2"],
    end_m: Float[np.ndarray, " 2"],
    end_direction: Float[np.ndarray, " 2"],
) -> Float[np.ndarray, "point 2"]:
    """A cubic from one place and direction to another."""
    reach_m = np.linalg.norm(end_m - start_m)
    part = np.linspace(0.0, 1.0, 33)[:, None]
    return (
        (2 * part**3 - 3 * part**2 + 1) * start_m
        + (part**3 - 2 * part**2 + part) * reach_m * start_direction
        + (3 * part**2 - 2 * part**3) * end_m
        + (part**3 - part**2) * reach_m * end_direction
    )
