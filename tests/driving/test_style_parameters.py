"""Styles become parameters, and parameters car following."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.planner.planner import StyleCondition
from driving.planner.style_parameters import PRESETS, style_parameters
from driving.simulation.car_following import CarFollowing
from tests.driving.small_worlds import condition, preset


def following(time_gap=1.5, standstill=2.0, acceleration=1.0, braking=4.0) -> CarFollowing:
    values = (time_gap, standstill, acceleration, braking)
    return CarFollowing(*(torch.tensor(value, dtype=torch.float64) for value in values))


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("name", "place"), [("conservative", 0), ("normal", 1), ("aggressive", 2)])
def test_presets_give_the_columns_of_the_table(name, place):
    found = style_parameters(preset(name, 2))
    for parameter, (_, values) in PRESETS.items():
        assert getattr(found, parameter).tolist() == pytest.approx([values[place]] * 2)


def test_the_anchors_of_car_following():
    found = style_parameters(preset("aggressive"))
    assert found.time_gap_s.item() == pytest.approx(0.9)
    assert found.per_proposal().car_following.braking_mps2.shape == (1, 1)


def test_dimensions_move_their_own_parameters_only():
    """Half of a longer time gap: half way from 1.5 to 2 s and from 2 to 3 m."""
    values = [0.5 if name == "time_gap" else 0.0 for name in STYLE_DIMENSIONS]
    found = style_parameters(condition(values))
    assert found.time_gap_s.item() == pytest.approx(1.75)
    assert found.standstill_gap_m.item() == pytest.approx(2.5)
    assert found.collision_margin_s.item() == pytest.approx(1.1)
    for parameter, (dimension, table) in PRESETS.items():
        if dimension != "time_gap":
            assert getattr(found, parameter).item() == pytest.approx(table[1])


def test_masked_dimensions_count_as_normal_and_ends_are_held():
    masked = StyleCondition(torch.full((1, 8), -1.0), torch.zeros(1, 8, dtype=torch.bool))
    for parameter, (_, table) in PRESETS.items():
        assert getattr(style_parameters(masked), parameter).item() == pytest.approx(table[1])
    beyond = style_parameters(condition([3.0] * 8))
    assert beyond.acceleration_mps2.item() == pytest.approx(2.0)
    capped = style_parameters(condition([1.0] * 8), speed_factor_cap=1.0)
    assert capped.speed_factor.item() == 1.0


def test_every_dimension_moves_something():
    assert {dimension for dimension, _ in PRESETS.values()} == set(STYLE_DIMENSIONS)


def test_the_equilibrium_gap_formula():
    """(2 + 10 x 1.5) / sqrt(1 - (10/20)^4) = 17 / sqrt(15/16)."""
    gap = following().equilibrium_gap_m(number(10.0), number(20.0))
    assert gap.item() == pytest.approx(17 / math.sqrt(15 / 16))
    there = following().acceleration(number(10.0), number(20.0), gap, number(10.0))
    assert there.item() == pytest.approx(0.0, abs=1e-9)
    assert following().equilibrium_gap_m(number(20.0), number(20.0)).item() == math.inf


def test_closing_in_by_hand():
    """s* = 2 + 15 + 10 x 2 / (2 sqrt(1 x 4)) = 22; 1 - 1/16 - (22/44)^2 = 0.6875."""
    found = following().acceleration(number(10.0), number(20.0), number(44.0), number(8.0))
    assert found.item() == pytest.approx(0.6875)


def test_a_free_road_and_its_bounds():
    model = following()
    free = model.acceleration(number(0.0), number(20.0), number(math.inf), number(0.0))
    assert free.item() == 1.0
    fast = model.acceleration(number(40.0), number(20.0), number(math.inf), number(0.0))
    assert fast.item() == -4.0
    touching = model.acceleration(number(10.0), number(20.0), number(-1.0), number(0.0))
    assert touching.item() == -8.0


def test_a_leader_who_draws_away_never_pulls():
    model = following()
    away = model.acceleration(number(10.0), number(20.0), number(10.0), number(200.0))
    assert away.item() == pytest.approx(1 - 1 / 16 - (2 / 10) ** 2)


@given(
    speed=st.floats(0.5, 30),
    gap=st.floats(3, 100),
    leader=st.floats(0, 30),
    more=st.floats(0.1, 20),
)
def test_a_wider_gap_never_brakes_more(speed, gap, leader, more):
    model = following()
    near = model.acceleration(number(speed), number(33.0), number(gap), number(leader))
    far = model.acceleration(number(speed), number(33.0), number(gap + more), number(leader))
    assert far >= near
