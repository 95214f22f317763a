"""A SUMO network as a map of lines, and where routes run on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from data_prep.scenes.raw_scene import Area, RawLine, RawMap
from data_prep.scenes.traffic_bends import RouteBends, curvature_of
from data_prep.scenes.traffic_networks import RoadPlan

if TYPE_CHECKING:
    from sumolib.net.edge import Edge
    from sumolib.net.lane import Lane

_OVERLAP_M = 0.5
"""Roads reach this far into their junctions, so that no seam is left between their polygons."""

_LANE_CHANGE_M = 1.0
"""Two lanes of a route that meet less well than this are not one bend."""


@dataclass(frozen=True)
class Step:
    """One way from a lane to the next edge: the lanes inside the junction, then where it ends."""

    inside: tuple[str, ...]
    end: str


class RoadNetwork:
    """A network as SUMO wrote it.

    Args:
        file: The `.net.xml`.
        plan: What it was made from.
    """

    def __init__(self, file: Path, plan: RoadPlan) -> None:
        import sumolib

        self.file = file
        self.plan = plan
        net = sumolib.net.readNet(str(file), withInternal=True, withPedestrianConnections=True)
        self._edges: list[Edge] = sorted(net.getEdges(True), key=lambda edge: edge.getID())
        self._net = net
        self._lanes: dict[str, Lane] = {
            lane.getID(): lane
            for edge in self._edges
            if edge.getFunction() in ("", "internal")
            for lane in edge.getLanes()
            if lane.allows("passenger")
        }
        self._controlled = {
            connection.getViaLaneID()
            for lane in self._lanes.values()
            for connection in lane.getOutgoing()
            if connection.getTLSID() and not lane.getID().startswith(":")
        }
        self._steps = {key: self._steps_from(lane) for key, lane in self._lanes.items()}

    @property
    def lane_keys(self) -> frozenset[str]:
        """Keys of all lanes for cars."""
        return frozenset(self._lanes)

    def map(self) -> RawMap:
        """Lane centres, boundaries, crosswalks, stop lines and what may be driven on."""
        lines = [
            *map(self._lane_centre, self._lanes.values()),
            *self._crosswalks(),
            *self._stop_lines(),
            *self._surfaces(),
            *self._borders(),
        ]
        return RawMap(self.plan.name, tuple(lines))

    def lane_path(self, edges: tuple[str, ...], driven: dict[str, str]) -> tuple[str, ...]:
        """Lanes along a route, those inside junctions included.

        Args:
            edges: The route.
            driven: The lane on which a vehicle left (or is on) an edge, for edges it has driven.

        Returns:
            The lanes in order: each follows the one before it, or lies beside it where the route
            needs a change of lanes.
        """
        usable = self._usable_lanes(edges)
        path: list[str] = []
        entered: str | None = None
        for index, edge in enumerate(edges):
            choices = usable[index]
            preferred = driven.get(edge, entered)
            lane = preferred if preferred in choices else _nearest(preferred, choices)
            path.extend(_across(entered or lane, lane))
            if index + 1 < len(edges):
                following = edges[index + 1]
                ways = [way for way in self._steps[lane] if _edge_of(way.end) == following]
                wanted = driven.get(following)
                way = next((way for way in ways if way.end == wanted), ways[0])
                path.extend(way.inside)
                entered = way.end
        return tuple(path)

    def bends(self, edges: tuple[str, ...]) -> RouteBends:
        """Curvature along a route.

        Args:
            edges: The route.
        """
        starts_m: dict[str, float] = {}
        at_m = 0.0
        pieces: list[list[Float[np.ndarray, "point 2"]]] = []
        before = ""
        for key in self.lane_path(edges, {}):
            if not key.startswith(":") and _edge_of(key) == before:
                continue  # beside the one before it
            before = _edge_of(key)
            for lane in self._lanes:
                if _place_of(lane) == _place_of(key):
                    starts_m.setdefault(lane, at_m)
            starts_m[key] = at_m
            shape_m = np.array(self._lanes[key].getShape(), dtype=np.float64)
            if not pieces or np.linalg.norm(pieces[-1][-1][-1] - shape_m[0]) > _LANE_CHANGE_M:
                pieces.append([])
            pieces[-1].append(shape_m)
            at_m += self._lanes[key].getLength()
        curvatures = [curvature_of(np.concatenate(piece)) for piece in pieces]
        return RouteBends(starts_m, np.concatenate(curvatures))

    def _steps_from(self, lane: "Lane") -> tuple[Step, ...]:
        steps = []
        for connection in lane.getOutgoing():
            end = connection.getToLane()
            if not end.allows("passenger"):
                continue
            inside: list[str] = []
            via = connection.getViaLaneID()
            while via:
                inside.append(via)
                onward = self._net.getLane(via).getOutgoing()
                via = onward[0].getViaLaneID() if onward else ""
            steps.append(Step(tuple(inside), end.getID()))
        return tuple(steps)

    def _usable_lanes(self, edges: tuple[str, ...]) -> list[list[str]]:
        """Per edge, the lanes from which the rest of the route can be driven without a change."""
        usable: list[list[str]] = []
        for index in range(len(edges) - 1, -1, -1):
            lanes = [key for key in self._lanes if _edge_of(key) == edges[index]]
            if usable:
                following = edges[index + 1]
                lanes = [
                    key
                    for key in lanes
                    if any(_edge_of(way.end) == following for way in self._steps[key])
                ]
            usable.insert(0, lanes)
        return usable

    def _area(self, lane: "Lane") -> Area:
        key = lane.getID()
        if key.startswith(":"):
            return self.plan.junction_areas.get(_junction_of(key), "intersection")
        return self.plan.edge_areas.get(_edge_of(key), "none")

    def _lane_centre(self, lane: "Lane") -> RawLine:
        key = lane.getID()
        successors: list[str] = []
        for connection in lane.getOutgoing():
            via, end = connection.getViaLaneID(), connection.getToLane()
            if via in self._lanes or (not via and end.getID() in self._lanes):
                successors.append(via or end.getID())
        beside = {
            name: other
            for name, step in (("left", 1), ("right", -1))
            if (other := f"{_edge_of(key)}_{lane.getIndex() + step}") in self._lanes
        }
        return RawLine(
            key,
            "lane_centre",
            _distinct(lane.getShape()),
            speed_limit_mps=lane.getSpeed(),
            width_m=lane.getWidth(),
            successors=tuple(dict.fromkeys(successors)),
            left=beside.get("left"),
            right=beside.get("right"),
            road_class=self.plan.road_class,
            area=self._area(lane),
            has_signal=key in self._controlled,
        )

    def _signalled(self) -> Iterator["Lane"]:
        for lane in self._lanes.values():
            if any(connection.getTLSID() for connection in lane.getOutgoing()):
                yield lane

    def _stop_lines(self) -> Iterator[RawLine]:
        for lane in self._signalled():
            points_m = np.array(lane.getShape(), dtype=np.float64)
            half = lane.getWidth() / 2
            line_m = np.stack([_beside(points_m, side)[-1] for side in (half, -half)])
            yield RawLine(f"stop {lane.getID()}", "stop_line", line_m, area="intersection")

    def _crosswalks(self) -> Iterator[RawLine]:
        for edge in self._edges:
            if edge.getFunction() == "crossing":
                lane = edge.getLanes()[0]
                shape_m = _band(np.array(lane.getShape(), dtype=np.float64), lane.getWidth(), 0.0)
                yield RawLine(edge.getID(), "crosswalk", shape_m, area="intersection")

    def _surfaces(self) -> Iterator[RawLine]:
        road_class = self.plan.road_class
        for lane in self._lanes.values():
            shape_m = _band(_distinct(lane.getShape()), lane.getWidth(), _OVERLAP_M)
            yield RawLine(
                f"surface {lane.getID()}",
                "drivable_area",
                shape_m,
                road_class=road_class,
                area=self._area(lane),
            )
        for node in sorted(self._net.getNodes(), key=lambda node: node.getID()):
            shape_m = _distinct(node.getShape())
            if node.getType() != "dead_end" and len(shape_m) > 2 and _polygon_area(shape_m) > 1.0:
                area = self.plan.junction_areas.get(node.getID(), "intersection")
                key = f"surface {node.getID()}"
                yield RawLine(key, "drivable_area", shape_m, road_class=road_class, area=area)

    def _borders(self) -> Iterator[RawLine]:
        for lane in self._lanes.values():
            if lane.getID().startswith(":"):
                continue
            points_m = _distinct(lane.getShape())
            for side, step in (("left", 1), ("right", -1)):
                other = f"{_edge_of(lane.getID())}_{lane.getIndex() + step}"
                if other in self._lanes and side == "right":
                    continue  # the neighbour's left boundary
                kind = "lane_boundary" if other in self._lanes else "road_edge"
                line_m = _beside(points_m, step * lane.getWidth() / 2)
                yield RawLine(
                    f"{side} of {lane.getID()}", kind, line_m, road_class=self.plan.road_class
                )


def _edge_of(lane: str) -> str:
    return lane.rpartition("_")[0]


def _junction_of(lane: str) -> str:
    return lane[1:].rsplit("_", 2)[0]


def _place_of(lane: str) -> tuple[str, str]:
    """The edge a lane belongs to, or the junction it lies in."""
    inside = lane.startswith(":")
    return ("junction", _junction_of(lane)) if inside else ("edge", _edge_of(lane))


def _across(start: str, end: str) -> list[str]:
    """Lanes of one edge from one to another, both among them."""
    edge, _, first = start.rpartition("_")
    last = int(end.rpartition("_")[2])
    step = 1 if last >= int(first) else -1
    return [f"{edge}_{index}" for index in range(int(first), last + step, step)]


def _nearest(lane: str | None, choices: list[str]) -> str:
    if lane is None:
        return choices[-1]
    index = int(lane.rpartition("_")[2])
    return min(choices, key=lambda choice: abs(int(choice.rpartition("_")[2]) - index))


def _distinct(shape: object) -> Float[np.ndarray, "point 2"]:
    points_m = np.asarray(shape, dtype=np.float64)[:, :2]
    far = np.linalg.norm(np.diff(points_m, axis=0), axis=1) > 1e-3
    return np.concatenate([points_m[:1], points_m[1:][far]])


def _beside(line_m: Float[np.ndarray, "point 2"], left_m: float) -> Float[np.ndarray, "point 2"]:
    """A line moved to its left."""
    tangent = np.gradient(line_m, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return line_m + left_m * np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)


def _band(
    line_m: Float[np.ndarray, "point 2"], width_m: float, overlap_m: float
) -> Float[np.ndarray, "corner 2"]:
    """The polygon around a line, counter-clockwise, longer than it by an overlap at each end."""
    line_m = line_m.copy()
    for end, next_to in ((0, 1), (-1, -2)):
        away = line_m[end] - line_m[next_to]
        line_m[end] += overlap_m * away / np.linalg.norm(away)
    return np.concatenate([_beside(line_m, -width_m / 2), _beside(line_m, width_m / 2)[::-1]])


def _polygon_area(points_m: Float[np.ndarray, "point 2"]) -> float:
    x_m, y_m = points_m.T
    return 0.5 * abs(float(np.dot(x_m, np.roll(y_m, -1)) - np.dot(y_m, np.roll(x_m, -1))))
