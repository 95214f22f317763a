"""The command `driving embed`: a vector per sample, to search for scenes.

A vector is what `driving.scene_layout` says: that of the words which describe the scene, numbers of
its driver's style, and what a planner's encoder makes of it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch.nn import functional

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import SPLITS, Column, TableSchema
from driving.load import load_planner
from driving.planner.learned import EncodesScenes, LearnedPlanner
from driving.planner.planner import PlannerInput
from driving.planning_rows import read_planning_rows
from driving.scene_layout import STYLE_WIDTH, SceneLayout, style_numbers
from driving.scene_texts import SampleText, scene_texts
from driving.style.tables import SAMPLES
from personalize.conditioning.text import EMBEDDED, SentenceEncoder

SCENE_VECTORS = TableSchema(
    "scene_vectors",
    "which row of the array `values` belongs to which sample",
    ("sample_id",),
    (
        Column("sample_id", pl.Int32(), "which sample"),
        Column("vector_row", pl.Int32(), "row of `values` in scene_vectors.safetensors, from 0"),
    ),
)
SCENE_TEXTS = TableSchema(
    "scene_texts",
    "the words by which a sample is found",
    ("sample_id",),
    (
        Column("sample_id", pl.Int32(), "which sample"),
        Column("text", pl.String(), "the words whose vector is the first part of its own"),
    ),
)
LAYOUT = "layout"
SAMPLES_AT_ONCE = 2048


def write_scene_vectors(  # noqa: PLR0913  (each one is an option of the command)
    checkpoint: Path,
    out: Path,
    *,
    scenes: Path | None = None,
    styles: Path | None = None,
    splits: Sequence[str] | None = None,
    texts: bool = True,
    encoder: str = EMBEDDED,
    device: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write an artifact `scene_vectors`: samples, their texts and their vectors.

    `layout.json` holds the widths of the parts, the sentence model and its fingerprint.

    Args:
        checkpoint: A run, whose best one is taken, or a checkpoint.
        out: Folder of the artifact.
        scenes: Artifact `scenes`. Default: the one trained on.
        styles: Artifact `styles`, whose samples are embedded. Default: the one trained on.
        splits: Splits to embed. Default: all.
        texts: Encode the words too; without them scenes are found by style and likeness alone.
        encoder: Sentence model (`personalize.conditioning.text`).
        device: Torch device. Default: a GPU where there is one.
        overwrite: Replace an artifact that is there.

    Raises:
        InputError: If the planner encodes no scenes, a split is unknown, or there is no sample.
        ArtifactMismatch: If an artifact is damaged or of another kind, or they do not belong
            together.
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
    logs = read_artifact(scenes or loaded.paths["scenes"], kind="scenes")
    source = read_artifact(styles or loaded.paths["styles"], kind="styles")
    samples = source.table(SAMPLES).filter(pl.col("split").is_in(chosen))
    rows = read_planning_rows(logs.folder, samples)
    said = scene_texts(logs, source, samples)
    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with create_artifact(
        out,
        kind="scene_vectors",
        command="driving embed",
        configuration={"splits": chosen, "texts": texts, "encoder": encoder},
        inputs={
            "checkpoint": loaded.content_hash,
            "scenes": logs.content_hash,
            "styles": source.content_hash,
        },
        overwrite=overwrite,
    ) as writer:
        words, model = _text_vectors(said, encoder if texts else None, target)
        own = source.arrays("styles")
        kept = samples["sample_id"].to_numpy()
        style = style_numbers(own["values"][kept], own["mask"][kept].astype(np.bool_))
        values = np.concatenate(
            [words, style, scene_vectors(loaded.planner, rows.scenes, target)], 1
        )
        numbers = pl.Series("vector_row", np.arange(len(rows)), dtype=pl.Int32)
        writer.write_table(SCENE_VECTORS, samples.select("sample_id").with_columns(numbers))
        spoken = pl.Series("text", [one.words for one in said], dtype=pl.String)
        writer.write_table(SCENE_TEXTS, samples.select("sample_id").with_columns(spoken))
        writer.write_arrays("scene_vectors", {"values": values})
        layout = SceneLayout(words.shape[1], values.shape[1] - words.shape[1] - STYLE_WIDTH)
        writer.write_json(LAYOUT, {**vars(layout), "style": STYLE_WIDTH, **model})
        writer.notes["samples"], writer.notes["width"] = values.shape
        writer.notes["texts"] = len({one.words for one in said}) if texts else 0
    return 0


def read_layout(vectors: Artifact) -> SceneLayout:
    """How the vectors of an artifact `scene_vectors` are laid out.

    Raises:
        ArtifactMismatch: If it was written before vectors had parts, or by other dimensions.
    """
    found = vectors.json(LAYOUT) if vectors.has(f"{LAYOUT}.json") else {}
    if found.get("style") != STYLE_WIDTH:
        raise ArtifactMismatch(
            f"{vectors.folder} has other parts than this version searches; run driving embed again."
        )
    return SceneLayout(found["text"], found["scene"])


def _text_vectors(
    said: Sequence[SampleText], encoder: str | None, device: str
) -> tuple[Float[np.ndarray, "sample width"], dict[str, str]]:
    """A unit vector per sample, and which model it is of; of no width without a model."""
    if encoder is None:
        return np.zeros((len(said), 0), np.float32), {}
    model = SentenceEncoder(encoder, device=device)
    vectors = model.encode([one.words for one in said])
    return vectors, {"encoder": encoder, "fingerprint": model.fingerprint}


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
