"""The Gaussian reward: probabilities by brute force, its loss by hand, what a spread changes."""

import math

import pytest
import torch

from personalize.rewards.gaussian_reward import (
    Gaussian,
    GaussianReward,
    gaussian_preference_loss,
    label_confidence,
    preference_probability,
)


def normal(mean: float, variance: float) -> Gaussian:
    return Gaussian(
        torch.tensor([mean], dtype=torch.float64), torch.tensor([variance], dtype=torch.float64)
    )


@pytest.mark.parametrize(("margin", "variances"), [(1.5, (0.3, 0.9)), (-0.4, (4.0, 1.0))])
def test_probabilities_are_those_of_draws(margin: float, variances: tuple[float, float]):
    found = preference_probability(normal(margin, variances[0]), normal(0.0, variances[1]))
    grid = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    density = torch.exp(-grid.square() / 2) / math.sqrt(2 * math.pi)
    said = torch.sigmoid(margin + math.sqrt(sum(variances)) * grid)
    assert found.item() == pytest.approx(torch.trapezoid(density * said, grid).item(), abs=2e-4)


def test_without_spread_it_is_bradley_terry():
    found = preference_probability(normal(2.0, 0.0), normal(0.5, 0.0))
    assert found.item() == pytest.approx(1 / (1 + math.exp(-1.5)))


def test_spread_doubts_but_never_turns_a_preference():
    sure, unsure = (preference_probability(normal(1.0, v), normal(0.0, v)) for v in (0.1, 9.0))
    assert 0.5 < unsure.item() < sure.item()


def test_a_reward_is_a_sum_over_steps():
    torch.manual_seed(0)
    reward = GaussianReward(3, width=8)
    steps = torch.randn(2, 5, 3)
    found, halves = reward(steps), [reward(steps[:, :2]), reward(steps[:, 2:])]
    assert torch.allclose(found.mean, halves[0].mean + halves[1].mean, atol=1e-6)
    assert torch.allclose(found.variance, halves[0].variance + halves[1].variance, atol=1e-5)
    assert (found.variance > 0).all()
    assert torch.allclose(reward(steps.flip(1)).mean, found.mean, atol=1e-6)


def test_a_constant_spread_is_constant():
    torch.manual_seed(0)
    same = GaussianReward(3, constant_spread=True)(torch.randn(6, 5, 3)).variance
    assert torch.allclose(same, same[:1].expand(6))
    learnt = GaussianReward(3)(torch.randn(6, 5, 3)).variance
    assert not torch.allclose(learnt, learnt[:1].expand(6))


def test_the_loss_by_hand():
    better = Gaussian(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0]))
    probability = torch.tensor([1.0, 0.5])
    plain = gaussian_preference_loss(better, better, probability, entropy_weight=0.0)
    assert plain.item() == pytest.approx(math.log(2))
    # log-variance 0 is 2 below the least one; it is pulled up by half of that
    pulled = gaussian_preference_loss(
        better, better, probability, least_log_variance=2.0, entropy_weight=0.5
    )
    assert pulled.item() == pytest.approx(math.log(2) + 1.0)


def test_labels_count_by_their_weights():
    first = Gaussian(torch.tensor([2.0, -2.0]), torch.tensor([0.0, 0.0]) + 1e-9)
    second = Gaussian(torch.zeros(2), torch.zeros(2) + 1e-9)
    labels = torch.ones(2)

    def loss(*weights: float) -> float:
        return gaussian_preference_loss(
            first, second, labels, weights=torch.tensor(weights), entropy_weight=0.0
        ).item()

    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert loss(1.0, 0.0) == pytest.approx(right, rel=1e-4)
    assert loss(3.0, 1.0) == pytest.approx((3 * right + wrong) / 4, rel=1e-4)
    assert loss(0.0, 0.0) == 0


def test_confidence_is_how_far_from_a_coin():
    assert label_confidence(torch.tensor([0.5, 0.9, 0.1])).tolist() == pytest.approx([0, 0.8, 0.8])
