"""Regret against partial return: a corridor where only one of them knows the reward."""

import pytest
import torch

from personalize.rewards.preference_model import Encoded, Sizes
from personalize.rewards.regret import (
    RegretHead,
    candidate_regret,
    regret_features,
    segment_regret,
    successor_features,
)

STATES, LENGTH, DISCOUNT = 5, 2, 0.9
OUTSIDE = STATES
"""Where walks end that leave by the last cell: worth nothing, and for ever."""


def corridor_policies() -> torch.Tensor:
    """Transitions of three policies: walk on and leave, stay for ever, walk back."""
    onward, still, back = (torch.zeros(STATES, STATES, dtype=torch.float64) for _ in range(3))
    for state in range(STATES):
        if state + 1 < STATES:
            onward[state, state + 1] = 1.0  # the last cell leaves: its row is empty
        still[state, state] = 1.0
        back[state, max(state - 1, 0)] = 1.0
    return torch.stack([onward, still, back])


def values(reward: float) -> torch.Tensor:
    """Value of every cell, and of outside, by value iteration, slowly and obviously."""
    value = torch.zeros(STATES + 1, dtype=torch.float64)
    for _ in range(500):
        new = value.clone()
        for state in range(STATES):
            after = [state, max(state - 1, 0), state + 1]
            new[state] = reward + DISCOUNT * max(float(value[cell]) for cell in after)
        value = new
    return value


def walks() -> list[list[int]]:
    """All walks of two steps by at most one cell; the last step may leave."""
    found = []
    for start in range(STATES):
        for first in (-1, 0, 1):
            middle = min(max(start + first, 0), STATES - 1)
            found.extend([start, middle, max(middle + second, 0)] for second in (-1, 0, 1))
    return found


def scores(reward: float, *, regret: bool) -> torch.Tensor:
    """The head's score of every walk, under one reward for every step."""
    per_step = torch.ones(3, STATES, 1, dtype=torch.float64)
    successors = successor_features(corridor_policies(), per_step, discount=DISCOUNT)
    successors = torch.cat([successors, torch.zeros(3, 1, 1, dtype=torch.float64)], 1)
    start, end = ([walk[place] for walk in walks()] for place in (0, -1))
    features = regret_features(
        torch.full((len(start), 1), 1 + DISCOUNT, dtype=torch.float64),
        successors[:, start].transpose(0, 1),
        DISCOUNT**LENGTH * successors[:, end].transpose(0, 1),
    )
    head = RegretHead(Sizes(1, 7), 1, policies=3, regret=regret).double()
    head.weight.data.fill_(reward)
    none = torch.zeros(len(start), 1, dtype=torch.float64)
    return head.score(Encoded(none, none, features))[:, 0].detach()


def logits(reward: float, *, regret: bool) -> torch.Tensor:
    """Logit of every walk against every other."""
    score = scores(reward, regret=regret)
    return score[:, None] - score[None]


def test_partial_return_cannot_tell_a_cost_per_step_from_a_gain_per_step():
    assert torch.equal(logits(-1.0, regret=False), logits(1.0, regret=False))
    assert bool((logits(1.0, regret=False) == 0).all())


def test_regret_can_and_the_best_policies_differ():
    cost, gain = logits(-1.0, regret=True), logits(1.0, regret=True)
    assert float(cost.amax()) > 1
    assert float(gain.amax()) > 1
    leaves = torch.tensor([walk[-1] == OUTSIDE for walk in walks()])
    assert bool((gain[~leaves][:, leaves] > 1).all())  # leaving is worst where a step gains


def test_what_is_best_has_no_regret_and_nothing_has_less():
    straight = torch.tensor([walk[2] == walk[0] + 2 for walk in walks()])
    inside = torch.tensor([walk[2] != OUTSIDE for walk in walks()])
    for reward, best in ((-1.0, straight), (1.0, inside)):
        score = scores(reward, regret=True)
        assert torch.equal(score > -1e-9, best)
        assert float(score.amax()) == pytest.approx(0.0, abs=1e-9)


def test_the_regret_is_that_of_value_iteration():
    for reward in (-1.0, 1.0):
        value = values(reward)
        gained = torch.full((len(walks()),), (1 + DISCOUNT) * reward, dtype=torch.float64)
        start, end = (value[[walk[place] for walk in walks()]] for place in (0, -1))
        regret = segment_regret(gained, start, DISCOUNT**LENGTH * end)
        torch.testing.assert_close(scores(reward, regret=True), -regret)


def test_a_soft_maximum_at_the_stated_temperature():
    head = RegretHead(Sizes(1, 5), 1, policies=2, softness=0.5)
    head.weight.data.fill_(1.0)
    features = regret_features(
        torch.tensor([[3.0]]), torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[0.0], [0.0]]])
    )
    weights = torch.tensor([1.0, 2.0]).div(0.5).softmax(0)
    best = float(weights @ torch.tensor([1.0, 2.0]))
    found = head.score(Encoded(torch.zeros(1, 1), torch.zeros(1, 1), features))
    assert found.item() == pytest.approx(3.0 - best)


def test_successor_features_sum_what_is_met_on_the_way():
    walk = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    met = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    found = successor_features(walk, met, discount=0.5)
    expected = torch.tensor([[1 + 1 + 1, 30.0], [2 + 2, 40.0], [4.0, 40.0]])
    torch.testing.assert_close(found, expected)


def test_the_best_candidate_cancels_within_a_context_and_not_between_two():
    reward = torch.tensor([[3.0, 1.0, 9.0], [2.0, 0.0, 1.0]])
    present = torch.tensor([[True, True, False], [True, True, True]])
    regret = candidate_regret(reward, present)
    assert regret[0, 0] == 0
    torch.testing.assert_close(regret[0, 1] - regret[0, 0], reward[0, 0] - reward[0, 1])
    assert regret[0, 1] - regret[1, 0] != reward[1, 0] - reward[0, 1]


def test_the_width_must_be_that_of_the_policies():
    with pytest.raises(ValueError, match="must be a multiple of 5 for 2 policies, got 6"):
        RegretHead(Sizes(1, 6), 1, policies=2)
