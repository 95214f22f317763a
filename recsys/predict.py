"""`recsys predict`: ask one trained recommender the questions of a benchmark."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import InputError
from data_prep.schema import BENCHMARK_ROWS, RECOMMENDATIONS
from personalize.checkpoint import generator_checkpoint
from personalize.configured_class import named_values
from recsys.answers import (
    AskingOptions,
    ask,
    askable_rows,
    distinct_questions,
    recommendation_rows,
)
from recsys.load import LoadedRecommender, load_recommender
from recsys.recommender import Recommender


def write_predictions(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    checkpoint: Path,
    benchmark: Path,
    out: Path,
    tables: Path | None = None,
    vectors: Path | None = None,
    semantic_ids: Path | None = None,
    count: int = 50,
    exclude_history: bool = False,
    conditions: Sequence[str] | None = None,
    axes: Sequence[str] | None = None,
    batch_size: int = 256,
    device: str | None = None,
    name: str | None = None,
    changes: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write the artifact `predictions`.

    Args:
        checkpoint: A checkpoint, or a run whose best one is taken.
        benchmark: Artifact `benchmark`.
        out: Folder to write.
        tables: Artifact `reviews`, where it is no longer where the run found it.
        vectors: Artifact `vectors`, likewise.
        semantic_ids: Artifact `semantic_ids`, likewise.
        count: Items asked for per question.
        exclude_history: Leave out items of the history.
        conditions: Only these conditions; all by default.
        axes: Only these axes; all by default.
        batch_size: Questions asked at once; changes the speed, not the answers.
        device: Torch device; a GPU where there is one.
        name: Name of the recommender in the report; the run folder's name by default.
        changes: Options of the recommender to change, as `NAME=VALUE`, such as `ranking.prior=0`.
        overwrite: Replace predictions that are there.

    Raises:
        InputError: If a number is out of range or nothing can be asked.
        ArtifactMismatch: If an artifact does not fit.
    """
    _check_numbers({"count": count, "batch-size": batch_size})
    questions = read_artifact(benchmark, kind="benchmark")
    folder = generator_checkpoint(checkpoint, "recommender")
    loaded = load_recommender(
        folder,
        tables=tables,
        vectors=vectors,
        semantic_ids=semantic_ids,
        changes=named_values(changes),
    )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    recommender = loaded.recommender.to(device).eval()
    options = AskingOptions(
        count=min(count, loaded.catalogue.item_count),
        batch_size=batch_size,
        maximum_history=loaded.maximum_history,
        exclude_history=exclude_history,
        device=device,
    )
    rows, not_asked = chosen_rows(questions, conditions, axes, recommender)
    frame, facts = predicted(recommender, rows, options)
    source = read_artifact(folder, kind="checkpoint", verify=False)
    with create_artifact(
        out,
        kind="predictions",
        command="recsys predict",
        configuration={
            "checkpoint": str(checkpoint),
            "benchmark": str(benchmark),
            "semantic_ids": _text(semantic_ids or loaded.semantic_ids),
            "count": count,
            "exclude_history": exclude_history,
            "conditions": list(conditions) if conditions else None,
            "axes": list(axes) if axes else None,
            "batch_size": batch_size,
            "changes": list(changes),
        },
        inputs={"benchmark": questions.content_hash, "checkpoint": source.content_hash},
        overwrite=overwrite,
    ) as writer:
        writer.write_table(RECOMMENDATIONS, frame)
        writer.notes.update(facts | recommender_facts(loaded, source))
        writer.notes.update(
            {
                "not_asked": not_asked,
                "name": name or run_name(folder),
                "seen_items_excluded": exclude_history,
            }
        )
    _tell(facts, not_asked)


def chosen_rows(
    questions: Artifact,
    conditions: Sequence[str] | None,
    axes: Sequence[str] | None,
    recommender: Recommender,
) -> tuple[pl.DataFrame, int]:
    """The rows of a benchmark that a recommender is asked, and how many it is not asked.

    Raises:
        InputError: If a condition or an axis is not in the benchmark, or no row is left.
    """
    every = rows = questions.table(BENCHMARK_ROWS)
    for column, wanted in (("condition", conditions), ("axis", axes)):
        known = sorted(rows[column].unique().to_list())
        unknown = sorted(set(wanted or ()) - set(known))
        if unknown:
            raise InputError(
                f"{questions.folder} has no {column} {unknown[0]}; it has {', '.join(known)}."
            )
        if wanted:
            rows = rows.filter(pl.col(column).is_in(list(wanted)))
    left = askable_rows(rows, uses_preferences=recommender.uses_preferences)
    if not left.height:
        raise InputError(
            f"{type(recommender).__name__} reads no preferences and can only be asked under the "
            "condition none, which is not among those chosen."
        )
    return left, every.height - left.height


def predicted(
    recommender: Recommender, rows: pl.DataFrame, options: AskingOptions
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The table `recommendations`, and facts about the asking.

    Args:
        recommender: In evaluation mode, on the device of the options.
        rows: Rows of a benchmark.
        options: How to ask.

    Returns:
        The answers, and counts and times by name.
    """
    questions, numbers = distinct_questions(rows)
    started = time.perf_counter()
    answers = ask(recommender, questions, options)
    seconds = time.perf_counter() - started
    frame = recommendation_rows(rows, numbers, answers)
    failed = frame.filter(pl.col("item_ids").list.len() == 0).height
    return frame, {
        "rows": rows.height,
        "answered": rows.height - failed,
        "failed": failed,
        "distinct_questions": questions.height,
        "seconds": round(seconds, 3),
        "users_per_s": round(questions.height / max(seconds, 1e-9), 1),
        "device": options.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def recommender_facts(loaded: LoadedRecommender, source: Artifact) -> dict[str, Any]:
    """What a report says of a recommender: its class, its size and how it was trained.

    Args:
        loaded: The recommender with what it was trained with.
        source: Its checkpoint.
    """
    recommender = loaded.recommender
    return {
        "class": type(recommender).__name__,
        "module": type(recommender).__module__,
        "uses_preferences": recommender.uses_preferences,
        "trained_on_validation": loaded.trained_on_validation,
        "candidates": loaded.catalogue.item_count,
        "parameters": sum(p.numel() for p in recommender.parameters()),
        "training_configuration": dict(source.manifest.configuration),
        "training_step": source.manifest.notes.get("step"),
    }


def run_name(checkpoint: Path) -> str:
    """Name of the run a checkpoint belongs to, else of the checkpoint's folder.

    Example:
        >>> run_name(Path("runs/tiger/checkpoints/best-40"))
        'tiger'
    """
    folder = checkpoint.resolve()
    return folder.parent.parent.name if folder.parent.name == "checkpoints" else folder.name


def _check_numbers(options: Mapping[str, int]) -> None:
    for option, value in options.items():
        if value < 1:
            raise InputError(f"--{option} must be at least 1, got {value}.")


def _tell(facts: Mapping[str, Any], not_asked: int) -> None:
    sys.stderr.write(
        f"{facts['answered']} of {facts['rows']} rows answered "
        f"({facts['distinct_questions']} distinct questions, {facts['users_per_s']:.0f} a second), "
        f"{facts['failed']} failed, {not_asked} not asked\n"
    )


def _text(path: Path | str | None) -> str | None:
    return None if path is None else str(path)
