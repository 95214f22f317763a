"""The same two responses in two contexts that want opposite things: the winner changes."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator

from personalize.evaluation.reversals import Reversals
from personalize.preference_optimization.candidate_blocks import (
    blocks,
    graded_pairs,
    pairs_in_blocks,
    some_per_block,
    weighted,
    winner_first,
)
from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.context_swaps import response_blocks


@final
@dataclass(frozen=True)
class ContextReversals(PairBuilder):
    """Two responses compared in two contexts of one origin, of which either wins once.

    The two comparisons of a reversal stand next to each other, so that a score that does not read
    the context is right on exactly half of them.

    Attributes:
        weights: What decides, by name of a reward that depends on the context.
        least_gap: Values must differ by more than this in both contexts.
        per_context: Most reversals of one origin.

    Source:
        In the manner of the reversed pairs of Pitis et al., 2024, arXiv:2407.14916.
    """

    weights: dict[str, float]
    least_gap: float = 0.0
    per_context: int = 4

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`."""
        value = weighted(candidates, self.weights)
        there, _ = pairs_in_blocks(response_blocks(candidates))  # a response in two contexts
        found = blocks(torch.cat([candidates.origin[there[:, :1]], candidates.context[there]], -1))
        responses, _ = pairs_in_blocks(found)
        first, first_decided = winner_first(there[:, 0][responses], value, self.least_gap)
        second, second_decided = winner_first(there[:, 1][responses], value, self.least_gap)
        turned = candidates.response[first[:, 0]] == candidates.response[second[:, 1]]
        both = torch.stack([first, second], 1)[turned & first_decided & second_decided]
        origins = candidates.origin[both[:, 0, 0]]
        kept = some_per_block(origins, self.per_context, Generator().manual_seed(seed))
        return graded_pairs(both[kept].flatten(0, 1), "context_reversals", candidates, value)


def as_reversals(compared: ComparedRows, candidates: Candidates) -> Reversals:
    """What `ContextReversals` built, for `reversal_report` with a score of every row."""
    return Reversals(candidates.response, candidates.context, compared.pairs())
