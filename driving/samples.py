"""Which vehicles serve as the ego, and when: any one that was seen long enough."""

from dataclasses import dataclass

import polars as pl

from data_prep.artifact import Artifact
from data_prep.errors import InputError
from data_prep.scenes.tables import SCENE_TOKENS, SCENES, STATES, TRACKS
from driving.style.tables import SAMPLES


@dataclass(frozen=True)
class SampleRules:
    """What makes a sample.

    Attributes:
        history_s: Past the ego must have been seen for without a gap.
        future_s: Future likewise.
        stride_s: Time between two samples of the same vehicle.
        minimum_distance_m: Extent of the ego's whole track; keeps parked vehicles out, but not
            those that wait for a while.
        minimum_length_m: Length of its box; keeps two-wheelers among the vehicles out.
        recorded_egos_only: Only the recording vehicle serves.
        tokens_only: Only the named moments of the recording vehicle serve.
    """

    history_s: float = 1.0
    future_s: float = 4.0
    stride_s: float = 1.0
    minimum_distance_m: float = 5.0
    minimum_length_m: float = 3.0
    recorded_egos_only: bool = False
    tokens_only: bool = False


def choose_samples(scenes: Artifact, rules: SampleRules) -> pl.DataFrame:
    """The samples of an artifact `scenes`: rows of `driving.style.tables.SAMPLES`.

    Raises:
        InputError: If no vehicle was seen long enough.
    """
    scene_rows = scenes.table(SCENES)
    moments = _moments(scenes, scene_rows, rules)
    found = (
        moments.join(scene_rows.select("scene_id", "split"), on="scene_id")
        .sort("scene_id", "track_id", "step")
        .with_columns(
            sample_id=pl.int_range(pl.len(), dtype=pl.Int32),
            driver_id=(pl.struct("scene_id", "track_id").rle_id()).cast(pl.Int32),
        )
    )
    if found.is_empty():
        raise InputError(
            f"{scenes.folder} has no vehicle that was seen for {rules.history_s:g} s and moved "
            f"on for {rules.future_s:g} s; ask for less, or take longer logs."
        )
    return SAMPLES.conform(found)


def _moments(scenes: Artifact, scene_rows: pl.DataFrame, rules: SampleRules) -> pl.DataFrame:
    """Scene, track, step and token of every sample."""
    egos = (
        scenes.table(TRACKS)
        .filter((pl.col("kind") == "vehicle") & (pl.col("length_m") >= rules.minimum_length_m))
        .select("scene_id", "track_id")
        .join(scene_rows.select("scene_id", "step_s", "ego_track_id"), on="scene_id")
    )
    if rules.recorded_egos_only or rules.tokens_only:
        egos = egos.filter(pl.col("track_id") == pl.col("ego_track_id"))
    past = (rules.history_s / pl.col("step_s")).round().cast(pl.Int32)
    ahead = (rules.future_s / pl.col("step_s")).round().cast(pl.Int32)
    stride = (rules.stride_s / pl.col("step_s")).round().cast(pl.Int32).clip(1)
    runs = (
        scenes.table(STATES)
        .select("scene_id", "track_id", "step", "x_m", "y_m")
        .join(egos.select("scene_id", "track_id", "step_s"), on=["scene_id", "track_id"])
        .sort("scene_id", "track_id", "step")
        .with_columns(run=pl.col("step") - pl.int_range(pl.len(), dtype=pl.Int32))
        .with_columns(
            first=pl.col("step").min().over("scene_id", "track_id", "run"),
            last=pl.col("step").max().over("scene_id", "track_id", "run"),
        )
        .with_columns(past=past, ahead=ahead, stride=stride, extent=_extent())
    )
    fits = (pl.col("step") - pl.col("past") >= pl.col("first")) & (
        pl.col("step") + pl.col("ahead") <= pl.col("last")
    )
    if not rules.tokens_only:
        fits &= (pl.col("step") - pl.col("past") - pl.col("first")) % pl.col("stride") == 0
        fits &= pl.col("extent") >= rules.minimum_distance_m
    chosen = runs.filter(fits)
    tokens = (
        scenes.table(SCENE_TOKENS) if scenes.has("scene_tokens.parquet") else SCENE_TOKENS.empty()
    )
    is_ego = egos.filter(pl.col("track_id") == pl.col("ego_track_id"))
    tokens = tokens.join(is_ego.select("scene_id", "track_id"), on="scene_id")
    return chosen.select("scene_id", "track_id", "step").join(
        tokens.unique(["scene_id", "track_id", "step"], keep="first"),
        on=["scene_id", "track_id", "step"],
        how="inner" if rules.tokens_only else "left",
    )


def _extent() -> pl.Expr:
    """Diagonal of the box around a track's positions, in metres."""
    spans = [
        (pl.col(axis).max() - pl.col(axis).min()).over("scene_id", "track_id")
        for axis in ("x_m", "y_m")
    ]
    return (spans[0] ** 2 + spans[1] ** 2).sqrt()
