"""SLOT Tunable: what preference optimisation asks of a half, beside its policy."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.policy import ContextRows, Policy

TRAINING, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True)
class Judged:
    """What responses are worth.

    Attributes:
        reward: Named qualities of every response, as in `Tunable.reward_names`; higher is better.
        gate: Whether it passes every safety gate; all true where there are none.
        context_weights: How much each quality matters in each context, where the half knows.
    """

    reward: Float[Tensor, "batch particle dimension"]
    gate: Bool[Tensor, "batch particle"]
    context_weights: Float[Tensor, "batch dimension"] | None = None


@dataclass(frozen=True)
class Evaluation:
    """How good a generator is, context by context.

    Attributes:
        values: Per measure one value per context; NaN where there is none. Higher is better, but
            for those named in `lower_is_better`.
        main: The measure that decides which weights are best.
        groups: The group of every context, for the worst one.
        lower_is_better: Names of measures such as a collision rate.
    """

    values: Mapping[str, Float[np.ndarray, " row"]]
    main: str
    groups: Sequence[str]
    lower_is_better: frozenset[str] = frozenset()


class Tunable(ABC, Generic[ContextRows]):
    """A trained generator with contexts to tune it in, and with judges.

    Contexts are numbered: `contexts` gives the numbers of a split, and a half may know more than it
    lists there, such as the same history under another preference.

    Laws, held by `tests/personalize/preference_optimization/tunable_laws.py` for every variant:
    splits share no context; the same numbers give the same batch; permuting numbers permutes it;
    rewards are finite and do not depend on the other particles; nothing after a context's present
    enters `batch`; evaluating changes no weight.

    Attributes:
        policy: The generator; on the CPU, in evaluation mode.
        reward_names: Names of the qualities `judge` tells.
        facts: What is tuned, as plain JSON values, for reports.
        inputs: Content hash of every artifact that was read, by name.
        category_names: Names of the kinds the half sorts responses into, where it does.
        annotator_names: Names of the annotators, or of the groups that stand for them, by the
            numbers that candidates have as their `group`.
        response_names: Names of the features of a response, where each has one.
        response_parts: Of how many parts of equal width those features are made up.
    """

    policy: Policy[ContextRows]
    reward_names: tuple[str, ...]
    category_names: tuple[str, ...] = ()
    annotator_names: tuple[str, ...] = ()
    response_names: tuple[str, ...] = ()
    response_parts: int = 1
    facts: Mapping[str, Any]
    inputs: Mapping[str, str]

    @abstractmethod
    def contexts(self, split: str) -> Int[np.ndarray, " context"]:
        """Numbers of the contexts of a split: `TRAINING`, `VALIDATION` or `TEST`."""

    @abstractmethod
    def batch(self, contexts: Int[Tensor, " row"]) -> ContextRows:
        """Contexts by number, as the policy reads them, on the CPU."""

    @abstractmethod
    def targets(self, contexts: Int[Tensor, " row"]) -> Tensor:
        """What was logged in each, `[row, 1, ...]`: what plain fine-tuning imitates."""

    @abstractmethod
    def candidates(
        self, contexts: Int[Tensor, " row"], policy: Policy[ContextRows], *, seed: int
    ) -> Candidates:
        """What can be compared in some contexts: logged, found or drawn, and judged.

        Args:
            contexts: Numbers.
            policy: Whose answers are candidates; on any device.
            seed: Of what is drawn.
        """

    @abstractmethod
    def judge(self, contexts: Int[Tensor, " row"], responses: Tensor) -> Judged:
        """What responses are worth in contexts, on the device of the responses.

        Args:
            contexts: Numbers.
            responses: `[row, particle, ...]`.
        """

    @abstractmethod
    def features(
        self, contexts: Int[Tensor, " row"], responses: Tensor
    ) -> tuple[Float[Tensor, "row context_width"], Float[Tensor, "row particle response_width"]]:
        """What a reward model reads of contexts, and of responses `[row, particle, ...]` in them.

        Numbers of about unit size that do not depend on the policy: the context with what is
        preferred in it, and the response as it is seen from there.
        """

    def category(
        self, contexts: Int[Tensor, " row"], responses: Tensor
    ) -> Int[Tensor, "row particle"]:
        """The kind of every response, as a number among `category_names`.

        Raises:
            TypeError: If the half sorts nothing.
        """
        raise TypeError(f"{type(self).__name__} does not sort responses into kinds.")

    def under_condition(
        self, contexts: Int[Tensor, " row"], condition: str
    ) -> Int[Tensor, " row"] | None:
        """Numbers of the same contexts, of which something else is said.

        Args:
            contexts: Numbers.
            condition: `none`, where nothing is said of what is preferred, or `inferred`, where it
                is what the half makes of the past.

        Returns:
            None where the half has no such contexts.
        """
        return None

    @abstractmethod
    def evaluate(self, policy: Policy[ContextRows], split: str, *, seed: int = 0) -> Evaluation:
        """The half's own evaluation of a generator, on contexts of a split.

        Args:
            policy: In evaluation mode; on any device.
            split: As for `contexts`.
            seed: Of everything that is drawn.
        """

    @abstractmethod
    def write(
        self, policy: Policy[ContextRows], out: Path, *, command: str, options: Mapping[str, Any]
    ) -> None:
        """Write the tuned generator as a checkpoint like the one it was made from.

        Raises:
            InputError: If the folder exists or cannot be written.
        """


class TunableSource(ABC):
    """SLOT: which artifacts a half is tuned from, chosen by `class_path` in a configuration.

    Building one opens nothing.
    """

    @abstractmethod
    def open(self) -> Tunable:
        """Read the artifacts and get ready.

        Raises:
            InputError: If one is not there, is damaged or does not fit.
        """
