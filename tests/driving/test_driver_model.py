"""How hard a driver of a style accelerates and brakes, by hand and in closed loop."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS, STYLE_LABELS
from driving.planner.driver_model import (
    Ahead,
    needed_braking_mps2,
    next_acceleration,
    wanted_acceleration,
)
from driving.planner.idm import Idm
from driving.planner.style_parameters import StyleParameters, style_parameters
from driving.simulation.rollout import roll_out
from tests.driving.small_worlds import (
    behind_leader,
    condition,
    no_condition,
    preset,
    red_light,
    stack,
    straight_road,
)


def number(value: float) -> torch.Tensor:
    return torch.tensor([[value]])


def ahead(*, desired=30.0, firm=0.0, gap=math.inf, leader=0.0, braking=0.0) -> Ahead:
    return Ahead(*(number(value) for value in (desired, firm, gap, leader, braking)))


def style(name: str = "normal") -> StyleParameters:
    return style_parameters(preset(name)).per_proposal()


def only(dimension: str, value: float):
    return condition([value if name == dimension else 0.0 for name in STYLE_DIMENSIONS])


def test_the_gap_at_rest_is_the_same_at_any_desired_speed():
    """2 m and 1.5 s at 10 m/s: 17 m, whether 11 or 30 m/s are desired."""
    for desired in (14.0, 30.0):
        there = ahead(desired=desired, gap=17.0, leader=10.0)
        assert wanted_acceleration(style(), number(10.0), there).item() == pytest.approx(0.0)
    wider = ahead(gap=34.0, leader=10.0)
    assert wanted_acceleration(style(), number(10.0), wider).item() == pytest.approx(1.4 * 0.75)


def test_a_wish_is_eased_for_and_a_bend_is_braked_for():
    eased = wanted_acceleration(style(), number(20.0), ahead(desired=10.0))
    assert eased.item() == pytest.approx(-0.8)
    braked = wanted_acceleration(style(), number(20.0), ahead(desired=10.0, firm=1.0))
    assert braked.item() == pytest.approx(-2.0)
    gap = wanted_acceleration(style(), number(10.0), ahead(gap=13.0, leader=10.0))
    assert gap.item() == pytest.approx(-0.8)


def test_the_necessary_braking_by_hand():
    """50 m to somebody who stands, 2 m of them kept: 100 / 96; he brakes: 300 / (100 + 6 r)."""
    standing = needed_braking_mps2(style(), number(10.0), ahead(gap=50.0))
    assert standing.item() == pytest.approx(100 / 96)
    braking = ahead(gap=40.0, leader=10.0, braking=3.0)
    found = needed_braking_mps2(style(), number(10.0), braking)
    assert found.item() == pytest.approx(300 / (100 + 6 * (40 - 17)))
    slower = needed_braking_mps2(style(), number(10.0), ahead(gap=40.0, leader=6.0))
    assert slower.item() == pytest.approx(16 / (2 * (40 - 11)))
    assert needed_braking_mps2(style(), number(10.0), ahead()).item() == 0


def test_the_acceleration_changes_by_the_jerk_and_faster_in_an_emergency():
    calm = next_acceleration(style(), number(0.0), number(1.4), number(0.0), 0.25)
    assert calm.item() == pytest.approx(1.2 * 0.25)
    slow = next_acceleration(style(), number(0.0), number(-3.0), number(2.0), 0.25)
    assert slow.item() == pytest.approx(-1.2 * 0.25)
    hard = next_acceleration(style(), number(0.0), number(-6.0), number(4.0), 0.25)
    assert hard.item() == pytest.approx(-12.0 * 0.25)
    released = next_acceleration(style(), number(-5.0), number(1.0), number(0.0), 0.25)
    assert released.item() == pytest.approx(-5.0 + 12.0 * 0.25)
    still = next_acceleration(style(), number(-5.0), number(-3.0), number(2.0), 0.25)
    assert still.item() == pytest.approx(-5.0 + 1.2 * 0.25)


@settings(deadline=None, derandomize=True)
@given(
    speed=st.floats(0, 30),
    gap=st.floats(1, 100),
    leader=st.floats(0, 30),
    more=st.floats(0.5, 20),
    label=st.sampled_from(STYLE_LABELS),
)
def test_a_wider_gap_or_a_faster_leader_never_brakes_more(speed, gap, leader, more, label):
    near = wanted_acceleration(style(label), number(speed), ahead(gap=gap, leader=leader))
    far = wanted_acceleration(style(label), number(speed), ahead(gap=gap + more, leader=leader))
    assert far >= near - 1e-4


def test_gentle_drivers_brake_early_and_hard_ones_late():
    world = red_light(ahead_m=75.0, speed_mps=11.0, limit_mps=11.0)
    gentle, hard = (
        roll_out(world, Idm(), only("braking", value), duration_s=8.0).ego for value in (-1.0, 1.0)
    )
    assert gentle.acceleration_mps2[0, 20] < hard.acceleration_mps2[0, 20] - 0.1
    assert -hard.acceleration_mps2.amin() > -gentle.acceleration_mps2.amin() + 0.08
    for one in (gentle, hard):
        assert one.poses[0, -1, 0] + 2.4 < 75.0


def test_jerk_is_that_of_starting_off():
    world = straight_road(speed_mps=0.0)
    soft, abrupt = (
        roll_out(world, Idm(), only("jerk", value), duration_s=4.0).ego for value in (-1.0, 1.0)
    )
    assert abrupt.acceleration_mps2[0, 5] > 2 * soft.acceleration_mps2[0, 5]
    ends = [one.acceleration_mps2[0].amax().item() for one in (soft, abrupt)]
    assert ends[0] == pytest.approx(ends[1], abs=0.2)  # how hard is asked for apart


def test_yellow_is_a_matter_of_the_light_and_not_of_the_style():
    world = red_light(ahead_m=40.0, speed_mps=12.0)
    world = replace(world, route_lights=(world.route_lights > 0) * 2)
    for label in STYLE_LABELS:
        found = roll_out(world, Idm(), preset(label), duration_s=8.0).ego
        assert found.poses[0, -1, 0] + 2.4 < 40.0


def test_nobody_is_hit_in_any_style():
    cases = [(8.0, 8.0, 10.0), (15.0, 0.0, 9.0), (40.0, 0.0, 13.0), (25.0, 5.0, 14.0)]
    worlds = stack([behind_leader(gap_m=g, leader_mps=v, speed_mps=u) for g, v, u in cases])
    for dimension in STYLE_DIMENSIONS:
        for value in (-1.0, 1.0):
            one = only(dimension, value)
            asked = replace(one, values=one.values.expand(4, -1), mask=one.mask.expand(4, -1))
            found = roll_out(worlds, Idm(), asked, duration_s=6.0)
            gaps = found.agent_poses[:, 0, :, 0] - found.ego.poses[..., 0] - 4.7
            assert gaps.min() > 0.3, (dimension, value, gaps.amin(-1))


def test_oncoming_traffic_far_ahead_is_no_emergency():
    oncoming = behind_leader(gap_m=120.0, leader_mps=-20.0, speed_mps=15.0, limit_mps=20.0)
    found = roll_out(oncoming, Idm(), no_condition(), duration_s=1.0).ego
    assert found.acceleration_mps2.min() > -3.0
