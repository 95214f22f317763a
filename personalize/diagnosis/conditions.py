"""Reversals scored under what a half can say of their contexts."""

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from personalize.diagnosis.held_out import HeldOut
from personalize.evaluation.context_suite import ADVERSARIAL, INFERRED, NONE, TRUE
from personalize.preference_optimization.policy import Policy


def conditions(found: HeldOut, policy: Policy) -> dict[str, Float[np.ndarray, "reversal 2"]]:
    """Winner less loser in both contexts of every reversal, by condition.

    Adversarial is the other context of the same reversal. That margin is the one of the other
    comparison turned round, since there the same two responses stand the other way about.
    """
    own = _margins(found, policy, None)
    said = {TRUE: own, ADVERSARIAL: -own[:, ::-1]}
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
