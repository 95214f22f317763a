"""Comparisons of what was drawn by its own rewards: extremes, random pairs, whole rankings."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator

from personalize.preference_optimization.candidate_blocks import (
    best_and_worst,
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
class BestAgainstWorst(PairBuilder):
    """The best against the worst response to each context, among those that pass every gate.

    Attributes:
        weights: What counts and how much, by name of a reward.
        least_gap: Their values must differ by more than this.

    Source:
        In the manner of the iterative preference alignment of OneRec (Deng et al., 2025,
        arXiv:2502.18965), which takes both from a beam of 128 by a reward model.
    """

    weights: dict[str, float]
    least_gap: float = 0.0

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`; nothing is drawn."""
        value = weighted(candidates, self.weights)
        pairs = best_and_worst(context_blocks(candidates, passing=True), value, self.least_gap)
        return graded_pairs(pairs, "best_against_worst", candidates, value)


@final
@dataclass(frozen=True)
class PairsByReward(PairBuilder):
    """Random pairs of responses to one context that pass every gate; the better reward wins.

    With the match to what is wished as reward and swapped contexts among the candidates these are
    the inter-sample pairs of MAPL: the wish alone decides.

    Attributes:
        weights: What counts and how much, by name of a reward.
        least_gap: Values must differ by more than this.
        per_context: Most pairs of one context.

    Source:
        Inter-sample pairs are in the manner of multi-level aware preference learning (MAPL, Sun et
        al., 2025, arXiv:2505.12845), of which no code was seen.
    """

    weights: dict[str, float]
    least_gap: float = 0.0
    per_context: int = 4

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`."""
        value = weighted(candidates, self.weights)
        pairs, block = pairs_in_blocks(context_blocks(candidates, passing=True))
        pairs, decided = winner_first(pairs, value, self.least_gap)
        pairs, block = pairs[decided], block[decided]
        kept = some_per_block(block, self.per_context, Generator().manual_seed(seed))
        return graded_pairs(pairs[kept], "pairs_by_reward", candidates, value)


@final
@dataclass(frozen=True)
class WholeRankings(PairBuilder):
    """The best responses to each context that pass every gate, in order, as one list.

    Attributes:
        weights: What counts and how much, by name of a reward.
        length: Most places of a list.
        least_gap: A response enters where it is worse than the one before by more than this.

    Raises:
        ValueError: If a list could not have two places.

    Source:
        The lists that Preference Ranking Optimization (Song et al., 2023, arXiv:2306.17492) learns
        from.
    """

    weights: dict[str, float]
    length: int = 4
    least_gap: float = 0.0

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"length must be 2 or more, got {self.length}.")

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`; nothing is drawn."""
        value = weighted(candidates, self.weights)
        found = context_blocks(candidates, passing=True)
        worth = value.tolist()
        lists = [
            self._one(rows[there].tolist(), worth)
            for rows, there in zip(found.rows, found.present, strict=True)
        ]
        lists = [rows for rows in lists if len(rows) > 1]
        rows = torch.tensor([row + [0] * (self.length - len(row)) for row in lists])
        rows = rows.long().view(-1, self.length)
        lengths = torch.tensor([len(row) for row in lists]).long()
        present = torch.arange(self.length) < lengths[:, None]
        return ComparedRows.of(
            rows,
            "whole_rankings",
            present=present,
            grade=torch.where(present, value[rows], 0.0).to(torch.float32),
            annotator=candidates.group[rows[:, 0]],
        )

    def _one(self, rows: list[int], worth: list[float]) -> list[int]:
        kept: list[int] = []
        for row in sorted(rows, key=lambda row: -worth[row]):
            if not kept or worth[kept[-1]] - worth[row] > self.least_gap:
                kept.append(row)
        return kept[: self.length]
