"""Artifacts of a few rows, built by hand, for tests of everything after `data-prep`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from data_prep.artifact import create_artifact
from data_prep.schema import (
    CODES,
    INTERACTIONS,
    ITEM_TEXT_IDS,
    ITEM_TEXTS,
    ITEMS,
    PREFERENCES,
    REJECTED,
    TEXTS,
    USERS,
    TableSchema,
)


def frame(schema: TableSchema, rows: Sequence[dict]) -> pl.DataFrame:
    """A table of these rows; columns that are not given are null."""
    names = schema.polars.names()
    complete = [{name: row.get(name) for name in names} for row in rows]
    return pl.DataFrame(complete, schema=schema.polars)


def write_tables(
    folder: Path,
    histories: Sequence[Sequence[int]],
    *,
    item_count: int,
    texts: dict[tuple[int, int], str] | None = None,
    held_out: int = 2,
) -> Path:
    """An artifact `reviews` of these histories, the last two of each held out."""
    splits = ["test", "validation"][:held_out]
    interactions = []
    for user_id, history in enumerate(histories):
        for position, item_id in enumerate(history):
            left = len(history) - 1 - position
            interactions.append(
                {
                    "user_id": user_id,
                    "position": position,
                    "item_id": item_id,
                    "timestamp_s": 1_000 + 10 * position,
                    "rating": 5.0,
                    "text": (texts or {}).get((user_id, position)),
                    "review_id": len(interactions),
                    "split": splits[left] if left < len(splits) else "train",
                }
            )
    with create_artifact(
        folder, kind="reviews", command="test", configuration={}, inputs={}
    ) as writer:
        users = [{"user_id": n, "user_key": f"u{n:04}"} for n in range(len(histories))]
        items = [
            {"item_id": n, "item_key": f"i{n:04}", "title": f"thing {n}", "categories": []}
            for n in range(item_count)
        ]
        item_texts = [
            {"item_id": n, "text": f"thing {n}", "source": "metadata"} for n in range(item_count)
        ]
        writer.write_table(USERS, frame(USERS, users))
        writer.write_table(ITEMS, frame(ITEMS, items))
        writer.write_table(INTERACTIONS, frame(INTERACTIONS, interactions))
        writer.write_table(ITEM_TEXTS, frame(ITEM_TEXTS, item_texts))
        writer.write_table(REJECTED, REJECTED.empty())
    return folder


def write_vectors(
    folder: Path, values: np.ndarray, item_text_ids: Sequence[int | None], texts: Sequence[str]
) -> Path:
    """An artifact `vectors`: one vector per text, one text per item."""
    with create_artifact(
        folder, kind="vectors", command="test", configuration={}, inputs={}
    ) as writer:
        text_rows = [{"text_id": n, "text": text} for n, text in enumerate(texts)]
        known = [{"item_id": n, "text_id": text} for n, text in enumerate(item_text_ids)]
        writer.write_table(TEXTS, frame(TEXTS, text_rows))
        writer.write_table(ITEM_TEXT_IDS, frame(ITEM_TEXT_IDS, known))
        writer.write_arrays("vectors", {"values": values.astype(np.float32)})
    return folder


def write_preferences(folder: Path, rows: Sequence[dict]) -> Path:
    """An artifact `preferences` of these rows; what a row leaves out has a plain value."""
    plain = {
        "polarity": "like",
        "aspect": "sound",
        "strength": 0.5,
        "confidence": 0.5,
        "evidence": [],
        "extractor": "extractive",
        "extractor_version": "test",
    }
    with create_artifact(
        folder, kind="preferences", command="test", configuration={}, inputs={}
    ) as writer:
        writer.write_table(PREFERENCES, frame(PREFERENCES, [plain | row for row in rows]))
        writer.write_table(REJECTED, REJECTED.empty())
    return folder


def write_semantic_ids(
    folder: Path, codes: Sequence[Sequence[int]], level_sizes: Sequence[int]
) -> Path:
    """An artifact `semantic_ids` with these codes."""
    with create_artifact(
        folder, kind="semantic_ids", command="test", configuration={}, inputs={}
    ) as writer:
        rows = [{"item_id": n, "codes": list(row)} for n, row in enumerate(codes)]
        writer.write_table(CODES, frame(CODES, rows))
        writer.write_json("codec", {"level_sizes": list(level_sizes)})
    return folder
