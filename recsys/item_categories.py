"""Which of a few named kinds every item is of: its category, or how often it was met."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

MOST = 8
OTHER, UNKNOWN = "other", "no category"
THIRDS = ("seldom met", "sometimes met", "often met")


@dataclass(frozen=True)
class ItemCategories:
    """A kind for every item.

    Attributes:
        names: Names of the kinds.
        numbers: Place of every item's among them.
    """

    names: tuple[str, ...]
    numbers: Int[Tensor, " item"]


def item_categories(items: pl.DataFrame, popularity: Float[Tensor, " item"]) -> ItemCategories:
    """The most general category that tells items apart, else thirds of popularity.

    Categories go from general to special, and the first of a catalogue is often the same for all;
    so it is the first place of the list at which two differ. At most eight kinds are named, the
    largest first; the rest is `other`, and items without one have `no category`.

    Args:
        items: A table `items`, in the order of its numbers.
        popularity: Share of the items that were met less often in training, by item.
    """
    lists = items.sort("item_id")["categories"]
    for level in range(max(lists.list.len().to_list(), default=0)):
        names = lists.list.get(level, null_on_oob=True)
        if names.n_unique() - (names.null_count() > 0) > 1:
            return _named(names)
    thirds = (popularity * len(THIRDS)).long().clamp_max(len(THIRDS) - 1)
    return ItemCategories(THIRDS, thirds)


def _named(names: pl.Series) -> ItemCategories:
    """The largest kinds by name, what is left over, and what has none."""
    counts = names.drop_nulls().value_counts().sort(
        ["count", names.name], descending=[True, False]
    )  # fmt: skip
    every = counts[names.name].to_list()
    spare = 1 if names.null_count() else 0
    most = MOST - spare
    kept = every if len(every) <= most else every[: most - 1]
    kinds = [*kept, *([OTHER] if len(kept) < len(every) else []), *([UNKNOWN] if spare else [])]
    place = {name: number for number, name in enumerate(kept)}
    numbers = [
        kinds.index(UNKNOWN) if name is None else place.get(name, len(kept))
        for name in names.to_list()
    ]
    return ItemCategories(tuple(kinds), torch.from_numpy(np.array(numbers, np.int64)))
