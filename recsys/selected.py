"""The preferences of each target's person, chosen by every selection policy."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from personalize.conditioning.selection import (
    All,
    Latest,
    Oracle,
    PreferenceIndex,
    Question,
    Retrieved,
    SelectionPolicy,
)
from recsys.axes import history_vectors
from recsys.questions import Choice, ItemTexts, Targets

POLICIES: Mapping[str, SelectionPolicy] = {
    "latest": Latest(),
    "all": All(),
    "retrieved": Retrieved(),
    "oracle": Oracle(),
}


def selected_preferences(
    index: PreferenceIndex,
    targets: Targets,
    items: ItemTexts,
    text_vectors: Float[np.ndarray, "text width"],
    policies: Mapping[str, SelectionPolicy],
    *,
    count: int,
) -> dict[str, Choice]:
    """At most `count` preferences per target and policy, known strictly before the target.

    Args:
        index: Everybody's preferences.
        targets: Interactions of the split.
        items: How items are known by text.
        text_vectors: Vector of every text.
        policies: How preferences are chosen, by condition.
        count: Most preferences per target.
    """
    question = Question(
        subject_ids=targets.user_ids,
        positions=targets.positions,
        query_vectors=history_vectors(targets, items),
        target_vectors=items.vectors[targets.item_ids],
    )
    choices = {}
    for name, policy in policies.items():
        chosen = policy.choose(index, question, text_vectors=text_vectors, count=count)
        rows = [np.flatnonzero(real) for real in chosen.mask]
        choices[name] = Choice(
            [texts[row].tolist() for texts, row in zip(chosen.text_ids, rows, strict=True)],
            [avoid[row].tolist() for avoid, row in zip(chosen.avoid, rows, strict=True)],
        )
    return choices
