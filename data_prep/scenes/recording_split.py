"""Which recording trains, which validates and which tests."""

from collections.abc import Mapping
from typing import get_args

import numpy as np

from data_prep.errors import InputError
from data_prep.scenes.raw_scene import Split

SPLITS: tuple[Split, ...] = get_args(Split)
_SHUFFLES = 64


def check_fractions(validation: float, test: float) -> None:
    """Refuse shares that are none.

    Raises:
        InputError: If a share is negative or nothing is left to train on.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise InputError(
            f"--split-fractions must be 0 or more and sum to less than 1, got {validation:g} "
            f"and {test:g}."
        )


def recording_split(
    states: Mapping[str, int],
    fixed: Mapping[str, Split],
    *,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
) -> dict[str, Split]:
    """The part of the data every recording belongs to.

    What the source fixes stays. The others are shuffled and dealt one by one to the part that
    lacks most vehicle states of its share; of several shuffles the best balanced one is kept,
    and where there are three recordings or more, every part with a share gets one.

    Args:
        states: Vehicle states of every recording.
        fixed: Parts the source fixes.
        validation: Share of the states to validate on.
        test: Share of the states to test on.
        seed: Another seed, other shuffles.

    Returns:
        Part by recording.

    Raises:
        InputError: If the shares are none.
    """
    check_fractions(validation, test)
    shares = np.array([1 - validation - test, validation, test])
    free = sorted(set(states) - set(fixed))
    counts = np.array([max(1, states[recording]) for recording in free], float)
    if not free:
        return dict(fixed)
    random = np.random.default_rng(seed)
    dealt = [_dealt(counts, shares, random.permutation(len(free))) for _ in range(_SHUFFLES)]
    best = min(dealt, key=lambda parts: _imbalance(parts, counts, shares))
    return {**fixed, **{name: SPLITS[part] for name, part in zip(free, best, strict=True)}}


def _dealt(counts: np.ndarray, shares: np.ndarray, order: np.ndarray) -> np.ndarray:
    parts = np.zeros(len(counts), int)
    lacking = shares * counts.sum()
    for recording in order:
        parts[recording] = int(lacking.argmax())
        lacking[parts[recording]] -= counts[recording]
    if len(counts) >= 3:
        for part in np.flatnonzero(shares > 0):
            if not (parts == part).any():
                _give_one(parts, counts, int(part))
    return parts


def _give_one(parts: np.ndarray, counts: np.ndarray, part: int) -> None:
    """Move the smallest recording of a part that has several to a part that has none."""
    several = [one for one in range(len(parts)) if (parts == parts[one]).sum() > 1]
    parts[min(several, key=lambda one: (counts[one], one))] = part


def _imbalance(parts: np.ndarray, counts: np.ndarray, shares: np.ndarray) -> float:
    """Largest distance of a part from its share."""
    got = np.bincount(parts, counts, minlength=len(shares)) / counts.sum()
    return float(np.abs(got - shares).max())
