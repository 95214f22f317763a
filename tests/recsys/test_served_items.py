"""What filters let pass, what a search by words finds, and which texts are encoded."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.api.messages import ItemFilters
from personalize.api.ports import RequestRefused
from recsys.catalogue import Catalogue
from recsys.served_items import ALL, ItemFacts, ServedItems
from recsys.served_texts import TextMemory

FACTS = [
    ItemFacts("a", "Red Kettle", "Norvik", ("Kitchen", "Kettles"), 1000, None),
    ItemFacts("b", "Blue kettle", None, ("Kitchen",), 2000, "Boils."),
    ItemFacts("c", "Lamp", "Norvik", (), None, None),
    ItemFacts("d", None, "Sól", ("Kettles",), 0, None),
]
CODES = torch.tensor([[0, 1], [1, 0], [1, 1], [2, 2]])


def items() -> ServedItems:
    """Four items, the last of which came later."""
    return ServedItems(FACTS, CODES, trained=3)


def passing(**filters: object) -> str:
    """Ids of the items that pass."""
    allowed = items().allowed(ItemFilters.model_validate(filters))
    assert allowed.mask is not None
    assert allowed.ids.only is not None
    assert allowed.ids.only.tolist() == np.flatnonzero(allowed.mask).tolist()
    assert allowed.among(np.array([1, 3])).only.tolist() == [  # pyright: ignore
        n for n in (1, 3) if allowed.mask[n]
    ]
    return "".join(FACTS[n].key for n in allowed.ids.only)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"allow": ["d", "a"]}, "ad"),
        ({"allow": []}, ""),
        ({"deny": ["b"]}, "acd"),
        ({"allow": ["a", "b"], "deny": ["a"]}, "b"),
        ({"categories": ["Kettles"]}, "ad"),
        ({"categories": ["Kettles", "Kitchen"]}, "abd"),
        ({"categories": []}, ""),
        ({"brands": ["Norvik"]}, "ac"),
        ({"brands": ["Norvik"], "categories": ["Kitchen"]}, "a"),
        ({"least_price_cents": 0}, "abd"),
        ({"least_price_cents": 1000}, "ab"),
        ({"most_price_cents": 1000}, "ad"),
        ({"least_price_cents": 1, "most_price_cents": 1999}, "a"),
    ],
)
def test_filters_let_pass(filters: dict, expected: str):
    assert passing(**filters) == expected


def test_no_filter_lets_all_pass():
    assert items().allowed(ItemFilters.model_validate({"seen": "include"})) is ALL
    assert ALL.among(np.array([2])).only is not None
    assert ALL.filters(exclude_history=True).allowed_items is None


def test_a_filter_is_made_once():
    served = items()
    one = served.allowed(ItemFilters.model_validate({"deny": ["a"]}))
    other = served.allowed(ItemFilters.model_validate({"deny": ["a"], "seen": "include"}))
    assert one is other
    for number in range(70):  # more than are remembered
        served.allowed(ItemFilters.model_validate({"least_price_cents": number}))
    assert served.allowed(ItemFilters.model_validate({"deny": ["a"]})) is not one


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "abcd"),
        ("KETTLE", "abd"),
        ("norvik red", "a"),
        ("kitchen kettles", "a"),
        ("sÓl", "d"),
        ("nothing", ""),
        ("(", ""),
    ],
)
def test_words_find_titles_brands_and_categories(query: str, expected: str):
    page = items().page(query, start=0, count=9)
    assert "".join(item.id for item in page.items) == expected
    assert page.total == len(expected)
    part = items().page(query, start=1, count=1)
    assert "".join(item.id for item in part.items) == expected[1:2]
    assert part.total == len(expected)


def test_an_item_is_shown_whole():
    item = items().item(3)
    assert item.model_dump() == {
        "id": "d", "title": None, "brand": "Sól", "categories": ["Kettles"], "price_cents": 0,
        "description": None, "semantic_id": [2, 2], "added": True,
    }  # fmt: skip
    assert not items().item(2).added
    with pytest.raises(RequestRefused, match="no item 'z'"):
        items().number("z")


def test_changed_items_are_new_items_at_the_end():
    facts = {1: FACTS[1]._replace(title="Green"), 4: FACTS[0]._replace(key="e")}
    changed = items().changed(facts, torch.cat([CODES, CODES[:1] + 5]))
    assert [entry.key for entry in changed.facts] == list("abcde")
    assert changed.item(1).title == "Green"
    assert changed.item(4).semantic_id == [5, 6]
    assert changed.item(4).added
    assert changed.trained == 3
    assert items().known("e") is None
    assert changed.known("e") == 4


def memory() -> tuple[TextMemory, list[list[str]]]:
    """A memory that knows one text, and what it had encoded."""
    catalogue = Catalogue(
        item_codes=CODES,
        level_sizes=(3, 3),
        item_text_ids=torch.zeros(4, dtype=torch.long),
        item_text_mask=torch.ones(4, dtype=torch.bool),
        text_vectors=torch.tensor([[7.0, 8.0]]),
        texts=("known",),
    )
    asked: list[list[str]] = []

    def encode(texts):
        asked.append(list(texts))
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32)

    return TextMemory(catalogue, encode), asked


@given(st.lists(st.sampled_from(["known", "new", "other", "third"]), max_size=12))
def test_every_text_is_encoded_once(texts: list[str]):
    remembering, asked = memory()
    expected = [[7.0, 8.0] if t == "known" else [len(t), ord(t[0])] for t in texts]
    for _ in range(2):
        assert remembering.vectors(texts).tolist() == expected
    assert asked == ([sorted(set(texts) - {"known"})] if set(texts) - {"known"} else [])
    assert remembering.number("known") == 0
    assert remembering.number("new") is None


def test_the_memory_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("recsys.served_texts._MOST_REMEMBERED", 2)
    remembering, asked = memory()
    remembering.vectors(["a", "b"])
    remembering.vectors(["a"])  # used again, so b is the oldest
    assert remembering.vectors(["c", "a"]).tolist() == [[1.0, 99.0], [1.0, 97.0]]
    remembering.vectors(["a"])
    assert asked == [["a", "b"], ["c"]]
    remembering.vectors(["b"])
    assert asked[-1] == ["b"]
    many = remembering.vectors(["d", "e", "f", "d"])
    assert many[:, 1].tolist() == [100.0, 101.0, 102.0, 100.0]
