"""Guidance of decoders: away from no preferences, or from a worse model, chosen when it decodes."""

from dataclasses import fields, replace
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.steering.guidance import guide
from recsys.batch import HistoryBatch
from recsys.retriever.decode import CodeDecoder

State = TypeVar("State")
Other = TypeVar("Other")


class GuidedDecoder(Generic[State]):
    """A decoder whose logits are moved along what preferences change in them.

    The logits are `without + weight * (with - without)`; weight 1 is the decoder itself, weight 0
    the decoder without preferences. Both are computed in one batch of twice the rows. A row
    without preferences is unchanged.

    Source:
        Ho and Salimans, 2022, Classifier-Free Diffusion Guidance, arXiv 2207.12598; their `w` is
        our weight less one.
    """

    def __init__(self, decoder: CodeDecoder[State], weight: float) -> None:
        self._decoder = decoder
        self._weight = weight

    def prepare(self, batch: HistoryBatch) -> State:
        """Read every row with and without its preferences."""
        return self._decoder.prepare(stacked(batch, without_preferences(batch)))

    def step(
        self,
        state: State,
        level: int,
        codes: Int[Tensor, "batch beam"],
        parents: Int[Tensor, "batch beam"],
    ) -> Float[Tensor, "batch beam code"]:
        """Guided logits of the codes of a level for every beam."""
        both = self._decoder.step(state, level, codes.repeat(2, 1), parents.repeat(2, 1))
        given, without = both.chunk(2)
        return guide(without, (given, self._weight))


class ContrastiveDecoder(Generic[State, Other]):
    """A decoder whose logits are moved away from those of a worse one that knows no preferences.

    The logits are `negative + weight * (positive - negative)`; weight 1 is the positive decoder to
    the last bit, weight 0 the negative one. With the positive decoder for its own negative this is
    `GuidedDecoder`.

    Source:
        Li et al., 2023, Contrastive Decoding, arXiv 2210.15097; the negative model is called with
        the empty condition as in Wang et al., 2025, Diffusion-NPO, arXiv 2505.11245.
    """

    def __init__(
        self, positive: CodeDecoder[State], negative: CodeDecoder[Other], weight: float
    ) -> None:
        self._positive, self._negative = positive, negative
        self._weight = weight

    def prepare(self, batch: HistoryBatch) -> tuple[State, Other]:
        """Read every row by both: with its preferences, and without."""
        without = without_preferences(batch)
        return self._positive.prepare(batch), self._negative.prepare(without)

    def step(
        self,
        state: tuple[State, Other],
        level: int,
        codes: Int[Tensor, "batch beam"],
        parents: Int[Tensor, "batch beam"],
    ) -> Float[Tensor, "batch beam code"]:
        """Guided logits of the codes of a level for every beam."""
        good = self._positive.step(state[0], level, codes, parents)
        bad = self._negative.step(state[1], level, codes, parents)
        return guide(bad, (good, self._weight))


def without_preferences(batch: HistoryBatch) -> HistoryBatch:
    """The same rows with every preference masked."""
    return replace(batch, preference_mask=torch.zeros_like(batch.preference_mask))


def stacked(first: HistoryBatch, second: HistoryBatch) -> HistoryBatch:
    """The rows of two batches of equal shape, one batch after the other.

    Raises:
        ValueError: If one of them has preference vectors or strengths and the other has none.
    """
    joined = {}
    for field in fields(HistoryBatch):
        parts = getattr(first, field.name), getattr(second, field.name)
        if (parts[0] is None) != (parts[1] is None):
            raise ValueError(f"both batches must have {field.name}, or neither.")
        joined[field.name] = None if parts[0] is None else torch.cat(parts)
    return HistoryBatch(**joined)
