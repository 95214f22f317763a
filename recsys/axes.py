"""Recommendation and history consolidation: a person's own history and own preferences."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from recsys.questions import Axis, Choice, ItemTexts, Questions, Targets, question_rows

RECOMMENDATION = "recommendation"
CONSOLIDATION = "history_consolidation"
RECENT_ITEMS = 10


def own_history_axis(
    name: str,
    targets: Targets,
    choices: Mapping[str, Choice],
    *,
    split: str,
    people: int,
    rule: str,
) -> Axis:
    """One question per target: the person's history, and preferences chosen in several ways.

    Args:
        name: Name of the axis.
        targets: Interactions of the split.
        choices: Preferences of every target, by condition.
        split: Split that is asked about.
        people: Number of people in the data, for the account.
        rule: How the preferences were chosen, in a sentence.
    """
    questions = Questions(
        axis=name,
        user_ids=targets.user_ids,
        histories=[targets.history(n).tolist() for n in range(len(targets))],
        target_item_ids=targets.item_ids,
        wanted=np.ones(len(targets), np.bool_),
    )
    frames = [question_rows(questions, key, choice, split) for key, choice in choices.items()]
    without = people - len(np.unique(targets.user_ids))
    silent = {
        key: sum(not row for row in choice.text_ids)
        for key, choice in choices.items()
        if key != "none"
    }
    frame = frames[0]
    for other in frames[1:]:
        frame = frame.vstack(other)
    return Axis(
        name=name,
        unit="targets of the split, and people without one",
        candidates=len(targets) + without,
        kept=len(targets),
        dropped={"the person has no target in this split": without} if without else {},
        rule=rule,
        frame=frame,
        extra={"rows_without_any_preference": silent},
    )


def history_vectors(targets: Targets, items: ItemTexts) -> Float[np.ndarray, "target width"]:
    """Mean of the text vectors of each history's newest items; zeros where none has a text."""
    recent = targets.histories.last(RECENT_ITEMS)
    known = recent.mask & items.mask[recent.values]
    weights = known / np.maximum(known.sum(axis=1, keepdims=True), 1)
    width = items.vectors.shape[1]
    means = np.zeros((len(targets), width), np.float32)
    for step in range(recent.values.shape[1]):
        means += items.vectors[recent.values[:, step]] * weights[:, step : step + 1]
    return means.astype(np.float32)
