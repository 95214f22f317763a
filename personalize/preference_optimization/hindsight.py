"""Pairs labelled by what was expected of a response, or by what came of it."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator

from personalize.preference_optimization.candidate_blocks import (
    context_blocks,
    graded_pairs,
    pairs_in_blocks,
    some_per_block,
    weighted,
    winner_first,
)
from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared_rows import ComparedRows


@final
@dataclass(frozen=True)
class HindsightPairs(PairBuilder):
    """Random pairs of responses to one context, judged after the outcome is seen.

    The judge takes what is expected to be better and sees what came of it. With `see_both` also
    what would have come of the other; otherwise the other is judged by what is expected of it, and
    of two that promise the same neither is taken.
    The control, judged before anything is seen, is `PairsByReward` with `expected`.

    Attributes:
        expected: What a response promises, by name of a reward at a near horizon.
        outcome: What it keeps, by name of a reward at a far horizon, in the same units.
        see_both: Whether the outcome of both is seen (full) or of the one taken (partial).
        least_gap: Judged values must differ by more than this.
        per_context: Most pairs of one context.

    Source:
        In the manner of RLHS (Liang et al., 2025, arXiv:2501.08617), which simulates outcomes.
    """

    expected: dict[str, float]
    outcome: dict[str, float]
    see_both: bool = True
    least_gap: float = 0.0
    per_context: int = 4

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`."""
        expected = weighted(candidates, self.expected)
        outcome = weighted(candidates, self.outcome)
        pairs, block = pairs_in_blocks(context_blocks(candidates, passing=True))
        pairs, taken = winner_first(pairs, expected, 0.0)  # the one that is taken, first
        other = (outcome if self.see_both else expected)[pairs[:, 1]]
        gap = outcome[pairs[:, 0]] - other
        pairs = torch.where((gap < 0)[:, None], pairs.flip(-1), pairs)
        decided = ((taken | self.see_both) & (gap.abs() > self.least_gap)).nonzero()[:, 0]
        kept = decided[
            some_per_block(block[decided], self.per_context, Generator().manual_seed(seed))
        ]
        return graded_pairs(pairs[kept], "hindsight", candidates, outcome)
