"""Reviews from JSON lines: the fast path and the slow one say the same; every fault has a row."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.reviews import json_reviews
from data_prep.reviews.amazon14 import REVIEWS_2014
from data_prep.reviews.amazon23 import REVIEWS_2023
from data_prep.reviews.json_reviews import parse_block, read_json_reviews
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


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["asin", '"asin": "x"', "true", "null", "12", "-1.5e3", "[1]", "{", "\\u0061"]
    )
    | texts,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["asin", "summary", "x"]), inner, max_size=2)
    ),
    max_leaves=3,
)
NAMES = ["reviewerID", "asin", "overall", "unixReviewTime", "summary", "reviewText", "style"]


@st.composite
def wild_lines(draw: st.DrawFn) -> bytes:
    """An object whose keys may repeat, be spelt with escapes, and hold anything at all."""
    pairs = [(name, json.dumps(value)) for name, value in GOOD.items()]
    for _ in range(draw(st.integers(0, 2))):
        value = json.dumps(draw(anything), ensure_ascii=draw(st.booleans()))
        pairs.insert(draw(st.integers(0, len(pairs))), (draw(st.sampled_from(NAMES)), value))
    for _ in range(draw(st.integers(0, 2))):
        pairs.pop(draw(st.integers(0, len(pairs) - 1)))
    colon = draw(st.sampled_from([": ", ":", " : "]))
    escaped = draw(st.sampled_from(["", "", "a", "s", "r"]))
    shown = []
    for name, value in pairs:
        key = json.dumps(name)
        if escaped:
            key = key.replace(escaped, f"\\u{ord(escaped):04x}", 1)
        shown.append(f"{key}{colon}{value}")
    return ("{" + ", ".join(shown) + "}").encode()


@settings(max_examples=600)
@given(st.lists(wild_lines(), min_size=1, max_size=4))
def test_the_fast_path_never_takes_what_the_slow_one_refuses_or_reads_otherwise(
    lines: list[bytes],
) -> None:
    block = Block(1, b"\n".join(lines) + b"\n")
    refused = Rejects()
    slow = json_reviews._parse_slowly(block, REVIEWS_2014, "f", refused)
    fast = json_reviews._parse_quickly(block, REVIEWS_2014)
    if fast is not None:
        assert refused.rows == []
        assert fast.equals(slow)


def test_a_key_hidden_by_an_escape_does_not_make_up_for_one_told_twice() -> None:
    hidden = line().replace(b'"asin": "B1"', b'"\\u0061sin": "B1"')
    twice = line().replace(b'{"', b'{"asin": "Z", "', 1)
    frame, rejects = parsed(hidden, twice)
    assert (frame.height, rejects.rows_refused) == (1, 1)


def test_a_number_for_an_item_is_found_among_items_of_digits() -> None:
    digits = [line(asin="1384719342"), line(asin="0123")]
    assert parsed(*digits)[1].rows == []
    assert json_reviews._parse_quickly(Block(1, b"\n".join(digits)), REVIEWS_2014) is not None
    frame, rejects = parsed(*digits, line(asin=1384719342))
    assert frame.height == 2
    assert [place for _, place, _, _ in rejects.rows] == [13]


@pytest.mark.parametrize("name", ["broken", "not UTF-8", "repeated key", "list for text"])
@pytest.mark.parametrize("block_bytes", [1, 700, 1 << 20])
def test_a_bad_line_anywhere_costs_that_line_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, block_bytes: int
) -> None:
    monkeypatch.setattr("data_prep.reviews.raw_lines.BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("data_prep.reviews.raw_lines.PIECE_BYTES", 256)
    for place in range(9):
        lines = [line(reviewText=f"text {number}") for number in range(9)]
        lines[place] = BAD[name][0]
        path = tmp_path / "r.json"
        path.write_bytes(b"\n".join(lines) + b"\n")
        rejects = Rejects()
        read = list(read_json_reviews(path, REVIEWS_2014, rejects, 100))
        assert (len(read) > 1) == (block_bytes < 1000)
        assert read[-1][1] == 9
        numbers = pl.concat([frame for frame, _ in read])["review_id"].to_list()
        assert numbers == [100 + number for number in range(9) if number != place]
        [(file, told, reason, _)] = rejects.rows
        assert (file, told, rejects.read) == ("r.json", place + 1, 9)
        assert BAD[name][1] in reason
