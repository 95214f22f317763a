"""Reversals scored under what a half can say of their contexts."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from personalize.diagnosis.held_out import HeldOut
from personalize.evaluation.context_suite import ADVERSARIAL, INFERRED, NONE, TRUE
from personalize.preference_optimization.policy import Policy


@runtime_checkable
class KnowsConditions(Protocol):
    """A half that can say a context without what is preferred, or with what it infers of it."""

    def under_condition(
        self, contexts: Int[Tensor, " row"], condition: str
    ) -> Int[Tensor, " row"] | None:
        """Numbers of the same contexts under a condition.

        Args:
            contexts: Numbers.
            condition: `none`, where nothing is said of what is preferred, or `inferred`, where it
                is what the half makes of the past.

        Returns:
            None where the half has no such contexts.
        """
        ...


def conditions(found: HeldOut, policy: Policy) -> dict[str, Float[np.ndarray, "reversal 2"]]:
    """Winner less loser in both contexts of every reversal, by condition.

    Adversarial is the other context of the same reversal. That margin is the one of the other
    comparison turned round, since there the same two responses stand the other way about.
    """
    own = _margins(found, policy, None)
    said = {TRUE: own, ADVERSARIAL: -own[:, ::-1]}
    if isinstance(found.half, KnowsConditions):
        for condition in (NONE, INFERRED):
            contexts = found.half.under_condition(found.candidates.context, condition)
            if contexts is not None:
                said[condition] = _margins(found, policy, contexts)
    return said


def _margins(
    found: HeldOut, policy: Policy, contexts: Int[Tensor, " row"] | None
) -> Float[np.ndarray, "reversal 2"]:
    scores = found.scores(policy, found.reversals, contexts)
    return (scores[:, 0] - scores[:, 1]).reshape(-1, 2)
