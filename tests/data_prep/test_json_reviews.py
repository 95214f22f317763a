"""Reviews from JSON lines: the fast path and the slow one say the same; every fault has a row."""

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.reviews import json_reviews
from data_prep.reviews.amazon14 import REVIEWS_2014
from data_prep.reviews.amazon23 import REVIEWS_2023
from data_prep.reviews.json_reviews import parse_block
from data_prep.reviews.raw_lines import Block
from data_prep.reviews.raw_review import RAW_REVIEWS, ReviewLayout
from data_prep.reviews.rejects import Rejects

GOOD: dict[str, Any] = {
    "reviewerID": "A1",
    "asin": "B1",
    "helpful": [0, 0],
    "reviewText": 'said "asin": "x" and left',
    "overall": 4.0,
    "summary": "fine",
    "unixReviewTime": 1_393_545_600,
}


def line(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def parsed(*lines: bytes, layout: ReviewLayout = REVIEWS_2014) -> tuple[pl.DataFrame, Rejects]:
    rejects = Rejects()
    frame = parse_block(Block(11, b"\n".join(lines) + b"\n"), layout, "f.json", 1000, rejects)
    assert frame.schema == RAW_REVIEWS
    return frame, rejects


def test_a_good_block_takes_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the slow path was taken")

    monkeypatch.setattr(json_reviews, "_parse_slowly", refuse)
    frame, rejects = parsed(line(), line(reviewText=""), line(overall=5))
    assert frame.rows()[0] == (
        1010, "A1", "B1", 1_393_545_600, 4.0, "fine", 'said "asin": "x" and left',
    )  # fmt: skip
    assert frame["review_id"].to_list() == [1010, 1011, 1012]
    assert frame["text"].to_list()[1] == ""
    assert (rejects.read, rejects.rows) == (3, [])


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
records = st.fixed_dictionaries(
    {
        "reviewerID": st.text("ABC", min_size=1, max_size=3),
        "asin": st.text("XYZ", min_size=1, max_size=3),
        "overall": st.sampled_from([1, 2.0, 3.5, 5]),
        "unixReviewTime": st.integers(1, 4_000_000_000),
    },
    optional={
        "summary": st.none() | texts,
        "reviewText": st.none() | texts,
        "style": st.dictionaries(st.sampled_from(["asin", "Color:"]), texts, max_size=2),
    },
)


@given(st.lists(records, min_size=1, max_size=6), st.booleans(), st.booleans())
def test_both_paths_read_good_lines_alike(
    rows: list[dict[str, Any]], ascii_only: bool, spaced: bool
) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    lines = [
        json.dumps(row, ensure_ascii=ascii_only, separators=separators).encode() for row in rows
    ]
    block = Block(1, b"\n".join(lines) + b"\n")
    slow = json_reviews._parse_slowly(block, REVIEWS_2014, "f", Rejects())
    fast = json_reviews._parse_quickly(block, REVIEWS_2014)
    assert fast is None or fast.equals(slow)
    frame, rejects = parsed(*lines)
    assert rejects.rows == []
    assert frame["text"].to_list() == [row.get("reviewText") for row in rows]
    assert frame["user_key"].to_list() == [row["reviewerID"] for row in rows]


BAD = {
    "broken": (line()[:-9], "broken JSON at character"),
    "two objects": (line() + line(), "broken JSON at character"),
    "list": (b"[1, 2]", "no JSON object"),
    "not UTF-8": (line().replace(b"fine", b"f\xff"), "not UTF-8 at byte"),
    "NUL": (line().replace(b"fine", b"f\x00"), "broken JSON at character"),
    "deep": (b"[" * 100_000, "nested too deeply"),
    "huge integer": (
        line().replace(b"1393545600", b"9" * 5000),
        "broken JSON: Exceeds the limit",
    ),
    "text for stars": (line(overall="5"), "overall is text, not a number"),
    "truth for time": (line(unixReviewTime=True), "unixReviewTime is true or false, not a number"),
    "fraction for time": (line(unixReviewTime=1.5), "unixReviewTime is a number out of range"),
    "number for user": (line(reviewerID=7), "reviewerID is a number out of range, not text"),
    "list for text": (line(reviewText=["a"]), "reviewText is a list, not text"),
    "repeated key": (
        line().replace(b'{"', b'{"asin": "Z", "', 1),
        "the key asin stands there twice",
    ),
    "no user": (line(reviewerID=None), "reviewerID is missing"),
    "blank item": (line(asin=" "), "asin is missing"),
    "no time": (line(unixReviewTime=None), "unixReviewTime is missing"),
    "time 0": (line(unixReviewTime=0), "unixReviewTime 0 is no time after 1970"),
    "negative time": (line(unixReviewTime=-5), "unixReviewTime -5 is no time after 1970"),
    "milliseconds": (line(unixReviewTime=1_393_545_600_000), "after the year 2100, perhaps milli"),
    "no stars": (line(overall=None), "overall is missing"),
    "NaN": (line(overall=float("nan")), "overall NaN is no rating from 1 to 5"),
    "infinite": (line().replace(b"4.0", b"1" + b"0" * 400), "overall inf is no rating"),
    "0 stars": (line(overall=0), "overall 0.0 is no rating from 1 to 5"),
    "6 stars": (line(overall=6), "overall 6.0 is no rating from 1 to 5"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_fault_is_one_row_with_file_line_and_reason(name: str) -> None:
    bad, reason = BAD[name]
    frame, rejects = parsed(line(), bad, line(reviewText="last"))
    assert frame["review_id"].to_list() == [1010, 1012]
    assert frame["text"].to_list()[1] == "last"
    [(file, number, told, excerpt)] = rejects.rows
    assert (file, number) == ("f.json", 12)
    assert reason in told
    assert excerpt.isprintable()
    assert excerpt
    assert rejects.read == 3


def test_all_faults_in_one_block_are_told_apart() -> None:
    frame, rejects = parsed(*(bad for bad, _ in BAD.values()), line())
    assert frame.height == 1
    assert rejects.rows_refused == len(BAD) == rejects.read - 1
    found = [reason for _, _, reason, _ in sorted(rejects.rows)]
    assert all(want in told for (_, want), told in zip(BAD.values(), found, strict=True))


def test_empty_lines_are_neither_rows_nor_faults() -> None:
    frame, rejects = parsed(line(), b"", b"  ", line())
    assert frame["review_id"].to_list() == [1010, 1013]
    assert (rejects.read, rejects.rows) == (2, [])


def test_half_a_surrogate_pair_and_an_escaped_nul_become_the_replacement_character() -> None:
    frame, rejects = parsed(line(reviewText="a\ud800b\0c"), line(reviewText="\U0001f600"))
    assert rejects.rows == []
    text, smile = frame["text"].to_list()
    assert set(text) == {"a", "b", "c", "\ufffd"}
    assert smile == "\U0001f600"


def test_a_repeated_key_nobody_asks_for_is_no_fault() -> None:
    twice = line().replace(b'{"', b'{"helpful": 1, "', 1)
    for neighbours in ([], [b"broken"]):  # on the fast path and on the slow one
        frame, rejects = parsed(twice, *neighbours)
        assert (frame.height, rejects.rows_refused) == (1, len(neighbours))


def test_milliseconds_become_seconds_and_seconds_are_refused_where_milliseconds_are_due() -> None:
    row = {
        "user_id": "u", "parent_asin": "p", "rating": 1.0, "title": "t", "text": "x",
        "timestamp": 1_588_687_728_923,
    }  # fmt: skip
    late = {**row, "timestamp": 1_588_687_728}
    frame, rejects = parsed(
        json.dumps(row).encode(), json.dumps(late).encode(), layout=REVIEWS_2023
    )
    assert frame["timestamp_s"].to_list() == [1_588_687_728]
    assert frame["summary"].to_list() == ["t"]
    assert rejects.rows[0][2] == "timestamp 1588687728 looks like seconds, not milliseconds"
