"""What a generator is tuned on: comparisons built from its own answers, or contexts alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.artifact import read_manifest
from data_prep.errors import InputError
from personalize.preference_optimization.candidates import PairBuilder, joined_candidates
from personalize.preference_optimization.compared import ComparisonBatch
from personalize.preference_optimization.comparison_set import ComparisonSet, LoggedTargets
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.stored_comparisons import read_comparisons
from personalize.preference_optimization.tunable import (
    TEST,
    TRAINING,
    VALIDATION,
    Tunable,
    TunableSource,
)
from personalize.stateful_loader import StatefulLoader

CONTEXTS_AT_ONCE = 256


class TuningData(L.LightningDataModule):
    """Contexts of a half, and the comparisons that a builder makes in them.

    Comparisons are made once before the first step, or once a round, from what the policy then
    answers. Every round takes as many steps as the first: where a later one has more or fewer
    comparisons they are taken evenly.

    Attributes:
        half: What is tuned.
        policy: Its policy.
    """

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        half: TunableSource,
        builder: PairBuilder | None = None,
        comparisons: Path | None = None,
        *,
        contexts: int = 4096,
        validation_contexts: int = 512,
        batch_size: int = 64,
        cache_reference: bool = True,
        seed: int = 0,
    ) -> None:
        """Open the half.

        Args:
            half: Which artifacts to tune from.
            builder: Makes comparisons of what can be compared in a context; None tunes on logged
                targets, or on what the policy draws.
            comparisons: Artifact `comparisons` to read instead: of `personalize compare`, from a
                builder or a user's own table. Those that belong with contexts of the validation
                split are held out, those of the test split are left out, and all others are
                trained on.
            contexts: Training contexts that are used, at most.
            validation_contexts: Contexts whose comparisons are held out, at most.
            batch_size: Comparisons, or contexts, in a step.
            cache_reference: Score all comparisons by the reference once, before the first step.
            seed: Of the contexts, their candidates and their order.

        Raises:
            InputError: If a size is below 1, the half has no training context, or comparisons are
                both read and built, or cannot be read.
        """
        super().__init__()
        if builder is not None and comparisons is not None:
            raise InputError("data.builder and data.comparisons exclude each other; give one.")
        sizes = {
            "contexts": contexts,
            "validation_contexts": validation_contexts,
            "batch_size": batch_size,
        }
        for name, value in sizes.items():
            if value < 1:
                raise InputError(f"data.{name} must be at least 1, got {value}.")
        self.half: Tunable = half.open()
        self.policy: Policy = self.half.policy
        self.cache_reference = cache_reference
        self._builder, self._seed, self._batch_size = builder, seed, batch_size
        self._stored = None if comparisons is None else read_comparisons(comparisons)
        self._stored_at = comparisons
        self._training = _some(self.half.contexts(TRAINING), contexts, seed)
        self._held_out = _some(self.half.contexts(VALIDATION), validation_contexts, seed)
        if not len(self._training):
            raise InputError("there is no training context to tune in.")
        self.training: ComparisonSet | LoggedTargets = LoggedTargets(self._training)
        self.validation: ComparisonSet | LoggedTargets = LoggedTargets(self._held_out)
        self._steps_of = 0

    @property
    def compares(self) -> bool:
        """Whether there are comparisons, or contexts alone."""
        return self._builder is not None or self._stored is not None

    def input_hashes(self) -> Mapping[str, str]:
        """Content hash of every artifact, by name."""
        found = dict(self.half.inputs)
        if self._stored_at is not None:
            found["comparisons"] = read_manifest(self._stored_at).content_hash
        return found

    def facts(self) -> dict[str, Any]:
        """What is tuned on, as plain values; nothing of comparisons before they are made."""
        found: dict[str, Any] = {
            "half": dict(self.half.facts),
            "contexts": len(self._training),
        }
        if self.compares and self._steps_of:
            found |= {"comparisons": len(self.training), "held_out": len(self.validation)}
        return found

    def build(self, policy: Policy, reference: Policy | None, *, number: int = 0) -> None:
        """Make the comparisons of a round from what a policy answers.

        Args:
            policy: On the device to compute on, in evaluation mode.
            reference: Whose scores are kept beside every comparison; None keeps none.
            number: Number of the round. The held-out comparisons are those of the first.

        Raises:
            InputError: If no comparison is decided.
        """
        if not self.compares:
            self._steps_of = len(self.training)
            return
        seed = self._seed + number
        self.training = self._compared(TRAINING, policy, reference, seed)
        if not len(self.training):
            who = "data.comparisons" if self._builder is None else type(self._builder).__name__
            raise InputError(
                f"{who} decided no comparison in {len(self._training)} contexts; choose another "
                "builder, or more contexts."
            )
        if number == 0:
            self.validation = self._compared(VALIDATION, policy, reference, seed)
        self._steps_of = self._steps_of or len(self.training)

    def _compared(
        self, split: str, policy: Policy, reference: Policy | None, seed: int
    ) -> ComparisonSet:
        found = self._read(split) if self._builder is None else self._built(split, policy, seed)
        if reference is None or not len(found):
            return found
        return found.with_reference(reference, self.half, batch_size=self._batch_size)

    def _built(self, split: str, policy: Policy, seed: int) -> ComparisonSet:
        if self._builder is None:
            raise TypeError("there is no builder.")
        contexts = self._training if split == TRAINING else self._held_out
        parts = [
            self.half.candidates(chunk, policy, seed=seed)
            for chunk in contexts.split(CONTEXTS_AT_ONCE)
        ]
        candidates = joined_candidates(parts)
        return ComparisonSet.of_candidates(self._builder(candidates, seed=seed), candidates)

    def _read(self, split: str) -> ComparisonSet:
        """The stored comparisons of a split, by the context that they belong with."""
        stored = self._stored
        if stored is None:
            raise TypeError("there are no stored comparisons.")
        held_out = torch.isin(stored.origin, torch.as_tensor(self.half.contexts(VALIDATION)))
        tested = torch.isin(stored.origin, torch.as_tensor(self.half.contexts(TEST)))
        return stored.some(
            held_out if split == VALIDATION else ~held_out & ~tested
        ).comparison_set()

    def train_dataloader(self) -> StatefulLoader[ComparisonBatch]:
        """Comparisons or contexts in random order; the order depends on seed and epoch alone."""
        rows = self._steps_of or len(self.training)

        def batch(numbers: Int[np.ndarray, " chosen"], _epoch: int) -> ComparisonBatch:
            now = len(self.training)
            chosen = numbers if now == rows else numbers * now // rows
            return self.training.batch(torch.from_numpy(np.asarray(chosen)), self.half)

        return StatefulLoader(
            np.zeros(rows, np.int64),
            batch,
            batch_size=self._batch_size,
            seed=self._seed,
            pool_batches=1,
            share=self._share(),
        )

    def val_dataloader(self) -> StatefulLoader[ComparisonBatch]:
        """Held-out comparisons, or contexts, in their own order."""

        def batch(numbers: Int[np.ndarray, " chosen"], _epoch: int) -> ComparisonBatch:
            return self.validation.batch(torch.from_numpy(numbers), self.half)

        return StatefulLoader(
            np.zeros(len(self.validation), np.int64),
            batch,
            batch_size=self._batch_size,
            pool_batches=0,
        )

    def _share(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def _some(numbers: Int[np.ndarray, " context"], most: int, seed: int) -> Int[Tensor, " chosen"]:
    """At most so many of the numbers, drawn without replacement, in order."""
    if len(numbers) > most:
        generator = np.random.default_rng(seed)
        numbers = np.sort(generator.choice(numbers, most, replace=False))
    return torch.from_numpy(np.asarray(numbers, np.int64))
