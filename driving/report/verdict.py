"""What a driving report says in sentences: only what its numbers say, failures first."""

from collections.abc import Mapping, Sequence
from typing import Any

from driving.evaluation.conditions import NONE, is_oracle
from driving.evaluation.tables import CLOSED_LOOP, OPEN_LOOP
from personalize.report.words import number

Numbers = Mapping[str, Any]
TAU_WANTED, RECOVERY_WANTED, SAFETY_MARGIN = 0.8, 0.8, 0.01


def verdict(metrics: Numbers) -> list[str]:
    """The sentences on top of a report."""
    said = [_accuracy(metrics["cells"])]
    said += [_style(metrics, run["planner"]) for run in metrics["runs"] if run["reads_style"]]
    said += _safety(metrics["safety"])
    return [sentence for sentence in said if sentence]


def _accuracy(cells: Sequence[Numbers]) -> str:
    """The best planner that looks at nothing it could not know, and the best yardstick."""
    fair = [
        cell
        for cell in cells
        if cell["loop"] == OPEN_LOOP
        and cell["condition"] in (NONE, "before")
        and not is_oracle(cell["condition"])
        and cell["planner"] != "log"
        and "ade_4s_m" in cell["metrics"]
    ]
    if not fair:
        return ""
    best = min(fair, key=lambda cell: cell["metrics"]["ade_4s_m"]["value"])
    safest = max(fair, key=lambda cell: cell["metrics"]["pdms"]["value"])
    ade, pdms = best["metrics"]["ade_4s_m"], safest["metrics"]["pdms"]
    return (
        f"Closest to the log over 4 s without looking at it: {best['planner']} "
        f"({best['condition']}) with {_with_interval(ade, 2)} m; highest PDM score: "
        f"{safest['planner']} ({safest['condition']}) with {_with_interval(pdms, 3)}."
    )


def _style(metrics: Numbers, planner: str) -> str:
    rows = [
        row
        for row in metrics["monotonicity"]
        if row["planner"] == planner and row["loop"] == CLOSED_LOOP and "tau" in row
    ]
    taus = {row["measure"]: row["tau"]["value"] for row in rows}
    wanted = [taus[name] for name in ("mean_speed_mps", "time_gap_s") if name in taus]
    found = next(
        (
            row
            for row in metrics["recovery"]
            if row["planner"] == planner and row["loop"] == CLOSED_LOOP
        ),
        None,
    )
    if not wanted or found is None:
        return ""
    tau, f1 = sum(wanted) / len(wanted), found["macro_f1_by_classifier"]
    good = tau >= TAU_WANTED and f1 >= RECOVERY_WANTED
    word = "follows the style asked for" if good else "follows the style asked for only in part"
    return (
        f"{planner} {word}: from conservative to aggressive, speed and time gap move the right "
        f"way with a mean Kendall's tau of {number(tau, 2)}, and the style is read off its "
        f"closed-loop rides with a macro-F1 of {number(f1, 2)} "
        f"({number(found['macro_f1_of_normal'], 2)} by always saying normal)."
    )


def _safety(rows: Sequence[Numbers]) -> list[str]:
    """Planners that are less safe when they drive aggressively."""
    gates = ("no_collision_ride", "drivable_area_ride")
    worse = [
        f"{row['planner']} ({_gate(row['metric'])} {number(row['value'], 3)})"
        for row in rows
        if row["loop"] == CLOSED_LOOP and row["metric"] in gates and row["value"] < -SAFETY_MARGIN
    ]
    if not worse:
        return []
    return [
        f"Less safe by more than one point when asked to drive aggressively, over whole rides: "
        f"{', '.join(worse)}."
    ]


def _gate(metric: str) -> str:
    return metric.removesuffix("_ride").replace("_", " ")


def _with_interval(found: Numbers, digits: int) -> str:
    low, high = number(found["low"], digits), number(found["high"], digits)
    return f"{number(found['value'], digits)} ({low} to {high})"
