"""What was logged against what the generator found: a list of one winner and its negatives."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from personalize.preference_optimization.candidate_blocks import Blocks, context_blocks
from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared_rows import ComparedRows


class NegativeChoice(ABC):
    """Which of several responses are taken as the worse ones; a variant is a frozen dataclass."""

    @abstractmethod
    def __call__(
        self, candidates: Candidates, found: Blocks, generator: Generator
    ) -> Float[Tensor, "block place"]:
        """How much each is wanted as a negative; the highest are taken."""


@final
@dataclass(frozen=True)
class Likeliest(NegativeChoice):
    """What the generator itself holds for likeliest: its hardest errors."""

    def __call__(
        self, candidates: Candidates, found: Blocks, generator: Generator
    ) -> Float[Tensor, "block place"]:
        """See `NegativeChoice`."""
        return candidates.log_prob[found.rows]


@final
@dataclass(frozen=True)
class Nearest(NegativeChoice):
    """What is nearest to what was logged, as the half measures distance."""

    def __call__(
        self, candidates: Candidates, found: Blocks, generator: Generator
    ) -> Float[Tensor, "block place"]:
        """See `NegativeChoice`."""
        return -candidates.distance[found.rows]


@final
@dataclass(frozen=True)
class Drawn(NegativeChoice):
    """At random."""

    def __call__(
        self, candidates: Candidates, found: Blocks, generator: Generator
    ) -> Float[Tensor, "block place"]:
        """See `NegativeChoice`."""
        return torch.rand(found.rows.shape, generator=generator)


@final
@dataclass(frozen=True)
class TargetAgainstOthers(PairBuilder):
    """What was logged in a context against some of what was found there.

    A context takes part where what was logged is among its rows, passes every gate, and has at
    least one other beside it. What was not chosen need not be worse; that it is taken to be is the
    assumption of these pairs.

    Attributes:
        negatives: Most of them for each; lists with fewer are filled up.
        choice: Which ones; None takes the `Likeliest`.

    Raises:
        ValueError: If `negatives` is below 1.

    Source:
        Lists of one target and several negatives are those of S-DPO (Chen et al., 2024,
        arXiv:2406.09215), with 3 drawn at random; the choices are in the manner of RosePO (Liao et
        al., 2024, arXiv:2410.12519), of which no code was seen.
    """

    negatives: int = 3
    choice: NegativeChoice | None = None

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise ValueError(f"negatives must be 1 or more, got {self.negatives}.")

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`."""
        found = context_blocks(candidates)
        choice = self.choice or Likeliest()
        wanted = choice(candidates, found, Generator().manual_seed(seed))
        target = (candidates.target & candidates.gate)[found.rows] & found.present
        other = found.present & ~candidates.target[found.rows]
        use = target.any(-1) & other.any(-1)
        rows, other, target = found.rows[use], other[use], target[use]
        count = min(self.negatives, rows.shape[1])
        unwanted = (-wanted[use]).masked_fill(~other, torch.inf)
        taken = torch.argsort(unwanted, dim=-1, stable=True)[:, :count]
        first = target.long().argmax(-1, keepdim=True)
        present = torch.cat([torch.ones_like(first, dtype=torch.bool), other.gather(1, taken)], -1)
        chosen = torch.where(present, rows.gather(1, torch.cat([first, taken], -1)), 0)
        return ComparedRows.of(
            chosen,
            "target_against_others",
            present=present,
            grade=candidates.target[chosen].float() * present,
            annotator=candidates.group[chosen[:, 0]],
        )
