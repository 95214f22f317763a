"""The loss without logits against the plain one, value and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.full_softmax import full_softmax_loss


def inputs(rows: int, seed: int = 0) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
    torch.manual_seed(seed)
    states, items = torch.randn(rows, 6) * 3, torch.randn(31, 6)
    bias = torch.randn(31)
    targets = torch.randint(0, 31, (rows, 3))
    weights = torch.rand(rows, 3) * (torch.rand(rows, 3) < 0.7)
    for parameter in (states, items, bias):
        parameter.requires_grad_()
    return (states, items, bias), targets, weights


def plain(states, items, bias, targets, weights):
    logits = (states @ items.T + bias).log_softmax(1)
    return -(weights * logits.gather(1, targets)).sum()


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_value_and_gradients_equal_the_plain_loss(rows, monkeypatch):
    monkeypatch.setattr("recsys.full_softmax.ROWS_AT_A_TIME", 7)
    parameters, targets, weights = inputs(rows)
    expected = plain(*parameters, targets, weights)
    found = full_softmax_loss(*parameters, targets, weights)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(2.5 * found, parameters),
        torch.autograd.grad(2.5 * expected, parameters),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_one_target_of_weight_one_is_cross_entropy():
    parameters, targets, _ = inputs(9)
    found = full_softmax_loss(*parameters, targets[:, :1], torch.ones(9, 1))
    states, items, bias = parameters
    expected = F.cross_entropy(states @ items.T + bias, targets[:, 0], reduction="sum")
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_large_scores_stay_finite_and_rows_without_weight_do_not_count():
    (states, items, bias), targets, weights = inputs(8)
    huge = (states.detach() * 1e4).requires_grad_()
    loss = full_softmax_loss(huge, items, bias, targets, torch.zeros_like(weights))
    loss.backward()
    assert loss.item() == 0.0
    assert huge.grad is not None
    assert not huge.grad.any()
    assert full_softmax_loss(huge, items, bias, targets, weights).isfinite()


def test_under_autocast_it_is_close():
    parameters, targets, weights = inputs(40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = full_softmax_loss(*parameters, targets, weights)
    gradients = torch.autograd.grad(found, parameters)
    expected = plain(*parameters, targets, weights)
    assert found.item() == pytest.approx(expected.item(), rel=2e-2)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        assert (ours - theirs).norm() < 0.05 * theirs.norm()
