"""Paths by arc length against corners and circles."""

import math

import pytest
import torch

from driving.simulation.path import heading_error, path_through

CORNER = torch.tensor([[0.0, 0.0], [10.0, 0.0], [10.0, 0.0], [10.0, 7.0], [99.0, 99.0]])
MASK = torch.tensor([True, True, True, True, False])


def circle(radius: float, count: int = 200) -> torch.Tensor:
    angle = torch.linspace(0, 1.5, count)
    return torch.stack((abs(radius) * angle.sin(), radius * (1 - angle.cos())), -1)


def test_points_lie_at_equal_distances_around_a_corner_and_straight_on_beyond_the_end():
    path = path_through(CORNER, MASK, count=11, spacing_m=2.0)
    expected = [[2.0 * step, 0.0] for step in range(6)]
    expected += [[10.0, 2.0 * step] for step in range(1, 6)]
    torch.testing.assert_close(path.points, torch.tensor(expected))
    assert path.heading_rad[[0, 5, 10]].tolist() == pytest.approx([0, math.pi / 4, math.pi / 2])


def test_a_path_may_begin_before_or_behind_its_first_vertex():
    path = path_through(CORNER, MASK, start_m=-3.0, count=3, spacing_m=2.0)
    assert path.points[:, 0].tolist() == pytest.approx([-3.0, -1.0, 1.0])
    late = path_through(CORNER, MASK, start_m=torch.tensor(16.0), count=3, spacing_m=2.0)
    assert late.points[:, 1].tolist() == pytest.approx([6.0, 8.0, 10.0])


def test_masked_and_repeated_vertices_do_no_harm():
    dirty = torch.tensor([[77.0, 1.0], [0.0, 0.0], [5.0, 5.0], [4.0, 0.0], [4.0, 0.0], [8.0, 0.0]])
    mask = torch.tensor([False, True, False, True, True, True])
    path = path_through(dirty, mask, count=8, spacing_m=1.5)
    torch.testing.assert_close(path.points[:, 0], torch.arange(8) * 1.5)
    assert path.points[:, 1].abs().max() == 0


def test_who_stands_looks_along_a_given_heading():
    still = torch.zeros(2, 4, 2)
    path = path_through(
        still,
        torch.ones(2, 4, dtype=torch.bool),
        count=3,
        spacing_m=1.0,
        first_heading_rad=torch.tensor([0.0, math.pi / 2]),
    )
    torch.testing.assert_close(path.points[0], torch.tensor([[0.0, 0], [1, 0], [2, 0]]))
    torch.testing.assert_close(
        path.points[1], torch.tensor([[0.0, 0], [0, 1], [0, 2]]), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("radius", [25.0, -25.0])
def test_a_circle_has_its_curvature_and_places_beside_it_are_found(radius):
    path = path_through(circle(radius), torch.ones(200, dtype=torch.bool), count=16)
    assert path.curvature_per_m[2:-2].tolist() == pytest.approx([1 / radius] * 12, rel=0.02)
    along = torch.tensor([4.3, 17.0])
    angle = along / radius
    centre = torch.tensor([0.0, radius])
    out = radius - 1.5  # 1.5 m to the left of the path
    places = centre + out * torch.stack((angle.sin(), -angle.cos()), -1)
    found = path.beside(places)
    assert found.along_m.tolist() == pytest.approx(along.tolist(), abs=0.1)
    assert found.left_m.tolist() == pytest.approx([1.5, 1.5], abs=0.012)
    assert found.heading_rad.tolist() == pytest.approx(angle.tolist(), abs=0.01)
    turned = heading_error(angle + 0.2 + 2 * math.pi, found)
    assert turned.tolist() == pytest.approx([0.2, 0.2], abs=0.01)


def test_poses_on_a_path_follow_it_and_go_straight_on():
    path = path_through(circle(25.0), torch.ones(200, dtype=torch.bool), count=16)
    poses = path.at(torch.tensor([-2.0, 5.0, 29.0, 33.0]))
    assert poses[0].tolist() == pytest.approx([-2.0, 0.0, 0.0], abs=0.1)
    assert poses[1].tolist() == pytest.approx(
        [25 * math.sin(0.2), 25 * (1 - math.cos(0.2)), 0.2], abs=0.03
    )
    beyond = poses[3, :2] - path.points[-1]
    assert beyond.norm().item() == pytest.approx(3.0, abs=1e-3)
    assert path.curvature_at(torch.tensor([9.9])).item() == pytest.approx(0.04, rel=0.02)
