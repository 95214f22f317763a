"""`driving encode`: the style vectors a planner is conditioned on, in several conditions."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS, STYLE_LABELS
from data_prep.scenes.tables import DRIVER_STYLES
from data_prep.schema import PREFERENCES
from driving.style.tables import SAMPLES, STYLES
from personalize.conditioning.attributes import Attributes
from personalize.preferences.record import Preference


def run(*, styles: Path, scenes: Path, out: Path, overwrite: bool = False) -> int:
    """Write an artifact `style_vectors`; returns the exit status.

    Its array file `style_vectors` holds `<condition>_values` and `<condition>_mask` per sample:
    `own` is the window itself, an oracle that looks at the future as StyleDrive's protocol does;
    `before` is what the driver did strictly before, through the preferences table; `truth` is the
    simulated driver's true style, where there is one. `label` is a place in `STYLE_LABELS`.

    Raises:
        ArtifactMismatch: If the styles were made from other scenes.
    """
    annotated = read_artifact(styles, kind="styles")
    source = read_artifact(scenes, kind="scenes")
    if annotated.manifest.inputs.get("scenes") != source.content_hash:
        raise ArtifactMismatch(
            f"{styles} was made from other scenes than {scenes}; run driving annotate on these."
        )
    if annotated.json("style_dimensions") != list(STYLE_DIMENSIONS):
        raise ArtifactMismatch(f"{styles} has other style dimensions; run driving annotate again.")
    samples = annotated.table(SAMPLES)
    arrays = style_arrays(annotated, source, samples)
    with create_artifact(
        out,
        kind="style_vectors",
        command="driving encode",
        configuration={},
        inputs={"styles": annotated.content_hash, "scenes": source.content_hash},
        overwrite=overwrite,
    ) as writer:
        writer.write_arrays("style_vectors", arrays)
        writer.write_json("style_dimensions", list(STYLE_DIMENSIONS))
        writer.notes = {"samples": samples.height} | {
            f"{name}_share_known": round(float(array.mean()), 4)
            for name, array in arrays.items()
            if name.endswith("_mask")
        }
    sys.stderr.write(f"{samples.height:,} style vectors: {out}\n")
    return 0


def style_arrays(
    annotated: Artifact, source: Artifact, samples: pl.DataFrame
) -> dict[str, np.ndarray]:
    """Values and mask of every condition, and the labels, in the order of the samples."""
    own = annotated.arrays("styles")
    before = before_vectors(samples, annotated.table(PREFERENCES))
    names = list(STYLE_LABELS)
    labels = annotated.table(STYLES)["label"]
    arrays = {
        "own_values": own["values"].astype(np.float32),
        "own_mask": own["mask"].astype(np.bool_),
        "before_values": before[0],
        "before_mask": before[1],
        "label": np.array([names.index(label) for label in labels], dtype=np.int64),
    }
    if source.has("driver_styles.parquet"):
        true = {
            (scene, track): values
            for scene, track, values in source.table(DRIVER_STYLES)
            .select("scene_id", "track_id", "values")
            .iter_rows()
        }
        arrays["truth_values"], arrays["truth_mask"] = _true_vectors(samples, true)
    return arrays


def before_vectors(
    samples: pl.DataFrame, preferences: pl.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """What the preferences known at every sample say, by `Attributes` over the dimensions."""
    encoder = Attributes(STYLE_DIMENSIONS)
    known: dict[tuple[int, int], list[Preference]] = {}
    columns = ("subject_id", "valid_from", "text", "polarity", "aspect", "strength", "confidence")
    for row in preferences.select(columns).iter_rows(named=True):
        preference = Preference(**row, evidence=(), extractor="heuristic", extractor_version="")
        known.setdefault((row["subject_id"], row["valid_from"]), []).append(preference)
    values = np.zeros((samples.height, len(STYLE_DIMENSIONS)), dtype=np.float32)
    mask = np.zeros(values.shape, dtype=np.bool_)
    for number, key in enumerate(samples.select("driver_id", "step").iter_rows()):
        if key in known:
            vector = encoder.encode(known[key])
            values[number], mask[number] = vector.values, vector.mask
    return values, mask


def _true_vectors(
    samples: pl.DataFrame, true: Mapping[tuple[int, int], list[float]]
) -> tuple[np.ndarray, np.ndarray]:
    values = np.zeros((samples.height, len(STYLE_DIMENSIONS)), dtype=np.float32)
    mask = np.zeros(values.shape, dtype=np.bool_)
    for number, key in enumerate(samples.select("scene_id", "track_id").iter_rows()):
        if key in true:
            values[number], mask[number] = true[key], True
    return values, mask
