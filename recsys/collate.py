"""Histories, targets and preferences of several rows as one padded `HistoryBatch`.

Lists of unequal length travel flat: all values one after another, and the offset at which each
row begins. Padding stands at the end and at least one place is kept, so that a batch without
histories or preferences has the shape every model expects and a mask that is false everywhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Int

from recsys.batch import HistoryBatch


class Padded(NamedTuple):
    """Rows of unequal length in one array: 0 where the mask is false."""

    values: Int[np.ndarray, "row place"]
    mask: Bool[np.ndarray, "row place"]


@dataclass(frozen=True)
class Ragged:
    """Lists of unequal length, one after another.

    Attributes:
        values: The values of all rows.
        offsets: Where each row begins, and the number of values at the end.
    """

    values: Int[np.ndarray, " value"]
    offsets: Int[np.ndarray, " row_and_end"]

    @classmethod
    def from_lists(cls, lists: Iterable[Sequence[int]]) -> "Ragged":
        """The same lists, flat."""
        rows = [np.asarray(row, dtype=np.int64).reshape(-1) for row in lists]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        values = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        return cls(values, np.concatenate([[0], lengths.cumsum()]).astype(np.int64))

    @classmethod
    def from_series(cls, series: pl.Series) -> "Ragged":
        """A Polars column of lists of whole numbers, flat; a null list counts as empty."""
        lengths = series.list.len().fill_null(0).to_numpy().astype(np.int64)
        values = series.drop_nulls().explode(empty_as_null=False).to_numpy().astype(np.int64)
        return cls(values, np.concatenate([[0], lengths.cumsum()]).astype(np.int64))

    @property
    def lengths(self) -> Int[np.ndarray, " row"]:
        """Number of values of each row."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.offsets) - 1

    def rows(self, numbers: Int[np.ndarray, " chosen"]) -> "Ragged":
        """Only these rows, in this order."""
        lengths = self.lengths[numbers]
        offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[numbers] - offsets[:-1], lengths)
        return Ragged(self.values[places], offsets)

    def last(self, maximum: int) -> Padded:
        """The newest `maximum` values of each row, oldest first, padded at the end."""
        kept = np.minimum(self.lengths, maximum)
        return windows(self.values, self.offsets[1:] - kept, kept)

    def first(self, maximum: int) -> Padded:
        """The first `maximum` values of each row, padded at the end."""
        return windows(self.values, self.offsets[:-1], np.minimum(self.lengths, maximum))


@dataclass(frozen=True)
class RowPreferences:
    """Texts that condition each question, padded at the end.

    Attributes:
        text_ids: Numbers of the texts, 0 where the mask is false.
        mask: Which are real.
        avoid: Which are to be avoided; false where the mask is false.
    """

    text_ids: Int[np.ndarray, "row preference"]
    mask: Bool[np.ndarray, "row preference"]
    avoid: Bool[np.ndarray, "row preference"]

    @classmethod
    def none(cls, rows: int) -> "RowPreferences":
        """No preferences for any row: one place each, masked."""
        false = np.zeros((rows, 1), np.bool_)
        return cls(np.zeros((rows, 1), np.int64), false, false)

    @classmethod
    def from_ragged(
        cls, text_ids: Ragged, avoid: Sequence[bool] | np.ndarray, *, maximum: int
    ) -> "RowPreferences":
        """The first `maximum` preferences of each row.

        Args:
            text_ids: Texts of each row, most important first.
            avoid: For every value of `text_ids`, whether it is to be avoided.
            maximum: Number of preferences kept.

        Raises:
            ValueError: If there is not one `avoid` per text.
        """
        flags = np.asarray(avoid, dtype=np.int64).reshape(-1)
        if len(flags) != len(text_ids.values):
            raise ValueError(
                f"avoid must have one value per text, got {len(flags)} for "
                f"{len(text_ids.values)} texts."
            )
        padded = text_ids.first(maximum)
        marked = Ragged(flags, text_ids.offsets).first(maximum)
        return cls(padded.values, padded.mask, marked.values.astype(np.bool_))


