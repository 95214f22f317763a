"""The drivable area against shapely's unions, on overlaps, holes, shared edges and far maps."""

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driving.metrics.drivable_area import DrivableArea


def star(random: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """A simple polygon around a centre, counter-clockwise."""
    count = int(random.integers(3, 12))
    angles = np.sort(random.uniform(0, 2 * np.pi, count))
    while np.diff(np.append(angles, angles[0] + 2 * np.pi)).max() > 0.95 * np.pi:
        angles = np.sort(random.uniform(0, 2 * np.pi, count + 1))
    distance = radius * random.uniform(0.4, 1.0, len(angles))
    return centre + np.stack([np.cos(angles), np.sin(angles)], 1) * distance[:, None]


def inside(polygons: list[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Non-zero winding number, polygon by polygon, with shapely."""
    winding = np.zeros(len(points), dtype=int)
    for polygon in polygons:
        ring = shapely.Polygon(polygon)
        sign = 1 if ring.exterior.is_ccw else -1
        winding += sign * shapely.contains_xy(ring, points[:, 0], points[:, 1])
    return winding != 0


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), cell_m=st.sampled_from([0.7, 2.0, 9.0]))
def test_matches_shapely_on_overlapping_polygons_with_holes(seed: int, cell_m: float) -> None:
    random = np.random.default_rng(seed)
    far = random.uniform(-1e6, 1e6, 2)
    maps, points = [], []
    for _ in range(3):
        polygons = [star(random, far + random.uniform(-20, 20, 2), 15) for _ in range(6)]
        polygons += [star(random, polygons[0].mean(0), 3)[::-1] for _ in range(2)]
        maps.append(polygons)
        points.append(far + random.uniform(-45, 45, (200, 2)))
    points = np.stack(points)
    expected = np.stack([inside(*pair) for pair in zip(maps, points, strict=True)])
    for dtype in (torch.float32, torch.float64):
        area = DrivableArea.from_polygons(maps, cell_m=cell_m, dtype=dtype)
        found = area.contains(torch.from_numpy(points), torch.arange(3)).numpy()
        assert (found == expected).all()


def test_exact_a_tenth_of_a_millimetre_from_every_edge_and_vertex() -> None:
    square = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 4.0], [0.0, 4.0]])
    area = DrivableArea.from_polygons([[square]], cell_m=2.0)
    shift = 1e-4
    for x in (0.0, 2.0, 5.5, 10.0):
        for y, side in ((0.0, 1.0), (4.0, -1.0)):
            points = torch.tensor([[[x, y + side * shift], [x, y - side * shift]]])
            points[..., 0] += shift if x == 0 else -shift if x == 10 else 0
            found = area.contains(points.double(), torch.tensor([0]))
            assert found.tolist() == [[True, False]]


def test_edges_shared_by_neighbours_vanish() -> None:
    left = np.array([[0.0, 0.0], [5.0, 0.0], [5.0, 4.0], [0.0, 4.0]])
    right = left + np.array([5.0, 0.0])
    together = DrivableArea.from_polygons([[left, right]])
    apart = DrivableArea.from_polygons([[left], [right]])
    assert len(together.edges_m) < len(apart.edges_m)
    on_the_seam = torch.tensor([[[5.0, 2.0]]], dtype=torch.float64)
    assert together.contains(on_the_seam, torch.tensor([0])).item()


def test_a_hole_is_outside_and_an_island_in_it_inside() -> None:
    def square(half: float) -> np.ndarray:
        return half * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])

    area = DrivableArea.from_polygons([[square(9), square(6)[::-1], square(3)]], cell_m=2.5)
    points = torch.tensor([[[0.0, 0.0], [4.5, 0.0], [7.5, 0.0], [10.0, 0.0]]])
    assert area.contains(points, torch.tensor([0])).tolist() == [[True, False, True, False]]


def test_a_hole_takes_away_one_of_two_equal_polygons_only() -> None:
    square = np.array([[0.0, 0.0], [8.0, 0.0], [8.0, 8.0], [0.0, 8.0]])
    hole = (2.0 + square / 2)[::-1]
    area = DrivableArea.from_polygons([[square, square, hole], [square, hole]])
    points = torch.tensor([[[4.0, 4.0]], [[4.0, 4.0]]])
    assert area.contains(points, torch.tensor([0, 1])).tolist() == [[True], [False]]


def test_nothing_is_inside_where_there_is_no_polygon_or_no_number() -> None:
    area = DrivableArea.from_polygons([[], [np.array([[0.0, 0.0], [9.0, 0.0], [9.0, 9.0]])]])
    points = torch.tensor([[[0.5, 0.2]], [[float("nan"), 1.0]], [[8.0, 1.0]], [[1e9, 0.0]]])
    assert area.contains(points, torch.tensor([0, 1, 1, 1])).tolist() == [
        [False], [False], [True], [False],
    ]  # fmt: skip


def test_every_edge_of_a_crowded_cell_counts() -> None:
    slivers = [
        np.array([[0.0, y], [30.0, y], [30.0, y + 0.01], [0.0, y + 0.01]])
        for y in np.arange(0, 2, 0.02)
    ]
    area = DrivableArea.from_polygons([slivers], cell_m=50.0, dtype=torch.float64)
    assert area.most_edges_per_cell == 400
    inside_y = torch.arange(0, 2, 0.02, dtype=torch.float64) + 0.005
    points = torch.stack([torch.full_like(inside_y, 11.0), inside_y], -1)[None]
    assert area.contains(points, torch.tensor([0])).all()
    assert not area.contains(points + torch.tensor([0.0, 0.01]), torch.tensor([0])).any()


@pytest.mark.parametrize(
    ("maps", "cell_m", "message"),
    [
        ([], 1.0, "at least one map"),
        ([[]], 0.0, "cell_m must be positive"),
        ([[np.array([[0.0, np.nan], [1.0, 0.0], [1.0, 1.0]])]], 1.0, "not finite"),
    ],
)
def test_refuses(maps: list, cell_m: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DrivableArea.from_polygons(maps, cell_m=cell_m)


def test_no_points_are_no_points() -> None:
    area = DrivableArea.from_polygons([[np.array([[0.0, 0.0], [9.0, 0.0], [9.0, 9.0]])]])
    assert area.contains(torch.zeros(0, 4, 2), torch.zeros(0, dtype=torch.long)).shape == (0, 4)
