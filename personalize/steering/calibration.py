"""How hard to steer each context: the multipliers at which what is taken meets the goal."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from personalize.steering.goals import Goals

STEPS = 40
FIRST_STEP, GROWTH, SHRINKAGE = 2.0, 1.5, 0.5
NEAR = 0.01
"""A dimension this near to its goal stays; an outcome has to be nearer by half of it to be kept."""


def rank_weights(count: int) -> Float[Tensor, " rank"]:
    """How much each place of a list counts: `1 / log2(1 + rank)`, adding up to 1.

    Example:
        >>> rank_weights(2)
        tensor([0.6131, 0.3869])
    """
    weights = 1 / torch.arange(2, count + 2).float().log2()
    return weights / weights.sum()


def calibrated(
    goals: Goals,
    reach: Callable[[Float[Tensor, "batch goal"]], Float[Tensor, "batch goal"]],
    *,
    largest: float,
) -> Float[Tensor, "batch goal"]:
    """Multipliers of the goal dimensions at which what is taken meets a goal.

    Among all distributions whose mean features are given, the one nearest to a generator's is its
    own tilted by `exp(features @ multipliers)`; the multipliers are the dual variables of the
    goal. They are searched for on what would really be taken: each moves by its own step, which
    grows while the goal stays on the same side and shrinks when it was passed, and those of the
    nearest outcome are kept, the first and so the smallest of about equal ones.

    Args:
        goals: What should be reached.
        reach: What is reached with multipliers, in the units of the goals. Called some forty
            times, so it should choose among candidates and not generate them.
        largest: Bound on every multiplier, in nats for the whole range of a dimension; 0 gives
            zeros.

    Source:
        Exponential tilting: Csiszar, 1975, doi:10.1214/aop/1176996454. Steps as in Rprop:
        Riedmiller and Braun, 1993, doi:10.1109/ICNN.1993.298623.

    Example:
        >>> goals = Goals(torch.tensor([[0.5, 0.0]]), torch.tensor([[True, False]]))
        >>> found = calibrated(goals, lambda multipliers: 0.1 * multipliers, largest=20.0)
        >>> [round(float(value), 1) for value in found[0]]
        [5.0, 0.0]
    """
    multipliers = torch.zeros_like(goals.values)
    step, before = torch.full_like(multipliers, FIRST_STEP), torch.zeros_like(multipliers)
    kept, nearest = multipliers, torch.full_like(multipliers[:, 0], torch.inf)
    for _ in range(STEPS):
        gap = (goals.values - reach(multipliers)) * goals.mask
        error = gap.norm(dim=1)
        better = error < nearest - NEAR / 2
        kept = torch.where(better[:, None], multipliers, kept)
        nearest = torch.where(better, error, nearest)
        side = torch.where(gap.abs() < NEAR, 0.0, gap.sign())
        turned = side * before
        step = step * torch.where(turned > 0, GROWTH, torch.where(turned < 0, SHRINKAGE, 1.0))
        multipliers = (multipliers + side * step).clamp(-largest, largest)
        before = side
    return kept
