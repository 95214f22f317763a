"""What tuning changed: the half's own evaluation before and after, with intervals, in sentences."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float

from personalize.evaluation.intervals import Interval, bootstrap_interval, paired_comparison
from personalize.preference_optimization.tunable import Evaluation


def outcome(before: Evaluation, after: Evaluation, *, resamples: int = 2000) -> dict[str, Any]:
    """Every measure before and after on the same contexts, as plain values.

    Args:
        before: Of the generator as it was.
        after: Of the tuned one, on the same contexts.
        resamples: Of the bootstrap.

    Returns:
        `main` names the main measure; `measures` has for every one its mean before and after, the
        paired difference, how many contexts had none in either, the groups, and a verdict: better
        or worse only where the interval of the difference lies on one side of 0.

    Raises:
        ValueError: If the two measured different things or contexts.
    """
    if before.values.keys() != after.values.keys() or before.groups != after.groups:
        raise ValueError("before and after must measure the same in the same contexts.")
    measures = {
        name: _measure(
            np.asarray(values, np.float64),
            np.asarray(after.values[name], np.float64),
            np.asarray(before.groups),
            lower=name in before.lower_is_better,
            resamples=resamples,
        )
        for name, values in before.values.items()
    }
    return {"main": before.main, "measures": measures}


def _measure(
    before: Float[np.ndarray, " row"],
    after: Float[np.ndarray, " row"],
    groups: np.ndarray,
    *,
    lower: bool,
    resamples: int,
) -> dict[str, Any]:
    known = np.isfinite(before) & np.isfinite(after)
    found: dict[str, Any] = {
        "lower_is_better": lower,
        "contexts": int(known.sum()),
        "without_value": int((~known).sum()),
    }
    if not known.any():
        return {**found, "verdict": "not measured"}
    old, new, named = before[known], after[known], groups[known]
    change = paired_comparison(new, old, resamples=resamples)
    return {
        **found,
        "before": asdict(bootstrap_interval(old, resamples=resamples)),
        "after": asdict(bootstrap_interval(new, resamples=resamples)),
        "difference": asdict(change.difference),
        "p_value": change.p_value,
        "groups": {
            str(group): {
                "contexts": int((named == group).sum()),
                "before": float(old[named == group].mean()),
                "after": float(new[named == group].mean()),
            }
            for group in np.unique(named)
        },
        "verdict": verdict(change.difference, lower_is_better=lower),
    }


def verdict(difference: Interval, *, lower_is_better: bool = False) -> str:
    """`better` or `worse` where the whole interval says so, else `no difference shown`.

    Example:
        >>> verdict(Interval(mean=0.2, low=0.1, high=0.3, rows=9))
        'better'
    """
    if difference.low <= 0 <= difference.high:
        return "no difference shown"
    return "better" if (difference.low > 0) != lower_is_better else "worse"


def outcome_text(found: Mapping[str, Any]) -> str:
    """The outcome as lines for a terminal, the main measure first."""
    names = sorted(found["measures"], key=lambda name: (name != found["main"], name))
    width = max(len(name) for name in names)
    lines = [f"{'':{width}}    before   after    difference"]
    for name in names:
        measure = found["measures"][name]
        if "difference" not in measure:
            lines.append(f"{name:{width}}  not measured in any context")
            continue
        change = measure["difference"]
        lines.append(
            f"{name:{width}}  {measure['before']['mean']:8.4f} {measure['after']['mean']:8.4f} "
            f"  {change['mean']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}]  "
            f"{measure['verdict']} ({measure['contexts']} contexts)"
        )
        worst = _worst(measure)
        if worst is not None:
            lines.append(f"{'':{width}}  worst group {worst}")
    return "\n".join(lines) + "\n"


def _worst(measure: Mapping[str, Any]) -> str | None:
    groups = measure["groups"]
    if len(groups) < 2:
        return None
    sign = -1 if measure["lower_is_better"] else 1
    old = min(groups, key=lambda name: sign * groups[name]["before"])
    new = min(groups, key=lambda name: sign * groups[name]["after"])
    return f"{old} {groups[old]['before']:.4f} -> {new} {groups[new]['after']:.4f}"
