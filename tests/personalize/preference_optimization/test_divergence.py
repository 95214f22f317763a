"""Divergences against sums over every choice."""

import pytest
import torch

from personalize.preference_optimization.divergence import (
    divergence_k1,
    divergence_k3,
    entropy,
    exact_divergence,
)


def two() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    return p.requires_grad_(), q


def test_estimates_have_the_divergence_as_their_mean():
    p, q = two()
    share, log_p, log_q = p.softmax(-1), p.log_softmax(-1), q.log_softmax(-1)
    exact = exact_divergence(p, q)
    torch.testing.assert_close(exact, (share * (share / q.softmax(-1)).log()).sum())
    torch.testing.assert_close((share * divergence_k1(log_p, log_q)).sum(), exact)
    torch.testing.assert_close((share * divergence_k3(log_p, log_q)).sum(), exact)
    assert (divergence_k3(log_p, log_q) >= 0).all()
    assert (divergence_k1(log_p, log_q) < 0).any()


def test_the_gradient_of_k3_is_that_of_the_other_direction():
    p, q = two()
    weight = p.softmax(-1).detach()
    drawn = (weight * divergence_k3(p.log_softmax(-1), q.log_softmax(-1))).sum()
    other = exact_divergence(q, p)
    mine, theirs = torch.autograd.grad(drawn, p)[0], torch.autograd.grad(other, p)[0]
    torch.testing.assert_close(mine, theirs)
    right = torch.autograd.grad(exact_divergence(p, q), p)[0]
    assert not torch.allclose(mine, right, rtol=0.05)


def test_closed_choices_take_no_part():
    p = torch.tensor([0.0, 1.0, -torch.inf], requires_grad=True)
    q = torch.tensor([1.0, 0.0, -torch.inf])
    torch.testing.assert_close(exact_divergence(p, q), exact_divergence(p[:2], q[:2]))
    torch.testing.assert_close(entropy(p), entropy(p[:2]))
    grown = entropy(p) + exact_divergence(p, q)
    assert torch.autograd.grad(grown, p)[0].isfinite().all()
    ruled_out = torch.tensor([0.0, 0.0, 0.0])
    assert exact_divergence(ruled_out, q) == torch.inf


def test_entropy_by_hand():
    even = torch.zeros(4)
    assert entropy(even).item() == pytest.approx(1.3862944)
    assert entropy(torch.tensor([0.0, -torch.inf])).item() == 0.0


def test_k3_far_off_stays_finite():
    far = divergence_k3(torch.tensor([-500.0]), torch.tensor([-1.0]))
    assert far.isfinite().all()
    assert far > 1e8
