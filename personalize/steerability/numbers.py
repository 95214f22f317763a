"""All numbers of one chain on one probe, with intervals over contexts, as plain JSON values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from personalize.evaluation.context_bootstrap import ContextBootstrap
from personalize.evaluation.intervals import Interval
from personalize.evaluation.steerability import (
    RowMeasures,
    along_correlation,
    request_cells,
    response_matrix,
    response_terms,
    row_measures,
    side_to_target,
)
from personalize.steerability.run import Answers, Asked

FEWEST_CONTEXTS = 5
"""A group of fewer contexts is shown, but never named the worst."""
FEWEST_ROWS = 8
_ALIKE = 0.1


@dataclass(frozen=True)
class Frame:
    """What the numbers of every chain on one probe have in common.

    Attributes:
        asked: The probe and its unsteered outputs.
        names: Names of all goal dimensions.
        kept: Those that are asked for.
        correlation: Rank correlation of all dimensions among unsteered tuning outputs.
        quality_names: Names of the qualities, the main one first.
        groups: Group of every row.
        resamples: Resamples of intervals.
        seed: Seed of intervals.
    """

    asked: Asked
    names: Sequence[str]
    kept: Sequence[int]
    correlation: Float[np.ndarray, "goal goal"]
    quality_names: Sequence[str]
    groups: Sequence[str]
    resamples: int
    seed: int

    @cached_property
    def even(self) -> ContextBootstrap:
        """Intervals of contexts spread evenly over goal space."""
        return self._bootstrap(self.asked.probe.even_weight)

    @cached_property
    def plain(self) -> ContextBootstrap:
        """Intervals of contexts as they come."""
        return self._bootstrap(self.asked.probe.plain_weight)

    def _bootstrap(self, weights: np.ndarray) -> ContextBootstrap:
        contexts = self.asked.probe.contexts
        return ContextBootstrap(contexts, weights, resamples=self.resamples, seed=self.seed)


@dataclass(frozen=True)
class Looked:
    """What one chain made, measured.

    Attributes:
        frame: What it was asked.
        answers: What it made.
        measures: Measures of every row.
        move: The way that was made.
    """

    frame: Frame
    answers: Answers
    measures: RowMeasures
    move: Float[np.ndarray, "row goal"]


def looked_at(frame: Frame, answers: Answers) -> Looked:
    """What a chain made, measured against what it was asked for."""
    probe = frame.asked.probe
    known = probe.known & answers.known
    move = np.where(known, answers.values - probe.before, 0.0)
    return Looked(frame, answers, row_measures(probe.change, move, known), move)


def main_numbers(looked: Looked) -> dict[str, Any]:
    """Gain, error and side effects, quality and cost: what dose curves are drawn of.

    `approach` is how much nearer the goal is than without steering, `moved` the share of rows where
    anything moved at all: side effects mean nothing without it.
    """
    even, measures = looked.frame.even, looked.measures
    moved = np.where(np.isnan(measures.gain), np.nan, (looked.move != 0).any(1))
    return {
        "steering_error": as_json(even.mean(measures.steering_error)),
        "asked_error": as_json(even.mean(measures.asked_error)),
        "gain": as_json(even.mean(measures.gain)),
        "miscalibration": as_json(even.mean(measures.miscalibration)),
        "side_effects": as_json(even.mean(measures.side_effects)),
        "moved": as_json(even.mean(moved)),
        "approach": as_json(even.mean(measures.asked - measures.steering_error)),
        "quality": {name: _quality(looked, name) for name in looked.frame.quality_names},
        "main_quality": next(iter(looked.frame.quality_names), None),
        "generator_calls": looked.answers.calls,
        "milliseconds": looked.answers.milliseconds,
    }


def _quality(looked: Looked, name: str) -> dict[str, Any]:
    """Quality before, after, and the change of the same rows; rows without both are left out."""
    before, after = looked.frame.asked.before.quality[name], looked.answers.quality[name]
    change = after - before
    both, even = ~np.isnan(change), looked.frame.even
    return {
        "before": as_json(even.mean(before, both)),
        "after": as_json(even.mean(after, both)),
        "change": as_json(even.mean(change)),
        "left_out": int((~both).sum()),
    }


def quality_loss(found: Mapping[str, Any], end: str = "value") -> float:
    """Loss of a quality as a share of what it is unsteered; 0 where there is none.

    Args:
        found: Numbers of a quality.
        end: `value`, or `low` for the most that the interval of the change allows.
    """
    if found["change"] is None:
        return 0.0
    change, before = -found["change"][end], abs(found["before"]["value"])
    return change / before if before else (float("inf") if change > 0 else 0.0)


def main_loss(numbers: Mapping[str, Any], end: str = "value") -> float:
    """`quality_loss` of the main quality; 0 where there is none."""
    name = numbers["main_quality"]
    return 0.0 if name is None else quality_loss(numbers["quality"][name], end)


def all_numbers(looked: Looked, oracle: Float[np.ndarray, " row"]) -> dict[str, Any]:
    """Everything that is reported of a chain.

    Args:
        looked: What it made.
        oracle: Distance of the nearest possible output of every row; NaN where unknown.
    """
    frame, measures = looked.frame, looked.measures
    even, error = frame.even, looked.measures.steering_error
    counted = np.where(np.isnan(error), np.nan, oracle)
    side = along_correlation(frame.asked.probe.change, frame.correlation)
    groups = _groups(looked)
    return main_numbers(looked) | {
        "oracle_error": as_json(even.mean(counted)),
        "regret": as_json(even.mean(error - oracle)),
        "worst_tenth": as_json(even.worst_mean(error)),
        "plain_steering_error": as_json(frame.plain.mean(error)),
        "with_correlation": as_json(even.mean(error, side > _ALIKE)),
        "against_correlation": as_json(even.mean(error, side < -_ALIKE)),
        "asked": as_json(even.mean(measures.asked)),
        "groups": groups,
        "worst_group": _extreme(groups, "steering_error", highest=True),
        "paying_group": _extreme(groups, "quality_change", highest=False),
        "response": _response(looked),
        "cells": _cells(looked),
        "left_out": _left_out(looked),
        "spread": looked.answers.spread,
    }


def _groups(looked: Looked) -> list[dict[str, Any]]:
    """Numbers of every group, by name."""
    frame = looked.frame
    labels, contexts = np.array(frame.groups), frame.asked.probe.contexts
    main = frame.quality_names[0] if frame.quality_names else None
    found = []
    for group in sorted(set(frame.groups)):
        rows = labels == group
        change = None
        if main is not None:
            change = looked.answers.quality[main] - frame.asked.before.quality[main]
        found.append(
            {
                "group": group,
                "contexts": len(np.unique(contexts[rows])),
                "steering_error": as_json(frame.even.mean(looked.measures.steering_error, rows)),
                "gain": as_json(frame.even.mean(looked.measures.gain, rows)),
                "quality_change": None
                if change is None
                else as_json(frame.even.mean(change, rows)),
            }
        )
    return found


def _extreme(groups: Sequence[dict[str, Any]], key: str, *, highest: bool) -> str | None:
    """The group with the highest or lowest mean; groups of few contexts only if all are."""
    known = [group for group in groups if group[key] is not None]
    large = [group for group in known if group["contexts"] >= FEWEST_CONTEXTS] or known
    sign = 1 if highest else -1
    best = max(large, key=lambda group: sign * group[key]["value"], default=None)
    return None if best is None else best["group"]


def _response(looked: Looked) -> dict[str, Any]:
    """The response matrix of what is asked for, with intervals."""
    frame, known, kept = looked.frame, looked.measures.known, list(looked.frame.kept)
    probe = frame.asked.probe
    matrix = response_matrix(probe.change, looked.move, known, probe.even_weight)
    cells = [
        [
            as_json(frame.even.quotient(*response_terms(probe.change, looked.move, known, a, s)))
            for s in kept
        ]
        for a in kept
    ]
    share = side_to_target(matrix[np.ix_(kept, kept)])
    return {
        "dimensions": [frame.names[number] for number in kept],
        "cells": cells,
        "side_to_target": share if np.isfinite(share) else None,
    }


def _cells(looked: Looked) -> list[dict[str, Any]]:
    """Steering error of every request of one direction or two, other requests beside them."""
    frame, found = looked.frame, []
    for pattern, rows in request_cells(frame.asked.probe.change):
        if rows.sum() < FEWEST_ROWS:
            continue
        one, *two = (number for number, _ in pattern)
        related = float(frame.correlation[one, two[0]]) if two else None
        found.append(
            {
                "asked": [[frame.names[number], sign] for number, sign in pattern],
                "rows": int(rows.sum()),
                "correlation": _finite(related),
                "steering_error": as_json(frame.even.mean(looked.measures.steering_error, rows)),
                "gain": as_json(frame.even.mean(looked.measures.gain, rows)),
            }
        )
    return found


def _left_out(looked: Looked) -> dict[str, Any]:
    """What could not be measured: whole rows, and values of what the probe knew."""
    frame, probe = looked.frame, looked.frame.asked.probe
    lost = probe.known & ~looked.answers.known
    return {
        "rows": int(np.isnan(looked.measures.gain).sum()),
        "of_rows": len(probe.contexts),
        "values": {frame.names[n]: int(lost[:, n].sum()) for n in frame.kept if lost[:, n].any()},
        "never_known": {
            frame.names[n]: int((~probe.known[:, n]).sum())
            for n in frame.kept
            if not probe.known[:, n].all()
        },
    }


def as_json(found: Interval | None) -> dict[str, Any] | None:
    """An interval as plain values; None where nothing could be measured."""
    if found is None:
        return None
    return {"value": found.mean, "low": found.low, "high": found.high, "contexts": found.rows}


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def matrix_json(matrix: Float[np.ndarray, "goal goal"]) -> list[list[float | None]]:
    """A matrix as lists; None for NaN."""
    return [[_finite(float(value)) for value in row] for row in matrix]
