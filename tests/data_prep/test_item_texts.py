"""The text an item is known by, and what must never get into it."""

import polars as pl

from data_prep.reviews.item_texts import (
    LONGEST_TEXT,
    item_texts,
    metadata_text,
    nameless_items,
    quotable,
    quoted_reviews,
    review_texts,
)
from data_prep.schema import ITEM_TEXTS, ITEMS


def test_a_missing_field_is_left_out() -> None:
    assert metadata_text("Cable", "Bob", ["Music", "XLR"], 659, "Long.") == (
        "Cable. Brand: Bob. Categories: Music, XLR. Price: $6.59. Long."
    )
    assert metadata_text("Really?", None, [], None, None) == "Really?"
    assert metadata_text(None, None, [], 0, None) == "Price: $0.00."
    assert metadata_text(None, None, [], None, None) is None
    assert metadata_text(" ", "", [], None, None) is None


def test_a_long_text_ends_with_a_whole_word() -> None:
    text = metadata_text("word " * 400, None, [], None, None)
    assert text is not None
    assert len(text) <= LONGEST_TEXT
    assert text.endswith("word")


def test_reviews_give_headlines_then_first_sentences_once_each() -> None:
    quotes = pl.DataFrame(
        {
            "item_id": [1, 1, 1, 0, 2],
            "summary": ["Good", None, "Good", "It works!", " "],
            "text": ["One.  Two. Three", "It costs 5.99 here", "One. Other", "", None],
        }
    )
    assert review_texts(quotes.select("item_id", *quotable())).rows() == [
        (0, "It works!"),
        (1, "Good. One. It costs 5.99 here."),
    ]


def test_the_first_sentence_is_found_in_any_script() -> None:
    said = ["Größe 5.5 paßt… wirklich! Ja.", "すごい。 Nice? Yes", "no end", " A. ", "e.g.this. b"]
    frame = pl.DataFrame({"summary": ["s"] * 5, "text": said})
    assert frame.select(quotable()[1])["opening"].to_list() == [
        "Größe 5.5 paßt… wirklich!", "すごい。 Nice?", "no end", "A.", "e.g.this.",
    ]  # fmt: skip


def test_review_texts_are_cut_at_a_word() -> None:
    quotes = pl.DataFrame({"item_id": [0] * 90, "summary": [f"word {n}" for n in range(90)]})
    [(_, text)] = review_texts(quotes.with_columns(opening=pl.lit("A tail"))).rows()
    assert len(text) <= LONGEST_TEXT
    assert text.endswith(".")


def test_quotes_are_the_first_training_reviews_in_time_then_file_order() -> None:
    count = 16
    frame = pl.DataFrame(
        {
            "item_id": [0] * count + [1],
            "review_id": [*range(count), count],
            "timestamp_s": [5] * (count - 1) + [4, 9],
            "split": ["test", "validation"] + ["train"] * (count - 2) + ["test"],
        }
    )
    assert quoted_reviews(frame).rows() == [(0, count - 1)] + [(0, n) for n in range(2, 9)]


def test_metadata_come_first_then_reviews_then_nothing() -> None:
    items = pl.DataFrame(
        {
            "item_id": [0, 1, 2],
            "item_key": ["a", "b", "c"],
            "title": ["T", None, None],
            "brand": [None, None, None],
            "categories": [[], [], []],
            "price_cents": [None, None, None],
            "description": [None, None, None],
        },
        schema=ITEMS.polars,
    )
    quotes = pl.DataFrame(
        {"item_id": [0, 1], "summary": ["x", "y"], "opening": ["x", "y"]},
        schema={"item_id": pl.Int32(), "summary": pl.String(), "opening": pl.String()},
    )
    assert nameless_items(items)["item_id"].to_list() == [1, 2]
    described = items.with_columns(title=None, categories=pl.Series([["a"], [], []]))
    assert nameless_items(described)["item_id"].to_list() == [1, 2]
    table = ITEM_TEXTS.conform(item_texts(items, quotes))
    assert table.rows() == [(0, "T.", "metadata"), (1, "y.", "training_reviews"), (2, None, "none")]
