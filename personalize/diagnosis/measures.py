"""Everything a diagnosis says of its runs, as plain numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float

from data_prep.errors import InputError
from data_prep.progress import track
from personalize.diagnosis.conditions import conditions
from personalize.diagnosis.drift import drifts, hacking
from personalize.diagnosis.held_out import HeldOut, answered
from personalize.diagnosis.mass import cycles, mass
from personalize.diagnosis.tuning_run import TuningRun
from personalize.diagnosis.verdict import verdict
from personalize.evaluation.context_suite import context_suite
from personalize.evaluation.group_report import group_report
from personalize.evaluation.likelihood_displacement import displacement_report
from personalize.evaluation.loop_health import loop_health
from personalize.evaluation.ranking_accuracy import (
    PairScores,
    ahead,
    difficulty,
    dpo_loss,
    ranking_report,
)
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.tunable import TEST, Evaluation
from personalize.tuning.outcome import outcome

LEAST_IN_GROUP, LEAST_GROUPS = 5, 2


class Measured:
    """Measures run after run beside the generator before tuning.

    Args:
        found: Held-out comparisons.
        before: The generator before tuning, on the device.
    """

    def __init__(self, found: HeldOut, before: Policy) -> None:
        self.found, self.before = found, before
        self.scores = found.scores(before, found.compared)
        self.evaluation = found.half.evaluate(before, TEST, seed=found.options.seed)
        self.answers = answered(found, before, before)
        self.margins = conditions(found, before) if len(found.reversals) else None

    def run(self, run: TuningRun, name: str) -> tuple[dict[str, Any], PairScores]:
        """What a run did, and the scores of its pairs.

        Raises:
            InputError: If its weights do not fit the half.
        """
        found, options = self.found, self.found.options
        after = run.policy(self.before)
        pairs = found.pairs(found.scores(after, found.compared), self.scores)
        paths = run.between()
        on_the_way = [
            answered(found, run.policy(self.before, path), self.before)
            for _, path in track(paths, f"Checkpoints of {name}")
        ]
        answers = [self.answers, *on_the_way, answered(found, after, self.before)]
        last = paths[-1][0] if paths else 0
        steps = [0, *(step for step, _ in paths), run.step if run.step > last else last + 1]
        ranking = ranking_report(
            pairs,
            beta=options.beta,
            share=options.judges_share,
            contexts=found.origins,
            resamples=options.resamples,
            seed=options.seed,
        )
        displacement = displacement_report(
            pairs, contexts=found.origins, resamples=options.resamples, seed=options.seed
        )
        evaluation = found.half.evaluate(after, TEST, seed=options.seed)
        numbers: dict[str, Any] = {
            "name": name,
            "checkpoint": str(run.checkpoint),
            "steps": run.step,
            "evaluation": outcome(self.evaluation, evaluation, resamples=options.resamples),
            "groups": groups_of(self.evaluation, evaluation, options.resamples, options.seed),
            "ranking": asdict(ranking),
            "annotators": annotators(found, pairs),
            "displacement": {**asdict(displacement), "mass": mass(found, self.before, after)},
            "context": self._contexts(after),
            "cycles": cycles(found, self.before, after),
            "hacking": hacking(found, answers, steps),
            "drift": drifts(found, answers, steps),
            "health": [asdict(one) for one in loop_health(run.log())],
        }
        numbers["verdict"] = verdict(numbers)
        return plain_numbers(numbers), pairs

    def _contexts(self, after: Policy) -> dict[str, Any] | None:
        """Reversals before and after; None where no reward reads the context."""
        if self.margins is None:
            return None
        found = self.found
        origins = found.candidates.origin[found.reversals.rows[::2, 0]].numpy()
        seed = found.options.seed
        suites = {
            "before": context_suite(self.margins, origins=origins, seed=seed),
            "after": context_suite(conditions(found, after), origins=origins, seed=seed),
        }
        told = {name: asdict(suite) for name, suite in suites.items()}
        return {**told, "reversals": len(origins)}


def groups_of(
    before: Evaluation, after: Evaluation, resamples: int, seed: int
) -> dict[str, Any] | None:
    """Groups side by side by the main measure, higher being better; None where there are none.

    Groups of fewer than five contexts are left out.
    """
    sign = -1.0 if before.main in before.lower_is_better else 1.0
    old, new = (sign * one.values[before.main].astype(np.float64) for one in (before, after))
    known = np.isfinite(old) & np.isfinite(new)
    return _groups(old, new, np.asarray(before.groups), known, resamples, seed)


def annotators(found: HeldOut, pairs: PairScores) -> dict[str, Any] | None:
    """The same by ranking accuracy of every annotator's pairs, averaged by context first."""
    comparison, _ = found.places
    judge = found.compared.annotator.numpy()[comparison]
    keys, place = np.unique(np.stack([judge, found.origins]), axis=1, return_inverse=True)
    count = np.bincount(place)
    old, new = (
        np.bincount(place, weights=ahead(margin)) / count
        for margin in (pairs.reference_margin, pairs.margin)
    )
    known = found.half.annotator_names
    names = np.array([known[one] if one < len(known) else f"number {one}" for one in keys[0]])
    options = found.options
    return _groups(old, new, names, np.ones(len(old), bool), options.resamples, options.seed)


