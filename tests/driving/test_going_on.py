"""Going on as now along the way, and scenes seen from beside it."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from driving.planner.displacement import displaced, from_displaced, to_displaced
from driving.planner.going_on import going_on
from driving.planner.planner import PlannerInput
from driving.simulation.frames import from_frame, wrapped
from tests.driving.planner_fixtures import random_futures, random_scene

SECONDS = 0.5 * torch.arange(1, 9)


def scene_on(route: torch.Tensor, *, speed_mps: float = 8.0) -> PlannerInput:
    """An ego at the origin that has driven straight, with a route; nobody else."""
    scene = random_scene(1, agents=1, lines=1, places=len(route))
    history = torch.zeros_like(scene.ego_history)
    history[..., 0] = speed_mps * 0.1 * torch.arange(1 - history.shape[1], 1)
    history[..., 3] = speed_mps
    return replace(
        scene,
        ego_history=history,
        ego_history_mask=torch.ones_like(scene.ego_history_mask),
        route=route[None],
        route_mask=torch.ones(1, len(route), dtype=torch.bool),
    )


def straight(*, left_m: float = 0.0, heading_rad: float = 0.0) -> torch.Tensor:
    """A straight route on which the ego stands `left_m` to the left, turned by `heading_rad`."""
    along = torch.arange(-10.0, 190.0, 5.0)
    points = torch.stack((along, torch.full_like(along, -left_m)), -1)
    cosine, sine = math.cos(heading_rad), math.sin(heading_rad)
    return points @ torch.tensor([[cosine, -sine], [sine, cosine]])


def bend(radius_m: float) -> torch.Tensor:
    """A left bend that begins at the ego."""
    angle = torch.arange(0.0, 150.0, 1.0) / radius_m
    return radius_m * torch.stack((angle.sin(), 1 - angle.cos()), -1)


NOTHING = torch.zeros(1, 1, 8, 3)


def test_on_a_straight_way_the_ego_goes_straight_on():
    poses = going_on(scene_on(straight())).poses(NOTHING)[0, 0]
    torch.testing.assert_close(poses[:, 0], 8 * SECONDS, atol=1e-4, rtol=0)
    assert poses[:, 1:].abs().max() < 1e-4


def test_in_a_bend_it_follows_the_bend():
    poses = going_on(scene_on(bend(40.0))).poses(NOTHING)[0, 0]
    angle = 8 * SECONDS / 40
    wanted = torch.stack((40 * angle.sin(), 40 * (1 - angle.cos()), angle), -1)
    torch.testing.assert_close(poses[:, :2], wanted[:, :2], atol=0.1, rtol=0)
    torch.testing.assert_close(poses[:, 2], wanted[:, 2], atol=0.03, rtol=0)


def test_changes_are_lengthwise_and_to_the_left():
    changes = torch.zeros(1, 2, 8, 3)
    changes[0, 0, :, 0], changes[0, 1, :, 1], changes[0, 1, :, 2] = 5.0, 2.0, 0.1
    faster, beside = going_on(scene_on(bend(40.0), speed_mps=5.0)).poses(changes)[0]
    angle = (5 * SECONDS + 5) / 40
    torch.testing.assert_close(faster[:, 1], 40 * (1 - angle.cos()), atol=0.1, rtol=0)
    angle = 5 * SECONDS / 40
    inner = torch.stack((38 * angle.sin(), 40 - 38 * angle.cos()), -1)
    torch.testing.assert_close(beside[:, :2], inner, atol=0.1, rtol=0)
    torch.testing.assert_close(beside[:, 2], angle + 0.1, atol=0.03, rtol=0)


def test_from_beside_the_way_it_settles_on_its_middle():
    scene = scene_on(straight(left_m=1.2, heading_rad=0.1))
    base = going_on(scene)
    assert base.left_m[0, 0].item() > 1.2  # first on in its own direction
    assert base.left_m[0, 4:].abs().max() < 1e-4  # after 2.5 s in the middle
    assert base.turned_rad[0, 4:].abs().max() < 1e-4
    # a hundredth of a second on, at the ego's pose still
    close = going_on(scene_on(straight(left_m=1.2, heading_rad=0.1), speed_mps=1e-3))
    first = close.poses(NOTHING)[0, 0, 0]
    assert first.abs().max() < 5e-3


@pytest.mark.parametrize("lost", ["no route", "far from it", "against it"])
def test_who_is_on_no_route_goes_straight_on(lost: str):
    scene = scene_on(straight(left_m=9.0 if lost == "far from it" else 0.0))
    if lost == "no route":
        scene = replace(scene, route_mask=torch.zeros_like(scene.route_mask))
    if lost == "against it":
        scene = replace(scene, route=-scene.route)
    poses = going_on(scene).poses(NOTHING)[0, 0]
    torch.testing.assert_close(poses[:, 0], 8 * SECONDS, atol=1e-4, rtol=0)
    assert poses[:, 1:].abs().max() < 1e-4


@pytest.mark.parametrize("radius_m", [25.0, 60.0, 1e4])
def test_changes_are_undone_by_poses(radius_m: float):
    base = going_on(scene_on(bend(radius_m)))
    generator = torch.Generator().manual_seed(0)
    changes = torch.randn(1, 30, 8, 3, generator=generator) * torch.tensor([4.0, 1.5, 0.2])
    poses = base.poses(changes.clamp(-8, 8))
    again = base.poses(base.changes(poses))
    assert (again - poses)[..., :2].norm(dim=-1).max() < 0.15
    assert wrapped((again - poses)[..., 2]).abs().max() < 0.03


def test_a_scene_that_is_not_displaced_stays_as_it_is():
    scene = random_scene(3)
    same = displaced(scene, torch.zeros(3, 3))
    for name, value in vars(scene).items():
        torch.testing.assert_close(getattr(same, name), value, atol=1e-5, rtol=0)


@given(left_m=st.floats(-2, 2), turned_rad=st.floats(-0.5, 0.5), faster=st.floats(-0.3, 0.3))
def test_a_displaced_scene_is_the_same_world(left_m: float, turned_rad: float, faster: float):
    scene = random_scene(2)
    displacement = torch.tensor([left_m, turned_rad, faster]).expand(2, -1)
    seen = displaced(scene, displacement)
    frame = torch.tensor([0.0, left_m, turned_rad]).expand(2, -1)
    route = torch.nn.functional.pad(seen.route, (0, 1))
    back = from_frame(route, frame)[..., :2]
    torch.testing.assert_close(
        back[scene.route_mask], scene.route[scene.route_mask], atol=1e-4, rtol=0
    )
    agents = from_frame(seen.agents[..., :3].flatten(1, 2), frame).unflatten(
        1, scene.agents.shape[1:3]
    )
    mask = scene.agent_mask
    torch.testing.assert_close(agents[mask], scene.agents[..., :3][mask], atol=1e-4, rtol=0)
    speed, was = seen.agents[..., 3:].norm(dim=-1), scene.agents[..., 3:].norm(dim=-1)
    torch.testing.assert_close(speed[mask], was[mask], atol=1e-4, rtol=0)
    # velocities turn with the frame: seen from an ego that looks left, all others go to the right
    before = torch.atan2(scene.agents[..., 4], scene.agents[..., 3])[mask & (was > 0.1)]
    after = torch.atan2(seen.agents[..., 4], seen.agents[..., 3])[mask & (was > 0.1)]
    turned = torch.remainder(before - after - turned_rad + math.pi, 2 * math.pi) - math.pi
    assert turned.abs().max() < 1e-3
    torch.testing.assert_close(
        seen.ego_history[..., 3], scene.ego_history[..., 3] * (1 + faster), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(seen.ego_history[:, -1, :3], torch.zeros(2, 3))
    assert not seen.lines[~scene.line_mask].any()


def test_displaced_poses_and_back():
    poses = random_futures(3)[:, None]
    displacement = torch.tensor([[0.0, 0.0, 0.2], [1.0, 0.0, 0.0], [0.0, 0.5, 0.0]])
    there = to_displaced(poses, displacement)
    torch.testing.assert_close(there[0], poses[0])
    torch.testing.assert_close(there[1, ..., 1], poses[1, ..., 1] - 1, atol=1e-5, rtol=0)
    torch.testing.assert_close(there[2, ..., 2], poses[2, ..., 2] - 0.5, atol=1e-5, rtol=0)
    torch.testing.assert_close(from_displaced(there, displacement), poses, atol=1e-4, rtol=0)
