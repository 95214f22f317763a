"""The command `recsys embed`: a vector per item, for whatever searches items by vectors."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float

from data_prep.artifact import create_artifact, read_manifest
from data_prep.errors import InputError
from data_prep.schema import Column, TableSchema
from personalize.checkpoint import generator_checkpoint
from recsys.catalogue import Catalogue
from recsys.dense import dense_retriever, space_name
from recsys.load import (
    LoadedRecommender,
    checkpoint_data_paths,
    load_recommender,
    worded_catalogue,
)

KIND = "item_vectors"
ITEM_VECTORS = TableSchema(
    KIND,
    "which row of the array `values` belongs to which item",
    ("item_id",),
    (
        Column("item_id", pl.Int32(), "which item"),
        Column("vector_row", pl.Int32(), "row of `values` in item_vectors.safetensors, from 0"),
    ),
)


def write_item_vectors(
    *,
    checkpoint: Path,
    out: Path,
    tables: Path | None = None,
    vectors: Path | None = None,
    semantic_ids: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Write an artifact `item_vectors`: what a trained recommender finds every item by.

    A recommender with a dense head gives its own keys, whose product with its query is the dense
    logit; any other is searched in the space of text vectors (`recsys.dense.TextSpace`).

    Args:
        checkpoint: A run, whose best one is taken, or a checkpoint.
        out: Folder of the artifact.
        tables: Artifact `reviews`. Default: the one trained on; likewise `vectors` and
            `semantic_ids`.
        vectors: Artifact `vectors`; needed where there is no dense head and none was trained on.
        semantic_ids: Artifact `semantic_ids`.
        overwrite: Replace an artifact that is there.

    Raises:
        InputError: If there is neither a dense head nor a text vector.
        ArtifactMismatch: If an artifact is damaged or not the one trained on.
    """
    trained_on = checkpoint_data_paths(generator_checkpoint(checkpoint, "recommender"))
    loaded = load_recommender(
        checkpoint,
        tables=tables,
        vectors=vectors if "vectors" in trained_on else None,
        semantic_ids=semantic_ids,
    )
    values = item_vectors(loaded, worded_catalogue(loaded, vectors))
    with create_artifact(
        out,
        kind=KIND,
        command="recsys embed",
        configuration={},
        inputs={
            "checkpoint": read_manifest(loaded.folder).content_hash,
            **{name: read_manifest(path).content_hash for name, path in loaded.paths.items()},
        },
        overwrite=overwrite,
    ) as writer:
        numbers = pl.int_range(len(values), dtype=pl.Int32, eager=True)
        writer.write_table(ITEM_VECTORS, pl.DataFrame({"item_id": numbers, "vector_row": numbers}))
        writer.write_arrays(KIND, {"values": values})
        writer.notes["items"], writer.notes["width"] = values.shape
        writer.notes["space"] = space_name(loaded.recommender)
    sys.stderr.write(f"{len(values):,} items as {values.shape[1]} numbers each: {out}\n")
    return 0


def item_vectors(loaded: LoadedRecommender, catalogue: Catalogue) -> Float[np.ndarray, "item key"]:
    """What every item is found by.

    Args:
        loaded: The recommender.
        catalogue: Its catalogue, with texts if there are any.

    Raises:
        InputError: If there is neither a dense head nor a text vector.
    """
    try:
        space = dense_retriever(loaded.recommender, catalogue)
    except ValueError as error:
        raise InputError(
            f"{type(loaded.recommender).__name__} of {loaded.folder} has no dense head and was "
            "trained without text vectors; pass some as --vectors."
        ) from error
    with torch.no_grad():
        return space.dense_keys().float().cpu().numpy()
