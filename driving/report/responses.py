"""What moves when one dimension is asked for alone, in units of style and of measures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.evaluation.conditions import sweep_names
from driving.evaluation.tables import CLOSED_LOOP, OPEN_LOOP
from driving.report.numbers import DrivenRun
from driving.report.recognition import column_of
from driving.report.style_numbers import STYLE_MEASURES, style_of

TEACHER_RULES = "idm"
FEWEST_SAMPLES = 10


def responses(runs: Sequence[DrivenRun]) -> list[dict[str, Any]]:
    """How far each dimension moves when one is asked for alone: from one end to the other.

    Movements are in units of the style vector, whose ends are -1 and 1, and means over the samples
    in which the dimension was measured at both ends. Beside each stands the teacher's, where `idm`
    drove the same samples: but for its lane changes the default teacher drives like it.

    Returns:
        A row per planner and loop that was asked for every dimension at both ends: `moved`, the
        whole matrix (off its diagonal are side effects); `rows`, one per dimension that was asked
        for, with its own movement, the teacher's, the largest side effect, the mean size of all
        side effects over the size of its own, how many samples show it at both ends, and how far
        the raw measures moved, which hide nothing behind what is usual in a scene.
    """
    found = [
        _response(run, loop)
        for run in runs
        for loop in (OPEN_LOOP, CLOSED_LOOP)
        if all((loop, name) in set(run.asked()) for name in sweep_names())
    ]
    teachers = {each["loop"]: each for each in found if each["rules"] == TEACHER_RULES}
    for each in found:
        taught = teachers.get(each["loop"])
        for place, row in enumerate(each["rows"]):
            row["teacher"] = taught["rows"][place]["own"] if taught else None
    return found


def _response(run: DrivenRun, loop: str) -> dict[str, Any]:
    matrix, rows = [], []
    names = sweep_names()
    for place, (low, high) in enumerate(zip(names[::2], names[1::2], strict=True)):
        ends = run.at(loop, low), run.at(loop, high)
        moved = style_of(ends[1]) - style_of(ends[0])
        means = _means(moved)
        matrix.append(means)
        raw = [column_of(ends[1], name) - column_of(ends[0], name) for name, _, _ in STYLE_MEASURES]
        rows.append(
            {
                "dimension": STYLE_DIMENSIONS[place],
                "own": means[place],
                "samples": int(np.isfinite(moved[:, place]).sum()),
                **_side_effects(means, np.isfinite(moved).sum(0), place),
                "measures": dict(
                    zip((name for name, _, _ in STYLE_MEASURES), _means(np.stack(raw, 1)),
                        strict=True)
                ),
            }
        )  # fmt: skip
    return {
        "planner": run.name,
        "rules": run.rules,
        "loop": loop,
        "dimensions": list(STYLE_DIMENSIONS),
        "moved": matrix,
        "rows": rows,
    }


def _means(moved: Float[np.ndarray, "row column"]) -> list[float | None]:
    """Mean of every column over the rows in which it is known; None where it never is."""
    counts = np.isfinite(moved).sum(0)
    sums = np.nansum(moved, 0)
    return [float(t / n) if n else None for t, n in zip(sums, counts, strict=True)]


def _side_effects(
    means: Sequence[float | None], counts: Int[np.ndarray, " style"], place: int
) -> dict[str, Any]:
    """The largest movement that was not asked for, and the ratio of all of them to the own one.

    The ratio is as in `driving.metrics.style_metrics.response`, over what was measured in at least
    `FEWEST_SAMPLES`: the chance of one sample is no side effect.
    """
    others = {
        name: value
        for at, (name, value) in enumerate(zip(STYLE_DIMENSIONS, means, strict=True))
        if at != place and value is not None and counts[at] >= FEWEST_SAMPLES
    }
    own = means[place]
    largest = max(others, key=lambda name: abs(others[name]), default=None)
    sizes = float(np.mean([abs(value) for value in others.values()])) if others else 0.0
    return {
        "side_effect": largest,
        "side_effect_moved": others[largest] if largest else None,
        "side_effect_ratio": sizes / abs(own) if own else None,
    }
