"""Scenes with the style that is asked for in each: what the policies of a planner are asked in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from driving.planner.diffusion import DiffusionPlanner
from driving.planner.planner import PlannerInput, StyleCondition


@dataclass(frozen=True)
class PlanContexts:
    """A batch of scenes and styles.

    Attributes:
        scene: What the planner sees.
        style: What is asked for.
    """

    scene: PlannerInput
    style: StyleCondition

    def rows(self, numbers: Int[Tensor, " chosen"] | slice) -> "PlanContexts":
        """Some of the rows, in the order given."""
        return PlanContexts(self.scene.rows(numbers), self.style.rows(numbers))

    def to(self, target: torch.device | str) -> "PlanContexts":
        """The same on another device."""
        return PlanContexts(self.scene.to(target), self.style.to(target))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.style.values)


def decoder_alone(planner: DiffusionPlanner) -> DiffusionPlanner:
    """The planner, of which the decoder alone is to be tuned.

    The encoder and the heads that foretell safety stay as they are, so nothing that is learnt moves
    the gate of the planner's selection.
    """
    planner.requires_grad_(requires_grad=False)
    planner.decoder.requires_grad_(requires_grad=True)
    return planner


def chosen_anchors(
    log_share: Float[Tensor, "batch anchor"], count: int, *, seed: int, beam: bool
) -> Int[Tensor, "batch particle"]:
    """So many anchors per row: drawn with replacement, or the likeliest ones in order.

    Args:
        log_share: Logarithms of their probabilities.
        count: How many.
        seed: Of what is drawn; every row takes the same random numbers.
        beam: Take the likeliest; a beam may be no longer than there are anchors.

    Raises:
        ValueError: If a beam is asked for more than there are.
    """
    anchors = log_share.shape[1]
    if not beam:
        uniform = drawn(seed, torch.rand, count, anchors).clamp(1e-12, 1 - 1e-7)
        gumbel = -(-uniform.log()).log()
        return (log_share[:, None] + gumbel.to(log_share)).argmax(-1)
    if count > anchors:
        raise ValueError(f"a beam of {count} is more than the planner's {anchors} anchors.")
    return log_share.topk(count).indices


def drawn(seed: int, function: Callable[..., Any], *shape: int) -> Tensor:
    """Random numbers of a generator of their own, on the CPU."""
    return function(*shape, generator=torch.Generator().manual_seed(seed))
