"""Unit directions in reward space."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from personalize.conditioning.directions import (
    angles_to_task,
    combined,
    directions_at,
    directions_on_cap,
    within_cap,
)


@pytest.mark.parametrize("dimensions", [2, 3, 5])
def test_the_cap_is_covered_as_evenly_as_by_rejection(dimensions: int) -> None:
    found = directions_on_cap(4000, dimensions, largest_angle_rad=0.7, seed=1)
    drawn = torch.randn(400_000, dimensions, generator=torch.Generator().manual_seed(2))
    drawn = functional.normalize(drawn, dim=1)
    wanted = drawn[drawn[:, 0] >= math.cos(0.7)]
    assert torch.allclose(found.norm(dim=1), torch.ones(4000), atol=1e-5)
    assert angles_to_task(found).max() <= 0.7 + 1e-5
    shares = torch.linspace(0.05, 0.95, 19)
    for column in range(dimensions):
        gaps = found[:, column].quantile(shares) - wanted[:, column].quantile(shares)
        assert gaps.abs().max() < 0.05


def test_in_two_dimensions_the_angle_itself_is_uniform() -> None:
    found = directions_on_cap(5000, 2, seed=3)
    angle = torch.atan2(found[:, 1], found[:, 0])
    wanted = torch.linspace(-math.pi / 4, math.pi / 4, 5000)
    assert (angle.sort().values - wanted).abs().max() < 0.04


def test_a_seed_repeats_and_another_differs() -> None:
    assert torch.equal(directions_on_cap(5, 3, seed=4), directions_on_cap(5, 3, seed=4))
    assert not torch.equal(directions_on_cap(5, 3, seed=4), directions_on_cap(5, 3, seed=5))


def test_a_sweep_turns_from_the_task_to_one_axis() -> None:
    found = directions_at(torch.tensor([0.0, math.pi / 6, -math.pi / 4]), 4, towards=3)
    root = math.sqrt(0.5)
    wanted = torch.tensor([[1, 0, 0, 0], [math.sqrt(0.75), 0, 0, 0.5], [root, 0, 0, -root]])
    assert torch.allclose(found, wanted, atol=1e-6)


def test_a_sum_is_a_unit_direction_again() -> None:
    directions = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    found = combined(directions, torch.tensor([3.0, 4.0]))
    assert torch.allclose(found, torch.tensor([0.6, 0.48, 0.64]), atol=1e-6)


def test_what_cancels_is_the_task_and_weight_zero_is_nothing() -> None:
    directions = torch.tensor([[[0.0, 1.0], [0.0, -1.0]], [[0.0, 1.0], [0.6, 0.8]]])
    found = combined(directions, torch.tensor([[0.5, 0.5], [2.0, 0.0]]))
    assert torch.allclose(found, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))


@given(st.integers(0, 10_000))
def test_the_order_of_terms_is_irrelevant_and_so_is_their_scale(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    directions = functional.normalize(torch.randn(4, 3, generator=generator), dim=1)
    weights = torch.rand(4, generator=generator)
    order = torch.randperm(4, generator=generator)
    found = combined(directions, weights)
    assert torch.allclose(combined(directions[order], weights[order]), found, atol=1e-4)
    assert torch.allclose(combined(directions, 7 * weights), found, atol=1e-4)


def test_outside_the_cap_a_direction_comes_back_to_its_edge() -> None:
    far = torch.tensor([[0.1, 3.0, 4.0], [-1.0, 0.0, 0.0], [-1.0, 0.0, 2.0]])
    found = within_cap(far, largest_angle_rad=math.pi / 6)
    height, side = math.sqrt(0.75), 0.5
    wanted = torch.tensor([[height, 0.6 * side, 0.8 * side], [1, 0, 0], [height, 0, side]])
    assert torch.allclose(found, wanted, atol=1e-6)


@given(st.integers(0, 10_000))
def test_inside_the_cap_nothing_changes(seed: int) -> None:
    directions = directions_on_cap(6, 4, seed=seed)
    assert torch.allclose(within_cap(directions), directions, atol=1e-5)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="dimensions must be at least 2, got 1"):
        directions_on_cap(3, 1)
    for angle in (0.0, 1.6):
        with pytest.raises(ValueError, match="largest_angle_rad must be above 0 and at most pi/2"):
            directions_on_cap(3, 2, largest_angle_rad=angle)
        with pytest.raises(ValueError, match="largest_angle_rad must be above 0 and at most pi/2"):
            within_cap(torch.eye(2), largest_angle_rad=angle)
    for axis in (0, 3):
        with pytest.raises(ValueError, match="towards must be from 1 to 2, got"):
            directions_at(torch.zeros(1), 3, towards=axis)
