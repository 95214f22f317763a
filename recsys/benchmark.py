"""`recsys benchmark`: every question of every evaluation axis, written before a model is asked.

What an axis asks, and what it may look at, is said in the file of the axis. Here the artifacts are
opened, each axis is built or the reason why it could not be is kept, and the rows are written with
an account (`axes.json`) in which the kept and the dropped candidates add up.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import (
    BENCHMARK_ROWS,
    INTERACTIONS,
    ITEM_TEXT_IDS,
    ITEMS,
    PREFERENCES,
    TEXTS,
    USERS,
)
from personalize.conditioning.selection import PreferenceIndex
from recsys.axes import CONSOLIDATION, RECOMMENDATION, own_history_axis
from recsys.evidence import evidence_pool, training_evidence, with_text_ids
from recsys.questions import Axis, Choice, ItemTexts, Targets, read_targets
from recsys.selected import POLICIES, selected_preferences
from recsys.sentiment_axes import sentiment_axes
from recsys.steering_axes import COARSE, FINE, SteeringOptions, steering_axis

MOST_CONSOLIDATED = 20


@dataclass(frozen=True)
class BenchmarkData:
    """What the axes are built from.

    Attributes:
        people: Number of people.
        interactions: Everybody's history.
        preferences: Preferences with the number of their text.
        targets: Interactions of the split.
        items: How items are known by text.
        text_vectors: Vector of every text.
        index: The same preferences, as the selection policies read them.
    """

    people: int
    interactions: pl.DataFrame
    preferences: pl.DataFrame
    targets: Targets
    items: ItemTexts
    text_vectors: np.ndarray
    index: PreferenceIndex


def write_benchmark(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    tables: Path,
    preferences: Path,
    vectors: Path,
    out: Path,
    split: str = "test",
    count: int = 5,
    cap: int = 3,
    limit: int = 5000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write the artifact `benchmark`.

    Args:
        tables: Artifact `reviews`.
        preferences: Artifact `preferences`.
        vectors: Artifact `vectors`.
        out: Folder to write.
        split: Split that is asked about, `validation` or `test`.
        count: Most preferences per question.
        cap: How often one item may be a target of one steering or sentiment axis.
        limit: Most pairs of one steering or sentiment axis.
        seed: Seed of every choice.
        overwrite: Replace a benchmark that is there.

    Raises:
        InputError: If a number is out of range or nothing can be asked.
        ArtifactMismatch: If the artifacts do not belong together.
    """
    for name, value in (("count", count), ("cap", cap), ("limit", limit)):
        if value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}.")
    sources = {
        "tables": read_artifact(tables, kind="reviews"),
        "preferences": read_artifact(preferences, kind="preferences"),
        "vectors": read_artifact(vectors, kind="vectors"),
    }
    data = read_data(sources, split)
    options = SteeringOptions(split, cap=cap, limit=limit, seed=seed)
    axes, unbuilt = build_axes(data, options, count=count)
    paths = {"tables": str(tables), "preferences": str(preferences), "vectors": str(vectors)}
    numbers = {"split": split, "count": count, "cap": cap, "limit": limit, "seed": seed}
    inputs = {name: source.content_hash for name, source in sources.items()}
    with create_artifact(
        out,
        kind="benchmark",
        command="recsys benchmark",
        configuration={**paths, **numbers},
        inputs=inputs,
        overwrite=overwrite,
    ) as writer:
        writer.write_table(BENCHMARK_ROWS, pl.concat([axis.frame for axis in axes]))
        account = {
            "axes": {axis.name: axis.account() for axis in axes},
            "not_built": dict(unbuilt),
            "split": split,
            "timestamps_known": bool(data.targets.timed.any()),
        }
        writer.write_json("axes", account)
        writer.notes.update(
            {
                "split": split,
                "questions": {axis.name: axis.kept for axis in axes},
                "not_built": dict(unbuilt),
            }
        )
    _tell(axes, unbuilt)


