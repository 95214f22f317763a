"""`driving report`: compare the rollouts of several planners in one page."""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data_prep.artifact import Artifact, create_artifact, package_version, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.scenes.tables import SCENES
from data_prep.schema import REJECTED
from driving.evaluation.conditions import is_oracle
from driving.evaluation.tables import RESULTS, measures_schema
from driving.report.numbers import (
    HEADLINE,
    Drawing,
    DrivenRun,
    cells,
    comparisons,
)
from driving.report.page import page
from driving.report.responses import responses
from driving.report.style_numbers import (
    distances_to_logs,
    monotonicity,
    recovery,
    safety_of_styles,
)
from driving.report.verdict import verdict
from driving.style.measures import MEASURE_NAMES
from driving.style.tables import SAMPLES, STYLES

KEY = ["loop", "condition", "sample_id"]
MOST_EXAMPLES = 6


def write_report(
    *,
    rollouts: Sequence[Path],
    out: Path,
    scenes: Path | None = None,
    styles: Path | None = None,
    resamples: int = 2000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write the artifact `report`: `report.html`, `metrics.json` and `rows.parquet`.

    Args:
        rollouts: Artifacts `rollouts` of the same samples.
        out: Folder to write.
        scenes: Artifact `scenes`, where it is no longer where the rollouts found it.
        styles: Artifact `styles`, likewise.
        resamples: Resamples of every interval.
        seed: Seed of intervals.
        overwrite: Replace a report that is there.

    Raises:
        InputError: If nothing is compared or two planners have one name.
        ArtifactMismatch: If rollouts are of different samples.
    """
    if resamples < 100:
        raise InputError(f"--resamples must be at least 100, got {resamples}.")
    opened = [read_artifact(path, kind="rollouts") for path in rollouts]
    _check(opened)
    first = opened[0].manifest.configuration
    scene_tables = read_artifact(scenes or Path(str(first["scenes"])), kind="scenes")
    style_tables = read_artifact(styles or Path(str(first["styles"])), kind="styles")
    if opened[0].manifest.inputs["styles"] != style_tables.content_hash:
        raise ArtifactMismatch(
            f"{style_tables.folder} is not what {opened[0].folder} was driven on; pass --styles."
        )
    samples = sample_facts(scene_tables, style_tables)
    runs = [_run(artifact, samples) for artifact in opened]
    metrics = report_numbers(runs, opened, (scene_tables, style_tables), samples,
                             Drawing(resamples, seed))  # fmt: skip
    with create_artifact(
        out,
        kind="report",
        command="driving report",
        configuration={"resamples": resamples, "seed": seed},
        inputs={
            run.name: artifact.content_hash for run, artifact in zip(runs, opened, strict=True)
        },
        overwrite=overwrite,
    ) as writer:
        writer.path("report.html").write_text(page(metrics), encoding="utf-8")
        writer.write_json("metrics", metrics)
        rows = pl.concat([run.results.with_columns(planner=pl.lit(run.name)) for run in runs])
        rows.write_parquet(writer.path("rows.parquet"), compression="zstd")
        writer.notes.update({"verdict": metrics["verdict"]})
    sys.stderr.write("\n".join(metrics["verdict"]) + f"\n{out / 'report.html'}\n")


def sample_facts(scenes: Artifact, styles: Artifact) -> pl.DataFrame:
    """What is known of every sample: its recording as a number, its label, where it is."""
    scene_rows = scenes.table(SCENES).select(
        "scene_id", "scene_key", "source", "recording_key", "simulated", "location"
    )
    recordings = pl.struct("source", "recording_key").rank("dense").cast(pl.Int64)
    return (
        styles.table(SAMPLES)
        .join(styles.table(STYLES), on="sample_id")
        .join(scene_rows, on="scene_id")
        .with_columns(recording=recordings)
        .sort("sample_id")
    )


def report_numbers(
    runs: Sequence[DrivenRun],
    opened: Sequence[Artifact],
    tables: tuple[Artifact, Artifact],
    samples: pl.DataFrame,
    drawing: Drawing,
) -> dict[str, Any]:
    """Everything that `metrics.json` holds."""
    means = cells(runs, drawing)
    split = str(opened[0].manifest.configuration["split"])
    metrics: dict[str, Any] = {
        "headline": headline(means),
        "cells": means,
        "comparisons": comparisons(runs, drawing),
        "monotonicity": monotonicity(runs, drawing),
        "recovery": recovery(runs),
        "safety": safety_of_styles(runs, drawing),
        "responses": responses(runs),
        "distances_to_logs": distances_to_logs(runs, *log_styles(tables[1], samples, split)),
        "data": data_facts(runs[0], tables, samples, split) | ride_facts(opened[0]),
        "examples": examples(runs, opened, samples),
        "runs": [_run_card(run, a) for run, a in zip(runs, opened, strict=True)],
        "settings": {
            "resamples": drawing.resamples,
            "seed": drawing.seed,
            "version": package_version(),
            "python": platform.python_version(),
            "scenes": tables[0].content_hash,
            "styles": tables[1].content_hash,
        },
    }
    return metrics | {"verdict": verdict(metrics)}


def log_styles(styles: Artifact, samples: pl.DataFrame, split: str) -> tuple[np.ndarray, list[str]]:
    """Style vectors and labels of the logs of a split."""
    chosen = samples.filter(pl.col("split") == split)
    values = styles.arrays("styles")["values"]
    return values[chosen["sample_id"].to_numpy()], chosen["label"].to_list()


def headline(means: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The main table, flat; what looks at the answer is left out."""
    rows = []
    for cell in means:
        if is_oracle(cell["condition"]) or cell["condition"] == "shuffled":
            continue
        found = {name: cell["metrics"][name] for name in HEADLINE if name in cell["metrics"]}
        row = {"planner": cell["planner"], "loop": cell["loop"], "style": cell["condition"]}
        row |= {name: found[name]["value"] if name in found else "-" for name in HEADLINE}
        pdms = found["pdms"]
        rows.append(row | {"pdms_interval": f"{pdms['low']:.3f} to {pdms['high']:.3f}"})
    return rows


def data_facts(
    run: DrivenRun, tables: tuple[Artifact, Artifact], samples: pl.DataFrame, split: str
) -> dict[str, Any]:
    """What the samples are and where they come from."""
    driven = samples.filter(pl.col("sample_id").is_in(run.results["sample_id"].unique().to_list()))
    scene_notes, style_notes = (artifact.manifest.notes for artifact in tables)
    scenes = driven.unique("scene_id")
    return {
        "samples": driven.height,
        "scenes": scenes.height,
        "recordings": driven["recording"].n_unique(),
        "drivers": driven["driver_id"].n_unique(),
        "simulated": int(scenes["simulated"].sum()),
        "sources": sorted(driven["source"].unique().to_list()),
        "split": split,
        "labels": _counts(driven, "label"),
        "scenario_types": _counts(driven, "scenario_type"),
        "rejected": _counts(tables[0].table(REJECTED), "reason"),
        "agreement": list(style_notes.get("truth_lines", [])),
        "reading": dict(scene_notes),
    }


def ride_facts(rollouts: Artifact) -> dict[str, Any]:
    """How long closed-loop rides last, and how many samples were left out for it."""
    manifest = rollouts.manifest
    return {"ride_s": manifest.configuration["ride_s"], "left_out": manifest.notes["left_out"]}


def examples(
    runs: Sequence[DrivenRun], opened: Sequence[Artifact], samples: pl.DataFrame
) -> list[dict[str, Any]]:
    """Scenes to draw: of the last planner that reads styles, which is the one in question."""
    reading = [place for place, run in enumerate(runs) if run.reads_style]
    if not reading:
        return []
    place = reading[-1]
    found = opened[place].json("examples")[:MOST_EXAMPLES]
    facts = {row["sample_id"]: row for row in samples.iter_rows(named=True)}
    for example in found:
        row = facts[example["sample_id"]]
        where = f"{row['scenario_type']}, {row['location']}, scene {row['scene_key']}"
        example["title"] = where + (" (simulated)" if row["simulated"] else "")
        example["planner"] = runs[place].name
    return found


def _counts(rows: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(rows[column].value_counts(sort=True).sort("count", column, descending=[True, False])
                .iter_rows())  # fmt: skip


def _run(artifact: Artifact, samples: pl.DataFrame) -> DrivenRun:
    measures = artifact.table(measures_schema(MEASURE_NAMES))
    facts = samples.select("sample_id", "recording", "label", "scenario_type", "driver_id")
    results = artifact.table(RESULTS).join(measures, on=KEY).join(facts, on="sample_id").sort(KEY)
    notes = artifact.manifest.notes
    return DrivenRun(
        name=str(notes["name"]),
        results=results,
        notes=notes,
        reads_style=bool(notes["reads_style"]),
        rules=str(artifact.manifest.configuration["rules"] or ""),
    )


def _run_card(run: DrivenRun, artifact: Artifact) -> dict[str, Any]:
    configuration = {
        key: value
        for key, value in artifact.manifest.configuration.items()
        if value not in (None, [], "")
    }
    known = {key: value for key, value in run.notes.items() if key not in ("name", "configuration")}
    facts = known | {"asked": json.dumps(configuration, sort_keys=True)}
    return {"planner": run.name, "reads_style": run.reads_style, "facts": facts}


def _check(opened: Sequence[Artifact]) -> None:
    if not opened:
        raise InputError("nothing to report; pass --rollouts FOLDER.")
    names = [artifact.manifest.notes["name"] for artifact in opened]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"two rollouts are called {twice[0]}; give one another --name when you simulate it."
        )
    samples = [
        np.sort(artifact.table(RESULTS)["sample_id"].unique().to_numpy()) for artifact in opened
    ]
    for artifact, found in zip(opened, samples, strict=True):
        same = artifact.manifest.inputs["styles"] == opened[0].manifest.inputs["styles"]
        same &= ride_facts(artifact) == ride_facts(opened[0])
        if not same or not np.array_equal(found, samples[0]):
            raise ArtifactMismatch(
                f"{artifact.folder} drove other samples than {opened[0].folder}; simulate both on "
                "the same styles, split, number of samples and --ride-s."
            )
