"""Raw files to tables, whole: counts add up, nothing leaks, bytes do not depend on threads."""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from data_prep.__main__ import main
from data_prep.artifact import Artifact, read_artifact
from data_prep.reviews.user_spool import UserSpool
from data_prep.schema import INTERACTIONS, ITEM_TEXTS, ITEMS, REJECTED, USERS


def reviews(users: int = 12, items: int = 8, each: int = 7, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for user in range(users):
        for step, item in enumerate(draw.sample(range(items), min(each, items))):
            rows.append(
                {
                    "reviewerID": f"U{user}",
                    "asin": f"I{item}",
                    "overall": float(draw.randint(1, 5)),
                    "reviewText": f"Text {user} {item}. More words.",
                    "summary": f"Summary {user} {item}",
                    "unixReviewTime": 86_400 * (1 + (step + user) // 2),
                }
            )
    draw.shuffle(rows)
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]], extra: list[bytes] | None = None) -> Path:
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    content += b"".join(line + b"\n" for line in extra or [])
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    elif path.suffix == ".zst":
        content = zstandard.compress(content)
    path.write_bytes(content)
    return path


def prepared(folder: Path, *arguments: str, command: str = "amazon14") -> Artifact:
    out = folder / "tables"
    assert main([command, *arguments, "--out", str(out), "--overwrite"]) == 0
    return read_artifact(out, kind="reviews")


def slow_tables(rows: list[dict[str, Any]], core: int) -> list[tuple[Any, ...]]:
    """Interactions by obvious loops: (user, position, item, time, text, number, split)."""
    kept = dict(enumerate(rows))
    while True:
        users = [row["reviewerID"] for row in kept.values()]
        items = [row["asin"] for row in kept.values()]
        after = {
            number: row
            for number, row in kept.items()
            if users.count(row["reviewerID"]) >= core and items.count(row["asin"]) >= core
        }
        if len(after) == len(kept):
            break
        kept = after
    user_names = sorted({row["reviewerID"] for row in kept.values()})
    item_names = sorted({row["asin"] for row in kept.values()})
    found = []
    for user_id, name in enumerate(user_names):
        mine = sorted(
            (row["unixReviewTime"], number)
            for number, row in kept.items()
            if row["reviewerID"] == name
        )
        for position, (moment, number) in enumerate(mine):
            left = len(mine) - position
            split = "train" if left > 2 or len(mine) < 3 else {2: "validation", 1: "test"}[left]
            row = kept[number]
            item_id = item_names.index(row["asin"])
            found.append((user_id, position, item_id, moment, row["reviewText"], number, split))
    return found


@pytest.mark.parametrize("ending", ["json", "json.gz", "json.zst"])
@pytest.mark.parametrize("core", [0, 3, 5])
def test_the_tables_equal_those_of_obvious_loops(tmp_path: Path, ending: str, core: int) -> None:
    rows = reviews(each=5)
    rows += reviews(users=3, items=12, each=2, seed=9)[:4]
    once = {(row["reviewText"], row["unixReviewTime"]): row for row in reversed(rows)}
    rows = list(once.values())
    path = write_lines(tmp_path / f"r.{ending}", rows)
    tables = prepared(tmp_path, "--reviews", str(path), "--core", str(core))
    columns = ["user_id", "position", "item_id", "timestamp_s", "text", "review_id", "split"]
    found = tables.table(INTERACTIONS).select(columns)
    assert found.rows() == slow_tables(rows, core)
    assert tables.table(USERS)["user_key"].is_sorted()
    assert tables.table(ITEMS)["item_key"].is_sorted()
    assert tables.table(ITEM_TEXTS).height == tables.table(ITEMS).height


def test_every_row_that_was_read_is_accounted_for(tmp_path: Path) -> None:
    rows = reviews()
    lonely = {**rows[0], "reviewerID": "lonely"}
    bad = [b"{broken", b"\xff", json.dumps({**rows[0], "overall": 9}).encode()]
    empty = {**rows[1], "unixReviewTime": 5, "reviewText": " "}
    first = write_lines(tmp_path / "a.json", rows, bad)
    second = write_lines(tmp_path / "b.json.gz", [rows[3], rows[4], rows[3], lonely, empty])
    tables = prepared(tmp_path, "--reviews", str(first), str(second), "--max-rejected-share", "0.2")
    counts = tables.manifest.notes["reviews"]
    assert counts == {
        "read": len(rows) + 3 + 5,
        "rejected": 3,
        "duplicates": 3,
        "dropped_by_core": 1,
        "outside_split": 0,
        "kept": len(rows) + 1,
        "empty_texts_read": 1,
    }
    parts = ["rejected", "duplicates", "dropped_by_core", "outside_split", "kept"]
    assert counts["read"] == sum(counts[part] for part in parts)
    assert tables.table(INTERACTIONS).height == counts["kept"]
    refused = tables.table(REJECTED)
    assert refused.select("file", "line", "reason").rows()[3:] == [
        ("b.json.gz", 1, "repeats a.json line 4"),
        ("b.json.gz", 2, "repeats a.json line 5"),
        ("b.json.gz", 3, "repeats a.json line 4"),
    ]
    assert refused["line"].to_list()[:3] == [len(rows) + 1, len(rows) + 2, len(rows) + 3]
    assert rows[3]["reviewerID"] in refused["excerpt"].to_list()[3]


