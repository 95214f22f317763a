"""Which style a planner is asked for: a driver's own, a preset, one dimension, or none."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from data_prep.errors import InputError
from data_prep.scenes.style_dimensions import AGGRESSIVE_SIGNS, STYLE_DIMENSIONS, STYLE_LABELS
from driving.planner.planner import StyleCondition

NONE = "none"
STORED = ("own", "before", "truth")
SHUFFLED = "shuffled"
PRESET_STRENGTH = 1.0
"""The presets are the ends of every dimension, and so the anchors of the driver models themselves
(`driving.planner.style_parameters.PRESETS`); a sweep goes from one end to the other too."""
PRESETS: Mapping[str, float] = dict(
    zip(STYLE_LABELS, (-PRESET_STRENGTH, 0.0, PRESET_STRENGTH), strict=True)
)
MEANINGS: Mapping[str, str] = {
    NONE: "no style asked for",
    "before": "what the driver did earlier; never looks at what is to be planned",
    "own": "the style of the very future that is to be planned: an oracle",
    "truth": "the simulator's true style of the driver: an oracle",
    SHUFFLED: "another sample's own style: should lose to the right one",
    **dict.fromkeys(STYLE_LABELS, "every dimension at the same end"),
}


def sweep_names(strength: float = PRESET_STRENGTH) -> list[str]:
    """Conditions that ask for one dimension alone, at either end: `speed-1`, `speed+1`, ..."""
    return [f"{name}{end * strength:+g}" for name in STYLE_DIMENSIONS for end in (-1, 1)]


def is_oracle(condition: str) -> bool:
    """Whether a condition looks at what is to be planned, or at a simulator's secrets."""
    return condition in ("own", "truth")


def asked_styles(
    condition: str,
    vectors: Mapping[str, np.ndarray] | None,
    sample_ids: Sequence[int] | np.ndarray,
    *,
    seed: int = 0,
) -> StyleCondition:
    """What is asked of a planner for each sample under one condition.

    Args:
        condition: `none`, `own`, `before`, `truth`, `shuffled`, a preset, or one dimension with a
            value such as `time_gap+0.8`.
        vectors: Arrays of the artifact `style_vectors`, a row per sample; only what is stored
            there needs them.
        sample_ids: Rows asked for.
        seed: Seed of the shuffling. It is done among the samples asked for.

    Raises:
        InputError: If there is no such condition, or its vectors are not there.
    """
    count = len(sample_ids)
    if condition in STORED or condition == SHUFFLED:
        source = "own" if condition == SHUFFLED else condition
        if vectors is None or f"{source}_values" not in vectors:
            raise InputError(
                f"the condition {condition} needs style vectors that hold {source}; pass "
                "--style-vectors of the same samples, as driving encode writes them."
            )
        rows = np.asarray(sample_ids)
        if condition == SHUFFLED:
            rows = _shuffled(rows, seed)
        return _condition(vectors[f"{source}_values"][rows], vectors[f"{source}_mask"][rows])
    values, mask = np.zeros(len(STYLE_DIMENSIONS)), np.zeros(len(STYLE_DIMENSIONS), np.bool_)
    if condition in PRESETS:
        values, mask = PRESETS[condition] * np.asarray(AGGRESSIVE_SIGNS, np.float64), ~mask
    elif condition != NONE:
        place, value = _one_dimension(condition)
        values[place], mask[place] = value, True
    return _condition(np.tile(values, (count, 1)), np.tile(mask, (count, 1)))


def inferred_styles(
    condition: str,
    vectors: Mapping[str, np.ndarray] | None,
    sample_ids: Sequence[int] | np.ndarray,
    *,
    seed: int = 0,
) -> StyleCondition | None:
    """What can be inferred of a condition: how whoever it is about drove before each sample.

    That is the driver, or for `shuffled` the driver whose style was taken. A preset is nobody's,
    and the driver's past stands in for it all the same: of two presets at one sample it says the
    same.

    Args:
        condition: As for `asked_styles`.
        vectors: Arrays of the artifact `style_vectors`.
        sample_ids: Rows asked for.
        seed: Seed of the shuffling, as it was asked with.

    Returns:
        Nothing is asked where the driver was not seen before; None without such vectors.
    """
    if vectors is None or "before_values" not in vectors:
        return None
    rows = np.asarray(sample_ids)
    return asked_styles("before", vectors, _shuffled(rows, seed) if condition == SHUFFLED else rows)


def _shuffled(rows: np.ndarray, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).permutation(rows)


def _one_dimension(condition: str) -> tuple[int, float]:
    for place, name in enumerate(STYLE_DIMENSIONS):
        if condition.startswith((f"{name}+", f"{name}-")):
            try:
                value = float(condition[len(name) :])
            except ValueError:
                break
            if abs(value) <= 1:
                return place, value
    names = ", ".join([NONE, *STORED, SHUFFLED, *PRESETS])
    raise InputError(
        f"there is no condition {condition}; choose among {names}, or a dimension with a value in "
        f"[-1, 1] such as {STYLE_DIMENSIONS[1]}+0.8."
    )


def _condition(
    values: Float[np.ndarray, "sample style"], mask: Bool[np.ndarray, "sample style"]
) -> StyleCondition:
    known = mask.astype(np.bool_)
    return StyleCondition(
        values=torch.from_numpy(np.where(known, values, 0.0).astype(np.float32)),
        mask=torch.from_numpy(known),
    )
