"""What is said of every sample, from the tables alone: words to be found by, and measures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from data_prep.artifact import Artifact
from data_prep.errors import ArtifactMismatch
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from data_prep.scenes.tables import STATES, TRACKS
from driving.style.describe import Neighbours, measured_sentences
from driving.style.measure_table import MEASURE_TABLE
from driving.style.measures import MEASURE_NAMES
from driving.style.tables import SAMPLES, STYLES
from driving.style.windows import NEAR_M
from driving.style.words import Window, in_words

_COUNTED = ("vehicle", "pedestrian", "cyclist")


@dataclass(frozen=True)
class SampleText:
    """What is said of one sample.

    Attributes:
        words: What it is found by.
        sentences: What was measured, a sentence per dimension of style.
        style: -1 to 1 by dimension, of what could be compared.
        scenario_type: What kind of scene it is.
        label: How it is driven.
    """

    words: str
    sentences: Mapping[str, str]
    style: Mapping[str, float]
    scenario_type: str
    label: str

    @property
    def description(self) -> str:
        """The words, then all sentences."""
        return " ".join([self.words, *self.sentences.values()])

    def span(self, dimension: str) -> tuple[int, int] | None:
        """First character of the sentence on a dimension in the description, and the one after."""
        if dimension not in self.sentences:
            return None
        names = list(self.sentences)
        before = [self.sentences[name] for name in names[: names.index(dimension)]]
        start = len(self.words) + 1 + sum(len(sentence) + 1 for sentence in before)
        return start, start + len(self.sentences[dimension])


def scene_texts(scenes: Artifact, styles: Artifact, samples: pl.DataFrame) -> list[SampleText]:
    """What is said of some samples, in their order.

    Args:
        scenes: Artifact `scenes`.
        styles: Artifact `styles` of these scenes.
        samples: Rows of its samples.

    Raises:
        ArtifactMismatch: If the styles lack a sample or are of other dimensions.
    """
    if styles.json("style_dimensions") != list(STYLE_DIMENSIONS):
        raise ArtifactMismatch(
            f"{styles.folder} has other style dimensions; run driving annotate again."
        )
    arrays = styles.arrays("styles")
    if len(arrays["values"]) != styles.table(SAMPLES).height:
        raise ArtifactMismatch(f"{styles.folder} has not one style per sample; annotate again.")
    table = (
        samples.join(styles.table(STYLES), on="sample_id", how="left", maintain_order="left")
        .join(styles.table(MEASURE_TABLE), on="sample_id", how="left", maintain_order="left")
        .join(neighbours(scenes, samples), on="sample_id", how="left", maintain_order="left")
    )
    if table["label"].null_count() or table["leader"].null_count():
        raise ArtifactMismatch(f"{styles.folder} says nothing of some samples; annotate again.")
    rows = samples["sample_id"].to_numpy()
    style = zip(arrays["values"][rows].tolist(), arrays["mask"][rows].tolist(), strict=True)
    return list(_texts(table, style))


def neighbours(scenes: Artifact, samples: pl.DataFrame) -> pl.DataFrame:
    """How many vehicles, pedestrians and cyclists are within 50 m of every sample's ego."""
    keys = ["scene_id", "track_id", "step"]
    states = scenes.table(STATES).select(*keys, "x_m", "y_m")
    kinds = scenes.table(TRACKS).select("scene_id", "track_id", "kind")
    egos = samples.select("sample_id", *keys).join(states, on=keys, how="left")
    others = states.rename({"track_id": "other_id", "x_m": "other_x_m", "y_m": "other_y_m"})
    away = (pl.col("x_m") - pl.col("other_x_m")) ** 2 + (pl.col("y_m") - pl.col("other_y_m")) ** 2
    near = (
        egos.join(others, on=["scene_id", "step"])
        .filter((pl.col("other_id") != pl.col("track_id")) & (away <= NEAR_M**2))
        .join(kinds.rename({"track_id": "other_id"}), on=["scene_id", "other_id"])
    )
    counted = near.group_by("sample_id").agg(
        (pl.col("kind") == kind).sum().alias(f"near_{kind}") for kind in _COUNTED
    )
    every = samples.select("sample_id").join(counted, on="sample_id", how="left")
    return every.with_columns(pl.col(f"near_{kind}").fill_null(0) for kind in _COUNTED)


def _texts(
    table: pl.DataFrame, styles: Iterator[tuple[list[float], list[bool]]]
) -> Iterator[SampleText]:
    for row, (values, mask) in zip(table.iter_rows(named=True), styles, strict=True):
        measures = {name: row[name] for name in MEASURE_NAMES if row[name] is not None}
        style = {
            name: round(value, 4)
            for name, value, known in zip(STYLE_DIMENSIONS, values, mask, strict=True)
            if known
        }
        yield SampleText(
            words=in_words(_window(row, measures, style)),
            sentences=measured_sentences(measures),
            style=style,
            scenario_type=row["scenario_type"],
            label=row["label"],
        )


def _window(
    row: Mapping[str, Any], measures: Mapping[str, float], style: Mapping[str, float]
) -> Window:
    return Window(
        scenario_type=row["scenario_type"],
        road_class=row["road_class"],
        label=row["label"],
        leader=row["leader"],
        measures=measures,
        style=style,
        neighbours=Neighbours(*(row[f"near_{kind}"] for kind in _COUNTED)),
    )
