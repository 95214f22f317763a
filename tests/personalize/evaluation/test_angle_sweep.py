"""Order, front and angle of a sweep."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from personalize.evaluation.angle_sweep import angle_errors, dominated_area, kendall_tau


@given(st.lists(st.integers(-40, 40), min_size=2, max_size=9, unique=True), st.integers(0, 999))
def test_the_order_is_what_scipy_says_of_distinct_numbers(numbers: list[int], seed: int) -> None:
    first = torch.tensor(numbers, dtype=torch.float64)
    second = first[torch.randperm(len(first), generator=torch.Generator().manual_seed(seed))]
    assert kendall_tau(first, second) == pytest.approx(kendalltau(first, second)[0])


def test_ties_count_for_neither_order() -> None:
    first = torch.tensor([1.0, 2.0, 3.0])
    assert kendall_tau(first, torch.tensor([5.0, 5.0, 6.0])) == pytest.approx(2 / 3)
    assert kendall_tau(first, torch.zeros(3)) == 0


@given(st.lists(st.tuples(st.integers(-3, 12), st.integers(-3, 9)), min_size=1, max_size=7))
def test_the_area_is_the_number_of_unit_squares_below_a_point(
    numbers: list[tuple[int, int]],
) -> None:
    points = torch.tensor(numbers, dtype=torch.float64)
    squares = sum(
        any(x + 1 <= a and y + 1 <= b for a, b in numbers)
        for x in range(-1, 12)
        for y in range(1, 9)
    )
    assert float(dominated_area(points, torch.tensor([-1.0, 1.0], dtype=torch.float64))) == squares


def test_angles_are_compared_around_the_circle() -> None:
    gains = torch.tensor([[1.0, 1.0], [-1.0, 0.1], [0.0, 0.0]])
    asked = torch.tensor([0.0, -math.pi + 0.1, 0.5])
    wanted = torch.tensor([math.pi / 4, 0.1 + math.atan(0.1), 0.5])
    assert torch.allclose(angle_errors(gains, asked), wanted, atol=1e-6)


def test_one_point_has_no_order() -> None:
    with pytest.raises(ValueError, match="an order needs at least two points, got 1"):
        kendall_tau(torch.zeros(1), torch.zeros(1))
