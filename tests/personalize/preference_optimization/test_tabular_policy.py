"""The tabular policy against sums done by hand."""

import pytest
import torch

from personalize.preference_optimization.policy import frozen_copy
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy
from tests.personalize.preference_optimization.policy_laws import check_choices, check_policy


def policy() -> TabularPolicy:
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, -1.0]])
    return TabularPolicy(logits).eval()


def test_obeys_the_laws() -> None:
    context = NumberedContexts(torch.tensor([0, 1, 1]))
    check_policy(policy(), context)
    check_choices(policy(), context)


def test_log_probabilities_are_those_of_a_softmax() -> None:
    context = NumberedContexts(torch.tensor([1]))
    found = policy().log_prob(context, torch.tensor([[2, 0]]))
    total = torch.tensor([3.0, 0.0, -1.0]).exp().sum().log()
    expected = torch.stack([-1.0 - total, 3.0 - total]).view(1, 2, 1)
    torch.testing.assert_close(found.detach(), expected)


def test_draws_as_often_as_is_probable() -> None:
    context = NumberedContexts(torch.tensor([0]))
    drawn = policy().sample(context, 20_000, seed=0).responses[0]
    shares = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(shares, policy().probabilities[0].detach(), atol=0.01, rtol=0)


def test_a_beam_is_the_likeliest_in_order() -> None:
    found = policy().sample(NumberedContexts(torch.tensor([0, 1])), 2, seed=0, beam=True)
    assert found.responses.tolist() == [[2, 1], [0, 1]]
    assert not found.sampled


def test_a_beam_longer_than_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="a beam of 4 is more than the 3 responses"):
        policy().sample(NumberedContexts(torch.tensor([0])), 4, seed=0, beam=True)


def test_a_frozen_copy_stays_as_it_was() -> None:
    mine = policy().train()
    kept = frozen_copy(mine)
    with torch.no_grad():
        mine.table.zero_()
    assert not kept.training
    assert not kept.table.requires_grad
    assert kept.table[0, 2] == 2.0
