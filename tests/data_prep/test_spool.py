"""Reviews on disk come back in any order, in pieces."""

from pathlib import Path

import polars as pl
import pytest

from data_prep.reviews.raw_review import RAW_REVIEWS
from data_prep.reviews.spool import Spool, in_order


def filled(folder: Path, numbers: list[list[int]]) -> Spool:
    (folder / "blocks").mkdir()
    (folder / "parts").mkdir()
    spool = Spool(folder / "blocks")
    for block in numbers:
        rows = [(n, f"u{n}", f"i{n}", n, 1.0, f"s{n}", f"t{n}") for n in block]
        spool.append(pl.DataFrame(rows, schema=RAW_REVIEWS, orient="row"))
    return spool


BLOCKS = [[0, 2, 3], [], [5], [8, 9, 11, 12], [20, 21]]


@pytest.mark.parametrize("partition_bytes", [1, 60, 1 << 20])
def test_the_wanted_order_comes_back_piece_by_piece(tmp_path: Path, partition_bytes: int) -> None:
    spool = filled(tmp_path, BLOCKS)
    wanted = [21, 0, 9, 3, 12, 5, 8]
    order = pl.DataFrame({"review_id": wanted, "place": range(len(wanted))})
    frames = list(in_order(spool, order, tmp_path / "parts", partition_bytes=partition_bytes))
    assert (len(frames) == 1) == (partition_bytes > 1000)
    whole = pl.concat(frames)
    assert whole["review_id"].to_list() == wanted
    assert whole["place"].to_list() == list(range(len(wanted)))
    assert whole["text"].to_list() == [f"t{number}" for number in wanted]
    assert not list((tmp_path / "blocks").iterdir())


def test_some_reviews_are_picked_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    spool = filled(tmp_path, BLOCKS)
    picked = spool.pick(pl.Series([2, 5, 9, 21]), ["user_key"])
    assert picked.rows() == [(2, "u2"), (5, "u5"), (9, "u9"), (21, "u21")]
    assert spool.pick(pl.Series([], dtype=pl.Int64), ["user_key"]).height == 0
