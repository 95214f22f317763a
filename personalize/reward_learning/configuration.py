"""What `personalize reward` is configured with; it opens nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from personalize.preference_optimization.candidates import PairBuilder
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.tunable import TunableSource
from personalize.rewards.heads import ScalarHead
from personalize.rewards.preference_model import (
    FeatureEncoder,
    LayeredEncoder,
    PreferenceHead,
    Sizes,
)


@dataclass(frozen=True)
class RewardPasses:
    """How long and how a reward model learns.

    Attributes:
        epochs: Passes over the comparisons at most.
        steps: Optimiser steps at most; -1 leaves it to the passes. A few make a reward model that
            is worth exploiting: what reward shaping is tried on.
        batch_size: Comparisons per step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        patience: Passes without a better validation log-loss before it ends.
        accelerator: As Lightning names it.

    Raises:
        ValueError: If a number is out of range.
    """

    epochs: int = 30
    steps: int = -1
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    patience: int = 5
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "patience": 1}
        check_range({name: (getattr(self, name), low) for name, low in least.items()})
        if self.steps == 0 or self.steps < -1:
            raise ValueError(f"steps must be 1 or more, or -1 for no limit, got {self.steps}.")
        if not self.learning_rate > 0 or self.weight_decay < 0:
            raise ValueError(
                "learning_rate must be positive and weight_decay not negative, got "
                f"{self.learning_rate:g} and {self.weight_decay:g}."
            )


class RewardLearning:
    """What `personalize reward` is configured with.

    Args:
        source: The half whose candidates are compared and whose features are read.
        builder: How candidates are compared.
        contrast: How scores become a loss; `DPO` with `beta: 1` is Bradley and Terry's.
        encoder: What context and response become one vector by.
        head: What is read off the vector.
        training: How long and how it learns.
        training_contexts: Contexts learnt from, at most.
        validation_contexts: Other contexts, which decide when to end and set the temperature.
        test_contexts: Yet others, which are reported.
        seed: Of everything that is drawn.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        *,
        source: TunableSource,
        builder: PairBuilder,
        contrast: Contrast,
        encoder: Callable[[Sizes], FeatureEncoder] = LayeredEncoder,
        head: Callable[[Sizes, int], PreferenceHead] = ScalarHead,
        training: RewardPasses = RewardPasses(),
        training_contexts: int = 2000,
        validation_contexts: int = 500,
        test_contexts: int = 500,
        seed: int = 0,
    ) -> None:
        self.source, self.builder, self.contrast = source, builder, contrast
        self.encoder, self.head, self.training = encoder, head, training
        self.training_contexts = training_contexts
        self.validation_contexts, self.test_contexts = validation_contexts, test_contexts
        self.seed = seed
        check_range(
            {
                "training_contexts": (training_contexts, 1),
                "validation_contexts": (validation_contexts, 1),
                "test_contexts": (test_contexts, 1),
                "seed": (seed, 0),
            }
        )


def check_range(numbers: Mapping[str, tuple[float | int, int]]) -> None:
    """Refuse a number that is too small.

    Raises:
        ValueError: If one is.
    """
    for name, (value, least) in numbers.items():
        if not value >= least:
            raise ValueError(f"{name} must be at least {least:g}, got {value:g}.")
