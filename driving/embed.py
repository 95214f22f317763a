"""The command `driving embed`: a vector per sample, to search for like scenes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch.nn import functional

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import InputError
from data_prep.schema import SPLITS, Column, TableSchema
from driving.load import load_planner
from driving.planner.learned import EncodesScenes, LearnedPlanner
from driving.planner.planner import PlannerInput
from driving.planning_rows import read_planning_rows
from driving.style.tables import SAMPLES

SCENE_VECTORS = TableSchema(
    "scene_vectors",
    "which row of the array `values` belongs to which sample",
    ("sample_id",),
    (
        Column("sample_id", pl.Int32(), "which sample"),
        Column("vector_row", pl.Int32(), "row of `values` in scene_vectors.safetensors, from 0"),
    ),
)
SAMPLES_AT_ONCE = 2048


def write_scene_vectors(
    checkpoint: Path,
    out: Path,
    *,
    scenes: Path | None = None,
    styles: Path | None = None,
    splits: Sequence[str] | None = None,
    device: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write an artifact `scene_vectors`: a table of samples and their vectors, of length 1.

    Args:
        checkpoint: A run, whose best one is taken, or a checkpoint.
        out: Folder of the artifact.
        scenes: Artifact `scenes`. Default: the one trained on.
        styles: Artifact `styles`, whose samples are embedded. Default: the one trained on.
        splits: Splits to embed. Default: all.
        device: Torch device. Default: a GPU where there is one.
        overwrite: Replace an artifact that is there.

    Raises:
        InputError: If the planner encodes no scenes, a split is unknown, or there is no sample.
        ArtifactMismatch: If an artifact is damaged or of another kind.
    """
    loaded = load_planner(checkpoint)
    if not isinstance(loaded.planner, EncodesScenes):
        raise InputError(
            f"{loaded.folder} holds {type(loaded.planner).__name__}, which encodes no scenes; "
            "embed with a DiffusionPlanner."
        )
    chosen = list(splits or SPLITS)
    if unknown := [split for split in chosen if split not in SPLITS]:
        raise InputError(f"There is no split {unknown[0]}; known are {', '.join(SPLITS)}.")
    scenes, styles = scenes or loaded.paths["scenes"], styles or loaded.paths["styles"]
    source = read_artifact(styles, kind="styles")
    samples = source.table(SAMPLES).filter(pl.col("split").is_in(chosen))
    rows = read_planning_rows(scenes, samples)
    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with create_artifact(
        out,
        kind="scene_vectors",
        command="driving embed",
        configuration={"splits": chosen},
        inputs={
            "checkpoint": loaded.content_hash,
            "scenes": read_artifact(scenes, kind="scenes", verify=False).content_hash,
            "styles": source.content_hash,
        },
        overwrite=overwrite,
    ) as writer:
        values = scene_vectors(loaded.planner, rows.scenes, target)
        ids = pl.Series("sample_id", rows.sample_ids, dtype=pl.Int32)
        numbers = pl.Series("vector_row", np.arange(len(rows)), dtype=pl.Int32)
        writer.write_table(SCENE_VECTORS, pl.DataFrame([ids, numbers]))
        writer.write_arrays("scene_vectors", {"values": values})
        writer.notes["samples"], writer.notes["width"] = values.shape
    return 0


def scene_vectors(
    planner: LearnedPlanner, scenes: PlannerInput, device: str
) -> Float[np.ndarray, "sample width"]:
    """Vectors of length 1, some thousand scenes at a time; the dot product of two is their cosine.

    Raises:
        TypeError: If the planner encodes no scenes.
    """
    if not isinstance(planner, EncodesScenes):
        raise TypeError(f"{type(planner).__name__} encodes no scenes.")
    encode = planner.to(device).scene_vectors
    parts = []
    with torch.no_grad():
        for start in range(0, len(scenes.ego_history), SAMPLES_AT_ONCE):
            part = scenes.rows(slice(start, start + SAMPLES_AT_ONCE)).to(device)
            parts.append(functional.normalize(encode(part), dim=-1).cpu())
    return torch.cat(parts).numpy()
