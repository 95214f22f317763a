"""Sequences in the format of S3-Rec."""

import json
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.artifact import Artifact, read_artifact
from data_prep.schema import INTERACTIONS, ITEM_TEXTS, ITEMS, RAW_ITEM_IDS, REJECTED, USERS


def written(folder: Path, sequences: bytes, items: list[object]) -> list[str]:
    (folder / "sequences.txt").write_bytes(sequences)
    (folder / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items) + "\n")
    return [
        "--sequences", str(folder / "sequences.txt"), "--items", str(folder / "items.jsonl"),
    ]  # fmt: skip


def prepared(folder: Path, *arguments: str) -> Artifact:
    assert main(["sequences", *arguments, "--out", str(folder / "tables")]) == 0
    return read_artifact(folder / "tables", kind="reviews")


ITEM_LINES: list[object] = [
    {"item_id": n, "asin": f"K{9 - n}", "title": f"T{n}", "categories": [["C", "D"]]}
    for n in range(1, 5)
]


def test_order_repeats_and_raw_numbers_are_kept(tmp_path: Path) -> None:
    arguments = written(tmp_path, b"7 1 2 1 3\n\n3 4 4 4\n", ITEM_LINES)
    tables = prepared(tmp_path, *arguments, "--core", "0")
    keys = tables.table(ITEMS)["item_key"].to_list()
    assert keys == ["K5", "K6", "K7", "K8"]
    assert tables.table(RAW_ITEM_IDS)["raw_id"].to_list() == [4, 3, 2, 1]
    assert tables.table(USERS)["user_key"].to_list() == ["3", "7"]
    found = tables.table(INTERACTIONS)
    assert [keys[item] for item in found["item_id"]] == ["K5"] * 3 + ["K8", "K7", "K8", "K6"]
    assert found["split"].to_list() == ["train", "validation", "test", "train", "train", "validation", "test"]  # fmt: skip  # noqa: E501
    assert found["review_id"].to_list() == [4, 5, 6, 0, 1, 2, 3]
    assert tables.table(ITEM_TEXTS)["text"].to_list()[0] == "T4. Categories: C, D."


def test_bad_lines_have_their_row_and_counts_add_up(tmp_path: Path) -> None:
    lines = [b"1 1 2 3", b"2 1 x 3", b"3 1 99", b"4", b"1 2 2", b"5 3 3 3 3"]
    items = [
        *ITEM_LINES,
        {"item_id": 2, "asin": "Z"},
        {"item_id": 8, "asin": "K8"},
        {"item_id": "9", "asin": "Y"},
        {"item_id": 10},
        [1],
    ]
    arguments = written(tmp_path, b"\n".join(lines), items)
    tables = prepared(tmp_path, *arguments, "--core", "0", "--max-rejected-share", "1")
    told = tables.table(REJECTED).select("file", "line", "reason").rows()
    assert told == [
        ("items.jsonl", 5, "item_id 2 stands there twice"),
        ("items.jsonl", 6, "asin K8 stands there twice"),
        ("items.jsonl", 7, "item_id is no whole number"),
        ("items.jsonl", 8, "asin is missing"),
        ("items.jsonl", 9, "no mapping of fields"),
        ("sequences.txt", 2, "not a user and item numbers"),
        ("sequences.txt", 3, "item 99 is not in items.jsonl"),
        ("sequences.txt", 4, "user 4 has no items"),
        ("sequences.txt", 5, "user 1 has a line already"),
    ]
    counts = tables.manifest.notes["reviews"]
    assert counts["read"] == 3 + 3 + 2 + 1 + 2 + 4
    assert counts["rejected"] == 3 + 2 + 1 + 2
    assert counts["kept"] == 3 + 4


def test_the_real_sequences_have_the_published_counts(tmp_path: Path, beauty_folder: Path) -> None:
    arguments = [
        "--sequences", str(beauty_folder / "sequences.txt"),
        "--items", str(beauty_folder / "items.jsonl.gz"),
    ]  # fmt: skip
    tables = prepared(tmp_path, *arguments)
    assert tables.table(USERS).height == 22_363
    assert tables.table(ITEMS).height == 12_101
    found = tables.table(INTERACTIONS)
    assert found.height == 198_502
    raw = tables.table(RAW_ITEM_IDS)["raw_id"].to_list()
    user = tables.table(USERS)["user_key"].to_list().index("2")
    mine = found.filter(found["user_id"] == user)
    assert [raw[item] for item in mine["item_id"]] == [6, 7, 8, 9, 10, 4, 11]


@pytest.mark.parametrize("missing", ["sequences.txt", "items.jsonl"])
def test_a_missing_file_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    arguments = written(tmp_path, b"1 1\n", ITEM_LINES)
    (tmp_path / missing).unlink()
    assert main(["sequences", *arguments, "--out", str(tmp_path / "tables")]) == 2
    assert f"{missing} is no file" in capsys.readouterr().err
