"""Rows at the two ends of a quality: what an edit is fitted to lead from and to."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class TooFewRows(ValueError):  # noqa: N818  (the name a caller reads is the condition)
    """An end has rows of too few owners."""


class Contrast(NamedTuple):
    """Numbers of rows at the low and at the high end, equally many."""

    low: Int[np.ndarray, " row"]
    high: Int[np.ndarray, " row"]


def contrasting_rows(
    values: Float[np.ndarray, " row"],
    mask: Bool[np.ndarray, " row"],
    owners: Int[np.ndarray, " row"],
    *,
    count: int = 32,
    share: float = 0.25,
    seed: int = 0,
) -> Contrast:
    """Some rows drawn from each end, at most one of an owner at either end.

    Args:
        values: What the rows differ in.
        mask: Where it is known.
        owners: Whose row it is: a person, a driver.
        count: Rows of each end.
        share: Share of the known rows that makes an end, up to a half.
        seed: Seed of the draw.

    Raises:
        ValueError: If the share is out of range, or the count below 2.
        TooFewRows: If an end has rows of too few owners.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"share must be above 0 and at most 0.5, got {share:g}.")
    if count < 2:
        raise ValueError(f"an end needs at least 2 rows, got {count}.")
    known = np.flatnonzero(mask)
    ordered = known[values[known].argsort(kind="stable")]
    size = int(len(ordered) * share)
    random = np.random.default_rng(seed)
    ends = []
    for end in (ordered[:size], ordered[len(ordered) - size :]):
        drawn = random.permutation(end)
        _, first = np.unique(owners[drawn], return_index=True)
        if len(first) < count:
            raise TooFewRows(f"an end needs rows of {count} owners, got {len(first)}.")
        ends.append(drawn[np.sort(first)[:count]])
    return Contrast(*ends)
