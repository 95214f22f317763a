"""All that a steerability report says, as plain JSON values, and its rows as a table."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import polars as pl

from data_prep.artifact import package_version
from personalize.evaluation.goal_space import GoalSpace
from personalize.evaluation.probe import FEWEST_KNOWN, distance_from_even, effective_share
from personalize.evaluation.steerable import Steerable
from personalize.steerability.chains import Evaluated
from personalize.steerability.configuration import Steerability
from personalize.steerability.numbers import matrix_json
from personalize.steerability.run import Asked, Asking, Questions
from personalize.steerability.tables import ROWS
from personalize.steerability.verdict import best_chain, rule, verdict

SCHEMA_VERSION = 1


def all_metrics(
    asking: Asking,
    asked: Questions,
    chains: Sequence[Evaluated],
    configuration: Mapping[str, Any],
) -> dict[str, Any]:
    """All numbers and words of the report, as written to `metrics.json`."""
    half, options = asking.half, asking.options
    numbers = [chain.numbers for chain in chains]
    bounds = {
        "largest_quality_loss": options.largest_quality_loss,
        "generator_calls": options.generator_calls,
    }
    best = best_chain(numbers, **bounds)
    main = half.quality_names[0] if half.quality_names else None
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict(numbers, best, **bounds),
        "best": best["chain"] if best else None,
        "rule": rule(options.largest_quality_loss, options.generator_calls, main),
        "chains": numbers,
        "quality_names": list(half.quality_names),
        "goal_space": _space(half.space, asked),
        "coverage": {
            "tuning": _coverage(asked.tuning, half, asked),
            "reported": _coverage(asked.reported, half, asked),
        },
        "facts": dict(half.facts),
        "settings": settings(options),
        "configuration": dict(configuration),
        "version": package_version(),
    }


def _space(space: GoalSpace, asked: Questions) -> dict[str, Any]:
    dimensions = [
        {
            "name": dimension.name,
            "unit": dimension.unit,
            "meaning": dimension.meaning,
            "low": dimension.low if isfinite(dimension.low) else None,
            "high": dimension.high if isfinite(dimension.high) else None,
            "dropped": asked.dimensions.dropped.get(number),
        }
        for number, dimension in enumerate(space.dimensions)
    ]
    return {
        "dimensions": dimensions,
        "correlation": matrix_json(asked.dimensions.correlation),
    }


def _coverage(found: Asked, half: Steerable, asked: Questions) -> dict[str, Any]:
    """How evenly a probe covers goal space, before and after weighting."""
    probe, kept = found.probe, asked.dimensions.kept
    _, first = np.unique(probe.contexts, return_index=True)
    distances = {}
    for number in kept.tolist():
        seeds = found.seeds[found.seeds_known[:, number], number]
        rows = first[probe.known[first, number]]
        if len(seeds) < FEWEST_KNOWN or not len(rows):
            continue
        distances[half.space.names[number]] = {
            "unsteered": distance_from_even(seeds, np.ones(len(seeds))),
            "probe": distance_from_even(probe.before[rows, number], probe.even_weight[rows]),
        }
    return {
        "contexts": len(first),
        "of_contexts": len(found.seeds),
        "rows": len(probe.contexts),
        "effective_share": effective_share(probe.even_weight[first]),
        "effective_share_of_all": probe.effective_share,
        "distance_from_even": distances,
    }


def hashes(facts: Mapping[str, Any]) -> dict[str, str]:
    """Content hashes of what was read, where the half states them under `inputs`."""
    found = facts.get("inputs")
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}


def rows_of(chains: Sequence[Evaluated], half: Steerable) -> pl.DataFrame:
    """Every goal that every chain was asked for, as the table `rows`."""
    return pl.concat([_rows_of_one(chain, half) for chain in chains])


def _rows_of_one(chain: Evaluated, half: Steerable) -> pl.DataFrame:
    looked, frame = chain.looked, chain.looked.frame
    probe, measures = frame.asked.probe, looked.measures
    plain = {
        "row": np.arange(len(probe.contexts)),
        "context": probe.contexts,
        "group": list(frame.groups),
        "even_weight": probe.even_weight,
        "plain_weight": probe.plain_weight,
        "steering_error": measures.steering_error,
        "asked_error": measures.asked_error,
        "gain": measures.gain,
        "side_effects": measures.side_effects,
        "oracle_error": chain.oracle,
    }
    lists = {
        "target": probe.target(),
        "asked": probe.change != 0,
        "before": probe.before,
        "after": looked.answers.values,
        "known": measures.known,
        "quality_before": _stacked(frame.asked.before.quality, half),
        "quality_after": _stacked(looked.answers.quality, half),
    }
    columns = {name: pl.Series(name, values) for name, values in plain.items()}
    columns |= {name: pl.Series(name, values.tolist()) for name, values in lists.items()}
    columns["chain"] = pl.Series("chain", [chain.name] * len(probe.contexts))
    numbers = ("steering_error", "asked_error", "gain", "side_effects", "oracle_error")
    return pl.DataFrame(
        [columns[name].cast(kind) for name, kind in ROWS.polars.items()]
    ).with_columns(pl.col(numbers).fill_nan(None))


def _stacked(quality: Mapping[str, np.ndarray], half: Steerable) -> np.ndarray:
    size = len(next(iter(quality.values()), np.zeros(0)))
    columns = [quality[name] for name in half.quality_names]
    return np.stack(columns, axis=1) if columns else np.zeros((size, 0))


def settings(options: Steerability) -> dict[str, Any]:
    """How much was asked, with which bounds and seeds."""
    skipped = ("source", "chains")
    return {name: value for name, value in vars(options).items() if name not in skipped}