def test_too_many_refused_rows_stop_the_command_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines(tmp_path / "r.json", reviews(), [b"{broken", b"7"])
    arguments = ["amazon14", "--reviews", str(path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "2 of 86 reviews were refused, more than the share 0.01" in told
    assert "the first is r.json line 85: broken JSON" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--core", "99"], "Nothing is left of 84 reviews: 0 were refused"),
        (["--core", "-1"], "--core must be 0 or more, got -1"),
        (["--max-rejected-share", "2"], "--max-rejected-share must lie in [0, 1], got 2"),
        (["--split", "global-time", "--split-fractions", "0", "1"], "together below 1"),
        (["--metadata", "nowhere"], "nowhere is no file"),
    ],
)
def test_what_a_user_can_do_wrong_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    path = write_lines(tmp_path / "r.json", reviews())
    out = ["--out", str(tmp_path / "out")]
    assert main(["amazon14", "--reviews", str(path), *out, *arguments]) == 2
    assert told in capsys.readouterr().err


def test_an_input_without_reviews_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "empty.json"
    path.write_bytes(b"")
    assert main(["amazon14", "--reviews", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "holds no reviews at all" in capsys.readouterr().err
    same = tmp_path / "other"
    same.mkdir()
    copies = [str(write_lines(folder / "r.json", reviews())) for folder in (tmp_path, same)]
    assert main(["amazon14", "--reviews", *copies, "--out", str(tmp_path / "out")]) == 2
    assert "have the same name" in capsys.readouterr().err


def test_a_cut_file_is_an_error_unless_that_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines(tmp_path / "r.json.gz", reviews(users=60))
    path.write_bytes(path.read_bytes()[:-40])
    arguments = ["--reviews", str(path), "--core", "0"]
    assert main(["amazon14", *arguments, "--out", str(tmp_path / "no")]) == 2
    assert "r.json.gz is cut off after line" in capsys.readouterr().err
    tables = prepared(tmp_path, *arguments, "--allow-truncated")
    counts = tables.manifest.notes["reviews"]
    assert 300 < counts["kept"] < 420
    assert counts["read"] == counts["kept"] + counts["rejected"] + counts["duplicates"]
    assert "the file is cut off here" in tables.table(REJECTED)["reason"].to_list()


@pytest.mark.parametrize("split", ["leave-last-out", "global-time"])
@pytest.mark.parametrize("target", ["test", "validation"])
def test_nothing_said_at_a_target_or_later_reaches_an_item_text(
    tmp_path: Path, split: str, target: str
) -> None:
    rows = reviews(users=10, items=8, each=8)
    path = write_lines(tmp_path / "r.json", rows)
    arguments = ["--reviews", str(path), "--split", split, "--core", "0"]
    before = prepared(tmp_path, *arguments)
    texts = before.table(ITEM_TEXTS)
    interactions = before.table(INTERACTIONS)
    assert texts["source"].unique().to_list() == ["training_reviews"]
    late = ["test"] if target == "test" else ["validation", "test"]
    changed = set(interactions.filter(pl.col("split").is_in(late))["review_id"].to_list())
    assert changed
    plant = "Planted sentence of gold. "
    for number in changed:
        rows[number] = {
            **rows[number],
            "reviewText": plant + rows[number]["reviewText"],
            "summary": plant,
        }
    write_lines(path, rows)
    after = prepared(tmp_path, *arguments)
    assert after.table(ITEM_TEXTS).equals(texts)
    kept = after.table(INTERACTIONS)
    assert kept.drop("text", "summary").equals(interactions.drop("text", "summary"))
    assert kept["text"].str.contains("gold").sum() == len(changed)
    rows[next(number for number in range(len(rows)) if number not in changed)]["summary"] = plant
    write_lines(path, rows)
    assert not prepared(tmp_path, *arguments).table(ITEM_TEXTS).equals(texts)


def test_metadata_win_over_reviews_and_nothing_is_inherited(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.json", reviews())
    meta = tmp_path / "meta.json"
    meta.write_text(
        "{'asin': 'I0', 'title': 'Nail Polish', 'brand': 'OPI', 'price': 5.0}\n"
        "{'asin': 'I1', 'categories': [['Beauty', 'Nails']]}\n"
        "{'asin': 'I2'}\n"
    )
    tables = prepared(tmp_path, "--reviews", str(path), "--metadata", str(meta))
    texts = tables.table(ITEM_TEXTS)
    assert texts["text"].to_list()[:2] == [
        "Nail Polish. Brand: OPI. Price: $5.00.",
        "Categories: Beauty, Nails.",
    ]
    assert texts["source"].to_list()[:3] == ["metadata", "metadata", "training_reviews"]
    assert tables.manifest.notes["metadata"] == {"read": 3, "rejected": 0}


SHIFT_S = 1_000_000_000  # milliseconds of the first weeks of 1970 would pass for seconds


@pytest.mark.parametrize(
    ("command", "row"),
    [
        ("amazon18", lambda row: {**row, "style": {"Color:": "red", "asin": "x"}, "vote": "3"}),
        (
            "amazon23",
            lambda row: {
                "user_id": row["reviewerID"],
                "asin": "variant",
                "parent_asin": row["asin"],
                "rating": row["overall"],
                "title": row["summary"],
                "text": row["reviewText"],
                "timestamp": row["unixReviewTime"] * 1000 + SHIFT_S * 1000 + 999,
            },
        ),
    ],
)
def test_later_years_give_the_same_tables(tmp_path: Path, command: str, row: Any) -> None:
    rows = reviews()
    first = prepared(tmp_path, "--reviews", str(write_lines(tmp_path / "a.json", rows)))
    expected = first.table(INTERACTIONS)
    path = write_lines(tmp_path / "b.jsonl.gz", [row(one) for one in rows])
    found = prepared(tmp_path, "--reviews", str(path), command=command).table(INTERACTIONS)
    shift = SHIFT_S if command == "amazon23" else 0
    assert found.equals(expected.with_columns(pl.col("timestamp_s") + shift))


def hashes(folder: Path, arguments: list[str], threads: int) -> dict[str, str]:
    environment = {**os.environ, "POLARS_MAX_THREADS": str(threads)}
    out = folder / f"out{threads}"
    command = [sys.executable, "-m", "data_prep", *arguments, "--out", str(out)]
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=120)
    manifest = read_artifact(out, kind="reviews").manifest
    return {name: entry.sha256 for name, entry in manifest.files.items()}


@pytest.mark.parametrize("case", ["amazon14", "town"])
def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path: Path, case: str) -> None:
    if case == "town":
        arguments = ["town", "--users", "60", "--items", "60"]
    else:
        path = write_lines(tmp_path / "r.json.gz", reviews(users=120, items=40, each=8), [b"{"])
        arguments = ["amazon14", "--reviews", str(path)]
    assert hashes(tmp_path, arguments, 1) == hashes(tmp_path, arguments, 2)


@pytest.mark.parametrize("file_bytes", [2_000, 60_000])
def test_a_full_disk_is_one_sentence_and_the_old_artifact_stays(
    tmp_path: Path, file_bytes: int
) -> None:
    path = write_lines(tmp_path / "r.json", reviews(users=200, items=40, each=8))
    before = prepared(tmp_path, "--reviews", str(path), "--core", "0").content_hash
    program = (
        "import resource, sys; from data_prep.__main__ import main; import polars;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({file_bytes}, {file_bytes}));"
        "sys.exit(main(sys.argv[1:]))"
    )
    options = ["--reviews", str(path), "--out", str(tmp_path / "tables"), "--overwrite"]
    command = [sys.executable, "-c", program, "amazon14", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Cannot write" in done.stderr
    assert "free space or choose another --out" in done.stderr
    assert read_artifact(tmp_path / "tables", kind="reviews").content_hash == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "tables"]


def test_partitions_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "r.json", reviews(users=40))
    whole = prepared(tmp_path, "--reviews", str(path))
    expected = whole.table(INTERACTIONS), whole.table(ITEM_TEXTS)
    monkeypatch.setattr("data_prep.reviews.spool.PARTITION_BYTES", 700)
    monkeypatch.setattr("data_prep.reviews.raw_lines.BLOCK_BYTES", 900)
    pieces = prepared(tmp_path, "--reviews", str(path))
    assert pieces.table(INTERACTIONS).equals(expected[0])
    assert pieces.table(ITEM_TEXTS).equals(expected[1])


def test_spooled_texts_lie_inside_the_folder_that_a_killed_command_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    class Watched(UserSpool):
        def append(self, frame: pl.DataFrame) -> None:
            seen.append(sorted(path.name for path in tmp_path.iterdir()))
            super().append(frame)

    monkeypatch.setattr("data_prep.reviews.prepare.UserSpool", Watched)
    made = prepared(tmp_path, "--reviews", str(write_lines(tmp_path / "reviews.json", reviews())))
    assert seen
    for names in seen:
        assert len(names) == 2
        assert names[0].startswith(".tables.")
        assert names[0].endswith(".tmp")
    assert not [path for path in made.folder.iterdir() if path.is_dir()]


def test_real_reviews_are_all_kept(tmp_path: Path, instruments_file: Path) -> None:
    tables = prepared(tmp_path, "--reviews", str(instruments_file))
    counts = tables.manifest.notes["reviews"]
    assert (counts["read"], counts["kept"], counts["empty_texts_read"]) == (10_261, 10_261, 7)
    assert tables.table(USERS).height == 1429
    assert tables.table(ITEMS).height == 900