def read_data(sources: Mapping[str, Artifact], split: str) -> BenchmarkData:
    """Open the tables the axes are built from.

    Raises:
        ArtifactMismatch: If the vectors number other items, or were not made for these artifacts.
        InputError: If the split has no interaction, or a preference has no vector.
    """
    tables, vectors = sources["tables"], sources["vectors"]
    interactions = tables.table(INTERACTIONS)
    catalogue = tables.table(ITEMS)
    texts = vectors.table(TEXTS)
    values = np.asarray(vectors.arrays("vectors")["values"], dtype=np.float32)
    known = vectors.table(ITEM_TEXT_IDS)["text_id"]
    if known.len() != catalogue.height:
        raise ArtifactMismatch(
            f"{vectors.folder} numbers {known.len()} items, {tables.folder} numbers "
            f"{catalogue.height}; run `personalize encode` on these tables."
        )
    stated = sources["preferences"].table(PREFERENCES)
    preferences = with_text_ids(stated, texts)
    targets = read_targets(interactions, split)
    if not len(targets):
        raise InputError(f"{tables.folder} has no interaction in the split {split}.")
    return BenchmarkData(
        people=tables.table(USERS).height,
        interactions=interactions,
        preferences=preferences,
        targets=targets,
        items=_item_texts(known, catalogue["title"], values),
        text_vectors=values,
        index=PreferenceIndex.from_frames(stated, texts),
    )


def _item_texts(known: pl.Series, titles: pl.Series, values: np.ndarray) -> ItemTexts:
    mask = known.is_not_null().to_numpy().astype(np.bool_)
    text_ids = known.fill_null(0).to_numpy().astype(np.int64)
    return ItemTexts(
        text_ids=text_ids,
        mask=mask,
        vectors=unit_vectors(values[text_ids] * mask[:, None]),
        titles=tuple(titles.fill_null("").str.strip_chars().str.to_lowercase().to_list()),
    )


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """The same directions at length 1; a vector of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def build_axes(
    data: BenchmarkData, options: SteeringOptions, *, count: int
) -> tuple[list[Axis], dict[str, str]]:
    """All axes that can be built, and for each other one the reason why not."""
    built = [_recommendation(data, options, count), _consolidation(data, options)]
    praise = training_evidence(data.preferences, data.interactions, "like")
    complaint = training_evidence(data.preferences, data.interactions, "avoid")
    pool = evidence_pool(praise)
    pool_vectors = unit_vectors(data.text_vectors[pool.text_ids])
    built.extend(
        steering_axis(data.targets, data.items, pool, pool_vectors, band, options)
        for band in (FINE, COARSE)
    )
    built.extend(sentiment_axes(data.targets, praise, complaint, options))
    unbuilt = {
        axis.name: "; ".join(f"{reason}: {number}" for reason, number in axis.dropped.items())
        for axis in built
        if not axis.kept
    }
    return [axis for axis in built if axis.kept], unbuilt


def _recommendation(data: BenchmarkData, options: SteeringOptions, count: int) -> Axis:
    choices = selected_preferences(
        data.index, data.targets, data.items, data.text_vectors, POLICIES, count=count
    )
    return own_history_axis(
        RECOMMENDATION,
        data.targets,
        {"none": Choice.none(len(data.targets)), **choices},
        split=options.split,
        people=data.people,
        rule=(
            "The person's own history and own preferences, from evidence strictly before the "
            f"target; at most {count} of them. latest, all and retrieved never look at the "
            "target; oracle takes the preferences nearest to it and is an upper bound."
        ),
    )


def _consolidation(data: BenchmarkData, options: SteeringOptions) -> Axis:
    every = selected_preferences(
        data.index,
        data.targets,
        data.items,
        data.text_vectors,
        {"all": POLICIES["all"]},
        count=MOST_CONSOLIDATED,
    )
    return own_history_axis(
        CONSOLIDATION,
        data.targets,
        {"none": Choice.none(len(data.targets)), **every},
        split=options.split,
        people=data.people,
        rule=(
            "The person's own history and every own preference known at the target, liked and "
            f"avoided ones, at most {MOST_CONSOLIDATED}."
        ),
    )


def _tell(axes: Sequence[Axis], unbuilt: Mapping[str, str]) -> None:
    for axis in axes:
        sys.stderr.write(f"{axis.name}: {axis.kept} of {axis.candidates} {axis.unit} kept\n")
    for name, reason in unbuilt.items():
        sys.stderr.write(f"{name}: not built ({reason})\n")
