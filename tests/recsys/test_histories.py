"""Rows cut from flat histories against plain loops over each person."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from recsys.histories import Histories

NAMES = ("train", "validation", "test")


def _table(people: list[list[int]]) -> pl.DataFrame:
    """Every person's interactions with the split numbers given; the item is the row's number."""
    rows = [
        (user, position, NAMES[split])
        for user, splits in enumerate(people)
        for position, split in enumerate(splits)
    ]
    return pl.DataFrame(
        {
            "user_id": [row[0] for row in rows],
            "position": [row[1] for row in rows],
            "item_id": list(range(len(rows))),
            "split": [row[2] for row in rows],
        },
        schema={"user_id": pl.Int32, "position": pl.Int32, "item_id": pl.Int32, "split": pl.String},
    )


people = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=9).map(sorted), min_size=1, max_size=5
)


def _rows(histories, stretches):
    for start, length, first in zip(
        stretches.starts, stretches.lengths, stretches.first_targets, strict=True
    ):
        history = histories.item_ids[start : start + length].tolist()
        targets = histories.item_ids[start + first + 1 : start + length + 1].tolist()
        yield history, targets


@given(people, st.integers(1, 4), st.sampled_from(NAMES))
def test_prefixes_equal_a_plain_loop(splits, maximum, split):
    histories = Histories.from_interactions(_table(splits))
    expected, item = [], 0
    for person in splits:
        items = list(range(item, item + len(person)))
        item += len(person)
        expected += [
            (items[max(0, place - maximum) : place], [items[place]])
            for place in range(1, len(person))
            if NAMES[person[place]] == split
        ]
    stretches = histories.prefixes((split,), maximum_history=maximum)
    assert list(_rows(histories, stretches)) == expected


@given(people, st.integers(1, 4))
def test_sequences_have_every_training_target_once(splits, maximum):
    histories = Histories.from_interactions(_table(splits))
    rows = list(_rows(histories, histories.sequences(("train",), maximum_history=maximum)))
    targets = sorted(target for _, row in rows for target in row)
    expected, item = [], 0
    for person in splits:
        expected += [item + place for place in range(1, len(person)) if person[place] == 0]
        item += len(person)
    assert targets == expected
    for history, row in rows:
        assert 1 <= len(history) == len(row) <= maximum
        assert row[:-1] == history[1:]
        assert row[-1] == history[-1] + 1


def test_long_histories_are_cut_from_the_newest_backwards():
    histories = Histories.from_interactions(_table([[0] * 8]))
    rows = list(_rows(histories, histories.sequences(("train",), maximum_history=3)))
    assert rows == [([4, 5, 6], [5, 6, 7]), ([1, 2, 3], [2, 3, 4]), ([0], [1])]


def test_validation_history_ends_before_its_target_and_test_history_includes_it():
    histories = Histories.from_interactions(_table([[0, 0, 0, 1, 2]]))
    assert list(_rows(histories, histories.prefixes(("validation",), maximum_history=9))) == [
        ([0, 1, 2], [3])
    ]
    assert list(_rows(histories, histories.prefixes(("test",), maximum_history=9))) == [
        ([0, 1, 2, 3], [4])
    ]


def test_targets_without_a_past_are_counted():
    histories = Histories.from_interactions(_table([[2, 2], [0, 2], [1]]))
    assert histories.without_past("test") == 1
    assert histories.without_past("validation") == 1
    assert histories.without_past("train") == 1


def test_rows_in_any_order_give_the_same_histories():
    table = _table([[0, 0, 1, 2], [0, 1, 2]])
    plain = Histories.from_interactions(table)
    moved = Histories.from_interactions(table.sample(fraction=1.0, shuffle=True, seed=3))
    assert np.array_equal(plain.item_ids, moved.item_ids)


def test_a_split_that_goes_back_in_time_is_refused():
    with pytest.raises(InputError, match="has a train row after a test row"):
        Histories.from_interactions(_table([[0, 0], [2, 0]]))


def test_an_unknown_split_is_refused():
    table = _table([[0, 0]]).with_columns(split=pl.lit("dev"))
    with pytest.raises(InputError, match="has the split 'dev'; it may be train, validation, test"):
        Histories.from_interactions(table)
