"""Progress along routes against shapely, and both ego progress scores by hand."""

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driving.metrics.progress import (
    ego_progress,
    place_on_route,
    progress_along_route,
    style_ego_progress,
)
from driving.world import AGENT_VEHICLE
from tests.driving.score_scenes import straight, world_of


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_places_equal_shapely(seed: int) -> None:
    random = np.random.default_rng(seed)
    route = np.cumsum(random.normal([1.5, 0], 1.0, (2, 14, 2)), 1)
    counts = random.integers(2, 15, 2)
    mask = np.arange(14) < counts[:, None]
    points = random.uniform(-5, 25, (2, 9, 2))
    found = place_on_route(
        torch.from_numpy(points), torch.from_numpy(route * mask[..., None]), torch.from_numpy(mask)
    )
    for row in range(2):
        line = shapely.LineString(route[row, : counts[row]])
        expected = [line.project(shapely.Point(point)) for point in points[row]]
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-9)


def test_float32_does_not_mistake_the_next_piece_for_this_one() -> None:
    """Far beside the route, a millimetre past a corner of it, both pieces are equally near."""
    route = torch.stack([torch.arange(80.0), torch.zeros(80)], -1)[None]
    points = torch.tensor([[[59.0015, 8.0], [51.9985, -8.0], [20.0, 0.0]]])
    found = place_on_route(points, route, torch.ones(1, 80, dtype=torch.bool))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, points[..., 0], atol=1e-5, rtol=0)


def test_progress_along_a_corner_backwards_and_without_a_route() -> None:
    agents = torch.tensor([[[500.0, 0.0, 0.0]]]).expand(1, 41, 3)
    corner = world_of(agents, kinds=[AGENT_VEHICLE], route=[(0.0, 0.0), (10.0, 0.0), (10.0, 30.0)])
    ride = straight(10.0, start=(-3.0, 1.0), heading=np.pi / 4)
    end = ride.poses[0, 0, -1, :2]  # 28.28 m along both axes
    assert end.tolist() == pytest.approx([25.284271, 29.284271])
    assert progress_along_route(ride, corner).item() == pytest.approx(10 + 29.284271)
    assert progress_along_route(straight(-2.0, start=(9, 0)), corner).item() == 0
    bare = world_of(agents, kinds=[AGENT_VEHICLE], route=[(0.0, 0.0)])
    assert progress_along_route(straight(-2.0), bare).item() == pytest.approx(8.0)


def test_ego_progress_by_hand() -> None:
    progress = torch.tensor([[10.0, 30.0, 40.0, 20.0], [4.0, 5.0, 2.0, 0.0]])
    gate = torch.tensor([[1.0, 1.0, 0.5, 0.0], [1.0, 0.5, 0.0, 1.0]])
    found = ego_progress(progress, gate, torch.tensor([25.0, 5.0]))
    assert found.tolist() == [
        [pytest.approx(0.4), 1.0, pytest.approx(0.8), 0.0], [1.0, 1.0, 0.0, 1.0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("human", "tolerance"),
    [(9.9, 3), (10.0, 5), (23.9, 5), (24.0, 6), (39.9, 6), (40.0, 7), (90.0, 7)],
)
def test_style_progress_has_tolerances_by_the_human_progress(human: float, tolerance: int) -> None:
    progress = torch.tensor([[human, human + 2, human - 2, human + 8]], dtype=torch.float64)
    found = style_ego_progress(
        progress, torch.tensor([human]).double(), torch.tensor([0.0]).double()
    )
    near = 1 - 1.2 * (2 / tolerance) ** 2
    assert found[0].tolist() == pytest.approx([1, near, near, 0])


def test_style_progress_is_full_where_nobody_gets_anywhere() -> None:
    progress = torch.tensor([[0.0, 3.0, 3.1]])
    human = torch.tensor([1.0])
    assert style_ego_progress(progress, human, human).tolist() == [
        [1.0, 1.0, pytest.approx(1 - 1.2 * 0.49)]
    ]
    moving = style_ego_progress(progress, human, torch.tensor([3.5]))
    assert moving[0, 0].item() == pytest.approx(1 - 1.2 / 9)
