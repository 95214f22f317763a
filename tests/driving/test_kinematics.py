"""The bicycle and the tracker against circles, lags and a plain version."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driving.simulation.frames import ahead_by, from_frame, to_frame, unwrapped, wrapped
from driving.simulation.kinematics import (
    REAR_AXLE_PER_LENGTH,
    WHEELBASE_PER_LENGTH,
    Reference,
    plan_to_reference,
    present_motion,
    track,
)
from driving.simulation.state import Motion
from tests.oracles import plain_tracker

LENGTH = torch.tensor(5.176, dtype=torch.float64)
TIMES = torch.arange(1, 9, dtype=torch.float64) * 0.5


def motion(pose=(0.0, 0.0, 0.0), speed=10.0, acceleration=0.0, steering=0.0) -> Motion:
    def value(number: float) -> torch.Tensor:
        return torch.tensor([number], dtype=torch.float64)

    place = torch.tensor([pose], dtype=torch.float64)
    return Motion(place, value(speed), value(acceleration), value(steering), value(0.0))


def straight_plan(speed=10.0, acceleration=0.0, lateral=0.0) -> torch.Tensor:
    x = speed * TIMES + acceleration / 2 * TIMES.square()
    return torch.stack((x, torch.full_like(x, lateral), torch.zeros_like(x)), -1)


def circle_plan(radius: float, speed: float) -> torch.Tensor:
    """Centres of a box whose rear axle runs on a circle that touches the x axis at the start."""
    turned = speed * TIMES / radius
    rear = torch.stack((radius * turned.sin(), radius * (1 - turned.cos()), turned), -1)
    rear[:, 0] -= REAR_AXLE_PER_LENGTH * LENGTH
    return ahead_by(rear, REAR_AXLE_PER_LENGTH * LENGTH)


def test_wheelbase_and_axle_of_the_pacifica():
    assert pytest.approx(3.089) == WHEELBASE_PER_LENGTH * 5.176
    assert pytest.approx(1.461) == REAR_AXLE_PER_LENGTH * 5.176


def test_frames_undo_each_other_and_turn_left():
    frame = torch.tensor([3.0, -2.0, math.pi / 2])
    poses = torch.tensor([[3.0, 1.0, math.pi]])
    seen = to_frame(poses, frame)
    torch.testing.assert_close(seen, torch.tensor([[3.0, 0.0, math.pi / 2]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(from_frame(seen, frame), poses)


def test_angles_wrap_to_half_open_interval_and_unwrap():
    assert wrapped(torch.tensor([math.pi, -math.pi, 3.5])).tolist() == pytest.approx(
        [-math.pi, -math.pi, 3.5 - 2 * math.pi]
    )
    headings = torch.tensor([3.0, -3.0, -2.9])
    assert unwrapped(headings).tolist() == pytest.approx(
        [3.0, 2 * math.pi - 3.0, 2 * math.pi - 2.9]
    )


def test_wheels_at_rest_drive_the_polygon_of_a_circle():
    """With the steering at rest on the reference's curvature, every Euler step is a chord."""
    radius, speed = 20.0, 5.0
    steering = math.atan(3.089 / radius)
    steps = torch.arange(41, dtype=torch.float64)
    turned = steps * 0.1 * speed / radius
    # sum of chords of 0.5 m, each in the direction before it: the Dirichlet kernel
    half = 0.1 * speed / radius / 2
    scale = 0.1 * speed * (half * steps).sin() / math.sin(half)
    x, y = scale * (half * (steps - 1)).cos(), scale * (half * (steps - 1)).sin()
    rear = torch.stack((x, y, turned), -1)
    reference = Reference(rear, torch.full((41,), speed), torch.full((41,), 1 / radius))
    reference = Reference(
        rear, *(value.double() for value in (reference.speed_mps, reference.curvature_per_m))
    )
    start = ahead_by(
        torch.zeros(3, dtype=torch.float64), 1.461 * torch.ones((), dtype=torch.float64)
    )
    driven = track(motion(start.tolist(), speed, steering=steering), reference, LENGTH)
    back = ahead_by(driven.poses, torch.tensor(-1.461, dtype=torch.float64))
    torch.testing.assert_close(back[:, 2], turned, atol=2e-3, rtol=0)
    torch.testing.assert_close(back[:, :2], rear[:, :2], atol=0.02, rtol=0)
    assert driven.steering_rad.tolist() == pytest.approx([steering] * 41, abs=1e-3)


