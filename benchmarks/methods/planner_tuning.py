"""A planner tuned in a short loop, and what that changed on moments of other recordings."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from data_prep.artifact import read_artifact
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.diffusion_policy import DiffusionPolicy
from driving.style.tables import SAMPLES
from driving.tuned_plans import TunablePlans
from driving.tuning import STYLES, TunedPlans
from personalize.evaluation.intervals import bootstrap_interval, paired_comparison
from personalize.preference_optimization.candidates import PairBuilder, joined_candidates
from personalize.preference_optimization.compared import ComparisonBatch
from personalize.preference_optimization.comparison_set import ComparisonSet, LoggedTargets
from personalize.preference_optimization.objective import Objective, Rollouts
from personalize.preference_optimization.policy import Policy, frozen_copy
from personalize.preference_optimization.tunable import TRAINING, VALIDATION, Evaluation

SHOWN = ("safe_style_match", "style_match", "collision", "off_road", "pdms", "style_tau", "ade_m")
LARGEST_GRADIENT = 1.0
CONTEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class Tuning:
    """How long and how fast.

    Attributes:
        learning_rate: AdamW's, the same throughout, without decay.
        steps: Steps of the optimizer.
        batch_size: Contexts, or comparisons, in a step.
        seed: Of what is drawn.
    """

    learning_rate: float
    steps: int = 150
    batch_size: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Tuned:
    """A tuned policy.

    Attributes:
        policy: In evaluation mode.
        losses: Of every step.
        seconds_per_step: Judging included.
    """

    policy: Policy
    losses: list[float]
    seconds_per_step: float


def opened(
    run: Path,
    *,
    moments: int,
    policy: Callable[[DiffusionPlanner], Policy] = DiffusionPolicy,
    asked: Sequence[str] = STYLES,
) -> TunablePlans:
    """The planner `fit/diffusion` of a folder, with the artifacts that lie beside it."""
    half = TunedPlans(
        checkpoint=run / "fit/diffusion",
        scenes=run / "scenes",
        styles=run / "styles",
        style_vectors=run / "style_vectors",
        teacher=run / "teacher",
        moments=moments,
        policy=policy,
        asked=asked,
    )
    return half.open()


def swept(
    half: TunablePlans,
    train: Callable[[Tuning], Tuned],
    rates: Sequence[float],
    seeds: Sequence[int],
    settings: Tuning,
) -> tuple[list[Tuned], dict[str, Any]]:
    """One tuned policy per seed at the learning rate that validates best with the first seed.

    Args:
        half: What is tuned.
        train: Tunes it.
        rates: Learning rates to try.
        seeds: At least one.
        settings: Everything else.
    """
    found, scores = {}, {}
    for rate in rates:
        found[rate] = train(replace(settings, learning_rate=rate, seed=seeds[0]))
        measured = half.evaluate(found[rate].policy, VALIDATION)
        scores[rate] = float(np.nanmean(measured.values[measured.main]))
    best = max(scores, key=lambda rate: scores[rate])
    others = [train(replace(settings, learning_rate=best, seed=seed)) for seed in seeds[1:]]
    facts = {
        "learning_rate": best,
        "validation": {f"{rate:g}": round(score, 5) for rate, score in scores.items()},
        "seconds_per_step": round(found[best].seconds_per_step, 4),
    }
    return [found[best], *others], facts


def compared(
    half: TunablePlans, builder: PairBuilder, split: str = TRAINING, *, seed: int = 0
) -> ComparisonSet:
    """Comparisons of what the untuned planner answers in a split, with its scores."""
    contexts = torch.from_numpy(half.contexts(split))
    parts = [half.candidates(c, half.policy, seed=seed) for c in contexts.split(CONTEXTS_AT_ONCE)]
    candidates = joined_candidates(parts)
    found = ComparisonSet.of_candidates(builder(candidates, seed=seed), candidates)
    return found.with_reference(frozen_copy(half.policy), half, batch_size=CONTEXTS_AT_ONCE)


def logged(half: TunablePlans) -> LoggedTargets:
    """Training contexts and their targets."""
    return LoggedTargets(torch.from_numpy(half.contexts(TRAINING)))


def tuned(
    half: TunablePlans,
    make_objective: Callable[[], Objective],
    rows: ComparisonSet | LoggedTargets,
    settings: Tuning,
) -> Tuned:
    """The half's policy after some steps on comparisons, targets, or what it draws."""
    torch.manual_seed(settings.seed)
    policy, objective = copy.deepcopy(half.policy).eval(), make_objective()
    reference = frozen_copy(half.policy)
    weights = [one for one in policy.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(settings.seed)
    losses, began = [], time.perf_counter()
    for step in range(settings.steps):
        chosen = torch.randint(len(rows), (settings.batch_size,), generator=generator)
        batch = rows.batch(chosen, half)
        number = settings.seed * settings.steps + step
        policy.reseed(number)
        reference.reseed(number)
        rollouts = None
        if objective.group_size > 0:
            rollouts = rolled_out(half, policy, reference, objective, batch, number)
        loss = objective(policy, reference, batch, rollouts)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, LARGEST_GRADIENT)
        optimizer.step()
        losses.append(float(loss.detach()))
    seconds = (time.perf_counter() - began) / settings.steps
    return Tuned(policy.eval(), losses, seconds)


