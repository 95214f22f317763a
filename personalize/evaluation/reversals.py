"""Reversals: pairs whose winner flips with the context, the proof that a reward reads it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from personalize.evaluation.intervals import Interval, bootstrap_interval
from personalize.preference_optimization.comparisons import (
    Comparisons,
    comparison_accuracy,
    decided,
)


@dataclass(frozen=True)
class Reversals:
    """Pairs of responses, each compared in two contexts with opposite winners.

    Every reversal has four rows, in this order: first and second response under the goal where the
    first is ahead, then both under the goal where the second is. Its two comparisons stand next to
    each other.

    Attributes:
        response: Response of each row.
        goal: Goal dimension in whose context each row stands: "more of this, please".
        comparisons: Of the rows; two per reversal.
    """

    response: Int[Tensor, " row"]
    goal: Int[Tensor, " row"]
    comparisons: Comparisons

    def __len__(self) -> int:
        """Number of reversals."""
        return len(self.comparisons) // 2


@dataclass(frozen=True)
class ReversalReport:
    """What a reward makes of reversals, with intervals over them.

    Attributes:
        accuracy: Share of comparisons whose winner scores higher, ties counting half. A reward
            that does not read the context has 1/2 on every single reversal.
        both_right: Share of reversals with both winners right.
        both_wrong: Share of reversals with both wrong: the context is read upside down.
    """

    accuracy: Interval
    both_right: Interval
    both_wrong: Interval


def reversals(
    goals: Float[Tensor, "response goal"],
    mask: Bool[Tensor, "response goal"],
    *,
    margin: float = 0.0,
    maximum: int = 1000,
    seed: int = 0,
) -> Reversals:
    """Pairs of which one is ahead on some goal and the other on some other goal, in both contexts.

    All pairs are looked at: time and memory grow with the square of the responses. Where several
    goals would do, one is drawn for each side.

    Args:
        goals: What every response reaches, in comparable units.
        mask: Which values are known; an unknown one puts nobody ahead.
        margin: A response is ahead where its value is larger by more than this.
        maximum: Most reversals; more are thinned out at random.
        seed: Of what is drawn.

    Raises:
        ValueError: If the margin is negative, or no two responses are ahead of each other.

    Source:
        In the manner of the reversed pairs of Pitis et al., 2024, arXiv:2407.14916.
    """
    if not margin >= 0:
        raise ValueError(f"margin must not be negative, got {margin:g}.")
    goals, mask = goals.cpu(), mask.cpu()  # where the generator is
    first, second = torch.triu_indices(len(goals), len(goals), offset=1)
    known = mask[first] & mask[second]
    ahead = known & (goals[first] - goals[second] > margin)
    behind = known & (goals[second] - goals[first] > margin)
    contested = (ahead.any(-1) & behind.any(-1)).nonzero()[:, 0]
    if not len(contested):
        raise ValueError("No two responses are ahead of each other on different goals.")
    generator = Generator().manual_seed(seed)
    kept = contested[torch.randperm(len(contested), generator=generator)[:maximum]]
    gains = torch.multinomial(ahead[kept].float(), 1, generator=generator)[:, 0]
    losses = torch.multinomial(behind[kept].float(), 1, generator=generator)[:, 0]
    pair = torch.stack([first[kept], second[kept]], 1)
    start = 4 * torch.arange(len(kept))[:, None]
    winners_first = torch.stack([start + torch.tensor([0, 1]), start + torch.tensor([3, 2])], 1)
    return Reversals(
        response=torch.cat([pair, pair], 1).flatten(),
        goal=torch.stack([gains, gains, losses, losses], 1).flatten(),
        comparisons=decided(winners_first.flatten(0, 1)),
    )


def reversal_report(
    scores: Float[Tensor, " row"], found: Reversals, *, seed: int = 0
) -> ReversalReport:
    """How a reward judges reversals.

    Args:
        scores: Its score of every row of the reversals.
        found: The reversals.
        seed: Of the bootstrap.
    """
    right = (
        comparison_accuracy(scores.detach().cpu().double(), found.comparisons).view(-1, 2).numpy()
    )
    return ReversalReport(
        accuracy=bootstrap_interval(right.mean(1), seed=seed),
        both_right=_share((right == 1).all(1), seed),
        both_wrong=_share((right == 0).all(1), seed),
    )


def _share(rows: Bool[np.ndarray, " reversal"], seed: int) -> Interval:
    return bootstrap_interval(rows.astype(np.float64), seed=seed)
