"""`recsys report`: compare predictions in one page, with every number beside it as JSON."""

import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data_prep.artifact import create_artifact, package_version
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS, ITEMS, PREFERENCES, REJECTED
from recsys.report_examples import (
    Library,
    chosen_people,
    recommendation_example,
    steered_rows,
    steering_example,
)
from recsys.report_html import page
from recsys.report_numbers import (
    beyond_accuracy,
    cells,
    comparisons,
    lifts,
    pair_cells,
    popularity_slices,
    rank_histogram,
    slice_edges,
)
from recsys.report_runs import METRICS, Run, Sources, open_runs
from recsys.report_verdict import (
    best_retriever,
    preference_readers,
    strongest_baseline,
    verdict,
)

SCHEMA_VERSION = 1
RANK_EDGES = (1, 2, 3, 5, 10, 20, 50)
MOST_BYTES = 1_000_000


def write_report(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    predictions: Sequence[Path],
    out: Path,
    baseline: str | None = None,
    benchmark: Path | None = None,
    tables: Path | None = None,
    preferences: Path | None = None,
    vectors: Path | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write the artifact `report`: `report.html`, `metrics.json` and `rows.parquet`.

    Args:
        predictions: Artifacts `predictions` of one benchmark.
        out: Folder to write.
        baseline: Name of the recommender the others are compared with; the strongest yardstick
            by default.
        benchmark: Artifact `benchmark`, where it is no longer where the predictions found it.
        tables: Artifact `reviews`, likewise.
        preferences: Artifact `preferences`, likewise.
        vectors: Artifact `vectors`, likewise.
        resamples: Resamples of every interval.
        seed: Seed of intervals and examples.
        overwrite: Replace a report that is there.

    Raises:
        InputError: If an artifact is missing, two predictions have one name, the baseline is not
            among them or was not asked for recommendations.
        ArtifactMismatch: If predictions answer different benchmarks.
    """
    if resamples < 100:
        raise InputError(f"--resamples must be at least 100, got {resamples}.")
    overrides = {
        "benchmark": benchmark,
        "tables": tables,
        "preferences": preferences,
        "vectors": vectors,
    }
    runs, sources = open_runs(predictions, overrides)
    metrics = report_numbers(runs, sources, baseline, resamples=resamples, seed=seed)
    html = page(metrics)
    with create_artifact(
        out,
        kind="report",
        command="recsys report",
        configuration={"baseline": baseline, "resamples": resamples, "seed": seed},
        inputs={run.name: run.content_hash for run in runs},
        overwrite=overwrite,
    ) as writer:
        writer.path("report.html").write_text(html, encoding="utf-8")
        writer.write_json("metrics", metrics)
        rows_of(runs).write_parquet(writer.path("rows.parquet"), compression="zstd")
        writer.notes.update({"verdict": metrics["verdict"], "schema_version": SCHEMA_VERSION})
    sys.stderr.write("\n".join(metrics["verdict"]) + f"\n{out / 'report.html'}\n")


def rows_of(runs: Sequence[Run]) -> pl.DataFrame:
    """Every row every recommender was asked, with its rank and metrics, for other tools."""
    return pl.concat(
        [
            run.rows.select(
                pl.lit(run.name).alias("model"),
                "axis",
                "condition",
                "row_id",
                "user_id",
                "target_item_id",
                "target_wanted",
                "pair_id",
                "target_rank",
                "answered",
                *METRICS,
            )
            for run in runs
        ]
    )


def report_numbers(
    runs: Sequence[Run], sources: Sources, baseline: str | None, *, resamples: int, seed: int
) -> dict[str, Any]:
    """All numbers and words of a report, as written to `metrics.json`.

    Raises:
        InputError: If the baseline is not among the recommenders, or was not asked on the
            recommendation axis without preferences.
    """
    means = cells(runs, resamples=resamples, seed=seed)
    pairs = pair_cells(runs, resamples=resamples, seed=seed)
    best = best_retriever(runs, means)
    base = _baseline(runs, baseline, strongest_baseline(runs, means))
    tests = comparisons(runs, base, resamples=resamples, seed=seed) if base else []
    tests = [test | {"against": base.name if base else ""} for test in tests]
    added = lifts(runs, resamples=resamples, seed=seed)
    shown = shown_conditions(runs, means)
    counts = training_counts(sources)
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict(best, tests, added, means, pairs, preference_readers(runs)),
        "headline": headline(means),
        "baseline": base.name if base else None,
        "cells": means,
        "pairs": pairs,
        "comparisons": tests,
        "lifts": added,
        "shown_conditions": shown,
        "coverage": coverage(runs, sources),
        "data": data_facts(sources),
        "ranks": {
            "edges": list(RANK_EDGES),
            "histograms": [rank_histogram(run, shown[run.name], RANK_EDGES) for run in runs],
        },
        "popularity": popularity(runs, shown, counts),
        "beyond_accuracy": [beyond_accuracy(run, shown[run.name], counts) for run in runs],
        "semantic_ids": sources.semantic_ids.json("quality") if sources.semantic_ids else None,
        "examples": examples(
            runs, best, base, example_conditions(runs, means, shown), sources, seed=seed
        ),
        "runs": [run_card(run) for run in runs],
        "settings": settings(sources, resamples=resamples, seed=seed),
    }


def headline(means: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The main table, flat: one row per recommender and condition of the recommendation axis."""
    rows = []
    for cell in means:
        if cell["axis"] != "recommendation":
            continue
        row: dict[str, Any] = {
            "model": cell["model"],
            "condition": cell["condition"],
            "rows": cell["answered"],
        }
        if "metrics" in cell:
            row |= {metric: round(cell["metrics"][metric]["value"], 6) for metric in METRICS}
            found = cell["metrics"]["ndcg_10"]
            row["ndcg_10_interval"] = f"{found['low']:.4f} to {found['high']:.4f}"
        else:
            row |= dict.fromkeys(METRICS, "-") | {"ndcg_10_interval": cell["refused"]}
        rows.append(row)
    return rows


def example_conditions(
    runs: Sequence[Run], means: Sequence[Mapping[str, Any]], shown: Mapping[str, str]
) -> dict[str, str]:
    """As `shown_conditions`, but one that reads preferences is shown with some."""
    conditions = dict(shown)
    for run in runs:
        with_some = [cell for cell in means if cell["condition"] != "none"]
        own = best_retriever([run], with_some)
        if own is not None:
            conditions[run.name] = own["condition"]
    return conditions


def shown_conditions(runs: Sequence[Run], means: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The condition each recommender is shown under: its best that never looks at the target."""
    shown = {}
    for run in runs:
        own = best_retriever([run], means) or strongest_baseline([run], means)
        asked = [c for a, c in run.asked() if a == "recommendation" and c != "oracle"]
        shown[run.name] = own["condition"] if own else (asked or ["none"])[0]
    return shown


def coverage(runs: Sequence[Run], sources: Sources) -> dict[str, Any]:
    """What could be asked, what was asked, what was answered: every line adds up."""
    account = sources.benchmark.json("axes")
    total = sum(sum(axis["rows"].values()) for axis in account["axes"].values())
    asked = []
    for run in runs:
        answered = int(run.rows["answered"].sum())
        asked.append(
            {
                "model": run.name,
                "questions": total,
                "not_asked": total - run.rows.height,
                "answered": answered,
                "failed": run.rows.height - answered,
            }
        )
    return {"axes": account["axes"], "not_built": account["not_built"], "runs": asked}


def data_facts(sources: Sources) -> dict[str, Any]:
    """What the data is, where preferences come from, and what was rejected on the way."""
    tables, preferences = sources.tables, sources.preferences
    interactions = tables.table(INTERACTIONS)
    stated = preferences.table(PREFERENCES)
    with_text = int((interactions["text"].fill_null("").str.len_chars() > 0).sum())
    rejected = {}
    for name, artifact in (("reviews", tables), ("preferences", preferences)):
        reasons = artifact.table(REJECTED).group_by("reason").len().sort("len", descending=True)
        rejected[name] = [
            {"reason": reason, "rows": rows} for reason, rows in reasons.head(20).iter_rows()
        ]
    return {
        "simulated": bool(tables.manifest.notes.get("simulated", False)),
        "command": tables.manifest.command,
        "files": sorted(tables.manifest.inputs),
        "people": interactions["user_id"].n_unique(),
        "items": tables.table(ITEMS).height,
        "interactions": interactions.height,
        "reviews_with_text": with_text,
        "preferences": stated.height,
        "extractors": sorted(
            {f"{a} {b}" for a, b in stated.select("extractor", "extractor_version").unique().rows()}
        ),
        "split": sources.benchmark.json("axes")["split"],
        "timestamps_known": sources.benchmark.json("axes")["timestamps_known"],
        "reading": dict(tables.manifest.notes),
        "extracting": dict(preferences.manifest.notes),
        "rejected": rejected,
    }


def popularity(runs: Sequence[Run], shown: Mapping[str, str], counts: np.ndarray) -> dict[str, Any]:
    """Recall by how often the target occurs in training, about a third of the targets each."""
    rows = next((run.at("recommendation", shown[run.name]) for run in runs), pl.DataFrame())
    targets = rows["target_item_id"].to_numpy() if rows.height else np.zeros(0, np.int64)
    edges = slice_edges(counts, targets)
    return {
        "edges": edges,
        "slices": [
            part for run in runs for part in popularity_slices(run, shown[run.name], counts, edges)
        ],
    }


def training_counts(sources: Sources) -> np.ndarray:
    """Training interactions of every item."""
    interactions = sources.tables.table(INTERACTIONS).filter(pl.col("split") == "train")
    items = sources.tables.table(ITEMS).height
    return np.bincount(interactions["item_id"].to_numpy(), minlength=items)


def examples(
    runs: Sequence[Run],
    best: Mapping[str, Any] | None,
    base: Run | None,
    shown: Mapping[str, str],
    sources: Sources,
    *,
    seed: int,
) -> dict[str, Any]:
    """People and steered questions to look at."""
    library = Library.of(sources)
    by_name = {run.name: run for run in runs}
    lead = by_name[best["model"]] if best else runs[0]
    people = chosen_people(lead, shown[lead.name], base, seed=seed)
    readers = [run for run in runs if run.notes.get("uses_preferences")]
    reader = lead if lead in readers else next(iter(readers), None)
    steered = []
    for axis in ("fine_steering", "coarse_steering"):
        if reader is not None and (axis, "stated") in reader.asked():
            steered.extend(
                steering_example(reader, axis, row, sources, library)
                for row in steered_rows(reader, axis, seed=seed)
            )
    return {
        "lead": lead.name,
        "people": [recommendation_example(runs, row, shown, sources, library) for row in people],
        "steered": steered,
        "steered_model": reader.name if reader else None,
    }


def run_card(run: Run) -> dict[str, Any]:
    """What is known of a recommender and of how it was asked."""
    keys = (
        "class",
        "uses_preferences",
        "trained_on_validation",
        "seen_items_excluded",
        "candidates",
        "parameters",
        "training_step",
        "seconds",
        "users_per_s",
        "distinct_questions",
        "device",
        "threads",
        "torch",
        "training_configuration",
    )
    return {
        "model": run.name,
        "baseline": run.is_baseline,
        "content_hash": run.content_hash,
        "configuration": dict(run.configuration),
        **{key: run.notes.get(key) for key in keys},
    }


def settings(sources: Sources, *, resamples: int, seed: int) -> dict[str, Any]:
    """Hashes, versions and seeds."""
    artifacts = {
        "tables": sources.tables,
        "preferences": sources.preferences,
        "vectors": sources.vectors,
        "benchmark": sources.benchmark,
        "semantic_ids": sources.semantic_ids,
    }
    return {
        "hashes": {name: a.content_hash for name, a in artifacts.items() if a is not None},
        "benchmark": dict(sources.benchmark.manifest.configuration),
        "resamples": resamples,
        "seed": seed,
        "versions": {
            "this package": package_version(),
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "polars", "numpy")},
        },
    }


def _baseline(
    runs: Sequence[Run], name: str | None, strongest: Mapping[str, Any] | None
) -> Run | None:
    by_name = {run.name: run for run in runs}
    if name is None:
        return by_name[strongest["model"]] if strongest else None
    if name not in by_name:
        raise InputError(f"--baseline {name} is not among {', '.join(sorted(by_name))}.")
    if ("recommendation", "none") not in by_name[name].asked():
        raise InputError(
            f"--baseline {name} was not asked for recommendations without preferences; "
            "predict with the condition none too."
        )
    return by_name[name]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
