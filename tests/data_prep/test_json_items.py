"""Metadata lines: JSON and Python literals, read without executing anything."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.reviews.amazon14 import Items2014
from data_prep.reviews.amazon18 import Items2018
from data_prep.reviews.amazon23 import Items2023
from data_prep.reviews.json_items import (
    category_path,
    cleaned,
    parse_record,
    price_cents,
    read_items,
)
from data_prep.reviews.rejects import Rejects


def test_python_literals_of_2014_are_read(tmp_path: Path) -> None:
    path = tmp_path / "meta.json.gz"
    lines = [
        "{'asin': 'A', 'title': \"Bob's &amp; Co\", 'price': 6.59, 'brand': 'Bob',"
        " 'categories': [['Music', 'Cables'], ['Music', 'Cables', 'XLR']]}",
        "{'asin': 'B', 'categories': [['Music']]}",
        "{'asin': 'Unwanted', 'title': broken",
        "{'asin': 'C', 'title': __import__('os').system('touch /tmp/never')}",
        "{'title': 'no key'}",
        "{'asin': 'A', 'title': 'again'}",
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    rejects = Rejects()
    found = read_items(path, Items2014(), ["A", "B", "C"], rejects)
    assert found.rows() == [
        ("A", "Bob's & Co", "Bob", ["Music", "Cables", "XLR"], 659, None),
        ("B", None, None, ["Music"], None, None),
    ]
    assert rejects.read == 6
    assert [(row[1], row[2].split(":")[0]) for row in rejects.rows] == [
        (4, "neither JSON nor a Python literal"),
        (5, "asin is missing"),
        (6, "repeats an item"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"__import__('os').getcwd()",
        b"{'a': open('/etc/passwd').read()}",
        b"(" * 50_000,
        b"{'a': " + b"-" * 200_000 + b"1}",
        b"{'a': '" + b"x" * (1 << 20) + b"'}",
        b"{['a']: 1}",
        b"{'a': '\xff'}",
        b"{'a': 1",
        b"7",
        b"",
    ],
)
def test_what_is_no_plain_mapping_is_refused_with_a_reason(line: bytes) -> None:
    reason = parse_record(line, python_literals=True)
    assert isinstance(reason, str)
    assert 0 < len(reason) < 150


def test_json_lines_refuse_python_literals() -> None:
    assert "broken JSON" in parse_record(b"{'a': 1}", python_literals=False)
    assert parse_record(b'{"a": 1}', python_literals=True) == {"a": 1}
    assert parse_record(b"{\"a\": 'b'}", python_literals=True) == {"a": "b"}


@pytest.mark.parametrize(
    ("value", "cents"),
    [
        (12.99, 1299), (0, 0), ("$12.99", 1299), ("$1,299.00", 129_900), ("7.5", 750), ("$8", 800),
        ("$12.99 - $15.00", None), ("from 12", None), ("", None), (None, None), (True, None),
        (-1.0, None), (float("nan"), None), ("\u0663", None), ([1], None), ("9" * 30, None),
        (1e12, None),
    ],
)  # fmt: skip
def test_prices(value: object, cents: int | None) -> None:
    assert price_cents(value) == cents


def test_text_is_freed_of_tags_entities_and_scripts() -> None:
    assert cleaned(" A <b>bold</b>&nbsp;claim\n") == "A bold claim"
    assert cleaned(["one", "two", 3]) == "one two"
    assert cleaned("var aPageStart = (new Date()).getTime();") is None
    assert cleaned("") is None
    assert cleaned(5) is None
    assert cleaned("word " * 1000, 20) == "word word word word"


def test_of_several_category_paths_the_longest_is_taken() -> None:
    assert category_path([["a"], ["b", "c"], ["d", "e"]]) == ["b", "c"]
    assert category_path(["a", "b", "a", 7]) == ["a", "b"]
    assert category_path("a") == []


@pytest.mark.parametrize(
    ("layout", "record", "expected"),
    [
        (
            Items2018(),
            {"asin": "A", "title": "T", "brand": "B", "category": ["C", "D"], "price": "$2.50",
             "description": ["one", "two"]},
            ("A", "T", "B", ["C", "D"], 250, "one two"),
        ),
        (
            Items2023(),
            {"parent_asin": "A", "title": "T", "store": "S", "main_category": "M",
             "categories": [], "price": 2.5, "description": []},
            ("A", "T", "S", ["M"], 250, None),
        ),
    ],
)  # fmt: skip
def test_later_years(
    tmp_path: Path, layout: Items2018, record: dict[str, Any], expected: tuple[object, ...]
) -> None:
    path = tmp_path / "meta.jsonl"
    path.write_text(json.dumps(record) + "\n")
    assert read_items(path, layout, ["A"], Rejects()).rows() == [expected]
