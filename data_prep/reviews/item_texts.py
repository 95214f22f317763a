"""The text an item is known by: its metadata, else what training reviews say of it."""

from collections.abc import Sequence

import polars as pl

from data_prep.schema import ITEM_TEXTS

LONGEST_TEXT = 800
REVIEWS_PER_ITEM = 8
LONGEST_QUOTE = 300
_SENTENCE_END = r"[.!?](?:\s|$)"


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
    sentences = [part.strip() for part in parts if part.strip()]
    text = " ".join(part if part[-1] in ".!?" else f"{part}." for part in sentences)
    if len(text) <= LONGEST_TEXT:
        return text or None
    return text[:LONGEST_TEXT].rsplit(" ", 1)[0]


def nameless_items(items: pl.DataFrame) -> pl.DataFrame:
    """The column `item_id` of the items of which the catalogue says nothing.

    Args:
        items: The table `items`.
    """
    said = ("title", "brand", "price_cents", "description")
    silent = pl.all_horizontal(pl.col(name).is_null() for name in said)
    return items.filter(silent & (pl.col("categories").list.len() == 0)).select("item_id")


def quotable() -> list[pl.Expr]:
    """What an item's text may quote of a review: its headline and its first sentence, cut short."""
    body = pl.col("text").str.slice(0, LONGEST_QUOTE).str.strip_chars()
    end = body.str.find(_SENTENCE_END)  # an offset in bytes, hence the detour over them
    opening = body.cast(pl.Binary).bin.slice(0, end + 1).cast(pl.String)
    return [
        pl.col("summary").str.slice(0, LONGEST_QUOTE),
        pl.coalesce(opening, body).alias("opening"),
    ]


def review_texts(quotes: pl.DataFrame) -> pl.DataFrame:
    """What training reviews say of items: their headlines, then their first sentences.

    Args:
        quotes: Columns `item_id`, `summary`, `opening`, in the order in which they are used.

    Returns:
        Columns `item_id` and `said`, at most 800 characters; no row where the reviews are empty.
    """
    numbered = quotes.with_row_index("order")
    parts = pl.concat(
        [
            numbered.select("item_id", pl.lit(0).alias("kind"), "order", said="summary"),
            numbered.select("item_id", pl.lit(1).alias("kind"), "order", said="opening"),
        ]
    )
    tidy = pl.col("said").str.replace_all(r"\s+", " ").str.strip_chars()
    said = pl.col("said")
    ended = pl.when(said.str.contains(r"[.!?]$")).then(said).otherwise(said + ".")
    whole = said.str.join(" ")
    return (
        parts.with_columns(tidy)  # once, since it takes longer than all the rest
        .filter(said != "")
        .with_columns(ended)
        .sort("item_id", "kind", "order")
        .unique(subset=["item_id", "said"], keep="first", maintain_order=True)
        .group_by("item_id", maintain_order=True)
        .agg(whole)
        .with_columns(
            pl.when(pl.col("said").str.len_chars() > LONGEST_TEXT)
            .then(pl.col("said").str.slice(0, LONGEST_TEXT).str.replace(r"\s\S*$", ""))
            .otherwise(pl.col("said"))
            .alias("said")
        )
        .sort("item_id")
    )


def quoted_reviews(interactions: pl.DataFrame) -> pl.DataFrame:
    """The training reviews an item's text may quote: its first eight, by time, then file order.

    Args:
        interactions: Columns `item_id`, `review_id`, `timestamp_s`, `split`.

    Returns:
        Columns `item_id`, `review_id`, sorted by item and by the order of use.
    """
    return (
        interactions.filter(pl.col("split") == "train")
        .sort("item_id", "timestamp_s", "review_id")
        .group_by("item_id", maintain_order=True)
        .head(REVIEWS_PER_ITEM)
        .select("item_id", "review_id")
    )


def item_texts(items: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """The table `item_texts`.

    Args:
        items: The table `items`.
        quotes: Columns `item_id`, `summary`, `opening` of training reviews, in the order of use.

    Returns:
        One row per item: its metadata, else its training reviews, else null.
    """
    facts = items.select("title", "brand", "categories", "price_cents", "description")
    known = pl.Series("known", [metadata_text(*row) for row in facts.iter_rows()], pl.String())
    texts = items.select("item_id", known).join(
        review_texts(quotes), on="item_id", how="left", maintain_order="left"
    )
    source = (
        pl.when(pl.col("known").is_not_null())
        .then(pl.lit("metadata"))
        .when(pl.col("said").is_not_null())
        .then(pl.lit("training_reviews"))
        .otherwise(pl.lit("none"))
    )
    text = pl.coalesce("known", "said")
    return texts.select("item_id", text=text, source=source).select(ITEM_TEXTS.polars.names())
