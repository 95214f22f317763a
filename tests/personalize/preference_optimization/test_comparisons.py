"""Comparisons refuse what is no comparison, and accuracy counts ties as half."""

import pytest
import torch

from personalize.preference_optimization.comparisons import (
    Comparisons,
    comparison_accuracy,
    decided,
)


def compared(better: list[int], worse: list[int], strength: list[float]) -> Comparisons:
    return Comparisons(
        torch.tensor(better, dtype=torch.long),
        torch.tensor(worse, dtype=torch.long),
        torch.tensor(strength),
    )


def test_a_strength_is_how_far_the_win_share_is_from_a_half():
    some = compared([0, 1, 2], [1, 2, 0], [0.0, 0.5, 1.0])
    assert some.win_share.tolist() == [0.5, 0.75, 1.0]
    assert len(some) == 3
    assert some.rows(torch.tensor([2, 0])).better.tolist() == [2, 0]
    assert some.rows(slice(1, 2)).strength.tolist() == [0.5]


def test_decided_pairs_are_certain_and_name_the_winner_first():
    some = decided(torch.tensor([[4, 1], [0, 7]]))
    assert (some.better.tolist(), some.worse.tolist()) == ([4, 0], [1, 7])
    assert some.strength.tolist() == [1.0, 1.0]


def test_accuracy_is_one_zero_or_a_half():
    scores = torch.tensor([3.0, 1.0, 1.0])
    some = decided(torch.tensor([[0, 1], [2, 0], [1, 2]]))
    assert comparison_accuracy(scores, some).tolist() == [1.0, 0.0, 0.5]


def test_no_comparison_is_allowed():
    assert len(compared([], [], [])) == 0


@pytest.mark.parametrize(
    ("better", "worse", "strength", "message"),
    [
        ([0, 1], [1], [1.0], "equally long, got 2, 1 and 1"),
        ([0], [-1], [1.0], "0 or more"),
        ([2], [2], [1.0], "compared with itself"),
        ([0], [1], [1.5], r"lie in \[0, 1\]"),
        ([0], [1], [float("nan")], r"lie in \[0, 1\]"),
    ],
)
def test_what_is_no_comparison_is_refused(
    better: list[int], worse: list[int], strength: list[float], message: str
):
    with pytest.raises(ValueError, match=message):
        compared(better, worse, strength)
