"""Kinds of items: the category that tells them apart, or how often they were met."""

import polars as pl
import pytest
import torch

from data_prep.schema import ITEMS
from recsys.item_categories import MOST, OTHER, THIRDS, UNKNOWN, item_categories


def items(categories: list[list[str]]) -> pl.DataFrame:
    count = len(categories)
    return pl.DataFrame(
        {
            "item_id": range(count), "item_key": [f"i{n}" for n in range(count)],
            "title": [None] * count, "brand": [None] * count, "categories": categories,
            "price_cents": [None] * count, "description": [None] * count,
        },
        schema=ITEMS.polars,
    )  # fmt: skip


def kinds(categories: list[list[str]]) -> list[str]:
    """The kind of every item by name."""
    found = item_categories(items(categories), torch.linspace(0, 1, len(categories)))
    return [found.names[number] for number in found.numbers.tolist()]


def test_the_first_category_that_differs_tells_items_apart():
    given = [["Beauty", "Hair"], ["Beauty", "Skin", "Day"], ["Beauty", "Hair"]]
    assert kinds(given) == ["Hair", "Skin", "Hair"]
    assert item_categories(items(given), torch.zeros(3)).names == ("Hair", "Skin")


def test_the_order_of_the_table_is_nothing():
    given = items([["A"], ["B"], ["A"]])
    found = item_categories(given.reverse(), torch.zeros(3))
    assert found.numbers.tolist() == [0, 1, 0]


def test_items_without_a_category_are_a_kind_of_their_own():
    assert kinds([["A"], [], ["B"], ["A"]]) == ["A", UNKNOWN, "B", "A"]


def test_small_kinds_are_one_where_there_are_many():
    given = [["first"]] * 5 + [["second"]] * 3 + [[f"small {n:02d}"] for n in range(20)]
    found = item_categories(items(given), torch.zeros(28))
    assert len(found.names) == MOST
    assert found.names[:2] == ("first", "second")
    assert found.names[-1] == OTHER
    counted = found.numbers.bincount().tolist()
    assert counted == [5, 3, 1, 1, 1, 1, 1, 15]
    with_none = item_categories(items([*given, []]), torch.zeros(29))
    assert len(with_none.names) == MOST
    assert with_none.names[-2:] == (OTHER, UNKNOWN)
    assert with_none.numbers.bincount().tolist() == [5, 3, 1, 1, 1, 1, 16, 1]


def test_as_many_as_may_be_are_all_named():
    given = [[f"kind {n}"] for n in range(MOST)]
    assert kinds(given) == [f"kind {n}" for n in range(MOST)]


@pytest.mark.parametrize("given", [[[]] * 6, [["All"]] * 6])
def test_without_categories_it_is_thirds_of_popularity(given):
    popularity = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    found = item_categories(items(given), popularity)
    assert found.names == THIRDS
    assert found.numbers.tolist() == [0, 0, 1, 1, 2, 2]
