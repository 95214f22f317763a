"""Shapes of map lines against hand-worked numbers and shapely."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from data_prep.scenes.line_shapes import (
    following,
    is_inside,
    lateral_neighbours,
    nesting_depths,
    open_ring,
    polyline_length,
    resampled,
    ring_area,
)

SQUARE = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0], [0.0, 3.0]])
HOOK = np.array(
    [[1e6, 2.0], [1e6 + 5, 2.0], [1e6 + 5, 8.0], [1e6 + 3, 8.0], [1e6 + 3, 4.0], [1e6, 4.0]]
)


def test_area_and_length_by_hand():
    assert ring_area(SQUARE) == pytest.approx(12.0)
    assert ring_area(SQUARE[::-1]) == pytest.approx(12.0)
    assert ring_area(HOOK) == pytest.approx(10.0 + 8.0)
    assert polyline_length(SQUARE) == pytest.approx(4 + 3 + 4)


def test_a_ring_loses_only_a_repeated_last_point():
    closed = np.vstack([SQUARE, SQUARE[:1]])
    assert (open_ring(closed) == SQUARE).all()
    assert (open_ring(SQUARE) == SQUARE).all()


def test_resampling_keeps_the_ends_and_spaces_evenly():
    bent = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0]])
    expected = [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1]]
    assert resampled(bent, 5) == pytest.approx(np.array(expected, dtype=float))


@given(x=st.floats(-1, 7), y=st.floats(1, 9))
def test_inside_as_shapely_says(x, y):
    ring = HOOK - [1e6, 0]
    point = np.array([x, y])
    polygon = shapely.Polygon(ring)
    if polygon.exterior.distance(shapely.Point(point)) > 1e-9:
        assert is_inside(point, ring) == polygon.contains(shapely.Point(point))


def test_depths_of_an_island_in_a_lake_on_an_island():
    rings = [SQUARE * 10 + shift for shift in (0, 100)]
    rings += [SQUARE + 5, SQUARE * 0.2 + 6, SQUARE + 200]
    assert nesting_depths(rings) == [0, 0, 1, 2, 0]


def line(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=float)


def test_a_line_follows_where_another_ends_in_its_direction():
    lines = [
        line((0, 0), (10, 0)),
        line((10.3, 0), (20, 2)),  # goes on
        line((10.3, 0), (10.3, 9)),  # turns off sharply
        line((11, 0), (20, 0)),  # begins too far away
        line((20, 0), (10.2, 0)),  # comes the other way
    ]
    follows = following(lines)
    assert np.argwhere(follows).tolist() == [[0, 1]]


def test_neighbours_are_beside_in_the_same_direction_and_nearest():
    lines = [
        line((0, 0), (20, 0)),
        line((0, 3.5), (20, 3.5)),
        line((0, 7), (20, 7)),
        line((20, -3.5), (0, -3.5)),  # oncoming
        line((20, 3.5), (60, 3.5)),  # ahead of the second
        line((0, -1.0), (20, -1.0)),  # nearly the same lane
    ]
    left, right = lateral_neighbours(lines)
    assert left == [1, 2, None, None, None, 1]
    assert right == [None, 0, 1, None, None, None]


def test_neighbours_turn_with_the_lanes():
    lines = [line((0, 0), (20, 0)), line((0, 3.5), (20, 3.5))]
    for angle in (0.7, 2.5, -1.9):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        assert lateral_neighbours([each @ turn + 1000 for each in lines]) == ([1, None], [None, 0])
    assert lateral_neighbours([]) == ([], [])
