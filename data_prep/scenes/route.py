"""The lane centres a vehicle follows: matched to where it drove, and continued ahead.

A route says where to go, never how far one got: behind the last lane matched it goes on along the
straightest successors, so that its end tells nothing of the speed driven.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from data_prep.scenes.raw_scene import RawMap

_HOPS = 4  # lanes that may lie unseen between two places of a track: short connectors
_UNREACHABLE = 12.0


@dataclass(frozen=True)
class RouteRules:
    """How a track is laid on the lanes.

    Attributes:
        shortest_s: Seconds a track must last to get a route.
        ahead_m: Metres the route goes on beyond where the track ends, where lanes do.
        spacing_m: Metres between the places of a track that are matched.
        reach_m: Largest distance in metres from the centre of a lane that may be followed.
        turn_rad: Largest angle in radians between a lane and the vehicle on it.
        lateral_m: Distance in metres from the centre that costs 1/2.
        heading_rad: Angle in radians that costs 1/2.
        covered: Smallest share of the places that must lie on lanes.
    """

    shortest_s: float = 2.0
    ahead_m: float = 150.0
    spacing_m: float = 4.0
    reach_m: float = 4.0
    turn_rad: float = np.pi / 3
    lateral_m: float = 1.0
    heading_rad: float = 0.35
    covered: float = 0.5


RULES = RouteRules()


class LaneGraph:
    """The lane centres of a map, ready for matching.

    Lanes are numbered in the order of the map.
    """

    def __init__(self, raw_map: RawMap) -> None:
        centres = [line for line in raw_map.lines if line.kind == "lane_centre"]
        self.keys = tuple(line.key for line in centres)
        self.number = {key: lane for lane, key in enumerate(self.keys)}
        self.points = [np.asarray(line.points_m, float) for line in centres]
        self.length_m = np.array([_length(points) for points in self.points])
        self.successors = [
            tuple(self.number[key] for key in line.successors if key in self.number)
            for line in centres
        ]
        self.beside = [
            tuple(self.number[key] for key in (line.left, line.right) if key in self.number)
            for line in centres
        ]
        self._ways: dict[int, dict[int, tuple[float, tuple[int, ...]]]] = {}
        starts = [points[:-1] for points in self.points]
        ends = [points[1:] for points in self.points]
        self.start = np.concatenate(starts) if starts else np.zeros((0, 2))
        self.vector = (np.concatenate(ends) if ends else np.zeros((0, 2))) - self.start
        self.lane = np.repeat(np.arange(len(starts)), [len(points) for points in starts])
        self.angle = np.arctan2(self.vector[:, 1], self.vector[:, 0])

    def ways(self, lane: int) -> dict[int, tuple[float, tuple[int, ...]]]:
        """Lanes that can follow a lane: what the change costs, and the lanes in between."""
        if lane not in self._ways:
            self._ways[lane] = self._found_ways(lane)
        return self._ways[lane]

    def _found_ways(self, lane: int) -> dict[int, tuple[float, tuple[int, ...]]]:
        found: dict[int, tuple[float, tuple[int, ...]]] = {lane: (0.0, ())}
        frontier: list[tuple[int, float, tuple[int, ...]]] = [(lane, 0.0, ())]
        frontier += [(one, 1.5, ()) for one in self.beside[lane]]
        for one, cost, between in frontier[1:]:
            found[one] = (cost, between)
        for _ in range(_HOPS):
            following = []
            for one, cost, between in frontier:
                passed = between if one == lane else (*between, one)
                for successor in self.successors[one]:
                    if successor not in found or found[successor][0] > cost + 0.1:
                        found[successor] = (cost + 0.1, passed)
                        following.append((successor, cost + 0.1, passed))
            frontier = following
        return found

    def straightest(self, lane: int) -> int | None:
        """The successor that bends least, or where a lane ends the one beside it that goes on."""
        options = self.successors[lane]
        if not options:
            options = tuple(one for one in self.beside[lane] if self.successors[one])
            return options[0] if options else None
        return min(options, key=lambda one: (abs(_turn(self.points[lane], self.points[one])), one))


def _length(points: Float[np.ndarray, "point 2"]) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _turn(before: Float[np.ndarray, "point 2"], after: Float[np.ndarray, "other 2"]) -> float:
    """Angle from the end of one line to the end of the next."""
    one, other = before[-1] - before[-2], after[-1] - after[-2]
    return float(_wrapped(np.arctan2(other[1], other[0]) - np.arctan2(one[1], one[0])))


def _wrapped(angle_rad: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return (angle_rad + np.pi) % (2 * np.pi) - np.pi


def matched_route(
    graph: LaneGraph,
    position_m: Float[np.ndarray, "step 2"],
    heading_rad: Float[np.ndarray, " step"],
    rules: RouteRules = RULES,
) -> tuple[int, ...]:
    """Numbers of the lanes a vehicle follows, in order, and those ahead of it.

    The most probable sequence of lanes (Viterbi): a lane costs by the distance of its centre and
    by its angle, a change of lanes by whether one leads to the other. Lanes that were passed
    between two places are filled in.

    Returns:
        Lane numbers without immediate repeats; empty where too little of the track lies on lanes.

    Source:
        Map matching with a hidden Markov model (Newson and Krumm, 2009,
        doi:10.1145/1653771.1653818), with costs for lanes instead of roads.
    """
    places = _places(position_m, rules.spacing_m)
    options = _options(graph, position_m[places], heading_rad[places], rules)
    seen = [at for at, (lanes, _) in enumerate(options) if lanes.size]
    if not seen or len(seen) < rules.covered * len(options):
        return ()
    best = _viterbi(graph, [options[at] for at in seen])
    route = _filled(graph, best)
    travelled = _along(graph.points[route[-1]], position_m[places[seen[-1]]])
    left = rules.ahead_m - (graph.length_m[route[-1]] - travelled)
    return tuple(_continued(graph, route, float(left)))


def _places(position_m: Float[np.ndarray, "step 2"], spacing_m: float) -> Int[np.ndarray, " place"]:
    """The first step of every stretch of the way driven, and the last step."""
    way = np.concatenate([[0.0], np.linalg.norm(np.diff(position_m, axis=0), axis=1).cumsum()])
    _, first = np.unique((way / spacing_m).astype(int), return_index=True)
    return np.unique([*first, len(position_m) - 1])


def _options(
    graph: LaneGraph,
    position_m: Float[np.ndarray, "place 2"],
    heading_rad: Float[np.ndarray, " place"],
    rules: RouteRules,
) -> list[tuple[Int[np.ndarray, " lane"], Float[np.ndarray, " lane"]]]:
    """Lanes near each place with their costs; lanes in the other direction are none."""
    low, high = position_m.min(axis=0) - rules.reach_m, position_m.max(axis=0) + rules.reach_m
    end = graph.start + graph.vector
    near = np.flatnonzero(
        (np.minimum(graph.start, end) <= high).all(axis=1)
        & (np.maximum(graph.start, end) >= low).all(axis=1)
    )
    start, vector, lane = graph.start[near], graph.vector[near], graph.lane[near]
    squared = np.maximum((vector**2).sum(axis=1), 1e-9)
    offset = position_m[:, None] - start
    share = np.clip((offset * vector).sum(axis=2) / squared, 0.0, 1.0)
    distance = np.linalg.norm(offset - share[..., None] * vector, axis=2)
    angle = np.abs(_wrapped(heading_rad[:, None] - graph.angle[near]))
    cost = ((distance / rules.lateral_m) ** 2 + (angle / rules.heading_rad) ** 2) / 2
    usable = (distance <= rules.reach_m) & (angle <= rules.turn_rad)
    found = []
    for row, possible in zip(cost, usable, strict=True):
        chosen = np.flatnonzero(possible)
        chosen = chosen[np.lexsort((row[chosen], lane[chosen]))]
        lanes, first = np.unique(lane[chosen], return_index=True)
        found.append((lanes, row[chosen][first]))
    return found


def _viterbi(
    graph: LaneGraph, options: Sequence[tuple[Int[np.ndarray, " lane"], Float[np.ndarray, " lane"]]]
) -> list[int]:
    """The cheapest sequence of lanes, one a place."""
    lanes, total = options[0]
    came_from: list[Int[np.ndarray, " lane"]] = []
    for nearby, cost in options[1:]:
        change = np.array(
            [
                [graph.ways(int(one)).get(int(other), (_UNREACHABLE, ()))[0] for one in lanes]
                for other in nearby
            ]
        )
        reached = change + total[None]
        choice = reached.argmin(axis=1)
        came_from.append(choice)
        total = reached[np.arange(len(nearby)), choice] + cost
        lanes = nearby
    at = int(total.argmin())
    best = [int(options[-1][0][at])]
    for (before, _), choice in zip(reversed(options[:-1]), reversed(came_from), strict=True):
        at = int(choice[at])
        best.append(int(before[at]))
    return best[::-1]


def _filled(graph: LaneGraph, lanes: Sequence[int]) -> list[int]:
    """The lanes without repeats, with those that lie between two of them."""
    route = [lanes[0]]
    for lane in lanes[1:]:
        if lane != route[-1]:
            _, between = graph.ways(route[-1]).get(lane, (0.0, ()))
            route += [*between, lane]
    return route


def _along(points: Float[np.ndarray, "point 2"], position_m: Float[np.ndarray, " 2"]) -> float:
    """Metres along a line to the point of it that is nearest to a position."""
    vector = np.diff(points, axis=0)
    squared = np.maximum((vector**2).sum(axis=1), 1e-9)
    share = np.clip(((position_m - points[:-1]) * vector).sum(axis=1) / squared, 0.0, 1.0)
    off = np.linalg.norm(points[:-1] + share[:, None] * vector - position_m, axis=1)
    at, lengths = int(off.argmin()), np.sqrt(squared)
    return float(lengths[:at].sum() + share[at] * lengths[at])


def _continued(graph: LaneGraph, route: Sequence[int], left_m: float) -> list[int]:
    """The route with the straightest lanes after it, until it is long enough or lanes end."""
    longer = list(route)
    while left_m > 0:
        following = graph.straightest(longer[-1])
        if following is None or following in longer:
            break
        if following in graph.successors[longer[-1]]:
            left_m -= float(graph.length_m[following])
        longer.append(following)
    return longer


def continued_route(
    graph: LaneGraph, keys: Sequence[str], last_position_m: Float[np.ndarray, " 2"], ahead_m: float
) -> tuple[int, ...]:
    """Numbers of a route that a source gives, continued ahead where it ends too early."""
    route = [graph.number[key] for key in keys]
    near = [
        float(np.linalg.norm(graph.points[lane] - last_position_m, axis=1).min()) for lane in route
    ]
    at = int(np.argmin(near))
    left = ahead_m - float(graph.length_m[route[at:]].sum())
    left += _along(graph.points[route[at]], last_position_m)
    return tuple(_continued(graph, route, left))
