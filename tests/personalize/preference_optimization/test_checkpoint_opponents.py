"""The sign of the anchor, by hand and on a quadratic where it can be worked out exactly."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from personalize.preference_optimization.checkpoint_opponents import SignedByAnchor
from personalize.preference_optimization.compared import Scored


def dpo(scored: Scored, beta: float = 0.1) -> torch.Tensor:
    """DPO, and with the policy's own samples as losers SPIN, written out."""
    ratio = scored.score - scored.reference
    return -functional.logsigmoid(beta * (ratio[:, 0] - ratio[:, 1]))


def test_past_the_checkpoint_it_is_dpo_and_spin() -> None:
    generator = torch.Generator().manual_seed(0)
    score, reference = torch.randn(2, 30, 2, generator=generator)
    scored = Scored.of(score, reference)
    passed = score[:, 0] >= reference[:, 0]
    found = SignedByAnchor()(scored)
    torch.testing.assert_close(found[passed], dpo(scored)[passed])
    assert (found[~passed] - dpo(scored)[~passed]).abs().min() > 1e-4
    for indicator in (False, True):
        start = Scored.of(reference.clone(), reference)  # where training begins
        torch.testing.assert_close(SignedByAnchor(indicator=indicator)(start), dpo(start))


def test_behind_the_checkpoint_both_are_raised_by_hand() -> None:
    score = torch.tensor([[-3.0, -1.0]], requires_grad=True)
    scored = Scored.of(score, torch.tensor([[-2.0, -1.5]]))  # ratios -1 and 0.5
    loss = SignedByAnchor(beta=0.2)(scored)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.2 * (-1.0 + 0.5))))
    loss.sum().backward()
    assert score.grad is not None
    assert (score.grad < 0).all()


def test_the_indicator_leaves_a_better_opponent_alone() -> None:
    score = torch.tensor([[-3.0, -1.0]], requires_grad=True)
    loss = SignedByAnchor(0.2, indicator=True)(Scored.of(score, torch.tensor([[-2.0, -1.5]])))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(0.2)))
    loss.sum().backward()
    assert score.grad is not None
    assert score.grad[0, 1] == 0
    assert score.grad[0, 0] < 0


def test_the_sign_is_exact_on_a_quadratic() -> None:
    """The policy's error is `(x - theta)^2`: it passes a checkpoint when it is nearer to x."""
    target, checkpoint = torch.tensor([2.0, 2.0, 2.0, -1.0]), 0.5
    theta = torch.tensor([1.0, 3.6, 0.4, 0.0], requires_grad=True)
    opponent = torch.tensor([0.8, 0.8, 0.8, 0.8])
    score = -torch.stack([target - theta, opponent - theta], -1).square()
    reference = -torch.stack([target - checkpoint, opponent - checkpoint], -1).square()
    nearer = ((target - theta.detach()).abs() <= (target - checkpoint).abs()).tolist()
    assert nearer == [True, False, False, True]
    beta = 0.5
    loss = SignedByAnchor(beta)(Scored.of(score, reference))
    loss.sum().backward()
    with torch.no_grad():
        ratio = score - reference
        sign = torch.tensor([1.0 if near else -1.0 for near in nearer])
        margin = beta * (ratio[:, 0] - sign * ratio[:, 1])
        slope = beta * 2 * ((target - theta) - sign * (opponent - theta))
        expected = -torch.sigmoid(-margin) * slope
    torch.testing.assert_close(theta.grad, expected)


def test_several_opponents_are_averaged_and_absent_ones_left_out() -> None:
    score = torch.tensor([[0.5, 1.0, -2.0, 9.0]], requires_grad=True)
    present = torch.tensor([[True, True, True, False]])
    found = SignedByAnchor(1.0)(replace(Scored.of(score), present=present))
    expected = (math.log1p(math.exp(0.5)) + math.log1p(math.exp(-2.5))) / 2
    assert found.item() == pytest.approx(expected)
    found.sum().backward()
    assert score.grad is not None
    assert score.grad[0, 3] == 0


def test_a_soft_label_is_a_cross_entropy() -> None:
    scored = Scored.of(torch.tensor([[0.5, 0.0]]), strength=torch.tensor([0.5]))
    found = SignedByAnchor(1.0)(scored)
    expected = 0.75 * math.log1p(math.exp(-0.5)) + 0.25 * math.log1p(math.exp(0.5))
    assert found.item() == pytest.approx(expected)


def test_a_logit_alone_is_refused() -> None:
    scored = replace(Scored.of(torch.zeros(1, 2)), logit=torch.zeros(1))
    with pytest.raises(ValueError, match="needs a score of each response"):
        SignedByAnchor()(scored)
