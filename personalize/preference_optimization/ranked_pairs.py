"""Pairs by a ranking of qualities, the gates above all others."""

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Generator

from personalize.preference_optimization.candidate_blocks import (
    context_blocks,
    pairs_in_blocks,
    some_per_block,
)
from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.ranked_factors import RankedFactors


@final
@dataclass(frozen=True)
class RankedPairs(PairBuilder):
    """Random pairs of responses to one context, decided by the first quality that differs enough.

    Gates come first; of two that both fail none is preferred. What decided a pair is its source.

    Attributes:
        margins: Names of rewards, the most important first, and what each must differ by.
        per_context: Most pairs of one context.

    Source:
        HERON; see `RankedFactors`, which holds the rule and where it differs.
    """

    margins: dict[str, float]
    per_context: int = 4

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`."""
        names = ("gate", *self.margins)
        ranking = RankedFactors(names, (0.0, *self.margins.values()))
        named = [candidates.named(name) for name in self.margins]
        factors = torch.stack([candidates.gate.to(candidates.reward), *named], -1)
        pairs, block = pairs_in_blocks(context_blocks(candidates))
        sign, level = ranking(factors[pairs[:, 0]], factors[pairs[:, 1]])
        safe = candidates.gate[pairs].any(-1)
        pairs = torch.where((sign < 0)[:, None], pairs.flip(-1), pairs)
        decided = (safe & (sign != 0)).nonzero()[:, 0]
        kept = decided[
            some_per_block(block[decided], self.per_context, Generator().manual_seed(seed))
        ]
        annotator = candidates.group[pairs[kept, 0]]
        found = ComparedRows.of(pairs[kept], "gate", annotator=annotator)
        return replace(found, provenance=level[kept], sources=names)
