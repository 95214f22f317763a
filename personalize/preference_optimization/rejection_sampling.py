"""Rejection sampling over directions: of a policy's own draws, the one a direction likes best."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.generator import Context, Reward, X
from personalize.steering.goals import Direction
from personalize.steering.particles import select

Draw = Callable[[Context, Tensor, int, int], X]
"""`(context, directions, count, seed) -> x`: so many draws of the policy under each direction."""


@dataclass(frozen=True)
class BestDraws(Generic[Context, X]):
    """Rows for the ordinary supervised loss: given context and direction, imitate what is best.

    Attributes:
        context: As it was given.
        directions: As they were given.
        best: The draw with the highest utility, the first of equals.
        utility: Its utility.
        mean_utility: Of all draws: what a row gains by being picked is the difference.
    """

    context: Context
    directions: Float[Tensor, "batch dimension"]
    best: X
    utility: Float[Tensor, " batch"]
    mean_utility: Float[Tensor, " batch"]


def picked(draws: Tensor, index: Int[Tensor, " batch"]) -> Tensor:
    """One draw of every row of a tensor whose first two dimensions are row and draw."""
    return draws[torch.arange(len(draws), device=draws.device), index]


def rejection_sampling(
    draw: Draw[Context, X],
    reward: Reward[X, Context],
    context: Context,
    directions: Float[Tensor, "batch dimension"],
    *,
    count: int = 8,
    seed: int = 0,
    pick: Callable[[X, Tensor], X] = picked,
) -> BestDraws[Context, X]:
    """Draw from a policy under each direction and keep what that direction likes best.

    One round of training is this and the supervised loss on its rows; then the policy draws anew.
    Draw the directions anew as well (`directions_on_cap`), or the policy learns those it was shown.

    Args:
        draw: Draws from the policy, conditioned on the direction; without gradients.
        reward: Axis 0 is the task; all axes in comparable units.
        context: One per row.
        directions: A unit direction per row.
        count: Draws per row; 1 keeps what was drawn and selects nothing.
        seed: Passed on to the draw.
        pick: Takes one draw per row; replace it where what is made is no tensor.

    Raises:
        ValueError: If the count is not positive.

    Source:
        In the manner of Wang et al., 2024, Directional Preference Alignment, arXiv:2402.18571.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    with torch.no_grad():
        draws = draw(context, directions, count, seed)
        utility = Direction(reward, directions)(draws, context)
    index = select(utility)
    return BestDraws(
        context=context,
        directions=directions,
        best=pick(draws, index),
        utility=utility.gather(1, index[:, None])[:, 0],
        mean_utility=utility.mean(1),
    )
