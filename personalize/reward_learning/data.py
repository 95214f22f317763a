"""What a reward model is learnt from: comparisons in training contexts, and in others to check."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import Int

from data_prep.artifact import read_manifest
from data_prep.errors import InputError
from personalize.preference_optimization.candidates import PairBuilder
from personalize.preference_optimization.stored_comparisons import read_comparisons
from personalize.preference_optimization.tunable import (
    TEST,
    TRAINING,
    VALIDATION,
    Tunable,
    TunableSource,
)
from personalize.reward_learning.judged_split import JudgedSplit, judged_split, stored_splits
from personalize.rewards.feature_comparisons import FeatureComparisons
from personalize.rewards.preference_model import Sizes
from personalize.stateful_loader import StatefulLoader


class RewardData(L.LightningDataModule):
    """Comparisons that a builder makes of a half's candidates, in contexts of every split.

    Attributes:
        half: Whose candidates are compared.
        training: What is learnt from.
        validation: What decides when to end, and sets the temperature; in pairs.
        test: What is reported; in pairs.
        sizes: What encoder and head are built with.
    """

    def __init__(
        self,
        half: TunableSource,
        builder: PairBuilder | None = None,
        *,
        comparisons: Path | None = None,
        contexts: int = 2000,
        held_out_contexts: int = 500,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        """Open the half and compare.

        Args:
            half: Which artifacts the candidates come from.
            builder: How they are compared.
            comparisons: Artifact `comparisons` to take in place of a builder's, in the half's own
                splits (`stored_splits`); the numbers of contexts below do not count.
            contexts: Training contexts, at most.
            held_out_contexts: Contexts of the validation split and as many of the test, at most.
            batch_size: Comparisons in a step.
            seed: Of contexts, candidates, comparisons and their order.

        Raises:
            InputError: If a size is below 1, a split has no comparison, or there are both a
                builder and stored comparisons, or neither.
        """
        super().__init__()
        sizes = {"contexts": contexts, "held_out_contexts": held_out_contexts}
        for name, value in (sizes | {"batch_size": batch_size}).items():
            if value < 1:
                raise InputError(f"data.{name} must be at least 1, got {value}.")
        self._batch_size, self._seed = batch_size, seed
        self.half: Tunable = half.open()
        self._inputs, self._parts = dict(self.half.inputs), {}
        if builder is not None and comparisons is None:
            splits = [
                judged_split(self.half, builder, name, contexts=count, seed=seed)
                for name, count in (
                    (TRAINING, contexts),
                    (VALIDATION, held_out_contexts),
                    (TEST, held_out_contexts),
                )
            ]
        elif builder is None and comparisons is not None:
            splits, self._parts = stored_splits(self.half, read_comparisons(comparisons), seed=seed)
            self._inputs["comparisons"] = read_manifest(comparisons).content_hash
        else:
            raise InputError("name either data.builder or data.comparisons.")
        quality = splits[0].table.quality
        mean = quality.mean(0)
        scale = (quality - mean).square().mean(0).sqrt().clamp_min(1e-6)
        self.training, *others = (part.scaled(mean, scale) for part in splits)
        self.validation, self.test = (part.paired() for part in others)
        self.sizes = _sizes(splits, self.half)

    def input_hashes(self) -> Mapping[str, str]:
        """Content hash of every artifact, by name."""
        return self._inputs

    def facts(self) -> dict[str, Any]:
        """What is learnt from, as plain values."""
        return {
            "half": dict(self.half.facts),
            "training_comparisons": len(self.training.comparisons),
            "validation_comparisons": len(self.validation.comparisons),
            "test_comparisons": len(self.test.comparisons),
            **({"splits": self._parts} if self._parts else {}),
        }

    def make_pairs(self) -> None:
        """Learn from pairs where a head takes no lists."""
        self.training = self.training.paired()

    def train_dataloader(self) -> StatefulLoader[FeatureComparisons]:
        """Comparisons in random order, which depends on seed and epoch alone."""
        trainer = self.trainer
        share = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        return self._batches(self.training, pool_batches=1, share=share)

    def val_dataloader(self) -> StatefulLoader[FeatureComparisons]:
        """Held-out comparisons in their own order."""
        return self._batches(self.validation, pool_batches=0, share=(0, 1))

    def _batches(
        self, split: JudgedSplit, *, pool_batches: int, share: tuple[int, int]
    ) -> StatefulLoader[FeatureComparisons]:
        def batch(numbers: Int[np.ndarray, " chosen"], _epoch: int) -> FeatureComparisons:
            return split.table.compared(split.comparisons, torch.from_numpy(np.asarray(numbers)))

        return StatefulLoader(
            np.zeros(len(split.comparisons), np.int64),
            batch,
            batch_size=self._batch_size,
            seed=self._seed,
            pool_batches=pool_batches,
            share=share,
        )


def _sizes(splits: Sequence[JudgedSplit], half: Tunable) -> Sizes:
    table, comparisons = splits[0].table, splits[0].comparisons
    annotators = [part.comparisons.annotator for part in splits]
    named = half.response_names
    return Sizes(
        context_width=table.context.shape[1],
        response_width=table.response.shape[1],
        qualities=table.names,
        annotators=int(torch.cat(annotators).amax()) + 1,
        comparisons=len(comparisons),
        response_names=named,
        response_scale=tuple(splits[0].response_scale().tolist()) if named else (),
        response_parts=half.response_parts,
    )
