"""The predictions a report compares, scored row by row, and the artifacts behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import BENCHMARK_ROWS, RECOMMENDATIONS
from recsys.ranking import mrr_at_k, ndcg_at_k, recall_at_k

CUT_OFFS = (5, 10)
METRICS = tuple(f"{name}_{k}" for k in CUT_OFFS for name in ("recall", "ndcg", "mrr"))
CONDITIONS = ("none", "latest", "all", "retrieved", "stated", "oracle")
AXES = (
    "recommendation",
    "history_consolidation",
    "fine_steering",
    "coarse_steering",
    "sentiment_following",
    "sentiment_following_with_history",
)
_METRIC = {"recall": recall_at_k, "ndcg": ndcg_at_k, "mrr": mrr_at_k}
_OVERRIDES = ("benchmark", "tables", "preferences", "vectors")


@dataclass(frozen=True)
class Run:
    """One recommender's answers, scored.

    Attributes:
        name: Name in the report.
        notes: What the predictions say of the recommender.
        configuration: Options of `recsys predict`.
        content_hash: Hash of the predictions.
        rows: Every row it was asked, with its rank and the metrics; `answered` is false where
            nothing came back.
    """

    name: str
    notes: Mapping[str, Any]
    configuration: Mapping[str, Any]
    content_hash: str
    rows: pl.DataFrame

    @property
    def is_baseline(self) -> bool:
        """Whether it is no retriever of ours but a yardstick."""
        return ".baselines." in str(self.notes.get("module", ""))

    def at(self, axis: str, condition: str) -> pl.DataFrame:
        """The rows of one axis under one condition."""
        return self.rows.filter((pl.col("axis") == axis) & (pl.col("condition") == condition))

    def asked(self) -> list[tuple[str, str]]:
        """Axes and conditions it was asked under, in the order of the report."""
        pairs = self.rows.select("axis", "condition").unique().rows()
        return sorted(pairs, key=lambda pair: (_place(AXES, pair[0]), _place(CONDITIONS, pair[1])))


@dataclass(frozen=True)
class Sources:
    """The artifacts behind the predictions.

    Attributes:
        benchmark: The questions.
        tables: Histories and items.
        preferences: Preferences with their evidence.
        vectors: Texts by number.
        semantic_ids: Where a recommender used them.
    """

    benchmark: Artifact
    tables: Artifact
    preferences: Artifact
    vectors: Artifact
    semantic_ids: Artifact | None = None


def open_runs(
    folders: Sequence[Path], overrides: Mapping[str, Path | None]
) -> tuple[list[Run], Sources]:
    """Open predictions and what they were made from.

    Args:
        folders: Artifacts `predictions`.
        overrides: Where the benchmark, tables, preferences and vectors are now, by name; None
            takes the place they were at when they were used.

    Raises:
        ArtifactMismatch: If predictions answer different benchmarks or an artifact was replaced.
        InputError: If an artifact is not where it was, or two predictions have one name.
    """
    opened = [read_artifact(folder, kind="predictions") for folder in folders]
    first = opened[0]
    for other in opened[1:]:
        if other.manifest.inputs["benchmark"] != first.manifest.inputs["benchmark"]:
            raise ArtifactMismatch(
                f"{other.folder} and {first.folder} answer different benchmarks; compare "
                "predictions of one benchmark."
            )
    benchmark = _source("benchmark", "benchmark", first, overrides)
    sources = {
        name: _source(name, kind, benchmark, overrides)
        for name, kind in (
            ("tables", "reviews"),
            ("preferences", "preferences"),
            ("vectors", "vectors"),
        )
    }
    questions = benchmark.table(BENCHMARK_ROWS)
    runs = [_run(artifact, questions) for artifact in opened]
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two predictions are named {name}; give one another --name.")
    return runs, Sources(benchmark, semantic_ids=_semantic_ids(opened), **sources)


def scored_rows(recommendations: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """Every answered question with its metrics; a row without any item counts as failed.

    Args:
        recommendations: The table of that name.
        questions: Rows of the benchmark.

    Returns:
        One row per recommendation: the question's key, person, target and pair, `target_rank`,
        `answered`, and one column per metric (0 where it was not answered).
    """
    joined = recommendations.join(
        questions.select(
            "axis", "condition", "row_id", "user_id", "target_item_id", "target_wanted", "pair_id"
        ),
        on=["axis", "condition", "row_id"],
        how="left",
        maintain_order="left",
    )
    found = torch.from_numpy(joined["target_rank"].is_not_null().to_numpy().copy())
    ranks = torch.from_numpy(joined["target_rank"].fill_null(1).to_numpy().astype(np.int64))
    columns = []
    for metric in METRICS:
        name, _, k = metric.partition("_")
        values = _METRIC[name](ranks, found, k=int(k)).double().numpy()
        columns.append(pl.Series(metric, values))
    return joined.with_columns(
        (pl.col("item_ids").list.len() > 0).alias("answered"), *columns
    ).drop("scores")


def _run(artifact: Artifact, questions: pl.DataFrame) -> Run:
    rows = scored_rows(artifact.table(RECOMMENDATIONS), questions)
    unknown = rows["target_item_id"].null_count()
    if unknown:
        raise ArtifactMismatch(
            f"{artifact.folder} answers {unknown} questions its benchmark does not hold."
        )
    notes = artifact.manifest.notes
    return Run(
        name=str(notes.get("name", artifact.folder.name)),
        notes=notes,
        configuration=artifact.manifest.configuration,
        content_hash=artifact.content_hash,
        rows=rows,
    )


def _source(
    name: str, kind: str, reader: Artifact, overrides: Mapping[str, Path | None]
) -> Artifact:
    """An artifact another one was made from, checked to be the same."""
    folder = overrides.get(name) or Path(str(reader.manifest.configuration.get(name, "")))
    if not (folder / "manifest.json").is_file():
        raise InputError(
            f"The {name} behind {reader.folder} are not at {folder}; pass --{name} FOLDER."
        )
    found = read_artifact(folder, kind=kind)
    if found.content_hash != reader.manifest.inputs[name]:
        raise ArtifactMismatch(
            f"{folder} was written again after {reader.folder} was made from it; "
            f"pass the old one with --{name}, or make {reader.folder} again."
        )
    return found


def _semantic_ids(opened: Sequence[Artifact]) -> Artifact | None:
    """Semantic IDs of the first predictions that name some which are still there."""
    for artifact in opened:
        folder = artifact.manifest.configuration.get("semantic_ids")
        if folder and (Path(folder) / "manifest.json").is_file():
            return read_artifact(Path(folder), kind="semantic_ids")
    return None


def _place(order: Sequence[str], name: str) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)
