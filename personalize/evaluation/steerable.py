"""SLOT Steerable: what the steerability evaluation asks of a half."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from personalize.evaluation.goal_space import GoalSpace
from personalize.steering.chain import Chain
from personalize.steering.goals import Goals

TUNING, REPORTED = "validation", "test"


@dataclass(frozen=True)
class Outcome:
    """What was generated for some contexts, as the evaluation looks at it.

    Attributes:
        raw: Raw goal values of what was generated, in the units of the goal space.
        mask: Which of them could be measured.
        quality: Task quality per context by name, such as `ndcg@10` or `pdms`; NaN where there is
            none. Higher is better.
        generator_calls: Predictions of the generator per context: what a comparison at equal cost
            is made by. One decode of a beam counts its width times the levels.
        seconds: Time it took, per context.
    """

    raw: Float[np.ndarray, "row goal"]
    mask: Bool[np.ndarray, "row goal"]
    quality: Mapping[str, Float[np.ndarray, " row"]]
    generator_calls: float
    seconds: float


class Steerable(ABC):
    """A trained generator with contexts to steer it in.

    Laws, held by `tests/personalize/evaluation/test_steerable_slot.py` for every variant: the same
    question and seed have the same answer; contexts do not influence each other; without a goal, or
    with a neutral chain, the answer is that of no chain at all.

    Attributes:
        space: The goal space, with limits from seed outputs of tuning contexts.
        quality_names: Names of the quality measures, the main one first.
        facts: What is evaluated, as plain JSON values, for the report.
    """

    space: GoalSpace
    quality_names: tuple[str, ...]
    facts: Mapping[str, Any]

    @abstractmethod
    def contexts(self, split: str) -> Int[np.ndarray, " context"]:
        """Numbers of the contexts of a split: `TUNING` or `REPORTED`; the two share none."""

    @abstractmethod
    def groups(self, contexts: Int[np.ndarray, " row"]) -> Sequence[str]:
        """The group every context belongs to, for the worst-group report."""

    @abstractmethod
    def generate(
        self,
        contexts: Int[np.ndarray, " row"],
        goals: Goals | None,
        chain: Chain | None,
        *,
        seed: int = 0,
    ) -> Outcome:
        """What is generated for every row.

        Args:
            contexts: A context per row; one may stand there several times with several goals.
            goals: A goal per row; None asks for nothing.
            chain: What steers; None is the generator as it is.
            seed: Of everything that is drawn; the same random numbers for every row.
        """

    @abstractmethod
    def pool(
        self, contexts: Int[np.ndarray, " row"]
    ) -> tuple[Float[np.ndarray, "row candidate goal"], Bool[np.ndarray, "row candidate goal"]]:
        """Raw goal values of many outputs that would be possible, for the oracle, and their mask.

        What no candidate reaches, no steering could.
        """


class SteerableSource(ABC):
    """SLOT: which artifacts a half is steered from, chosen by `class_path` in a configuration.

    Building one opens nothing.
    """

    @abstractmethod
    def open(self) -> Steerable:
        """Read the artifacts and get ready.

        Raises:
            InputError: If one is not there, is damaged or does not fit.
        """
