"""The k-core: people and items that all have at least k interactions with each other."""

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


def k_core(users: Numbers, items: Numbers, k: int) -> npt.NDArray[np.bool_]:
    """Which interactions belong to the k-core.

    The largest subset in which every user and every item has at least `k` interactions; found by
    dropping those with fewer until none is left to drop. One pass over users and items alone is
    not the core: dropping an item may leave a user with too few.

    Args:
        users: User number of every interaction, from 0.
        items: Item number of every interaction, from 0.
        k: Interactions needed; 0 and 1 keep all.

    Returns:
        One truth value per interaction; all false where there is no core.

    Raises:
        ValueError: If the two have different lengths or `k` is negative.
    """
    if len(users) != len(items):
        raise ValueError(f"users and items must be equally many, got {len(users)}, {len(items)}.")
    if k < 0:
        raise ValueError(f"k must not be negative, got {k}.")
    kept = np.arange(len(users))
    while len(kept):
        enough = (np.bincount(users[kept])[users[kept]] >= k) & (
            np.bincount(items[kept])[items[kept]] >= k
        )
        if enough.all():
            break
        kept = kept[enough]
    mask = np.zeros(len(users), dtype=bool)
    mask[kept] = True
    return mask
