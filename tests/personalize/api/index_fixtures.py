"""Vectors artifacts and the slow, obvious search that retrievers are held against."""

from pathlib import Path

import numpy as np
import polars as pl

from data_prep.artifact import create_artifact
from data_prep.schema import Column, TableSchema

ITEM_VECTORS = TableSchema(
    "item_vectors",
    "which row of `values` belongs to which item",
    ("item_id",),
    (Column("item_id", pl.Int32(), "item"), Column("vector_row", pl.Int32(), "row, from 0")),
)


def write_item_vectors(
    out: Path, ids: np.ndarray, vectors: np.ndarray, schema: TableSchema = ITEM_VECTORS
) -> str:
    """An artifact of these vectors, the array in another order than the table; its hash."""
    order = np.random.default_rng(7).permutation(len(ids))
    with create_artifact(
        out, kind=schema.name, command="test", configuration={}, inputs={}
    ) as writer:
        place = np.empty(len(ids), np.int64)
        place[order] = np.arange(len(ids))
        first, second = schema.columns
        frame = pl.DataFrame(
            {
                first.name: pl.Series(ids, dtype=first.dtype),
                second.name: pl.Series(place, dtype=second.dtype),
            }
        )
        writer.write_table(schema, frame)
        writer.write_arrays(schema.name, {"values": vectors[order]})
    from data_prep.artifact import read_manifest

    return read_manifest(out).content_hash


def clustered(count: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Unit vectors around a tenth as many centres."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((max(1, count // 10), width))
    drawn = centres[random.integers(0, len(centres), count)]
    drawn = drawn + 0.5 * random.standard_normal((count, width))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def slow_search(
    table: dict[int, np.ndarray],
    query: np.ndarray,
    count: int,
    *,
    only: list[int] | None = None,
    never: list[int] | None = None,
) -> tuple[list[int], list[float]]:
    """Ids and scores, best first, by sorting everything."""
    scored = [
        (-np.float32(vector.astype(np.float64) @ query.astype(np.float64)), item)
        for item, vector in table.items()
        if (only is None or item in only) and item not in (never or [])
    ]
    best = sorted(scored)[:count]
    lacking = count - len(best)
    return (
        [item for _, item in best] + [-1] * lacking,
        [float(-score) for score, _ in best] + [-np.inf] * lacking,
    )
