"""What whoever drives behind does when the ego drives so: worked out by hand and by a slow loop."""

from dataclasses import replace

import pytest
import torch

from driving.follower_reaction import calm_follower, follower_braking
from driving.simulation.car_following import CarFollowing
from driving.simulation.state import Motion
from driving.world import AGENT_PEDESTRIAN, World
from tests.driving.tiny_worlds import straight, tiny_world

STEPS = 41


def ride_of(speeds: list[torch.Tensor]) -> Motion:
    """Rides along x with these speeds."""
    speed = torch.stack(speeds)[None]
    moved = torch.cat([torch.zeros_like(speed[..., :1]), speed[..., 1:]], -1).cumsum(-1) * 0.1
    poses = torch.stack([moved, torch.zeros_like(moved), torch.zeros_like(moved)], -1)
    return Motion(poses, speed, torch.zeros_like(speed), speed * 0, speed * 0)


def steady(mps: float) -> torch.Tensor:
    return torch.full((STEPS,), mps)


def braking(mps: float, by_mps2: float) -> torch.Tensor:
    return (mps - by_mps2 * 0.1 * torch.arange(STEPS)).clamp_min(0)


def world_with(x_m: float, *, y_m: float = 0.0, mps: float = 10.0, **changes) -> World:
    world = tiny_world(straight(10.0), [straight(mps, x_m=x_m, y_m=y_m)])
    return replace(world, **changes)


def test_nobody_brakes_behind_an_ego_that_keeps_its_speed_far_ahead():
    found, there = follower_braking(world_with(-50.0), ride_of([steady(10.0), steady(12.0)]))
    assert there.all()
    assert (found < 0.5).all()
    assert (calm_follower(world_with(-50.0), ride_of([steady(10.0)])) > 3).all()


def test_the_harder_the_ego_brakes_the_harder_does_who_follows():
    rides = ride_of([steady(10.0), braking(10.0, 2.0), braking(10.0, 6.0)])
    found, _ = follower_braking(world_with(-20.0), rides)
    assert (found[0].diff() > 0.2).all()
    worth = calm_follower(world_with(-20.0), rides)
    torch.testing.assert_close(worth, (2.0 - found) / 0.5)


def test_the_braking_is_that_of_a_slow_loop():
    ride = ride_of([braking(12.0, 5.0)])
    world = world_with(-45.0, mps=12.0)
    follow = CarFollowing(*(torch.tensor(value) for value in (1.5, 1.0, 1.0, 2.0)))
    gap, speed, hardest = 45.0 - 4.5, 12.0, 0.0
    speeds = ride.speed_mps[0, 0].tolist()
    for number in range(30):
        wanted = float(follow.acceleration(*map(torch.tensor, (speed, 12.0, gap, speeds[number]))))
        hardest = max(hardest, -wanted)
        after = max(speed + wanted * 0.1, 0.0)
        gap += 0.1 * ((speeds[number] + speeds[number + 1]) / 2 - (speed + after) / 2)
        speed = after
    assert hardest > 1.5
    found, _ = follower_braking(world, ride)
    assert float(found[0, 0]) == pytest.approx(hardest, rel=1e-4)


@pytest.mark.parametrize(
    ("where", "changes"),
    [
        ({"x_m": 20.0}, {}),
        ({"x_m": -70.0}, {}),
        ({"x_m": -20.0, "y_m": 3.5}, {}),
        ({"x_m": -20.0, "mps": 0.5}, {}),
        ({"x_m": -20.0}, {"agent_kinds": torch.tensor([[AGENT_PEDESTRIAN]])}),
        ({"x_m": -20.0}, {"agent_mask": torch.zeros(1, 1, 51, dtype=torch.bool)}),
    ],
)
def test_who_does_not_follow_does_not_brake(where, changes):
    found, there = follower_braking(world_with(**where, **changes), ride_of([braking(10.0, 6.0)]))
    assert not there.any()
    assert (found == 0).all()
    assert (calm_follower(world_with(**where, **changes), ride_of([steady(1.0)])) == 4).all()


def test_an_oncoming_vehicle_does_not_follow():
    world = world_with(-20.0)
    turned = world.agent_poses.clone()
    turned[..., 2] = torch.pi
    _, there = follower_braking(replace(world, agent_poses=turned), ride_of([steady(5.0)]))
    assert not there.any()


def test_the_nearest_of_two_follows_and_nobody_does_in_an_empty_world():
    rides = ride_of([braking(10.0, 5.0)])
    both = tiny_world(straight(10.0), [straight(10.0, x_m=-40.0), straight(10.0, x_m=-15.0)])
    near, _ = follower_braking(both, rides)
    torch.testing.assert_close(near, follower_braking(world_with(-15.0), rides)[0])
    alone, there = follower_braking(tiny_world(straight(10.0)), rides)
    assert not there.any()
    assert (alone == 0).all()


def test_what_happens_after_three_seconds_or_was_logged_does_not_count():
    late = steady(10.0).clone()
    late[31:] = 0.0
    rides = ride_of([steady(10.0), late])
    found, _ = follower_braking(world_with(-20.0), rides)
    torch.testing.assert_close(found[0, 0], found[0, 1])
    world = world_with(-20.0)
    changed = world.agent_poses.clone()
    changed[:, :, world.now + 1 :] += 100.0
    again, _ = follower_braking(replace(world, agent_poses=changed), rides)
    torch.testing.assert_close(again, found)
