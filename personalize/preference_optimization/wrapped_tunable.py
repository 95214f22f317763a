"""A half with something changed around it: all else is the half's own."""

from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from personalize.preference_optimization.policy import ContextRows, Policy
from personalize.preference_optimization.tunable import Evaluation, Tunable

BESIDE = ("under_condition", "category", "category_names", "annotator_names")
"""What a half may tell beside what every one does; `personalize.diagnosis` asks for these."""


class WrappedTunable(Tunable[ContextRows], ABC):
    """Passes on what no wrapper changes; a wrapper says what candidates, judges and features are.

    What a half need not have (`BESIDE`) the wrapper has where the half has it, and only there.

    Attributes:
        half: What is wrapped.
    """

    def __init__(self, half: Tunable[ContextRows], added: Mapping[str, str] | None = None) -> None:
        """Wrap a half.

        Args:
            half: What is wrapped.
            added: Content hash of every artifact that is read beside the half's, by name.
        """
        self.half, self.policy = half, half.policy
        self.reward_names, self.response_names = half.reward_names, half.response_names
        self.response_parts = half.response_parts
        self.facts = {**half.facts, **(added or {})}
        self.inputs = {**half.inputs, **(added or {})}
        for name in BESIDE:
            if hasattr(half, name):
                setattr(self, name, getattr(half, name))

    def contexts(self, split: str) -> Int[np.ndarray, " context"]:
        """See `Tunable`."""
        return self.half.contexts(split)

    def batch(self, contexts: Int[Tensor, " row"]) -> ContextRows:
        """See `Tunable`."""
        return self.half.batch(contexts)

    def targets(self, contexts: Int[Tensor, " row"]) -> Tensor:
        """See `Tunable`."""
        return self.half.targets(contexts)

    def evaluate(self, policy: Policy[ContextRows], split: str, *, seed: int = 0) -> Evaluation:
        """See `Tunable`."""
        return self.half.evaluate(policy, split, seed=seed)

    def write(
        self, policy: Policy[ContextRows], out: Path, *, command: str, options: Mapping[str, Any]
    ) -> None:
        """See `Tunable`."""
        self.half.write(policy, out, command=command, options=options)