def windows(
    values: Int[np.ndarray, " value"],
    starts: Int[np.ndarray, " row"],
    lengths: Int[np.ndarray, " row"],
) -> Padded:
    """A stretch of a flat array for every row, padded at the end to the longest.

    Args:
        values: The flat array.
        starts: Where each stretch begins.
        lengths: How many values it has; 0 is allowed.

    Returns:
        The stretches and their mask, at least one place wide.
    """
    width = max(1, int(lengths.max(initial=0)))
    places = np.arange(width)
    mask = places < lengths[:, None]
    if not len(values):
        return Padded(np.zeros(mask.shape, np.int64), mask)
    padded = values[np.where(mask, starts[:, None] + places, 0)].astype(np.int64)
    return Padded(np.where(mask, padded, 0), mask)


def prefix_batch(
    row_ids: Int[np.ndarray, " row"],
    histories: Padded,
    target_item_ids: Int[np.ndarray, " row"],
    preferences: RowPreferences | None = None,
) -> HistoryBatch:
    """A batch with one target per row: the item after the history.

    Args:
        row_ids: Number of each row within its epoch or benchmark axis.
        histories: Items met, oldest first, padded at the end (`Ragged.last`).
        target_item_ids: The item asked about.
        preferences: What conditions each row; None runs without preferences.

    Example:
        >>> from recsys.collate import Ragged
        >>> histories = Ragged.from_lists([[5, 6, 7], [8]]).last(2)
        >>> batch = prefix_batch(np.arange(2), histories, np.array([1, 2]))
        >>> batch.history_item_ids.tolist(), batch.history_mask.tolist()
        ([[6, 7], [8, 0]], [[True, True], [True, False]])
    """
    rows = len(row_ids)
    chosen = preferences or RowPreferences.none(rows)
    return HistoryBatch(
        row_ids=_numbers(row_ids),
        history_item_ids=_numbers(histories.values),
        history_mask=_flags(histories.mask),
        target_item_ids=_numbers(target_item_ids).reshape(rows, 1),
        target_mask=torch.ones(rows, 1, dtype=torch.bool),
        preference_text_ids=_numbers(chosen.text_ids).unsqueeze(1),
        preference_mask=_flags(chosen.mask).unsqueeze(1),
        preference_avoid=_flags(chosen.avoid).unsqueeze(1),
    )


def sequence_batch(
    row_ids: Int[np.ndarray, " row"],
    histories: Padded,
    targets: Padded,
    preferences: RowPreferences | None = None,
) -> HistoryBatch:
    """A batch with one target per step: the item after it.

    Args:
        row_ids: Number of each row within its epoch.
        histories: Items met, oldest first, padded at the end.
        targets: The item after each step; of the same shape, masked where it is not learnt.
        preferences: What conditions each target, one row per (row, step) in that order.

    Raises:
        ValueError: If histories and targets differ in shape, or there is not one row of
            preferences per step.
    """
    if histories.values.shape != targets.values.shape:
        raise ValueError(
            "targets must have the shape of the histories, got "
            f"{targets.values.shape} for {histories.values.shape}."
        )
    rows, steps = histories.values.shape
    chosen = preferences or RowPreferences.none(rows * steps)
    if len(chosen.text_ids) != rows * steps:
        raise ValueError(
            f"preferences must have one row per step, got {len(chosen.text_ids)} "
            f"for {rows * steps}."
        )
    shape = (rows, steps, chosen.text_ids.shape[1])
    return HistoryBatch(
        row_ids=_numbers(row_ids),
        history_item_ids=_numbers(histories.values),
        history_mask=_flags(histories.mask),
        target_item_ids=_numbers(targets.values),
        target_mask=_flags(targets.mask),
        preference_text_ids=_numbers(chosen.text_ids).reshape(shape),
        preference_mask=_flags(chosen.mask).reshape(shape),
        preference_avoid=_flags(chosen.avoid).reshape(shape),
    )


def _numbers(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))


def _flags(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.bool_))
