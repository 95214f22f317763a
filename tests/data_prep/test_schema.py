"""A table is checked when it is written and when it is read."""

import dataclasses

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import schema
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import Column, TableSchema

PEOPLE = TableSchema(
    "people",
    "one person",
    ("town", "number"),
    (
        Column("town", pl.String(), "where"),
        Column("number", pl.Int32(), "house"),
        Column("name", pl.String(), "who", nullable=True),
    ),
)
TABLES = [table for table in vars(schema).values() if isinstance(table, TableSchema)]


def _people(*rows: tuple[str | None, int, str | None]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=PEOPLE.polars, orient="row")


def test_rows_are_sorted_by_key_and_columns_put_in_order() -> None:
    frame = _people(("b", 1, None), ("a", 2, "x"), ("a", 1, "y")).select("name", "number", "town")
    assert PEOPLE.conform(frame).rows() == [("a", 1, "y"), ("a", 2, "x"), ("b", 1, None)]


@given(st.permutations([("a", 1, "x"), ("a", 2, None), ("b", 1, "y"), ("c", 0, "z")]))
def test_the_order_of_the_input_does_not_matter(rows: list[tuple[str, int, str | None]]) -> None:
    assert PEOPLE.conform(_people(*rows)).rows() == sorted(rows)


def test_an_empty_table_is_a_table() -> None:
    assert PEOPLE.conform(PEOPLE.empty()).columns == ["town", "number", "name"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (_people(("a", 1, "x"), ("a", 1, "y")), r"repeats a key \(town, number\)"),
        (_people((None, 1, "x")), "has a null in town, which must always be there"),
        (_people(("a", 1, "x")).drop("number"), "the table people lacks number"),
        (
            _people(("a", 1, "x")).with_columns(age=pl.lit(3)),
            "the table people has unknown age",
        ),
        (
            _people(("a", 1, "x")).with_columns(pl.col("number").cast(pl.Int64)),
            "holds number as Int64, not Int32",
        ),
    ],
)
def test_a_wrong_frame_is_refused_by_name(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PEOPLE.conform(frame)
    if "repeats" not in message:  # keys are checked where they are made
        with pytest.raises(ArtifactMismatch, match=message.replace("the table people", "there")):
            PEOPLE.check(frame, where="there")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_says_what_it_holds(table: TableSchema) -> None:
    names = [column.name for column in table.columns]
    assert len(set(names)) == len(names)
    assert set(table.key) <= set(names)
    assert not any(column.nullable for column in table.columns if column.name in table.key)
    assert table.meaning
    assert all(column.meaning for column in table.columns)
    assert dataclasses.is_dataclass(table)
    assert table.conform(table.empty()).height == 0
