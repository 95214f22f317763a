"""Guidance, goals, calibration and chains: identities and hand-worked numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.generator import Reward
from personalize.steering.calibration import calibrated, rank_weights
from personalize.steering.chain import Chain, Neighbourhood, Telling
from personalize.steering.goals import Direction, GoalCloseness, Goals, closeness, no_goals
from personalize.steering.guidance import GuidedPredict, Under, guide


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 10_000))
def test_weight_one_is_the_positive_and_zero_the_negative_to_the_last_bit(seed):
    negative, positive = 100 * drawn(seed, 3, 5), drawn(seed + 1, 3, 5)
    assert torch.equal(guide(negative, (positive, 1.0)), positive)
    assert torch.equal(guide(negative, (positive, 0.0)), negative)
    assert torch.equal(guide(negative), negative)


@given(st.integers(0, 10_000), st.floats(-2, 4), st.floats(-2, 4))
def test_guidance_is_the_formula_and_composes(seed, first, second):
    negative, one, two = (drawn(seed + n, 4).double() for n in range(3))
    expected = negative + first * (one - negative) + second * (two - negative)
    torch.testing.assert_close(guide(negative, (one, first), (two, second)), expected)
    torch.testing.assert_close(guide(negative, (one, first)), (1 - first) * negative + first * one)


def test_unnormalised_guided_logits_rank_as_a_product_of_experts():
    plain, wished = drawn(0, 3, 6), drawn(1, 3, 6)
    total = torch.zeros(6, 6, 6)
    expert = torch.zeros(6, 6, 6)
    for level in range(3):
        view = [1, 1, 1]
        view[level] = 6
        total = total + guide(plain[level], (wished[level], 3.0)).view(view)
        log_plain, log_wished = plain[level].log_softmax(0), wished[level].log_softmax(0)
        expert = expert + (log_plain + 3 * (log_wished - log_plain)).view(view)
    difference = total - expert
    torch.testing.assert_close(difference, difference[0, 0, 0].expand_as(difference))


def test_a_guided_prediction_asks_the_negative_under_its_own_condition():
    asked = []

    def predict(state, number, condition):
        asked.append(condition)
        return torch.tensor([float(condition)])

    guided = GuidedPredict(predict, Under(predict, 10), 2.0)
    assert guided(None, 0, 3).item() == 10 + 2 * (3 - 10)
    assert asked == [10, 3]
    asked.clear()
    assert GuidedPredict(predict, Under(predict, 10), 1.0)(None, 0, 3).item() == 3
    assert asked == [3]  # a weight of 1 asks once


class Given(Reward[torch.Tensor, None]):
    """Rewards that are what was made."""

    names = ("a", "b", "c")

    def __call__(self, x, context):
        return x


def test_closeness_looks_at_what_is_asked_alone():
    rewards = torch.tensor([[[0.1, 0.9, 0.5], [0.4, 0.2, 0.0]]])
    goals = Goals(torch.tensor([[0.4, 0.0, 0.5]]), torch.tensor([[True, False, True]]))
    expected = torch.tensor([[-(0.3**2), -(0.5**2)]])
    torch.testing.assert_close(closeness(rewards, goals), expected)
    torch.testing.assert_close(GoalCloseness(Given(), goals)(rewards, None), expected)
    assert (closeness(rewards, no_goals(1, 3)) == 0).all()


def test_a_direction_is_the_product_with_the_rewards():
    rewards = torch.tensor([[[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]]])
    directions = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    torch.testing.assert_close(
        Direction(Given(), directions)(rewards, None), torch.tensor([[1.0], [3.6]])
    )


def test_calibration_finds_the_tilt_whose_mean_is_the_goal():
    """The dual variables of an exponential family, beside the closed form of two outcomes."""
    features = torch.tensor([0.0, 1.0])
    log_shares = torch.tensor([0.8, 0.2]).log()

    def reach(multipliers):
        shares = (log_shares + multipliers * features).softmax(1)
        return (shares * features).sum(1, keepdim=True)

    goals = Goals(torch.tensor([[0.5], [0.05], [0.2]]), torch.ones(3, 1, dtype=torch.bool))
    found = calibrated(goals, reach, largest=20.0)
    exact = [math.log(0.5 / 0.5 * 0.8 / 0.2), math.log(0.05 / 0.95 * 0.8 / 0.2), 0.0]
    torch.testing.assert_close(reach(found), goals.values, atol=0.011, rtol=0.0)
    assert found[:, 0].tolist() == pytest.approx(exact, abs=0.35)
    assert found[2].item() == 0.0  # already there


def test_calibration_stays_in_its_bounds_and_moves_nothing_that_is_open():
    goals = Goals(torch.tensor([[0.9, 0.0]]), torch.tensor([[True, False]]))
    found = calibrated(goals, lambda tried: 0.001 * tried, largest=7.0)
    assert 0 < found[0, 0].item() <= 7.0
    assert found[0, 1].item() == 0.0
    assert not calibrated(goals, lambda tried: tried, largest=0.0).any()


def test_places_of_a_list_weigh_as_in_a_discounted_gain():
    weights = rank_weights(3)
    raw = [1.0, 1 / math.log2(3), 0.5]
    assert weights.tolist() == pytest.approx([value / sum(raw) for value in raw])


def test_a_chain_is_neutral_by_default_and_refuses_what_is_out_of_range():
    chain = Chain()
    assert chain.guidance.weight == 1.0
    assert chain.lookahead.strength == chain.selection.strength == chain.telling.strength == 0.0
    assert chain.particles is None
    assert chain.neighbourhood.largest_angle_rad == 0.0
    with pytest.raises(ValueError, match=r"telling\.strength must be from 0 to 1, got 2"):
        Telling(2.0)
    with pytest.raises(ValueError, match="count of at least 1 and an angle from 0 to pi"):
        Neighbourhood(count=0)
