"""Cross-entropy over the whole catalogue, a few rows at a time, without holding the logits."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS_AT_A_TIME = 256


def full_softmax_loss(
    states: Float[Tensor, "row model"],
    items: Float[Tensor, "item model"],
    bias: Float[Tensor, " item"],
    targets: Int[Tensor, "row future"],
    weights: Float[Tensor, "row future"],
) -> Float[Tensor, ""]:
    """Sum over rows and targets of `-weight * log softmax(states @ items.T + bias)[target]`.

    The gradient is worked out together with the loss while a few rows' logits are still in the
    cache, so memory does not grow with rows times items and nothing is computed twice. The result
    is that of `torch.nn.functional.cross_entropy` on all logits.

    Args:
        states: What scores the items.
        items: Vectors of all items.
        bias: What each item scores beside it.
        targets: Items to find; several may share a row.
        weights: Weight of each target; 0 leaves it out.
    """
    loss = _FullSoftmax.apply(states, items, bias, targets, weights)
    if not isinstance(loss, Tensor):
        raise TypeError("an autograd function must give a tensor.")
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (torch gives its context no public type)
        states: Tensor,
        items: Tensor,
        bias: Tensor,
        targets: Tensor,
        weights: Tensor,
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad[:3])
        exact = torch.promote_types(states.dtype, torch.float32)
        loss = torch.zeros((), dtype=exact, device=states.device)
        to_states = torch.zeros_like(states, dtype=exact)
        to_items = torch.zeros_like(items, dtype=exact)
        to_bias = torch.zeros_like(bias, dtype=exact)
        for start in range(0, len(states), ROWS_AT_A_TIME):
            rows = slice(start, start + ROWS_AT_A_TIME)
            target, weight = targets[rows], weights[rows].to(exact)
            logits = torch.addmm(bias, states[rows], items.T).to(exact)
            normalizer = logits.logsumexp(1, keepdim=True)
            chosen = logits.gather(1, target)
            loss += (weight * (normalizer - chosen)).sum()
            if wanted:
                excess = logits.sub_(normalizer).exp_().mul_(weight.sum(1, keepdim=True))
                excess.scatter_add_(1, target, -weight)
                to_states[rows] = (excess @ items).to(exact)
                to_items += excess.T @ states[rows]
                to_bias += excess.sum(0)
        ctx.save_for_backward(to_states, to_items, to_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *grad_outputs: Tensor,
    ) -> tuple[Tensor | None, ...]:
        (upstream,) = grad_outputs
        to_states, to_items, to_bias = ctx.saved_tensors
        return upstream * to_states, upstream * to_items, upstream * to_bias, None, None