def test_a_constant_command_is_reached_with_the_lag():
    """The share of the way is a third per step (0.1 of 0.1 + 0.2); speed sums what is reached."""
    far = torch.zeros(41, 3, dtype=torch.float64)
    reference = Reference(far, torch.full((41,), 11.1, dtype=torch.float64), 0 * far[:, 0])
    driven = track(motion(speed=10.0), reference, LENGTH, steps=1)
    assert driven.acceleration_mps2[1].item() == pytest.approx(1.1 * 10 / 11 / 3)
    assert driven.speed_mps[1].item() == pytest.approx(10 + 0.1 * 1.1 * 10 / 11 / 3)
    assert driven.poses[1, 0].item() == pytest.approx(1.0)  # the speed of before


def test_a_constant_acceleration_is_tracked():
    plan = straight_plan(8.0, 1.5)
    driven = track(motion(speed=8.0, acceleration=1.5), plan_to_reference(plan, LENGTH), LENGTH)
    assert driven.poses.shape == (41, 3)
    # until the reference ends within the look-ahead of one second
    assert driven.acceleration_mps2[15:29].tolist() == pytest.approx([1.5] * 14, abs=0.12)
    assert driven.poses[:, 1:].abs().max() < 1e-9


def test_the_speed_profile_of_constant_acceleration():
    reference = plan_to_reference(straight_plan(8.0, 1.0), LENGTH)
    middle = 8.0 + (torch.arange(40) // 5 * 0.5 + 0.25)  # linear in between: mean of each 0.5 s
    assert (reference.speed_mps[:-1] - middle).abs().max() < 0.3
    assert reference.speed_mps[-1] == reference.speed_mps[-2]
    assert reference.curvature_per_m.abs().max() < 1e-9


@pytest.mark.parametrize("radius", [15.0, -30.0])
def test_a_circle_is_tracked_within_centimetres(radius):
    plan = circle_plan(radius, 6.0)
    reference = plan_to_reference(plan, LENGTH)
    assert reference.curvature_per_m[5:35].tolist() == pytest.approx([1 / radius] * 30, rel=0.02)
    steering = math.atan(3.089 / radius)
    driven = track(motion(speed=6.0, steering=steering), reference, LENGTH)
    back = ahead_by(driven.poses, torch.tensor(-1.461, dtype=torch.float64))
    off_m = (back[:, :2] - torch.tensor([-1.461, radius])).norm(dim=-1) - abs(radius)
    assert off_m.abs().max() < 0.14  # the Euler polygon and the chords of 0.5 s


def test_a_lateral_offset_is_removed():
    plan = straight_plan(10.0, lateral=1.0)
    reference = plan_to_reference(plan, LENGTH, torch.tensor([0.0, 1.0, 0.0]).double())
    driven = track(motion(speed=10.0), reference, LENGTH)
    assert driven.poses[0, 1] == 0
    assert driven.poses[-1, 1].item() == pytest.approx(1.0, abs=0.05)
    assert driven.poses[:, 1].max() < 1.25


def test_near_standstill_the_wheels_rest_and_the_vehicle_stops():
    still = torch.zeros(8, 3, dtype=torch.float64)
    start = motion(speed=0.15, steering=0.3)
    driven = track(start, plan_to_reference(still, LENGTH), LENGTH)
    assert driven.steering_rate_radps.abs().max() == 0
    assert driven.acceleration_mps2[1].item() == pytest.approx(-0.5 * 0.15 / 3, abs=1e-6)
    assert 0 < driven.speed_mps[-1] < 0.05


def test_the_steering_angle_is_limited():
    plan = straight_plan(3.0, lateral=40.0)
    driven = track(motion(speed=3.0), plan_to_reference(plan, LENGTH), LENGTH)
    assert driven.steering_rad.abs().max().item() <= math.pi / 3


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    speed=st.floats(0.0, 25.0),
    length=st.floats(3.0, 12.0),
    heading=st.floats(-3.1, 3.1),
)
def test_equals_the_plain_version(seed, speed, length, heading):
    random = np.random.default_rng(seed)
    pace = np.cumsum(np.clip(speed + np.cumsum(random.normal(0, 0.6, 8)), 0, None) * 0.5)
    turn = np.cumsum(random.normal(0, 0.06, 8))
    plan = np.stack((pace, np.cumsum(np.diff(pace, prepend=0) * np.sin(turn)), turn), 1)
    frame = torch.tensor([3.0, -7.0, heading], dtype=torch.float64)
    plan = from_frame(torch.tensor(plan), frame).numpy()
    start = np.array([3.1, -7.2, heading + 0.02, speed, random.normal(), random.normal(0, 0.1)])
    expected = plain_tracker.simulate(start, plan, length)
    length_m = torch.tensor(length, dtype=torch.float64)
    reference = plan_to_reference(torch.tensor(plan), length_m, torch.tensor(start[:3]))
    found = track(motion(*[start[:3].tolist(), *start[3:]]), reference, length_m)
    back = ahead_by(found.poses, -REAR_AXLE_PER_LENGTH * length_m)
    ours = torch.cat(
        (
            back,
            torch.stack((found.speed_mps, found.acceleration_mps2, found.steering_rad), -1),
        ),
        -1,
    ).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_candidates_are_tracked_like_single_plans():
    torch.manual_seed(3)
    plans = torch.stack([straight_plan(speed, 0.3) for speed in (4.0, 7.0, 9.0)]).float()
    plans = torch.stack((plans, plans + 0.2 * torch.randn(3, 8, 3)))  # batch 2, candidate 3
    start = Motion(
        torch.zeros(2, 1, 1, 3), *(torch.full((2, 1, 1), value) for value in (6.0, 0.1, 0.02, 0.0))
    )
    length_m = torch.tensor([[4.5], [9.0]])
    together = track(start, plan_to_reference(plans, length_m), length_m)
    assert together.poses.shape == (2, 3, 41, 3)
    single = Motion(*(getattr(start, name)[1, 0] for name in Motion.__dataclass_fields__))
    alone = track(single, plan_to_reference(plans[1, 2], length_m[1, 0]), length_m[1, 0])
    torch.testing.assert_close(together.poses[1, 2], alone.poses, atol=1e-4, rtol=0)


def test_the_present_motion_of_a_history():
    """10 m/s to 11 m/s and 0.05 rad in 0.5 s: 2 m/s^2, 0.1 rad/s."""
    history = torch.zeros(6, 4)
    history[:, 3] = torch.linspace(10, 11, 6)
    history[:, 2] = torch.linspace(-0.05, 0, 6)
    mask = torch.ones(6, dtype=torch.bool)
    found = present_motion(history, mask, torch.tensor(5.176))
    assert found.acceleration_mps2.item() == pytest.approx(2.0, rel=1e-5)
    assert found.steering_rad.item() == pytest.approx(math.atan(3.089 * 0.1 / 11), rel=1e-4)
    unseen = present_motion(history, mask & (torch.arange(6) == 5), torch.tensor(5.176))
    assert unseen.acceleration_mps2.item() == 0 == unseen.steering_rad.item()
    alone = present_motion(history[5:], mask[5:], torch.tensor(5.176))
    assert alone.speed_mps.item() == 11
    assert alone.acceleration_mps2.item() == 0
