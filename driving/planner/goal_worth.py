"""What closeness to a goal is worth beside a planner's own scores, where one plan is taken."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TRIED = 24
WEAKEST = 1e-3
NEAR = 0.02
"""A plan about as near to its goal as this is as near as the nearest one, in units of the space."""
CONTACT_S = 0.95
"""NAVSIM's bound on the time to collision."""


def smallest_strength(
    scores: Float[Tensor, "batch candidate"],
    close: Float[Tensor, "batch candidate"],
    *,
    largest: float,
) -> Float[Tensor, " batch"]:
    """The least of some strengths at which the candidate taken is as near its goal as any can be.

    The candidate with the highest `scores + strength * close` is taken. With more strength it never
    gets further from the goal, so the largest one gets nearest; but the least one that gets about
    as near leaves the planner the most say among candidates that are equally good for the goal.

    Args:
        scores: The planner's own; `-inf` for those it keeps out.
        close: Minus the squared distance to the goal, as `closeness` says it.
        largest: The largest strength tried; the others are 0 and 24 down to a thousandth of it.

    Raises:
        ValueError: If the largest strength is below 0.

    Example:
        >>> scores, close = torch.tensor([[0.0, -1.0]]), torch.tensor([[-0.5, 0.0]])
        >>> smallest_strength(scores, close, largest=1000.0) < 3.0  # 2 is enough
        tensor([True])
    """
    if largest < 0:
        raise ValueError(f"largest must be at least 0, got {largest:g}.")
    shares = torch.logspace(0, 1, TRIED, base=WEAKEST, dtype=torch.float64).flip(0)
    tried = largest * torch.cat([shares.new_zeros(1), shares]).to(scores)
    taken = (scores[:, None] + tried[:, None] * close[:, None]).argmax(-1)
    away = (-close.gather(1, taken)).clamp_min(0).sqrt()
    enough = away <= away[:, -1:] + NEAR
    return tried[enough.to(torch.int8).argmax(1)]


def standardized(values: Float[Tensor, "batch candidate"]) -> Float[Tensor, "batch candidate"]:
    """Values in standard deviations from their mean within the context; 0 where all are equal.

    Example:
        >>> standardized(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
        tensor([[-1.,  1.],
                [ 0.,  0.]])
    """
    centred = values - values.mean(1, keepdim=True)
    return centred / values.std(1, correction=0, keepdim=True).clamp_min(1e-9)


def no_nearer_contact(
    contact_s: Float[Tensor, "batch candidate"],
    scores: Float[Tensor, "batch candidate"],
    *,
    within_s: float = CONTACT_S,
) -> Bool[Tensor, "batch candidate"]:
    """Which candidates come no nearer to a contact than the one that the scores take.

    The one they take always counts as such, and so does every one that keeps the bound.

    Args:
        contact_s: Least time to collision over each candidate's ride, if all others go on as now.
        scores: The planner's own.
        within_s: More time than this is as good as any.

    Example:
        >>> contact_s = torch.tensor([[0.5, 0.4, 0.6, 3.0]])
        >>> no_nearer_contact(contact_s, torch.tensor([[1.0, 0.0, 0.0, 0.0]])).tolist()
        [[True, False, True, True]]
    """
    taken = contact_s.gather(1, scores.argmax(1, keepdim=True))
    return contact_s >= taken.clamp_max(within_s)
