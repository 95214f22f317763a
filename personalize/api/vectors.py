"""Vectors and their ids, read from an artifact of any kind that has one vector per row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from data_prep.artifact import Artifact, read_artifact, read_manifest
from data_prep.errors import ArtifactMismatch, InputError
from personalize.api.exact_search import VectorTable, check_vectors


@dataclass(frozen=True)
class StoredVectors:
    """The vectors of an artifact.

    Attributes:
        table: The vectors in the order of their ids.
        content_hash: Hash of the artifact.
    """

    table: VectorTable
    content_hash: str


def read_vectors(folder: Path) -> StoredVectors:
    """Ids and vectors: the first column of the table `<kind>`, and the array `values`.

    The table's column `vector_row` says which row of the array belongs to which id.

    Args:
        folder: An artifact such as `scene_vectors`.

    Raises:
        InputError: If the folder holds no such table and array, or one vector is not finite.
        ArtifactMismatch: If it is damaged, or is no artifact.
    """
    kind = read_manifest(folder).kind
    artifact = read_artifact(folder, kind=kind)
    if not (artifact.has(f"{kind}.parquet") and artifact.has(f"{kind}.safetensors")):
        raise InputError(
            f"{folder} ({kind}) has no table and array of its own name; an index is built of an "
            "artifact with one vector per id, such as scene_vectors or item_vectors."
        )
    ids, rows = _ids_and_rows(artifact, pl.read_parquet(artifact.file(f"{kind}.parquet")))
    values = artifact.arrays(kind).get("values")
    if values is None or values.ndim != 2 or values.dtype != np.float32:
        raise InputError(f"{folder} ({kind}) has no array `values` of vectors in 32 bit.")
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(values):
        raise ArtifactMismatch(f"{folder} names a vector_row that `values` does not have.")
    order = np.argsort(ids)
    ids, rows = ids[order], rows[order]
    if not np.array_equal(rows, np.arange(len(values))):
        values = values[rows]
    try:
        lengths = check_vectors(values, width=values.shape[1], what="vector")
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from error
    longest = float(lengths.max(initial=0.0))
    return StoredVectors(VectorTable(ids, values, longest), artifact.content_hash)


def _ids_and_rows(artifact: Artifact, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The two columns that count, checked."""
    first = frame.columns[0] if frame.columns else ""
    where = f"The table of {artifact.folder}"
    if "vector_row" not in frame.columns or first == "vector_row":
        raise InputError(f"{where} has no id as its first column and no vector_row beside it.")
    for name in (first, "vector_row"):
        if not frame[name].dtype.is_integer() or frame[name].null_count():
            raise InputError(f"{where} has a {name} that is no number, or is not there.")
    ids = frame[first].cast(pl.Int64).to_numpy()
    if len(ids) and ids.min() < 0:
        raise InputError(f"{where} has a negative {first}.")
    if frame[first].n_unique() != len(ids):
        raise InputError(f"{where} repeats a {first}; an id has one vector.")
    return ids, frame["vector_row"].cast(pl.Int64).to_numpy()
