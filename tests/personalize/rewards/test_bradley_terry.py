"""The loss against its formula, its limits, and a training loop that leaves no trace."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from personalize.rewards.bradley_terry import RewardTraining, bradley_terry_loss, seeded, train


@given(st.floats(-20, 20), st.floats(0, 1))
def test_the_loss_is_its_formula(margin: float, share: float):
    expected = -share * math.log(1 / (1 + math.exp(-margin))) - (1 - share) * math.log(
        1 / (1 + math.exp(margin))
    )
    loss = bradley_terry_loss(
        torch.tensor([margin], dtype=torch.float64), torch.tensor([share], dtype=torch.float64)
    )
    assert float(loss[0]) == pytest.approx(expected, abs=1e-9)


def test_it_stays_finite_and_is_least_at_the_log_odds():
    far = bradley_terry_loss(torch.tensor([-1e4, 1e4]), torch.tensor([1.0, 0.5]))
    assert far.tolist() == [1e4, 5e3]
    margins = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    loss = bradley_terry_loss(margins, torch.full_like(margins, 0.75))
    assert float(margins[loss.argmin()]) == pytest.approx(math.log(3), abs=1e-3)


def fitted(seed: int) -> torch.Tensor:
    network = seeded(lambda: nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1)), seed)
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    train(
        network,
        lambda drawn: bradley_terry_loss(
            network(values[drawn])[:, 0], torch.ones(len(drawn))
        ).mean(),
        3,
        RewardTraining(steps=5, batch_size=2, seed=seed),
    )
    assert not network.training
    return network(values).detach()


def test_a_seed_fixes_weights_batches_and_dropout_and_the_global_state_is_left_alone():
    before = torch.random.get_rng_state()
    one, two, other = fitted(1), fitted(1), fitted(2)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="1 or more, got 0 and 256"):
        RewardTraining(steps=0)
    with pytest.raises(ValueError, match="1 or more, got 500 and 0"):
        RewardTraining(batch_size=0)
    with pytest.raises(ValueError, match="learning_rate must be positive, got 0"):
        RewardTraining(learning_rate=0.0)
    with pytest.raises(ValueError, match="at least one comparison"):
        train(nn.Linear(1, 1), lambda drawn: drawn.float().mean(), 0, RewardTraining())