def _groups(
    old: Float[np.ndarray, " row"],
    new: Float[np.ndarray, " row"],
    names: np.ndarray,
    known: np.ndarray,
    resamples: int,
    seed: int,
) -> dict[str, Any] | None:
    sizes = {name: int((names[known] == name).sum()) for name in np.unique(names)}
    large = [name for name, size in sizes.items() if size >= LEAST_IN_GROUP]
    if len(large) < LEAST_GROUPS:
        return None
    kept = known & np.isin(names, large)
    report = group_report(
        new[kept], names[kept].tolist(), before=old[kept], resamples=resamples, seed=seed
    )
    return {**asdict(report), "left_out": sorted(str(name) for name in sizes if name not in large)}


def pair_rows(found: HeldOut, name: str, pairs: PairScores) -> dict[str, Any]:
    """The columns of the table of pairs, for one run."""
    comparison, _ = found.places
    winner, loser = found.rows()
    compared, candidates = found.compared, found.candidates
    return {
        "run": [name] * len(pairs),
        "pair": np.arange(len(pairs)),
        "context": candidates.context.numpy()[winner],
        "annotator": compared.annotator.numpy()[comparison],
        "source": [compared.sources[one] for one in compared.provenance.numpy()[comparison]],
        "winner": candidates.response.numpy()[winner],
        "loser": candidates.response.numpy()[loser],
        "winner_before": pairs.reference_winner,
        "winner_after": pairs.winner,
        "loser_before": pairs.reference_loser,
        "loser_after": pairs.loser,
        "difficulty": difficulty(pairs),
        "loss": dpo_loss(pairs, found.options.beta),
    }


def named_runs(paths: Sequence[TuningRun]) -> list[tuple[str, TuningRun]]:
    """Runs by their names, made distinct by a number where two are alike."""
    seen: dict[str, int] = {}
    named = []
    for run in paths:
        seen[run.name] = seen.get(run.name, 0) + 1
        count = seen[run.name]
        named.append((run.name if count == 1 else f"{run.name} ({count})", run))
    return named


def plain_numbers(value: Any) -> Any:  # noqa: ANN401  (a tree of plain values)
    """The same with tuples as lists and numbers that JSON has none for as None."""
    if isinstance(value, Mapping):
        return {key: plain_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def check_fits(found: HeldOut) -> None:
    """Whether the named rewards are there, before anything long begins.

    Raises:
        InputError: If one is not.
    """
    for name in (found.options.proxy, found.options.meant):
        if name and name not in found.half.reward_names:
            known = ", ".join(found.half.reward_names)
            raise InputError(f"no reward is named {name}; there are {known}.")
