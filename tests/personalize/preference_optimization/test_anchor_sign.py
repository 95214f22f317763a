"""The sign of SePPO's anchor: exact on a quadratic, and without it SPIN, which is DPO."""

import torch
from torch.nn import functional

from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrasts import DPO, SePPO


def test_past_the_checkpoint_it_is_dpo_against_ones_own_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    score, reference = torch.randn(2, 30, 2, generator=generator)
    scored, passed = Scored.of(score, reference), score[:, 0] > reference[:, 0]
    ratio = score - reference
    spin = -functional.logsigmoid(0.1 * (ratio[:, 0] - ratio[:, 1]))
    torch.testing.assert_close(SePPO()(scored)[passed], spin[passed])
    torch.testing.assert_close(DPO()(scored), spin)
    assert (SePPO()(scored) - spin)[~passed].abs().min() > 1e-4


def test_the_sign_is_exact_on_a_quadratic() -> None:
    """The policy's error is `(x - theta)^2`: it passes a checkpoint where it is nearer to x."""
    target, checkpoint, beta = torch.tensor([2.0, 2.0, 2.0, -1.0]), 0.5, 0.5
    theta = torch.tensor([1.0, 3.6, 0.4, 0.0], requires_grad=True)
    opponent = torch.full((4,), 0.8)
    score = -torch.stack([target - theta, opponent - theta], -1).square()
    reference = -torch.stack([target - checkpoint, opponent - checkpoint], -1).square()
    nearer = ((target - theta.detach()).abs() < (target - checkpoint).abs()).tolist()
    assert nearer == [True, False, False, True]
    SePPO(beta)(Scored.of(score, reference)).sum().backward()
    with torch.no_grad():
        ratio = score - reference
        sign = torch.tensor([1.0 if near else -1.0 for near in nearer])
        margin = beta * (ratio[:, 0] - sign * ratio[:, 1])
        slope = beta * 2 * ((target - theta) - sign * (opponent - theta))
        expected = -torch.sigmoid(-margin) * slope
    torch.testing.assert_close(theta.grad, expected)
