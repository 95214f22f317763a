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


class WrappedTunable(Tunable[ContextRows], ABC):
    """Passes on what no wrapper changes; a wrapper says what candidates, judges and features are.

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
        self.response_parts, self.category_names = half.response_parts, half.category_names
        self.annotator_names = half.annotator_names
        self.facts = {**half.facts, **(added or {})}
        self.inputs = {**half.inputs, **(added or {})}

    def contexts(self, split: str) -> Int[np.ndarray, " context"]:
        """See `Tunable`."""
        return self.half.contexts(split)

    def batch(self, contexts: Int[Tensor, " row"]) -> ContextRows:
        """See `Tunable`."""
        return self.half.batch(contexts)

    def targets(self, contexts: Int[Tensor, " row"]) -> Tensor:
        """See `Tunable`."""
        return self.half.targets(contexts)

    def under_condition(
        self, contexts: Int[Tensor, " row"], condition: str
    ) -> Int[Tensor, " row"] | None:
        """See `Tunable`."""
        return self.half.under_condition(contexts, condition)

    def category(
        self, contexts: Int[Tensor, " row"], responses: Tensor
    ) -> Int[Tensor, "row particle"]:
        """See `Tunable`."""
        return self.half.category(contexts, responses)

    def evaluate(self, policy: Policy[ContextRows], split: str, *, seed: int = 0) -> Evaluation:
        """See `Tunable`."""
        return self.half.evaluate(policy, split, seed=seed)

    def write(
        self, policy: Policy[ContextRows], out: Path, *, command: str, options: Mapping[str, Any]
    ) -> None:
        """See `Tunable`."""
        self.half.write(policy, out, command=command, options=options)
