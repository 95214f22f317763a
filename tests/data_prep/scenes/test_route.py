"""Routes on small maps: which lanes a track follows, and how far they go on ahead."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.scenes.raw_scene import RawLine, RawMap
from data_prep.scenes.route import RULES, LaneGraph, continued_route, matched_route


def lane(key, points, *, after=(), left=None, right=None):
    return RawLine(
        key,
        "lane_centre",
        np.asarray(points, float),
        successors=tuple(after),
        left=left,
        right=right,
    )


def graph(*lines):
    return LaneGraph(RawMap("m", lines))


def names(one, route):
    return [one.keys[lane] for lane in route]


def drive(points, spacing=1.0):
    """Positions and headings along a line of points."""
    points = np.asarray(points, float)
    parts = []
    for start, end in itertools.pairwise(points):
        count = max(2, int(np.linalg.norm(end - start) / spacing))
        parts.append(start + np.linspace(0, 1, count, endpoint=False)[:, None] * (end - start))
    position = np.concatenate([*parts, points[-1:]])
    moved = np.diff(position, axis=0)
    heading = np.arctan2(moved[:, 1], moved[:, 0])
    return position, np.append(heading, heading[-1])


TWO_LANES = (
    lane("a1", [[0, 0], [100, 0]], after=["a2"], left="b1"),
    lane("a2", [[100, 0], [200, 0]], after=["a3"], left="b2"),
    lane("a3", [[200, 0], [300, 0]], left="b3"),
    lane("b1", [[0, 3.5], [100, 3.5]], after=["b2"], right="a1"),
    lane("b2", [[100, 3.5], [200, 3.5]], after=["b3"], right="a2"),
    lane("b3", [[200, 3.5], [300, 3.5]], right="a3"),
    lane("back", [[300, 7], [0, 7]]),
)

CROSSING = (
    lane("in", [[-50, 0], [0, 0]], after=["left", "straight", "right"]),
    lane("left", [[0, 0], [8, 2], [10, 10]], after=["north"]),
    lane("straight", [[0, 0], [20, 0]], after=["east"]),
    lane("right", [[0, 0], [4, -2], [5, -5]], after=["south"]),
    lane("north", [[10, 10], [10, 60]]),
    lane("east", [[20, 0], [200, 0]]),
    lane("south", [[5, -5], [5, -60]]),
)


def test_a_lane_and_what_follows_it():
    one = graph(*TWO_LANES)
    route = matched_route(one, *drive([[10, 0.4], [40, -0.3]]))
    # 60 m of a1 and 90 m of a2 are the 150 m ahead.
    assert names(one, route) == ["a1", "a2"]


def test_the_end_of_a_route_does_not_tell_the_speed():
    one = graph(*TWO_LANES)
    short = matched_route(one, *drive([[10, 0], [40, 0]]))
    long = matched_route(one, *drive([[10, 0], [60, 0]]))
    assert names(one, short) == ["a1", "a2"]
    assert names(one, long) == ["a1", "a2", "a3"]  # 40 + 100 m are less than 150


def test_a_change_of_lanes():
    one = graph(*TWO_LANES)
    route = matched_route(one, *drive([[10, 0], [50, 0], [80, 3.5], [130, 3.5]]))
    assert names(one, route) == ["a1", "b1", "b2", "b3"]


def test_a_change_begun_at_the_very_end():
    one = graph(*TWO_LANES)
    route = matched_route(one, *drive([[10, 0], [62, 0], [70, 3.5]]))
    assert names(one, route) == ["a1", "b1", "b2", "b3"]


def test_oncoming_lanes_are_not_followed():
    one = graph(*TWO_LANES)
    assert names(one, matched_route(one, *drive([[200, 5.5], [150, 5.5]]))) == ["back"]
    assert matched_route(one, *drive([[0, 30], [50, 30]])) == ()
    assert matched_route(graph(TWO_LANES[0]), *drive([[90, 0], [50, 0]])) == ()


def test_noise_does_not_change_lanes():
    one = graph(*TWO_LANES)
    position, heading = drive([[10, 0], [90, 0]])
    position[:, 1] += 1.2 * np.sin(np.arange(len(position)))
    position[30, 1] = 2.2  # nearer to the other lane for one step
    assert names(one, matched_route(one, position, heading))[:2] == ["a1", "a2"]


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ([[-40, 0], [0, 0], [8, 2], [10, 10], [10, 40]], ["in", "left", "north"]),
        ([[-40, 0], [30, 0]], ["in", "straight", "east"]),
        ([[-40, 0], [0, 0], [4, -2], [5, -5], [5, -40]], ["in", "right", "south"]),
        ([[-40, 0], [-20, 0]], ["in", "straight", "east"]),  # straightest ahead
    ],
)
def test_turns_at_a_crossing(way, expected):
    one = graph(*CROSSING)
    assert names(one, matched_route(one, *drive(way))) == expected


def test_short_lanes_between_two_places_are_filled_in():
    short = [lane(str(k), [[2.0 * k, 0], [2.0 * k + 2, 0]], after=[str(k + 1)]) for k in range(60)]
    one = graph(*short)
    rules = replace(RULES, ahead_m=5.0, spacing_m=6.0)
    route = matched_route(one, *drive([[0.5, 0], [40, 0]]), rules)
    assert names(one, route) == [str(k) for k in range(23)]


def test_a_lane_that_ends_goes_on_beside():
    one = graph(
        lane("ramp", [[0, 0], [50, 0]], left="main1"),
        lane("main1", [[0, 3], [50, 3]], after=["main2"], right="ramp"),
        lane("main2", [[50, 3], [400, 3]]),
    )
    route = matched_route(one, *drive([[5, 0], [30, 0]]))
    assert names(one, route) == ["ramp", "main1", "main2"]


def test_a_ring_ends():
    ring = [
        lane("n", [[0, 0], [20, 0]], after=["e"]),
        lane("e", [[20, 0], [20, 20]], after=["s"]),
        lane("s", [[20, 20], [0, 0]], after=["n"]),
    ]
    one = graph(*ring)
    assert names(one, matched_route(one, *drive([[2, 0], [15, 0]]))) == ["n", "e", "s"]


def test_a_given_route_goes_on():
    one = graph(*TWO_LANES)
    route = continued_route(one, ["a1"], np.array([90.0, 0.0]), 150.0)
    assert names(one, route) == ["a1", "a2", "a3"]
    # Far from its end it is long enough as it is.
    assert names(one, continued_route(one, ["a1", "a2"], np.array([20.0, 0.0]), 150.0)) == [
        "a1",
        "a2",
    ]


def test_no_lanes_no_route():
    assert matched_route(graph(), *drive([[0, 0], [10, 0]])) == ()


@given(angle=st.floats(-np.pi, np.pi), shift=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)))
def test_turning_the_world_changes_nothing(angle, shift):
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = [replace(line, points_m=line.points_m @ turn + shift) for line in CROSSING]
    position, heading = drive([[-40, 0.3], [0, 0], [8, 2], [10, 10], [10, 40]])
    one = graph(*moved)
    route = matched_route(one, position @ turn + shift, heading + angle)
    assert names(one, route) == ["in", "left", "north"]


def test_a_hundred_tracks_take_less_than_a_second_of_work():
    grid = []
    for row in range(40):
        grid += [
            lane(
                f"{row}:{column}",
                [[column * 20 + k * 2, row * 4] for k in range(11)],
                after=[f"{row}:{column + 1}"],
                left=f"{row + 1}:{column}",
                right=f"{row - 1}:{column}",
            )
            for column in range(25)
        ]
    one = graph(*grid)
    position, heading = drive([[0, 41], [200, 43]])
    begin = time.process_time()
    routes = [matched_route(one, position, heading) for _ in range(100)]
    assert time.process_time() - begin < 1.0
    assert len(routes[0]) >= 17
