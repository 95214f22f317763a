"""Reversals under several conditions: which part of an error is reading, which is guessing."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from personalize.evaluation.intervals import Interval, bootstrap_interval
from personalize.evaluation.ranking_accuracy import ahead

TRUE, NONE, ADVERSARIAL, INFERRED = "true", "none", "adversarial", "inferred"


@dataclass(frozen=True)
class ContextSuite:
    """What a score makes of reversals, with intervals over reversals or their origins.

    Attributes:
        accuracy: By condition, share of the two comparisons whose winner scores higher.
        reversal_rate: Share of reversals where the preferred response flips with the context, the
            right way in both.
        wrong_way: Share where it flips the wrong way in both.
        specific_error: What is wrong although the context is known: 1 less the accuracy under
            `true`.
        inference_error: What is lost where the context must be inferred: accuracy under `true` less
            under `inferred`; None where that was not asked.
        use_of_context: Accuracy under `true` less under `adversarial`: 0 for a score that does not
            read the context, 1 for one that follows it whatever it says; None likewise.
    """

    accuracy: Mapping[str, Interval]
    reversal_rate: Interval
    wrong_way: Interval
    specific_error: Interval
    inference_error: Interval | None
    use_of_context: Interval | None


def context_suite(
    margins: Mapping[str, Float[np.ndarray, "reversal 2"]],
    *,
    origins: Int[np.ndarray, " reversal"] | None = None,
    seed: int = 0,
) -> ContextSuite:
    """How scores of reversals change with what they are told of the context.

    Args:
        margins: By condition, score of the winner less that of the loser in both contexts of every
            reversal. Winner and loser are those of the true context in every condition, so under
            `none` a score gives opposite margins and is right in half of them.
        origins: What each reversal was made from, drawn together; None draws reversals.
        seed: Of the bootstrap.

    Raises:
        ValueError: If there is no condition `true`, no reversal, or not as many in each condition.

    Source:
        Pitis et al., 2024, Improving Context-Aware Preference Modeling for Language Models,
        arXiv:2407.14916: the conditions, and the split of the error into that of inferring the
        context and that of judging within it.
    """
    if TRUE not in margins or not len(margins[TRUE]):
        raise ValueError("margins must have the condition true, with at least one reversal.")
    if len({len(values) for values in margins.values()}) > 1:
        raise ValueError("margins must have as many reversals in every condition.")
    right = {name: ahead(values) for name, values in margins.items()}

    def interval(values: np.ndarray) -> Interval:
        return bootstrap_interval(values.astype(np.float64), groups=origins, seed=seed)

    def lost(name: str) -> Interval | None:
        return interval((right[TRUE] - right[name]).mean(1)) if name in right else None

    return ContextSuite(
        accuracy={name: interval(values.mean(1)) for name, values in right.items()},
        reversal_rate=interval((right[TRUE] == 1).all(1)),
        wrong_way=interval((right[TRUE] == 0).all(1)),
        specific_error=interval(1 - right[TRUE].mean(1)),
        inference_error=lost(INFERRED),
        use_of_context=lost(ADVERSARIAL),
    )
