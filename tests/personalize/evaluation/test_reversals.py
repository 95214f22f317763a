"""Reversals: both contexts, opposite winners; who reads no context is right on exactly half."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.methods import context_aware
from personalize.evaluation.reversals import reversal_report, reversals


def known(goals: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(goals, dtype=torch.bool)


def test_two_responses_ahead_of_each_other_make_one_reversal():
    goals = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])
    found = reversals(goals, known(goals))
    assert len(found) == 1
    assert found.response.tolist() == [0, 1, 0, 1]
    assert found.goal.tolist() == [0, 0, 1, 1]
    assert found.comparisons.better.tolist() == [0, 3]
    assert found.comparisons.worse.tolist() == [1, 2]


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3]))
def test_winners_are_ahead_in_their_context_and_flip(seed: int, margin: float):
    goals = torch.rand(12, 4, generator=torch.Generator().manual_seed(seed)).double()
    found = reversals(goals, known(goals), margin=margin, seed=seed)
    assert found.comparisons.better.max() < len(found.response)
    value = goals[found.response, found.goal]
    assert (value[found.comparisons.better] - value[found.comparisons.worse] > margin).all()
    won = found.response[found.comparisons.better].view(-1, 2)
    lost = found.response[found.comparisons.worse].view(-1, 2)
    assert torch.equal(won, lost.flip(1))
    asked = found.goal.view(-1, 4)
    assert (asked[:, 0] != asked[:, 2]).all()
    pairs = [tuple(sorted(pair)) for pair in won.tolist()]
    assert len(pairs) == len(set(pairs))


def test_an_unknown_value_puts_nobody_ahead():
    goals = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    mask = known(goals)
    mask[0, 1] = False
    found = reversals(goals, mask)
    assert set(found.goal.tolist()) == {0, 2}


def test_the_number_is_limited_and_the_seed_decides_which():
    goals = torch.rand(30, 3, generator=torch.Generator().manual_seed(0))
    one, two, other = (
        reversals(goals, known(goals), maximum=20, seed=seed).response for seed in (1, 1, 2)
    )
    assert len(one) == 80
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_blind_reward_is_right_on_exactly_half_and_the_goal_itself_on_all():
    generator = torch.Generator().manual_seed(3)
    goals = torch.rand(40, 3, generator=generator)
    found = reversals(goals, known(goals), maximum=200)
    blind = reversal_report(torch.randn(40, generator=generator)[found.response], found)
    assert (blind.accuracy.mean, blind.accuracy.low, blind.accuracy.high) == (0.5, 0.5, 0.5)
    assert (blind.both_right.mean, blind.both_wrong.mean) == (0.0, 0.0)
    true = goals[found.response, found.goal]
    right, wrong = reversal_report(true, found), reversal_report(-true, found)
    assert (right.accuracy.mean, right.both_right.mean, right.both_wrong.mean) == (1.0, 1.0, 0.0)
    assert (wrong.accuracy.mean, wrong.both_right.mean, wrong.both_wrong.mean) == (0.0, 0.0, 1.0)
    flat = reversal_report(torch.zeros(len(found.response)), found)
    assert (flat.accuracy.mean, flat.both_right.mean) == (0.5, 0.0)


def test_context_is_ignored_unless_reversals_are_trained_on(monkeypatch: pytest.MonkeyPatch):
    shorter = replace(context_aware.TRAINING, steps=120, batch_size=96, learning_rate=1e-2)
    monkeypatch.setattr(context_aware, "TRAINING", shorter)
    found = context_aware.experiment((0,))
    measures = {name: row["mean"] for name, row in found["measures"].items()}
    assert measures["accuracy, blind"] == 0.5
    assert measures["accuracy, trained with reversals"] > 0.9
    assert measures["accuracy, trained without reversals"] < 0.6
    own, likeliest = (
        measures[f"calibration error, {name}"]
        for name in ("mean over contexts", "likeliest context")
    )
    assert own < likeliest


def test_what_has_no_reversal_is_refused():
    goals = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="No two responses are ahead of each other"):
        reversals(goals, known(goals))
    with pytest.raises(ValueError, match="margin must not be negative, got -1"):
        reversals(goals, known(goals), margin=-1.0)
