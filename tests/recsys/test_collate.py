"""Collating against plain loops: padding at the end, newest history kept, masks exact."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.collate import Padded, Ragged, RowPreferences, prefix_batch, sequence_batch

rows_of_numbers = st.lists(st.lists(st.integers(1, 99), max_size=7), min_size=1, max_size=6)


@given(rows_of_numbers, st.integers(1, 5))
def test_the_newest_values_are_kept_oldest_first(rows, maximum):
    padded = Ragged.from_lists(rows).last(maximum)
    width = max(1, *(len(row[-maximum:]) for row in rows))
    for values, mask, row in zip(*padded, rows, strict=True):
        kept = row[-maximum:]
        assert values.tolist() == kept + [0] * (width - len(kept))
        assert mask.tolist() == [True] * len(kept) + [False] * (width - len(kept))


@given(rows_of_numbers, st.integers(1, 5))
def test_the_first_values_are_kept(rows, maximum):
    values, mask = Ragged.from_lists(rows).first(maximum)
    for found, real, row in zip(values, mask, rows, strict=True):
        assert found[real].tolist() == row[:maximum]


@given(rows_of_numbers, st.data())
def test_rows_can_be_chosen_in_any_order(rows, data):
    numbers = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    chosen = Ragged.from_lists(rows).rows(np.array(numbers, dtype=np.int64))
    expected = Ragged.from_lists([rows[number] for number in numbers])
    assert chosen.values.tolist() == expected.values.tolist()
    assert chosen.offsets.tolist() == expected.offsets.tolist()


def test_a_column_of_lists_is_read_with_nulls_as_empty():
    series = pl.Series([[3, 4], None, [], [5]], dtype=pl.List(pl.Int32()))
    ragged = Ragged.from_series(series)
    assert ragged.values.tolist() == [3, 4, 5]
    assert ragged.lengths.tolist() == [2, 0, 0, 1]


def test_a_prefix_batch_by_hand():
    preferences = RowPreferences.from_ragged(
        Ragged.from_lists([[7, 8, 9], []]), [False, True, False], maximum=2
    )
    batch = prefix_batch(
        np.array([4, 2]), Ragged.from_lists([[], [5, 6]]).last(9), np.array([1, 3]), preferences
    )
    assert len(batch) == 2
    assert batch.row_ids.tolist() == [4, 2]
    assert batch.history_item_ids.tolist() == [[0, 0], [5, 6]]
    assert batch.history_mask.tolist() == [[False, False], [True, True]]
    assert batch.target_item_ids.tolist() == [[1], [3]]
    assert batch.preference_text_ids.tolist() == [[[7, 8]], [[0, 0]]]
    assert batch.preference_mask.tolist() == [[[True, True]], [[False, False]]]
    assert batch.preference_avoid.tolist() == [[[False, True]], [[False, False]]]


def test_a_sequence_batch_by_hand():
    histories = Ragged.from_lists([[5, 6], [7]]).last(9)
    targets = Padded(np.array([[6, 1], [2, 0]]), np.array([[False, True], [True, False]]))
    chosen = RowPreferences(
        np.arange(8).reshape(4, 2), np.ones((4, 2), np.bool_), np.zeros((4, 2), np.bool_)
    )
    batch = sequence_batch(np.arange(2), histories, targets, chosen)
    assert batch.target_item_ids.tolist() == [[6, 1], [2, 0]]
    assert batch.target_mask.tolist() == [[False, True], [True, False]]
    assert batch.preference_text_ids[1, 0].tolist() == [4, 5]


def test_a_batch_without_preferences_has_one_masked_place():
    batch = prefix_batch(np.arange(1), Ragged.from_lists([[]]).last(3), np.array([0]))
    assert batch.history_item_ids.shape == (1, 1)
    assert batch.preference_mask.tolist() == [[[False]]]


def test_shapes_that_do_not_fit_are_refused():
    histories = Ragged.from_lists([[5, 6]]).last(9)
    one = Padded(np.zeros((1, 1), np.int64), np.ones((1, 1), np.bool_))
    with pytest.raises(ValueError, match="targets must have the shape of the histories"):
        sequence_batch(np.arange(1), histories, one)
    with pytest.raises(ValueError, match=r"one row per step, got 1 for 2"):
        sequence_batch(np.arange(1), histories, histories, RowPreferences.none(1))
    with pytest.raises(ValueError, match="one value per text, got 1 for 2 texts"):
        RowPreferences.from_ragged(Ragged.from_lists([[1, 2]]), [True], maximum=2)
