"""Strengths of labels, and the three treatments, by hand; and when turning helps or hurts."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.label_cleaning import (
    Strengths,
    doubtful,
    ensemble_strengths,
    flipped,
    softened,
    tuned_share,
    with_margins,
)

PAIRS = ComparedRows.of(
    torch.tensor([[0, 1], [2, 3], [4, 5]]),
    "test",
    grade=torch.tensor([[3.0, 1.0], [2.0, 0.0], [5.0, 4.0]]),
)
STRENGTHS = Strengths(torch.tensor([1.0, -2.0, 0.5]), torch.ones(3))


def test_strengths_are_mean_and_spread_of_the_members_leads():
    scores = torch.tensor([[2.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    found = ensemble_strengths(scores, ComparedRows.of(torch.tensor([[0, 1], [2, 1]]), "test"))
    # Leads (2, 1) and (-2, -2) in units of their root mean square, times the mean of those.
    first, second = math.sqrt((4 + 1) / 2), 2.0
    unit = (first + second) / 2
    leads = torch.tensor([[2 / first, 1 / first], [-2 / second, -2 / second]]) * unit
    torch.testing.assert_close(found.mean, leads.mean(0))
    torch.testing.assert_close(found.spread, leads.std(0))


@given(st.floats(0.01, 100.0), st.floats(-50.0, 50.0))
def test_a_member_in_other_units_changes_no_order(factor, shift):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 30, generator=generator, dtype=torch.float64)
    compared = ComparedRows.of(torch.arange(30).view(15, 2), "test")
    other = scores.clone()
    other[1] = factor * other[1] + shift
    before, after = (ensemble_strengths(s, compared).mean for s in (scores, other))
    torch.testing.assert_close(after / after.norm(), before / before.norm())


def test_flipping_turns_the_most_doubtful_share():
    turned = flipped(PAIRS, STRENGTHS, share=1 / 3)
    assert turned.rows.tolist() == [[0, 1], [3, 2], [4, 5]]
    assert turned.grade.tolist() == [[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]]
    assert torch.equal(turned.strength, PAIRS.strength)


def test_nothing_is_flipped_by_default():
    assert torch.equal(flipped(PAIRS, STRENGTHS).rows, PAIRS.rows)


def test_soft_labels_are_the_logistic_function_of_the_strength():
    soft = softened(PAIRS, STRENGTHS)
    assert soft.rows.tolist() == [[0, 1], [3, 2], [4, 5]]
    share = ((1 + soft.strength) / 2).tolist()
    assert share == pytest.approx([1 / (1 + math.exp(-m)) for m in (1.0, 2.0, 0.5)])


def test_margins_are_the_strengths():
    assert with_margins(PAIRS, STRENGTHS).margin.tolist() == [1.0, -2.0, 0.5]


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_lies_between_0_and_1(share):
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\]"):
        doubtful(torch.zeros(3), share)


def test_an_ensemble_has_two_members():
    with pytest.raises(ValueError, match="two members or more, got 1"):
        ensemble_strengths(torch.zeros(1, 6), PAIRS)


@pytest.mark.parametrize("treat", [flipped, softened, with_margins])
def test_lists_are_refused(treat):
    lists = ComparedRows.of(torch.tensor([[0, 1, 2]]), "test")
    with pytest.raises(ValueError, match="cleaned in pairs, got lists of 3"):
        treat(lists, Strengths(torch.zeros(1), torch.zeros(1)))


def right_with(gains: dict[float, list[float]]):
    return lambda share: torch.tensor(gains[share])


def test_a_share_must_beat_none_by_more_than_noise():
    base = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    noisy = [1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    clear = [1.0] * 8
    assert tuned_share([0.2], right_with({0.0: base, 0.2: noisy})) == 0.0
    assert tuned_share([0.2], right_with({0.0: base, 0.2: clear})) == 0.2
    assert tuned_share([0.1, 0.2], right_with({0.0: base, 0.1: clear, 0.2: noisy})) == 0.1
    assert tuned_share([], right_with({0.0: base})) == 0.0
