"""SLOT PairBuilder: what could be compared, and which comparisons are made of it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from personalize.preference_optimization.compared_rows import ComparedRows


@dataclass(frozen=True)
class Candidates:
    """Rows of (context, response) with what is known of them; any order.

    A half makes them: what a search or draw found, what was logged, and the same responses under
    swapped contexts where contexts are to be compared.

    Attributes:
        context: Number of each row's context, as the half's `batch` takes it.
        origin: Number of the context the row belongs with: that of a swapped context is the one it
            was made from. Only rows of one origin are compared.
        response: Number of each row's response among `responses`; the same number is the same
            response, in whatever context.
        responses: `[response, ...]`.
        target: Whether it is what was logged: chosen, driven.
        gate: Whether it passes every safety gate; all true where there are none.
        reward: Named qualities; higher is better.
        names: Their names.
        log_prob: Under the generator that made them; 0 where it was not asked.
        distance: To the logged response of its origin; 0 for that itself. In the half's own unit.
        group: Number of the annotator or of their group.
    """

    context: Int[Tensor, " row"]
    origin: Int[Tensor, " row"]
    response: Int[Tensor, " row"]
    responses: Tensor
    target: Bool[Tensor, " row"]
    gate: Bool[Tensor, " row"]
    reward: Float[Tensor, "row dimension"]
    names: tuple[str, ...]
    log_prob: Float[Tensor, " row"]
    distance: Float[Tensor, " row"]
    group: Int[Tensor, " row"]

    def named(self, name: str) -> Float[Tensor, " row"]:
        """One of the rewards.

        Raises:
            ValueError: If there is none of this name.
        """
        if name not in self.names:
            raise ValueError(f"no reward is named {name}; there are {', '.join(self.names)}.")
        return self.reward[:, self.names.index(name)]


def joined_candidates(parts: Sequence[Candidates]) -> Candidates:
    """Candidates of several batches of contexts as one.

    Raises:
        ValueError: If there is none, or their rewards have different names.
    """
    if not parts:
        raise ValueError("there is nothing to join.")
    if len({part.names for part in parts}) > 1:
        raise ValueError("candidates to be joined must have the same rewards.")
    found: dict[str, list[Tensor]] = {}
    known = 0
    for part in parts:
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                found.setdefault(name, []).append(value + known if name == "response" else value)
        known += len(part.responses)
    return Candidates(**{n: torch.cat(v) for n, v in found.items()}, names=parts[0].names)


class PairBuilder(ABC):
    """Makes comparisons of candidates; a variant is a frozen dataclass.

    Laws, held by `tests/personalize/preference_optimization/test_pair_builder_slot.py` for every
    variant: the better is better by the builder's own rule; only rows of one origin are compared;
    no winner fails a gate that a loser passes, and what is compared by style or preference passes
    every gate on both sides; the same seed builds the same; the order of rows is irrelevant.
    """

    @abstractmethod
    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """Comparisons of the rows; none where none is decided."""