@torch.no_grad()
def rolled_out(
    half: TunablePlans,
    policy: Policy,
    reference: Policy,
    objective: Objective,
    batch: ComparisonBatch,
    seed: int,
) -> Rollouts:
    """What the policy answers in a batch, judged."""
    drawn = policy.sample(batch.contexts, objective.group_size, seed=seed, beam=objective.beam)
    if batch.numbers is None:
        raise TypeError("a batch to draw in needs the numbers of its contexts.")
    judged = half.judge(batch.numbers, drawn.responses)
    worth = judged.reward[:, :0]
    if objective.judges_reference:
        best = reference.sample(batch.contexts, 1, seed=seed, beam=True)
        worth = half.judge(batch.numbers, best.responses).reward
    return Rollouts(drawn, judged.reward, judged.gate, worth, half.reward_names)


def drivers(half: TunablePlans, styles: Path, split: str) -> np.ndarray:
    """The driver of every context of a split, as intervals draw them whole."""
    samples = read_artifact(styles, kind="styles").table(SAMPLES)
    driver_of = dict(samples.select("sample_id", pl.col("driver_id")).iter_rows())
    contexts = torch.from_numpy(half.contexts(split))
    return np.array([driver_of[number] for number in half.samples(contexts).tolist()])


def means(found: Evaluation, groups: np.ndarray) -> dict[str, dict[str, float]]:
    """Means with intervals, drivers drawn whole."""
    result = {}
    for name in SHOWN:
        there = np.isfinite(found.values[name])
        if not there.any():
            continue
        values = found.values[name][there]
        result[name] = asdict(bootstrap_interval(values, groups=groups[there], resamples=2000))
    return result


def changes(
    after: Evaluation, before: Evaluation, groups: np.ndarray, names: Sequence[str] = SHOWN
) -> dict[str, dict[str, float]]:
    """Paired differences with intervals, drivers drawn whole, of the measures that there are."""
    result = {}
    for name in (name for name in names if name in after.values):
        new, old = after.values[name], before.values[name]
        there = np.isfinite(new) & np.isfinite(old)
        if not there.any():
            continue
        found = paired_comparison(new[there], old[there], groups=groups[there], resamples=2000)
        result[name] = asdict(found.difference) | {"p": found.p_value}
    return result


def average(evaluations: list[Evaluation]) -> Evaluation:
    """The mean over seeds of every value, context by context."""
    first = evaluations[0]
    values = {name: np.mean([one.values[name] for one in evaluations], 0) for name in first.values}
    return Evaluation(values, first.main, first.groups, first.lower_is_better)


def table(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Lines for a terminal."""
    lines = [f"{'':30}" + "".join(f"{name[:16]:>27}" for name in SHOWN)]
    for name, row in rows.items():
        cells = (
            f"{row[m]['mean']:8.4f} [{row[m]['low']:7.4f},{row[m]['high']:7.4f}]"
            if m in row
            else "not measured"
            for m in SHOWN
        )
        lines.append(f"{name:30}" + "".join(f"{cell:>27}" for cell in cells))
    return "\n".join(lines)
