"""Near misses: what fails though it lies next to what a person drove or chose."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator

from personalize.preference_optimization.candidate_blocks import (
    context_blocks,
    graded_pairs,
    weighted,
)
from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.target_pairs import Nearest, NegativeChoice


@final
@dataclass(frozen=True)
class NearMisses(PairBuilder):
    """The best response to a context that passes every gate against one that fails.

    What fails a gate, or scores below `fails_below`, has failed; among these the nearest to what
    was logged is rejected. Controls: `choice` with `Drawn` rejects any that failed, and an infinite
    `fails_below` beside it any at all that scores lower.

    Attributes:
        weights: The score, by name of a reward.
        fails_below: What scores lower has failed although it passes the gates.
        choice: Which of those that failed is rejected; None takes the `Nearest`.

    Source:
        In the manner of DriveDPO (Shang et al., 2025, arXiv:2509.17940), which rejects a PDM score
        below 0.3; no code was seen.
    """

    weights: dict[str, float]
    fails_below: float = 0.3
    choice: NegativeChoice | None = None

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`."""
        value = weighted(candidates, self.weights)
        found = context_blocks(candidates)
        choice = self.choice or Nearest()
        wanted = choice(candidates, found, Generator().manual_seed(seed))
        passes, score = candidates.gate[found.rows] & found.present, value[found.rows]
        best = score.masked_fill(~passes, -torch.inf).max(-1, keepdim=True)
        failed = ~passes | ((score < self.fails_below) & (score < best.values))
        failed &= found.present
        use = passes.any(-1) & failed.any(-1)
        worse = wanted.masked_fill(~failed, -torch.inf).argmax(-1, keepdim=True)
        pairs = found.rows.gather(1, torch.cat([best.indices, worse], -1))[use]
        return graded_pairs(pairs, "near_misses", candidates, value)
