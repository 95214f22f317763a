"""Any CSV or Parquet with named columns."""

import gzip
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from data_prep.__main__ import main
from data_prep.artifact import Artifact, read_artifact
from data_prep.schema import INTERACTIONS, ITEMS, REJECTED, USERS

HEADER = "who;what;when;stars;said\n"
ROWS = [f'u{u};i{(u + k) % 7};{1_000_000 + 10 * u + k};{1 + k % 5};"a; {k}\nb"' for u in range(7) for k in range(6)]  # fmt: skip  # noqa: E501
NAMES = ["--user", "who", "--item", "what", "--timestamp", "when", "--rating", "stars", "--text", "said"]  # fmt: skip  # noqa: E501


def prepared(path: Path, *arguments: str) -> Artifact:
    out = path.parent / "tables"
    options = ["table", "--table", str(path), *arguments, "--out", str(out), "--overwrite"]
    assert main(options) == 0
    return read_artifact(out, kind="reviews")


def test_a_csv_may_quote_line_ends_and_choose_its_separator(tmp_path: Path) -> None:
    path = tmp_path / "r.csv.gz"
    path.write_bytes(gzip.compress(("\ufeff" + HEADER + "\n".join(ROWS) + "\n").encode()))
    tables = prepared(path, *NAMES)
    found = tables.table(INTERACTIONS)
    assert found.height == len(ROWS)
    assert found.row(1)[:8] == (0, 1, 1, 1_000_001, 2.0, None, "a; 1\nb", 2)
    assert tables.table(REJECTED).height == 0


BAD = {
    "u1;i1;-5;3;x": "when -5 is no time after 1970",
    "u1;i1;soon;3;x": "when soon is no time",
    "u1;i1;;3;x": "when is missing",
    "u1;i1;5;9;x": "stars 9.0 is no rating from 1 to 5",
    "u1;i1;5;nan;x": "stars NaN is no rating from 1 to 5",
    "u1;i1;5;many;x": "stars many is no number",
    ";i1;5;3;x": "who is missing",
    "u1;i1;5": "3 fields where the header has 5",
    "u1;i1;5;3;a\x00b": "holds a NUL",
    "u1;i1;5;3;\udcff": "not UTF-8",
}


def test_each_fault_is_one_row_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    content = HEADER + "\n".join(ROWS) + "\n" + "\n".join(BAD) + "\nu0;i6;5;;\n"
    path.write_bytes(content.encode(errors="surrogateescape"))
    tables = prepared(path, *NAMES, "--max-rejected-share", "0.5")
    refused = tables.table(REJECTED)
    first = 2 + 2 * len(ROWS)
    assert refused["line"].to_list() == list(range(first, first + len(BAD)))
    assert refused["reason"].to_list() == list(BAD.values())
    counts = tables.manifest.notes["reviews"]
    assert (counts["read"], counts["rejected"]) == (len(ROWS) + len(BAD) + 1, len(BAD))
    assert counts["kept"] == len(ROWS) + 1
    kept = tables.table(INTERACTIONS).filter(pl.col("timestamp_s") == 5)
    assert kept.select("rating", "text").rows() == [(None, None)]


def test_an_unknown_column_is_named_with_its_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.csv"
    path.write_text(HEADER)
    out = ["--out", str(tmp_path / "out")]
    assert main(["table", "--table", str(path), "--user", "wo", "--item", "what", *out]) == 2
    assert "r.csv has no column 'wo'; the nearest are 'who'" in capsys.readouterr().err
    frame = pl.DataFrame({"person": ["a"], "thing": ["b"]})
    frame.write_parquet(tmp_path / "r.parquet")
    path = tmp_path / "r.parquet"
    assert main(["table", "--table", str(path), "--user", "persona", "--item", "x", *out]) == 2
    assert "the nearest are 'person'" in capsys.readouterr().err


def test_a_damaged_parquet_file_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    out = ["--out", str(tmp_path / "out")]
    assert main(["table", "--table", str(path), "--user", "a", "--item", "b", *out]) == 2
    assert "r.parquet is no readable Parquet file" in capsys.readouterr().err


@pytest.mark.parametrize("unit", ["s", "ms", "iso", "moment", "text"])
def test_times_in_any_unit_and_keys_of_any_type(tmp_path: Path, unit: str) -> None:
    seconds = [1_600_000_000 + 7 * n for n in range(36)]
    times = {
        "s": seconds,
        "ms": [1000 * second + 5 for second in seconds],
        "iso": [datetime.fromtimestamp(second).astimezone().isoformat() for second in seconds],
        "moment": pl.Series([1000 * second for second in seconds]).cast(pl.Datetime("ms")),
        "text": [str(second) for second in seconds],
    }[unit]
    frame = pl.DataFrame({"u": [n // 6 for n in range(36)], "i": [n % 6 for n in range(36)], "t": times})  # fmt: skip  # noqa: E501
    path = tmp_path / "r.parquet"
    frame.write_parquet(path)
    extra = ["--timestamp-unit", unit] if unit in ("ms", "iso") else []
    tables = prepared(path, "--user", "u", "--item", "i", "--timestamp", "t", *extra)
    assert tables.table(INTERACTIONS)["timestamp_s"].to_list() == seconds
    assert tables.table(USERS)["user_key"].to_list() == list("012345")
    assert tables.table(ITEMS).height == 6


def test_without_times_file_order_counts_and_nothing_is_a_repeat(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("u,i\n" + "a,x\na,y\na,x\n" * 2)
    tables = prepared(path, "--user", "u", "--item", "i", "--core", "0")
    found = tables.table(INTERACTIONS)
    assert found["item_id"].to_list() == [0, 1, 0, 0, 1, 0]
    assert found["timestamp_s"].null_count() == 6
