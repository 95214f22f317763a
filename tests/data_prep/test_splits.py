"""Which interaction trains, validates, tests."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.reviews.splits import GlobalTime, LeaveLastOut, Split


def histories(times: list[list[int]]) -> pl.DataFrame:
    rows = [
        (user, position, moment)
        for user, moments in enumerate(times)
        for position, moment in enumerate(sorted(moments))
    ]
    schema = {"user": pl.UInt64(), "position": pl.Int32(), "timestamp_s": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_the_last_tests_and_the_one_before_validates_unless_the_history_is_too_short() -> None:
    labelled = LeaveLastOut().label(histories([[1, 2], [1, 2, 3], [5], [1, 2, 3, 4]]))
    by_user = labelled.group_by("user", maintain_order=True).agg("split")["split"].to_list()
    train, validation, test = "train", "validation", "test"
    assert by_user == [
        [train, train],
        [train, validation, test],
        [train],
        [train, train, validation, test],
    ]


def test_two_moments_cut_all_histories_by_hand() -> None:
    times = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [1, 8, 8, 10, 10], [9, 10]]
    # 17 interactions: 30 % (5) from the second moment on: 10, 10, 10, 10, 9; and 20 % (3) before
    # them, from the first moment on: 8, 8, 8 and 9 shares a moment with the second cut.
    labelled = GlobalTime(0.2, 0.3).label(histories(times))
    assert labelled.select("user", "timestamp_s", "split").rows() == [
        *[(0, moment, "train") for moment in range(1, 8)],
        (0, 8, "validation"),
        (0, 9, "test"),
        (1, 1, "train"),
        (1, 8, "validation"),
        (1, 10, "test"),
    ]


@pytest.mark.parametrize("split", [LeaveLastOut(), GlobalTime(), GlobalTime(0.3, 0.4)])
@given(times=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=1, max_size=6))
def test_targets_come_after_training_and_once_each(split: Split, times: list[list[int]]) -> None:
    labelled = split.label(histories(times))
    order = {"train": 0, "validation": 1, "test": 2}
    for _, rows in labelled.group_by("user"):
        ranks = [order[name] for name in rows.sort("position")["split"]]
        assert ranks == sorted(ranks)
        assert ranks.count(1) <= 1
        assert ranks.count(2) <= 1
        assert ranks[0] == 0
    if isinstance(split, GlobalTime):
        moments = {name: labelled.filter(pl.col("split") == name)["timestamp_s"] for name in order}
        trained, validated = moments["train"].to_list(), moments["validation"].to_list()
        tested = moments["test"].to_list()
        assert not trained or not validated or max(trained) < min(validated)
        assert not trained or not tested or max(trained) < min(tested)
        assert not validated or not tested or max(validated) < min(tested)


def test_shares_that_leave_nothing_are_refused() -> None:
    for shares in ((0.0, 0.1), (0.1, -1.0), (0.5, 0.5)):
        with pytest.raises(InputError, match="must be positive and together below 1"):
            GlobalTime(*shares)


def test_a_cut_in_time_needs_times() -> None:
    frame = histories([[1, 2, 3]]).with_columns(timestamp_s=pl.lit(None, pl.Int64()))
    with pytest.raises(InputError, match=r"needs the time of every interaction.*leave-last-out"):
        GlobalTime().label(frame)
