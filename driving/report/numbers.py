"""All numbers of a driving report, from the results of several planners on the same samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from driving.evaluation.conditions import sweep_names
from driving.evaluation.tables import CLOSED_LOOP, DISPLACEMENTS, OPEN_LOOP, SCORES
from driving.metrics.style_metrics import keeps_moving
from personalize.evaluation.intervals import bootstrap_interval, holm, paired_comparison

HEADLINE = ("ade_4s_m", "fde_4s_m", "pdms", "sm_pdms_released", "sm_pdms_fine")
ALL_METRICS = tuple(name for name, _ in (*DISPLACEMENTS, *SCORES))


@dataclass(frozen=True)
class DrivenRun:
    """The rides of one planner.

    Attributes:
        name: Name of the planner.
        results: Rows of `results` with the measures and facts of the sample beside them:
            `recording` (number), `label`, `scenario_type`, `driver_id`.
        notes: What is known of the planner.
        reads_style: Whether a style can change what it does.
        rules: Name of its rules; empty for a trained planner.
    """

    name: str
    results: pl.DataFrame
    notes: Mapping[str, Any]
    reads_style: bool
    rules: str = ""

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
