"""Every number of a report, computed once: the page shows what `metrics.json` holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from personalize.evaluation.intervals import (
    Interval,
    bootstrap_interval,
    holm,
    paired_comparison,
)
from recsys.report_runs import CUT_OFFS, METRICS, Run

MOST_FAILED_SHARE = 0.01
TARGET_FREE = ("none", "latest", "all", "retrieved")
PAIRED_METRICS = ("ndcg_10", "recall_10")
Numbers = dict[str, Any]


def cells(runs: Sequence[Run], *, resamples: int, seed: int) -> list[Numbers]:
    """Mean and interval of every metric, per recommender, axis and condition.

    Axes of pairs are left to `pair_cells`: there, finding the item is not always good. Where more
    than 1 % of the rows failed no mean is given, and the cell says so.
    """
    found = []
    for run in runs:
        for axis, condition in run.asked():
            rows = run.at(axis, condition)
            if rows["pair_id"].null_count() < rows.height:
                continue
            cell = _counted(run, axis, condition, rows)
            if "refused" not in cell:
                answered = rows.filter("answered")
                groups = answered["user_id"].to_numpy()
                cell["metrics"] = {
                    metric: _interval(answered[metric].to_numpy(), groups, resamples, seed)
                    for metric in METRICS
                }
            found.append(cell)
    return found


def pair_cells(runs: Sequence[Run], *, resamples: int, seed: int) -> list[Numbers]:
    """Sentiment following at 5 and 10 beside its two parts, one cell per run, axis, condition."""
    found = []
    for run in runs:
        for axis, condition in run.asked():
            rows = run.at(axis, condition)
            if rows["pair_id"].null_count():
                continue
            cell = _counted(run, axis, condition, rows)
            wanted = rows.filter(pl.col("target_wanted") & pl.col("answered"))
            avoided = rows.filter(~pl.col("target_wanted") & pl.col("answered"))
            pairs = wanted.join(avoided, on="pair_id", suffix="_avoided").sort("pair_id")
            cell["pairs"] = pairs.height
            if "refused" not in cell and pairs.height:
                cell["at"] = {
                    str(k): _pair_parts(pairs, k, resamples=resamples, seed=seed) for k in CUT_OFFS
                }
            found.append(cell)
    return found


def comparisons(runs: Sequence[Run], baseline: Run, *, resamples: int, seed: int) -> list[Numbers]:
    """Every recommender against the baseline, person by person, on the recommendation axis.

    Target-free conditions only; p-values are corrected together over all rows of one metric.
    """
    base = baseline.at("recommendation", "none")
    found: list[Numbers] = []
    for metric in PAIRED_METRICS:
        tests = []
        for run in runs:
            for axis, condition in run.asked():
                if axis != "recommendation" or condition not in TARGET_FREE or run is baseline:
                    continue
                compared = _paired(run.at(axis, condition), base, metric, resamples, seed)
                if compared:
                    tests.append(
                        {"model": run.name, "condition": condition, "metric": metric, **compared}
                    )
        found.extend(_corrected(tests))
    return found


def lifts(runs: Sequence[Run], *, resamples: int, seed: int) -> list[Numbers]:
    """What preferences add: each condition against `none` of the same recommender and axis.

    The metric is recall at 10; on axes of pairs there is nothing to lift and they are left out.
    """
    found: list[Numbers] = []
    for run in runs:
        for axis, condition in run.asked():
            rows = run.at(axis, condition)
            none = run.at(axis, "none")
            if condition == "none" or not none.height or not rows["pair_id"].null_count():
                continue
            for metric in PAIRED_METRICS:
                compared = _paired(rows, none, metric, resamples, seed)
                if compared:
                    found.append(
                        {
                            "model": run.name,
                            "axis": axis,
                            "condition": condition,
                            "metric": metric,
                            **compared,
                        }
                    )
    corrected = [test for test in found if test["condition"] != "oracle"]
    for metric in PAIRED_METRICS:
        _corrected([test for test in corrected if test["metric"] == metric])
    return found


def beyond_accuracy(
    run: Run, condition: str, training_counts: np.ndarray, *, k: int = 10
) -> Numbers:
    """How much of the catalogue is ever recommended, and how unusual what is recommended is.

    Novelty is the mean of `-log2(share of training interactions)`, in bits: an item met by one
    person in a thousand carries ten.

    Source:
        Vargas and Castells, 2011, doi:10.1145/2043932.2043955 (self-information novelty).
    """
    rows = run.at("recommendation", condition).filter("answered")
    items = rows["item_ids"].list.head(k).explode(empty_as_null=False).to_numpy()
    share = (training_counts + 1) / (training_counts.sum() + len(training_counts))
    return {
        "model": run.name,
        "condition": condition,
        "catalogue_share": float(len(np.unique(items)) / len(training_counts)),
        "novelty_bits": float(-np.log2(share[items]).mean()) if len(items) else 0.0,
    }


def popularity_slices(
    run: Run, condition: str, training_counts: np.ndarray, edges: Sequence[int]
) -> list[Numbers]:
    """Recall at 10 by how often the target occurs in training; the slices hold all rows.

    Args:
        run: The recommender.
        condition: Condition of the recommendation axis.
        training_counts: Training interactions of every item.
        edges: Ascending counts; a slice reaches up to and including its edge, the last has none.
    """
    rows = run.at("recommendation", condition).filter("answered")
    counts = training_counts[rows["target_item_id"].to_numpy()]
    place = np.searchsorted(np.asarray(edges), counts, side="left")
    hits = rows["recall_10"].to_numpy()
    return [
        {
            "model": run.name,
            "condition": condition,
            "slice": number,
            "rows": int((place == number).sum()),
            "recall_10": float(hits[place == number].mean()) if (place == number).any() else None,
        }
        for number in range(len(edges) + 1)
    ]


def rank_histogram(run: Run, condition: str, edges: Sequence[int]) -> Numbers:
    """How many targets stand at which rank; the last bin holds those not returned."""
    rows = run.at("recommendation", condition).filter("answered")
    ranks = rows["target_rank"].drop_nulls().to_numpy()
    place = np.searchsorted(np.asarray(edges), ranks, side="left")
    counts = np.bincount(place, minlength=len(edges) + 1)
    counts[-1] += rows["target_rank"].null_count()
    return {"model": run.name, "condition": condition, "counts": counts.tolist()}


def slice_edges(training_counts: np.ndarray, targets: np.ndarray) -> list[int]:
    """Counts that cut the targets into about three equal parts, without empty ones."""
    counts = training_counts[targets]
    if not len(counts):
        return []
    edges = np.unique(np.quantile(counts, [1 / 3, 2 / 3], method="lower").astype(int))
    return [int(edge) for edge in edges if edge < counts.max()]


def _counted(run: Run, axis: str, condition: str, rows: pl.DataFrame) -> Numbers:
    """The head of a cell: what was asked, answered and failed, and whether a mean is refused."""
    answered = int(rows["answered"].sum())
    failed = rows.height - answered
    cell: Numbers = {
        "model": run.name,
        "axis": axis,
        "condition": condition,
        "rows": rows.height,
        "answered": answered,
        "failed": failed,
    }
    if failed > MOST_FAILED_SHARE * rows.height or not answered:
        cell["refused"] = (
            f"{failed} of {rows.height} rows failed; no mean is given above "
            f"{MOST_FAILED_SHARE:.0%}."
        )
    return cell


def _pair_parts(pairs: pl.DataFrame, k: int, *, resamples: int, seed: int) -> Numbers:
    wanted = pairs[f"recall_{k}"].to_numpy()
    spared = 1.0 - pairs[f"recall_{k}_avoided"].to_numpy()
    groups = pairs["target_item_id"].to_numpy()
    parts = {"both": wanted * spared, "wanted": wanted, "spared": spared}
    return {name: _interval(values, groups, resamples, seed) for name, values in parts.items()}


def _paired(
    rows: pl.DataFrame, base: pl.DataFrame, metric: str, resamples: int, seed: int
) -> Numbers | None:
    """Difference on the rows both answered; None where too many failed or none is shared."""
    shared = rows.filter("answered").join(
        base.filter("answered"), on="row_id", suffix="_base", maintain_order="left"
    )
    if not shared.height or shared.height < (1 - MOST_FAILED_SHARE) * max(rows.height, base.height):
        return None
    compared = paired_comparison(
        shared[metric].to_numpy(),
        shared[f"{metric}_base"].to_numpy(),
        groups=shared["user_id"].to_numpy(),
        resamples=resamples,
        seed=seed,
    )
    return {
        "rows": shared.height,
        "difference": compared.difference.mean,
        "low": compared.difference.low,
        "high": compared.difference.high,
        "p": compared.p_value,
        "wins": compared.wins,
        "ties": compared.ties,
        "losses": compared.losses,
    }


def _corrected(tests: list[Numbers]) -> list[Numbers]:
    """The same tests, each with its p-value corrected for their number."""
    if tests:
        for test, p in zip(tests, holm(np.array([t["p"] for t in tests])), strict=True):
            test["p_holm"] = float(p)
    return tests


def _interval(values: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> Numbers:
    unique = len(np.unique(groups)) == len(groups)
    found: Interval = bootstrap_interval(
        values, groups=None if unique else groups, resamples=resamples, seed=seed
    )
    return {"value": found.mean, "low": found.low, "high": found.high}
