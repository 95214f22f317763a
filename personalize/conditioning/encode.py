"""Texts of items and preferences as vectors: the work behind `personalize encode`."""

import sys
from pathlib import Path

import polars as pl

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import ITEM_TEXT_IDS, ITEM_TEXTS, PREFERENCES, TEXTS
from personalize.conditioning.text import EMBEDDED, SentenceEncoder


def run(
    *,
    tables: Path,
    preferences: Path | None,
    out: Path,
    encoder: str = EMBEDDED,
    batch_size: int = 32,
    overwrite: bool = False,
) -> None:
    """Write a `vectors` artifact: every distinct text once, its vector, and the items' texts.

    Args:
        tables: Reviews artifact.
        preferences: Preferences artifact extracted from it, or None for item texts alone.
        out: Folder of the new artifact.
        encoder: `embedded`, or a sentence-transformers model by folder or name.
        batch_size: Texts per forward pass.
        overwrite: Replace an artifact that is there.

    Raises:
        ArtifactMismatch: If the preferences were read from other tables.
        InputError: If there is no text at all, or the model or an artifact cannot be opened.
    """
    if batch_size < 1:
        raise InputError(f"--batch-size must be at least 1, got {batch_size}.")
    reviews = read_artifact(tables, kind="reviews")
    wanted = _preferences_of(reviews, preferences) if preferences else None
    texts, item_text_ids = distinct_texts(
        reviews.table(ITEM_TEXTS), None if wanted is None else wanted.table(PREFERENCES)
    )
    if not texts.height:
        raise InputError(f"{tables} holds no item text and no preference was given.")
    sentences = SentenceEncoder(encoder, batch_size=batch_size)
    inputs = {"reviews": reviews.content_hash}
    if wanted is not None:
        inputs["preferences"] = wanted.content_hash
    with create_artifact(
        out,
        kind="vectors",
        command="personalize encode",
        configuration={"encoder": encoder, "batch_size": batch_size},
        inputs=inputs,
        overwrite=overwrite,
    ) as writer:
        values = sentences.encode(texts["text"].to_list())
        writer.write_table(TEXTS, texts)
        writer.write_table(ITEM_TEXT_IDS, item_text_ids)
        writer.write_arrays("vectors", {"values": values})
        writer.notes = {
            "texts": texts.height,
            "width": sentences.width,
            "items_without_text": item_text_ids["text_id"].null_count(),
            "encoder_sha256": sentences.fingerprint,
        }
    sys.stderr.write(f"{texts.height:,} texts as {sentences.width} numbers each: {out}\n")


def distinct_texts(
    item_texts: pl.DataFrame, preferences: pl.DataFrame | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Every distinct text with its number, and the number of each item's text.

    Texts are numbered in their own order, so neither the order of items nor that of preferences
    shows in the result.

    Args:
        item_texts: An `item_texts` table; an item without a text has a null.
        preferences: A `preferences` table, or None.

    Returns:
        A `texts` and an `item_text_ids` table.
    """
    columns = [item_texts["text"]] + ([] if preferences is None else [preferences["text"]])
    distinct = pl.concat(columns).drop_nulls().unique().sort()
    texts = pl.DataFrame(
        {"text_id": pl.int_range(len(distinct), dtype=pl.Int32, eager=True), "text": distinct}
    )
    item_text_ids = (
        item_texts.select("item_id", "text")
        .join(texts, on="text", how="left", maintain_order="left")
        .select("item_id", "text_id")
        .sort("item_id")
    )
    return texts, item_text_ids


def _preferences_of(reviews: Artifact, folder: Path) -> Artifact:
    """The preferences artifact, if it was extracted from these very tables."""
    preferences = read_artifact(folder, kind="preferences")
    source = preferences.manifest.inputs.get("reviews")
    if source is not None and source != reviews.content_hash:
        raise ArtifactMismatch(
            f"{folder} was extracted from other tables than {reviews.folder}; "
            "run personalize extract on these tables."
        )
    return preferences
