"""Every person's history in flat arrays, and the rows that training and evaluation cut from it.

A row is a stretch of the flat array, made when a batch needs it, so that a million prefixes cost
eight megabytes. Within a person, training comes before validation and validation before test.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Int

from data_prep.errors import InputError
from data_prep.schema import SPLITS

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Stretches:
    """Rows to learn from or to answer, as stretches of the flat arrays.

    Attributes:
        starts: Where each row's history begins.
        lengths: How many steps it has, at least 1.
        first_targets: How many steps in front of the row's first target: `length - 1` where only
            the last step has one, 0 where every step has one.
    """

    starts: Int[np.ndarray, " row"]
    lengths: Int[np.ndarray, " row"]
    first_targets: Int[np.ndarray, " row"]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.starts)


@dataclass(frozen=True)
class Histories:
    """All interactions, by person and then by position.

    Attributes:
        item_ids: What was met.
        user_ids: By whom.
        positions: Place in the person's history.
        split_numbers: 0 train, 1 validation, 2 test.
        user_starts: Where the history of each interaction's person begins.
    """

    item_ids: Int[np.ndarray, " interaction"]
    user_ids: Int[np.ndarray, " interaction"]
    positions: Int[np.ndarray, " interaction"]
    split_numbers: Int[np.ndarray, " interaction"]
    user_starts: Int[np.ndarray, " interaction"]

    @classmethod
    def from_interactions(cls, interactions: pl.DataFrame) -> "Histories":
        """The histories of a table `interactions`.

        Raises:
            InputError: If the split is unknown, or goes back in time within a person.
        """
        ordered = interactions.sort("user_id", "position")
        unknown = sorted(set(ordered["split"].unique()) - set(SPLITS))
        if unknown:
            raise InputError(
                f"The table interactions has the split {unknown[0]!r}; it may be "
                f"{', '.join(SPLITS)}. Write the tables again."
            )
        splits = ordered["split"].replace_strict({name: n for n, name in enumerate(SPLITS)})
        users = ordered["user_id"].to_numpy().astype(np.int64)
        numbers = splits.to_numpy().astype(np.int64)
        same_user = users[1:] == users[:-1]
        backwards = np.flatnonzero(same_user & (numbers[1:] < numbers[:-1]))
        if len(backwards):
            raise InputError(
                f"User {users[backwards[0]]} of the table interactions has a "
                f"{SPLITS[numbers[backwards[0] + 1]]} row after a {SPLITS[numbers[backwards[0]]]} "
                "row; the past must come first. Write the tables again."
            )
        begins = np.concatenate([[True], ~same_user])[: len(users)]
        starts = np.maximum.accumulate(np.where(begins, np.arange(len(users)), 0))
        return cls(
            item_ids=ordered["item_id"].to_numpy().astype(np.int64),
            user_ids=users,
            positions=ordered["position"].to_numpy().astype(np.int64),
            split_numbers=numbers,
            user_starts=starts,
        )

    def prefixes(self, splits: tuple[Split, ...], *, maximum_history: int) -> Stretches:
        """One row per interaction of these splits that has a past: the newest steps before it."""
        places = self._targets(splits)
        starts = np.maximum(self.user_starts[places], places - maximum_history)
        lengths = places - starts
        return Stretches(starts, lengths, lengths - 1)

    def sequences(self, splits: tuple[Split, ...], *, maximum_history: int) -> Stretches:
        """Rows that together have every interaction of these splits as a target exactly once.

        A person with more than `maximum_history` targets gives several rows, cut from the newest
        backwards, so only the oldest row of a person is short.
        """
        targets = self._targets(splits)
        if not len(targets):
            return self.prefixes(splits, maximum_history=maximum_history)
        begins = np.flatnonzero(np.diff(self.user_starts[targets], prepend=-1))
        lasts = targets[np.append(begins[1:], len(targets)) - 1]
        counts = np.diff(np.append(begins, len(targets)))
        windows = -(-counts // maximum_history)
        which = np.arange(windows.sum()) - np.repeat(windows.cumsum() - windows, windows)
        ends = np.repeat(lasts, windows) - which * maximum_history
        left = np.repeat(counts, windows) - which * maximum_history
        learnt = np.minimum(left, maximum_history)
        return Stretches(ends - learnt, learnt, np.zeros_like(learnt))

    def without_past(self, split: Split) -> int:
        """How many interactions of a split have nothing before them, so that no row asks them."""
        return int((self.split_numbers == SPLITS.index(split)).sum()) - len(self._targets((split,)))

    def _targets(self, splits: tuple[Split, ...]) -> Int[np.ndarray, " target"]:
        wanted = np.isin(self.split_numbers, [SPLITS.index(split) for split in splits])
        return np.flatnonzero(wanted & (np.arange(len(self.item_ids)) > self.user_starts))
