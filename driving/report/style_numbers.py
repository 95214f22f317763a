"""Whether planners follow the style asked for: order, recovery and safety of their rides."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from data_prep.scenes.style_dimensions import STYLE_LABELS
from driving.evaluation.conditions import PRESETS
from driving.evaluation.tables import CLOSED_LOOP, OPEN_LOOP
from driving.metrics.style_metrics import (
    kendall_tau,
    mean_discrepancy,
    nearest_centroid,
    style_recovery,
)
from driving.report.numbers import Drawing, DrivenRun
from driving.report.recognition import classified, column_of

ALIKE_M = 1.0
SAFETY = ("no_collision_ride", "drivable_area_ride", "time_to_collision")
STYLE_MEASURES: tuple[tuple[str, str, int], ...] = (
    ("mean_speed_mps", "speed", 1),
    ("time_gap_s", "time_gap", -1),
    ("smallest_gap_m", "time_gap", -1),
    ("peak_acceleration_mps2", "acceleration", 1),
    ("peak_braking_mps2", "braking", 1),
    ("peak_jerk_mps3", "jerk", 1),
    ("peak_lateral_acceleration_mps2", "lateral_acceleration", 1),
    ("distance_m", "speed", 1),
)
"""Measure, the dimension it belongs to, and its sign from conservative to aggressive."""


def monotonicity(runs: Sequence[DrivenRun], drawing: Drawing) -> list[dict[str, Any]]:
    """Kendall's tau of what was measured over conservative, normal, aggressive.

    On the same sample and seed; the sign is such that 1 is right for every measure. Samples in
    which a measure is missing under one of the three, or the same under all of them (where tau has
    no value), are left out and counted.
    """
    found = []
    for run, loop in with_presets(runs):
        three = [run.at(loop, label) for label in STYLE_LABELS]
        recordings = three[0]["recording"].to_numpy()
        for measure, dimension, sign in STYLE_MEASURES:
            values = np.stack([column_of(rows, measure) for rows in three], 1)
            known = np.isfinite(values).all(1)
            row: dict[str, Any] = {
                "planner": run.name,
                "loop": loop,
                "measure": measure,
                "dimension": dimension,
                "samples": int(known.sum()),
                "left_out": int((~known).sum()),
            }
            tau, moves = kendall_tau(np.broadcast_to(sign * np.arange(3.0), values.shape), values)
            row["constant"] = int((known & ~moves).sum())
            if (known & moves).any():
                row["tau"] = drawing.interval(tau[known & moves], recordings[known & moves])
                row["means"] = values[known].mean(0).tolist()
            found.append(row)
    return found


def recovery(runs: Sequence[DrivenRun]) -> list[dict[str, Any]]:
    """Whether the style asked for can be read off the ride: macro-F1 over the three presets.

    All rides count, those too of samples in which nothing makes the styles differ; `alike` says
    how many these are. Three times: by the rules that label logs; by the nearest mean style; and
    by a classifier (gradient-boosted trees, see `ride_features`). The last two learn on rides in
    other recordings, so they are told what each planner's styles look like, but never see the
    scene they judge.
    """
    found = []
    for run, loop in with_presets(runs):
        three = [run.at(loop, label) for label in STYLE_LABELS]
        asked = np.repeat(np.arange(3), [rows.height for rows in three])
        whole = pl.concat(three)
        by_rules = np.array([STYLE_LABELS.index(label) for label in whole["driven_label"]])
        values = np.array(whole["style_values"].to_list())
        nearest = nearest_of_others(values, asked, whole["recording"].to_numpy())
        near, rules = style_recovery(asked, nearest), style_recovery(asked, by_rules)
        learnt = style_recovery(asked, classified(whole, asked))
        found.append(
            {
                "planner": run.name,
                "loop": loop,
                "rides": len(asked),
                "alike": alike(three),
                "macro_f1_by_rules": rules.macro_f1,
                "macro_f1_by_nearest_mean": near.macro_f1,
                "macro_f1_by_classifier": learnt.macro_f1,
                "balanced_accuracy_by_classifier": learnt.balanced_accuracy,
                "macro_f1_of_normal": style_recovery(asked, np.ones_like(asked)).macro_f1,
                "confusion_by_classifier": learnt.confusion.tolist(),
                "confusion_by_rules": rules.confusion.tolist(),
            }
        )
    return found


def alike(three: Sequence[pl.DataFrame]) -> float:
    """Share of samples whose rides in all styles are never a metre apart in what they have driven.

    Nobody can tell these apart.
    """
    driven = np.stack([np.array(rows["driven_m"].to_list()) for rows in three])
    return float((np.ptp(driven, axis=0).max(-1) < ALIKE_M).mean())


def nearest_of_others(
    values: Float[np.ndarray, "row style"],
    asked: Int[np.ndarray, " row"],
    recordings: Int[np.ndarray, " row"],
) -> Int[np.ndarray, " row"]:
    """The style whose mean, over the rides in other recordings, is nearest to each ride's.

    With one recording alone its own rides make the means.
    """
    found = np.zeros(len(values), np.int64)
    for recording in np.unique(recordings):
        inside = recordings == recording
        others = ~inside if (~inside).any() else inside
        found[inside] = nearest_centroid(values[others], asked[others], values[inside])
    return found


def distances_to_logs(
    runs: Sequence[DrivenRun],
    log_style: Float[np.ndarray, "sample style"],
    log_labels: Sequence[str],
    *,
    most: int = 1000,
) -> list[dict[str, Any]]:
    """Maximum mean discrepancy between rides asked for a style and logs labelled with it.

    Smaller is more alike; the other labels' distances stand beside it. Both sides are cut to the
    first `most` rows.
    """
    found = []
    labels = np.array(log_labels)
    for run, loop in with_presets(runs):
        for asked in STYLE_LABELS:
            rides = np.array(run.at(loop, asked)["style_values"].to_list(), np.float64)[:most]
            for label in STYLE_LABELS:
                logs = log_style[labels == label][:most].astype(np.float64)
                if min(len(rides), len(logs)) < 2:
                    continue
                away = mean_discrepancy(rides, logs, permutations=100)
                found.append(
                    {
                        "planner": run.name,
                        "loop": loop,
                        "asked": asked,
                        "logs": label,
                        "squared_mmd": away.squared,
                        "p_value": away.p_value,
                    }
                )
    return found


def safety_of_styles(runs: Sequence[DrivenRun], drawing: Drawing) -> list[dict[str, Any]]:
    """How much the safety of aggressive rides differs from that of normal ones, paired."""
    found = []
    for run, loop in with_presets(runs):
        normal, aggressive = run.at(loop, "normal"), run.at(loop, "aggressive")
        for name in SAFETY:
            difference = aggressive[name].to_numpy() - normal[name].to_numpy()
            found.append(
                {"planner": run.name, "loop": loop, "metric": name}
                | drawing.interval(difference, normal["recording"].to_numpy())
            )
    return found


def with_presets(runs: Sequence[DrivenRun]) -> list[tuple[DrivenRun, str]]:
    """Planners that read styles, with the loops in which they drove all three presets."""
    return [
        (run, loop)
        for run in runs
        for loop in (OPEN_LOOP, CLOSED_LOOP)
        if run.reads_style and all((loop, label) in set(run.asked()) for label in PRESETS)
    ]


def style_of(rows: pl.DataFrame) -> Float[np.ndarray, "row style"]:
    """The style each ride shows, nan where it could not be measured."""
    values = np.array(rows["style_values"].to_list(), np.float64)
    return np.where(np.array(rows["style_mask"].to_list()), values, np.nan)
