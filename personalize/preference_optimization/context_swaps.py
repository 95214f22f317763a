"""One response in two contexts: better where the wish is one that it meets."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Int
from torch import Generator, Tensor

from personalize.preference_optimization.candidate_blocks import (
    Blocks,
    blocks,
    distinct_rows,
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
class ContextSwaps(PairBuilder):
    """The same response under two wishes: where it meets the wish it is better than where not.

    Two contexts have normalisers of their own. Of a policy these pairs therefore compare
    log-ratios to a reference and nothing else: never use them with a loss that has none.

    Attributes:
        weights: How well a wish is met, by name of a reward that depends on the context.
        least_gap: It must differ by more than this.
        per_context: Most pairs of one origin; with `both_ends`, most couples of pairs.
        both_ends: Take pairs by twos: a response for which one context wins, and another for which
            the other one does. Pairs of one end alone also teach that one of the contexts is the
            better one, whatever is answered. Without, all pairs that the origin's own context wins:
            the control.

    Source:
        In the manner of the intra-sample pairs of multi-level aware preference learning (MAPL, Sun
        et al., 2025, arXiv:2505.12845), of which no code was seen; that both ends are needed is
        told of the method it builds on.
    """

    weights: dict[str, float]
    least_gap: float = 0.0
    per_context: int = 4
    both_ends: bool = True

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`."""
        value = weighted(candidates, self.weights)
        pairs, _ = pairs_in_blocks(response_blocks(candidates))
        pairs, decided = winner_first(pairs, value, self.least_gap)
        pairs = pairs[decided]
        generator = Generator().manual_seed(seed)
        if self.both_ends:
            couples = _couples(candidates, pairs, generator)
        else:
            own = candidates.context[pairs[:, 0]] == candidates.origin[pairs[:, 0]]
            couples = own.nonzero()
        origins = candidates.origin[pairs[couples[:, 0], 0]]
        kept = couples[some_per_block(origins, self.per_context, generator)].flatten()
        return graded_pairs(pairs[kept], "context_swaps", candidates, value)


def response_blocks(candidates: Candidates) -> Blocks:
    """The contexts of each response and origin, of rows that pass every gate."""
    rows = distinct_rows(candidates)
    rows = rows[candidates.gate[rows]]
    found = blocks(torch.stack([candidates.origin[rows], candidates.response[rows]], -1))
    return Blocks(rows[found.rows] if len(rows) else found.rows, found.present)


def _couples(
    candidates: Candidates, pairs: Int[Tensor, "pair 2"], generator: Generator
) -> Int[Tensor, "couple 2"]:
    """Numbers of pairs, by twos: of the same two contexts, one won by either, joined at random."""
    contexts = candidates.context[pairs]
    keys = torch.cat([candidates.origin[pairs[:, :1]], contexts.sort(-1).values], -1)
    key = torch.unique(keys, dim=0, return_inverse=True)[1]
    shuffled = torch.randperm(len(pairs), generator=generator)
    ends: list[np.ndarray] = []
    codes: list[np.ndarray] = []
    for end in (contexts[:, 0] < contexts[:, 1], contexts[:, 0] > contexts[:, 1]):
        chosen = shuffled[end[shuffled]]
        chosen = chosen[torch.argsort(key[chosen], stable=True)]
        place = torch.arange(len(chosen)) - torch.searchsorted(key[chosen], key[chosen])
        ends.append(chosen.numpy())
        codes.append((key[chosen] * len(pairs) + place).numpy())
    _, first, second = np.intersect1d(*codes, assume_unique=True, return_indices=True)
    return torch.as_tensor(np.stack([ends[0][first], ends[1][second]], -1))
