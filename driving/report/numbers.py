"""All numbers of a driving report, from the results of several planners on the same samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS, STYLE_LABELS
from driving.evaluation.conditions import PRESETS, sweep_names
from driving.evaluation.tables import CLOSED_LOOP, DISPLACEMENTS, OPEN_LOOP, SCORES
from driving.metrics.style_metrics import (
    keeps_moving,
    kendall_tau,
    mean_discrepancy,
    nearest_centroid,
    style_recovery,
)
from driving.style.measures import MEASURE_NAMES
from personalize.evaluation.intervals import bootstrap_interval, holm, paired_comparison

HEADLINE = ("ade_4s_m", "fde_4s_m", "pdms", "sm_pdms_released", "sm_pdms_fine")
SAFETY = ("no_collision", "drivable_area", "time_to_collision")
ALL_METRICS = tuple(name for name, _ in (*DISPLACEMENTS, *SCORES))
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


@dataclass(frozen=True)
class DrivenRun:
    """The rides of one planner.

    Attributes:
        name: Name of the planner.
        results: Rows of `results` with the measures and facts of the sample beside them:
            `recording` (number), `label`, `scenario_type`, `driver_id`.
        notes: What is known of the planner.
        reads_style: Whether a style can change what it does.
    """

    name: str
    results: pl.DataFrame
    notes: Mapping[str, Any]
    reads_style: bool

    def at(self, loop: str, condition: str) -> pl.DataFrame:
        """The rides of one condition, in the order of their samples."""
        chosen = (pl.col("loop") == loop) & (pl.col("condition") == condition)
        return self.results.filter(chosen).sort("sample_id")

    def asked(self) -> list[tuple[str, str]]:
        """Loops and conditions, in the order in which they were asked."""
        return list(
            self.results.select("loop", "condition").unique(maintain_order=True).iter_rows()
        )


@dataclass(frozen=True)
class Drawing:
    """How intervals are drawn: whole recordings, since what one holds belongs together."""

    resamples: int = 2000
    seed: int = 0

    def interval(
        self, values: Float[np.ndarray, " row"], recordings: Int[np.ndarray, " row"]
    ) -> dict[str, Any]:
        """A mean with its interval, as JSON."""
        found = bootstrap_interval(
            values.astype(np.float64), groups=recordings, resamples=self.resamples, seed=self.seed
        )
        return {"value": found.mean, "low": found.low, "high": found.high, "rows": len(values)}


def cells(runs: Sequence[DrivenRun], drawing: Drawing) -> list[dict[str, Any]]:
    """Mean and interval of every metric, for every planner, loop and condition but the sweeps."""
    found = []
    for run in runs:
        for loop, condition in run.asked():
            if condition in sweep_names():
                continue
            rows = run.at(loop, condition)
            metrics = {}
            for name in ALL_METRICS:
                known = rows.filter(pl.col(name).is_not_null())
                if known.height:
                    metrics[name] = drawing.interval(
                        known[name].to_numpy(), known["recording"].to_numpy()
                    )
            found.append(
                {
                    "planner": run.name,
                    "loop": loop,
                    "condition": condition,
                    "samples": rows.height,
                    "recordings": rows["recording"].n_unique(),
                    "metrics": metrics,
                    "anti_freeze": _anti_freeze(rows, drawing),
                }
            )
    return found


def _anti_freeze(rows: pl.DataFrame, drawing: Drawing) -> dict[str, Any]:
    """Share of samples in which at least a fifth of the human's way was driven."""
    progress, human = (rows[name].to_numpy() for name in ("progress_m", "human_progress_m"))
    moving = keeps_moving(progress.astype(np.float64), human.astype(np.float64))
    return drawing.interval(moving.astype(np.float64), rows["recording"].to_numpy())


def comparisons(runs: Sequence[DrivenRun], drawing: Drawing) -> list[dict[str, Any]]:
    """Paired differences on the same samples: each style condition against none and shuffled."""
    found = []
    for run in runs:
        if not run.reads_style:
            continue
        asked = set(run.asked())
        for loop in (OPEN_LOOP, CLOSED_LOOP):
            for better, worse in (
                ("before", "none"),
                ("own", "none"),
                ("own", "shuffled"),
                ("truth", "none"),
            ):
                if {(loop, better), (loop, worse)} <= asked:
                    found += _paired(run, loop, (better, worse), drawing)
    corrected = holm(np.array([row["p_value"] for row in found])) if found else []
    return [row | {"p_holm": float(p)} for row, p in zip(found, corrected, strict=True)]


