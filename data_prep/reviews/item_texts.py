"""The text an item is known by: its metadata, else what training reviews say of it."""

import re
from collections.abc import Sequence

import polars as pl

from data_prep.schema import ITEM_TEXTS

LONGEST_TEXT = 800
REVIEWS_PER_ITEM = 12
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_SPACE = re.compile(r"\s+")


def metadata_text(
    title: str | None,
    brand: str | None,
    categories: Sequence[str],
    price_cents: int | None,
    description: str | None,
) -> str | None:
    """What the catalogue says of an item; a missing field is left out, never filled.

    Returns:
        At most 800 characters, or nothing where every field is missing.
    """
    parts = [title or ""]
    parts += [f"Brand: {brand}"] if brand else []
    parts += [f"Categories: {', '.join(categories)}"] if categories else []
    parts += [f"Price: ${price_cents / 100:.2f}"] if price_cents is not None else []
    parts += [description or ""]
    return _joined([part.strip().rstrip(".") for part in parts if part.strip()])


def review_text(reviews: Sequence[tuple[str | None, str | None]]) -> str | None:
    """What reviews say of an item: their headlines, then their first sentences.

    Args:
        reviews: Headline and body of training reviews, in the order in which they are used.

    Returns:
        At most 800 characters, or nothing where the reviews are empty.
    """
    headlines = [summary for summary, _ in reviews]
    openings = [_SENTENCE_END.split(text.strip(), 1)[0] if text else None for _, text in reviews]
    said = dict.fromkeys(
        _SPACE.sub(" ", part).strip().rstrip(".") for part in headlines + openings if part
    )
    return _joined([part for part in said if part])


def _joined(parts: Sequence[str]) -> str | None:
    if not parts:
        return None
    text = ". ".join(parts) + "."
    if len(text) <= LONGEST_TEXT:
        return text
    return text[:LONGEST_TEXT].rsplit(" ", 1)[0]


def quoted_reviews(interactions: pl.DataFrame) -> pl.DataFrame:
    """The training reviews an item's text may quote: its first dozen, by time, then file order.

    Args:
        interactions: Columns `item_id`, `review_id`, `timestamp_s`, `split`.

    Returns:
        Columns `item_id`, `review_id`, sorted by item and by the order of use.
    """
    return (
        interactions.filter(pl.col("split") == "train")
        .sort("item_id", "timestamp_s", "review_id", nulls_last=True)
        .group_by("item_id", maintain_order=True)
        .head(REVIEWS_PER_ITEM)
        .select("item_id", "review_id")
    )


def item_texts(items: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """The table `item_texts`.

    Args:
        items: The table `items`.
        quotes: Columns `item_id`, `summary`, `text` of training reviews, in the order of use.

    Returns:
        One row per item: its metadata, else its training reviews, else null.
    """
    said: dict[int, list[tuple[str | None, str | None]]] = {}
    for item_id, summary, text in quotes.select("item_id", "summary", "text").iter_rows():
        said.setdefault(item_id, []).append((summary, text))
    rows = []
    facts = items.select("item_id", "title", "brand", "categories", "price_cents", "description")
    for item_id, *fields in facts.iter_rows():
        text, source = metadata_text(*fields), "metadata"
        if text is None:
            text, source = review_text(said.get(item_id, [])), "training_reviews"
        rows.append((item_id, text, "none" if text is None else source))
    return pl.DataFrame(rows, schema=ITEM_TEXTS.polars, orient="row")
