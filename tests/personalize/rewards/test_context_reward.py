"""A reward under a context: beliefs, their error, and what is ranked under which context."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.preference_optimization.comparisons import decided
from personalize.rewards.bradley_terry import RewardTraining
from personalize.rewards.context_reward import (
    ContextValue,
    chosen_win_share,
    context_posterior,
    fit_context_reward,
    marginal_win_share,
)


def itself(made: torch.Tensor, context: None) -> torch.Tensor:
    """Particles are their own features."""
    return made


def test_the_mean_is_over_probabilities_not_over_margins():
    shares = torch.tensor([0.25, 0.75])
    margins = torch.tensor([math.log(9.0), math.log(1 / 3)])
    assert float(marginal_win_share(shares, margins)) == pytest.approx(0.25 * 0.9 + 0.75 * 0.25)
    assert float(chosen_win_share(shares, margins)) == pytest.approx(0.25)


def test_the_context_is_chosen_per_row():
    shares = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    margins = torch.tensor([[0.0, 5.0], [5.0, math.log(4.0)]])
    assert chosen_win_share(shares, margins).tolist() == pytest.approx([0.5, 0.8])


@given(st.integers(0, 10_000))
def test_the_error_is_bounded_by_that_of_the_context_and_that_under_it(seed: int):
    generator = torch.Generator().manual_seed(seed)
    true_shares, shares = torch.rand(2, 5, generator=generator).double().softmax(-1)
    true_margins, margins = 3 * torch.randn(2, 5, generator=generator).double()
    error = (
        marginal_win_share(shares, margins) - marginal_win_share(true_shares, true_margins)
    ).abs()
    inference = (shares - true_shares).abs().sum() / 2
    under_context = (true_shares * (margins.sigmoid() - true_margins.sigmoid()).abs()).sum()
    assert float(error) <= float(inference + under_context) + 1e-12


def test_beliefs_follow_bayes():
    prior = torch.tensor([0.5, 0.5]).log()
    margins = torch.tensor([[math.log(3.0), 0.0], [math.log(4.0), 0.0]])
    belief = context_posterior(prior, margins)  # 3/4 * 4/5 against 1/2 * 1/2
    assert belief.tolist() == pytest.approx([0.6 / 0.85, 0.25 / 0.85])
    assert context_posterior(prior + 7, torch.zeros(0, 2)).tolist() == pytest.approx([0.5, 0.5])


def test_a_reward_learns_which_context_asks_for_what():
    generator = torch.Generator().manual_seed(0)
    responses = torch.rand(400, 2, generator=generator)
    goal = torch.arange(400) // 2 % 2  # rows come in pairs under one context
    contexts = torch.eye(2)[goal]
    score = responses.gather(1, goal[:, None])[:, 0].view(-1, 2)
    rows = torch.arange(400).view(-1, 2)
    pairs = torch.where((score[:, 0] > score[:, 1])[:, None], rows, rows.flip(1))
    model = fit_context_reward(
        responses, contexts, decided(pairs), width=16,
        training=RewardTraining(steps=200, learning_rate=1e-2),
    )  # fmt: skip
    ends = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).repeat(2, 1, 1)
    value = ContextValue(model, itself, torch.eye(2))
    with torch.no_grad():
        scores = value(ends, None)
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 0] < scores[1, 1]
    with torch.no_grad():
        turned = value(ends.flip(1), None)
    torch.testing.assert_close(turned, scores.flip(1))


def test_no_comparison_is_refused():
    with pytest.raises(ValueError, match="at least one comparison"):
        fit_context_reward(
            torch.rand(2, 3), torch.rand(2, 1), decided(torch.zeros(0, 2, dtype=torch.long))
        )
