"""`driving simulate`: let one planner drive the samples of a split, in every style asked for."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from driving.evaluation.conditions import asked_styles, sweep_names
from driving.evaluation.drive import SCORED_S, Questions, drive_all, ride_size
from driving.evaluation.planners import chosen_device, open_planner
from driving.evaluation.tables import RESULTS, measures_schema
from driving.planner.planner import PLAN_STEP_S, StyleCondition
from driving.scene_store import SceneStore
from driving.style.measures import MEASURE_NAMES
from driving.style.tables import SAMPLES
from personalize.configured_class import named_values


def write_rollouts(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    scenes: Path,
    styles: Path,
    out: Path,
    style_vectors: Path | None = None,
    checkpoint: Path | None = None,
    rules: str | None = None,
    name: str | None = None,
    split: str = "test",
    conditions: Sequence[str] = ("none",),
    closed_conditions: Sequence[str] = (),
    sweep: bool = False,
    ride_s: float = 4.0,
    maximum_samples: int | None = None,
    reactive: bool = False,
    gate: bool = False,
    batch_size: int = 64,
    examples: int = 6,
    seed: int = 0,
    device: str | None = None,
    changes: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write the artifact `rollouts` of one planner.

    Args:
        scenes: Artifact `scenes`.
        styles: Artifact `styles` of these scenes.
        out: Folder to write.
        style_vectors: Artifact `style_vectors` of these styles, for conditions that need it.
        checkpoint: A trained planner.
        rules: A planner that follows rules, by name, instead.
        name: Its name in the report.
        split: Which samples: train, validation or test.
        conditions: Styles asked for in open loop.
        closed_conditions: Styles asked for in closed loop.
        sweep: Also ask for each dimension alone, at either end, in closed loop.
        ride_s: How long closed-loop rides last, a multiple of half a second, at least 4. Only
            samples whose log goes on for that long are driven, in open loop too.
        maximum_samples: Most samples, evenly spread; None takes all.
        reactive: Other vehicles react in closed loop.
        gate: Pass over candidates that seem unsafe in closed loop, whatever the planner's scores.
        batch_size: Samples at a time; changes the speed, not the results.
        examples: Scenes kept for pictures.
        seed: Seed of everything that is drawn.
        device: Torch device; a GPU where there is one.
        changes: Options of a trained planner to change, as `NAME=VALUE`.
        overwrite: Replace what is there.

    Raises:
        InputError: If an option is wrong or no sample is left.
        ArtifactMismatch: If artifacts do not belong together.
    """
    if batch_size < 1 or examples < 0:
        raise InputError(f"--batch-size must be at least 1, got {batch_size}.")
    if not (ride_s >= SCORED_S and (ride_s / PLAN_STEP_S).is_integer()):
        raise InputError(f"--ride-s must be a multiple of 0.5 and at least 4, got {ride_s:g}.")
    read = read_artifact(styles, kind="styles")
    store = SceneStore.read(scenes, size=ride_size(ride_s))
    vectors = _vectors(style_vectors, read)
    samples, left_out = _chosen_samples(read, store, split, ride_s, maximum_samples)
    questions = Questions(
        open_conditions=tuple(dict.fromkeys(conditions)),
        closed_conditions=tuple(
            dict.fromkeys((*closed_conditions, *(sweep_names() if sweep else ())))
        ),
        ride_s=ride_s,
        reactive=reactive,
        gate=gate,
        batch_size=batch_size,
        examples=examples,
        seed=seed,
        device=chosen_device(device),
    )
    named = open_planner(
        checkpoint=checkpoint,
        rules=rules,
        name=name,
        changes=named_values(changes),
        device=questions.device,
    )
    asked = _asked(questions, vectors, samples)
    results, measures, shown = drive_all(store, read, samples, named, questions, asked)
    with create_artifact(
        out,
        kind="rollouts",
        command="driving simulate",
        configuration={
            "scenes": str(scenes),
            "styles": str(styles),
            "style_vectors": str(style_vectors) if style_vectors else None,
            "checkpoint": str(checkpoint) if checkpoint else None,
            "rules": rules,
            "split": split,
            "conditions": list(questions.open_conditions),
            "closed_conditions": list(questions.closed_conditions),
            "maximum_samples": maximum_samples,
            "ride_s": ride_s,
            "reactive": reactive,
            "gate": gate,
            "seed": seed,
            "changes": list(changes),
        },
        inputs={"scenes": store.content_hash, "styles": read.content_hash}
        | ({"checkpoint": named.content_hash} if named.content_hash else {}),
        overwrite=overwrite,
    ) as writer:
        writer.write_table(RESULTS, results)
        writer.write_table(measures_schema(MEASURE_NAMES), measures)
        writer.write_json("examples", shown)
        writer.notes.update({"name": named.name, "samples": samples.height, **named.notes})
        writer.notes |= {"reads_style": named.reads_style, "left_out": left_out}
    without = f", {left_out} left out whose log ends before {ride_s:g} s" if left_out else ""
    sys.stderr.write(f"{named.name}: {samples.height} samples, {results.height} rides{without}\n")