def _paired(
    run: DrivenRun, loop: str, pair: tuple[str, str], drawing: Drawing
) -> list[dict[str, Any]]:
    better, worse = (run.at(loop, condition) for condition in pair)
    metrics = ("ade_4s_m", "sm_pdms_released", "sm_pdms_fine")
    found = []
    for name in metrics if loop == OPEN_LOOP else metrics[1:]:
        test = paired_comparison(
            better[name].to_numpy().astype(np.float64),
            worse[name].to_numpy().astype(np.float64),
            groups=better["recording"].to_numpy(),
            resamples=drawing.resamples,
            seed=drawing.seed,
        )
        found.append(
            {
                "planner": run.name,
                "loop": loop,
                "condition": pair[0],
                "against": pair[1],
                "metric": name,
                "difference": test.difference.mean,
                "low": test.difference.low,
                "high": test.difference.high,
                "p_value": test.p_value,
            }
        )
    return found


def monotonicity(runs: Sequence[DrivenRun], drawing: Drawing) -> list[dict[str, Any]]:
    """Kendall's tau of what was measured over conservative, normal, aggressive.

    On the same sample and seed; the sign is such that 1 is right for every measure. Samples in
    which a measure is missing under one of the three, or the same under all of them (where tau has
    no value), are left out and counted.
    """
    found = []
    for run, loop in _with_presets(runs):
        three = [run.at(loop, label) for label in STYLE_LABELS]
        recordings = three[0]["recording"].to_numpy()
        for measure, dimension, sign in STYLE_MEASURES:
            values = np.stack([_column(rows, measure) for rows in three], 1)
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

    Three times: by the rules that label logs; by the nearest mean style; and by a classifier
    (gradient-boosted trees over all measures and the speed at the beginning). The last two learn
    on rides in other recordings, so they are told what each planner's styles look like, but never
    see the scene they judge.
    """
    found = []
    for run, loop in _with_presets(runs):
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


def classified(
    rides: pl.DataFrame, asked: Int[np.ndarray, " row"], *, parts: int = 5
) -> Int[np.ndarray, " row"]:
    """The style a classifier names for each ride, trained on rides in other recordings.

    With one recording alone it has learnt on the rides it judges; a report says how many there are.
    Where no feature varies it names the middle style.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GroupKFold

    names = [*MEASURE_NAMES, "start_speed_mps"]
    features = np.column_stack([_column(rides, name) for name in names])
    recordings = rides["recording"].to_numpy()
    folds = min(parts, len(np.unique(recordings)))
    every = np.arange(len(asked))
    split = GroupKFold(folds).split(features, asked, recordings) if folds > 1 else [(every, every)]
    found = np.full(len(asked), STYLE_LABELS.index("normal"))
    for learnt, judged in split:
        told = [len(np.unique(c[np.isfinite(c)])) > 1 for c in features[learnt].T]  # varies at all
        if not any(told):
            continue
        model = HistGradientBoostingClassifier(
            max_iter=60, learning_rate=0.15, min_samples_leaf=5, random_state=0
        )
        model.fit(features[learnt][:, told], asked[learnt])
        found[judged] = model.predict(features[judged][:, told])
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
    for run, loop in _with_presets(runs):
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
    for run, loop in _with_presets(runs):
        normal, aggressive = run.at(loop, "normal"), run.at(loop, "aggressive")
        for name in SAFETY:
            difference = aggressive[name].to_numpy() - normal[name].to_numpy()
            found.append(
                {"planner": run.name, "loop": loop, "metric": name}
                | drawing.interval(difference, normal["recording"].to_numpy())
            )
    return found


def responses(runs: Sequence[DrivenRun]) -> list[dict[str, Any]]:
    """How far each dimension moves when one is asked for alone: from one end to the other.

    In units of the style vector, whose ends are -1 and 1. Off the diagonal are side effects.
    """
    found = []
    for run in runs:
        asked = set(run.asked())
        for loop in (OPEN_LOOP, CLOSED_LOOP):
            names = sweep_names()
            if not all((loop, name) in asked for name in names):
                continue
            matrix = []
            for low, high in zip(names[::2], names[1::2], strict=True):
                moved = _style(run.at(loop, high)) - _style(run.at(loop, low))
                with np.errstate(invalid="ignore"):
                    counts = np.isfinite(moved).sum(0)
                    sums = np.nansum(moved, 0)
                matrix.append(
                    [
                        float(total / count) if count else None
                        for total, count in zip(sums, counts, strict=True)
                    ]
                )
            found.append(
                {
                    "planner": run.name,
                    "loop": loop,
                    "dimensions": list(STYLE_DIMENSIONS),
                    "moved": matrix,
                }
            )
    return found


def _with_presets(runs: Sequence[DrivenRun]) -> list[tuple[DrivenRun, str]]:
    return [
        (run, loop)
        for run in runs
        for loop in (OPEN_LOOP, CLOSED_LOOP)
        if run.reads_style and all((loop, label) in set(run.asked()) for label in PRESETS)
    ]


def _column(rows: pl.DataFrame, name: str) -> Float[np.ndarray, " row"]:
    return rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _style(rows: pl.DataFrame) -> Float[np.ndarray, "row style"]:
    values = np.array(rows["style_values"].to_list(), np.float64)
    return np.where(np.array(rows["style_mask"].to_list()), values, np.nan)
