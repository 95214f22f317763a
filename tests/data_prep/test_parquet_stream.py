"""A table that comes in frames is checked on its way and written as one file."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from data_prep.errors import InputError
from data_prep.parquet_stream import write_parquet_stream
from data_prep.schema import Column, TableSchema

SCHEMA = TableSchema(
    "places",
    "a place",
    ("a", "b"),
    (
        Column("a", pl.Int32(), "one"),
        Column("b", pl.String(), "two"),
        Column("c", pl.Int8(), "three", nullable=True),
    ),
)


def frame(*keys: tuple[int, str]) -> pl.DataFrame:
    rows = [(a, b, None) for a, b in keys]
    return pl.DataFrame(rows, schema=SCHEMA.polars, orient="row")


def test_frames_laid_end_to_end_are_the_table(tmp_path: Path) -> None:
    frames = [frame((1, "a"), (1, "b")), frame(), frame((1, "c"), (2, "a")), frame((2, "b"))]
    path = tmp_path / "t.parquet"
    assert write_parquet_stream(path, SCHEMA, iter(frames), group_rows=2) == 5
    assert pl.read_parquet(path).equals(pl.concat(frames))


def test_no_frames_make_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    assert write_parquet_stream(path, SCHEMA, iter([]), group_rows=2) == 0
    assert pl.read_parquet(path).schema == SCHEMA.polars


@pytest.mark.parametrize(
    "frames",
    [
        [frame((1, "b"), (1, "a"))],
        [frame((1, "a"), (1, "a"))],
        [frame((2, "a")), frame((1, "b"))],
        [frame((1, "a")), frame((1, "a"))],
    ],
    ids=["order", "repeat", "order across", "repeat across"],
)
def test_keys_must_rise(tmp_path: Path, frames: list[pl.DataFrame]) -> None:
    with pytest.raises(InputError, match=r"places is not in the order of its key \(a, b\)"):
        write_parquet_stream(tmp_path / "t.parquet", SCHEMA, iter(frames), group_rows=2)


def test_a_frame_must_fit_the_schema(tmp_path: Path) -> None:
    wrong = [frame((1, "a")), frame((2, "a")).drop("b")]
    with pytest.raises(InputError, match="the table places lacks b"):
        write_parquet_stream(tmp_path / "t.parquet", SCHEMA, iter(wrong), group_rows=2)


def test_an_error_on_the_way_arrives_as_itself(tmp_path: Path) -> None:
    def failing() -> Iterator[pl.DataFrame]:
        yield frame((1, "a"))
        raise InputError("the disk is on fire")

    with pytest.raises(InputError, match="the disk is on fire"):
        write_parquet_stream(tmp_path / "t.parquet", SCHEMA, failing(), group_rows=2)