def _asked(
    questions: Questions, vectors: Mapping[str, np.ndarray] | None, samples: pl.DataFrame
) -> dict[str, StyleCondition]:
    names = dict.fromkeys((*questions.open_conditions, *questions.closed_conditions))
    if not names:
        raise InputError("nothing is asked; pass --conditions or --closed-conditions.")
    ids = samples["sample_id"].to_numpy()
    return {name: asked_styles(name, vectors, ids, seed=questions.seed) for name in names}


def _chosen_samples(
    styles: Artifact, store: SceneStore, split: str, ride_s: float, most: int | None
) -> tuple[pl.DataFrame, int]:
    """The samples to drive, and how many of the split were left out as their log is too short."""
    if most is not None and most < 1:
        raise InputError(f"--maximum-samples must be at least 1, got {most}.")
    every = styles.table(SAMPLES).filter(pl.col("split") == split)
    if every.is_empty():
        raise InputError(f"{styles.folder} has no sample of the split {split}.")
    samples = every.filter(logged_for(store, every, ride_s)) if ride_s > SCORED_S else every
    if samples.is_empty():
        raise InputError(
            f"{styles.folder} has no sample of the split {split} whose log goes on for {ride_s:g} "
            "s; pass a smaller --ride-s, or take longer logs."
        )
    left_out = every.height - samples.height
    if most is not None:
        places = np.unique(np.linspace(0, samples.height - 1, most).round().astype(np.int64))
        samples = samples[places]
    return samples, left_out


def logged_for(store: SceneStore, samples: pl.DataFrame, seconds: float) -> pl.Series:
    """Which samples' drivers were seen without a gap for so long after the present."""
    steps = round(seconds / store.step_s)
    keys = ["scene_id", "track_id", "step"]
    seen = pl.concat([store.states[scene] for scene in samples["scene_id"].unique()]).select(keys)
    later = (
        samples.select(*keys[:2], pl.col("step").alias("now"), "sample_id")
        .join(seen, on=keys[:2])
        .filter((pl.col("step") > pl.col("now")) & (pl.col("step") <= pl.col("now") + steps))
        .group_by("sample_id")
        .len()
    )
    counts = samples.join(later, on="sample_id", how="left", maintain_order="left")["len"]
    return counts.fill_null(0) == steps


def _vectors(folder: Path | None, styles: Artifact) -> Mapping[str, np.ndarray] | None:
    if folder is None:
        return None
    artifact = read_artifact(folder, kind="style_vectors")
    made_from = artifact.manifest.inputs.get("styles")
    if made_from != styles.content_hash:
        raise ArtifactMismatch(
            f"{folder} was encoded from other styles than {styles.folder}; run driving encode anew."
        )
    return artifact.arrays("style_vectors")
