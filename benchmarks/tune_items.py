"""Do losses of preferences tune a real recommender better than plain fine-tuning does?

One checkpoint is tuned by S-DPO, by a sum of pairs, by DMPO and by GRPO, and by plain fine-tuning
for the same number of steps on the same histories. Each method's learning rate is the one of a
sweep that validates best by NDCG@10; it is then trained again from other seeds, and a context's
value is the mean over seeds. Differences on the test split are paired by context, with bootstrap
intervals, against the checkpoint as it was and against plain fine-tuning.

  python benchmarks/tune_items.py --checkpoint runs/demo/fit/mender_emb --json
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.optim import AdamW

from personalize.evaluation.group_report import group_report
from personalize.evaluation.intervals import Interval, paired_comparison
from personalize.preference_optimization.comparison_objective import (
    CompareObjective,
    ImitateObjective,
)
from personalize.preference_optimization.comparison_set import ComparisonSet, LoggedTargets
from personalize.preference_optimization.contrasts import DPO
from personalize.preference_optimization.list_contrasts import DMPO, SDPO, OverPairs
from personalize.preference_optimization.objective import Objective, Rollouts
from personalize.preference_optimization.policy import Policy, frozen_copy
from personalize.preference_optimization.rollout_objective import Drawing, RolloutObjective
from personalize.preference_optimization.surrogates import Clipped
from personalize.preference_optimization.target_pairs import Drawn, TargetAgainstOthers
from personalize.preference_optimization.tunable import TEST, TRAINING, VALIDATION, Evaluation
from recsys.item_rewards import Hit, TargetLikeness
from recsys.tuning import ItemCandidates, TunableItems, TunedItems
from recsys.tuning_contexts import RowLimits

PLAIN, CLIPPED_NORM, RESAMPLES = "plain fine-tuning", 1.0, 2000
REPORTED = (
    "ndcg@10",
    "recall@10",
    "log_likelihood",
    "ranking_accuracy",
    "follows_preferences",
    "reversal_rate",
)
CRITERION = (
    "a method is called better than plain fine-tuning only where the 95 % interval of the paired "
    "difference of NDCG@10 on the test split lies above 0"
)


@dataclass(frozen=True)
class Settings:
    """How every method is trained.

    Attributes:
        steps: Steps of the optimizer.
        batch_size: Contexts in a step.
        beta: Of the losses of comparisons.
        group_size: Responses that GRPO draws per context.
    """

    steps: int
    batch_size: int
    beta: float
    group_size: int


def main() -> None:
    """Run the sweep and the seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("checkpoint", "preferences", "tables", "vectors", "semantic-ids"):
        parser.add_argument(f"--{name}", type=Path, required=name == "checkpoint")
    parser.add_argument("--codes", action="store_true", help="of a causal retriever: codes alone")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-6, 1e-5, 3e-5, 1e-4])
    parser.add_argument("--plain-rates", type=float, nargs="+", default=[1e-4, 3e-4, 1e-3, 3e-3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--contexts", type=int, default=4096)
    parser.add_argument("--validation", type=int, default=1000)
    parser.add_argument("--test", type=int, default=1500)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    half = opened(options)
    settings = Settings(options.steps, options.batch_size, options.beta, options.group_size)
    rates: dict[str, list[float]] = {name: [*options.rates] for name in methods(settings)}
    rates[PLAIN] = options.plain_rates
    found = experiment(half, settings, rates, options.seeds, options.contexts)
    print_table(found)
    if options.json:
        print(json.dumps({**found, "options": {k: str(v) for k, v in vars(options).items()}}))


def opened(options: argparse.Namespace) -> TunableItems:
    """The checkpoint and its interactions."""
    changes: dict[str, Any] = {"ranking.search": {"width": 20}, "ranking.dense": 0.0}
    changes["ranking.prior"] = 0.0
    return TunedItems(
        checkpoint=options.checkpoint,
        preferences=options.preferences,
        tables=options.tables,
        vectors=options.vectors,
        semantic_ids=options.semantic_ids,
        changes=changes if options.codes else None,
        candidates=ItemCandidates(beam=20),
        limits=RowLimits(validation=options.validation, test=options.test),
        judges=[Hit(), TargetLikeness()],
    ).open()


def methods(settings: Settings) -> Mapping[str, Callable[[], Objective]]:
    """What is compared; plain fine-tuning is the control of all."""
    beta = settings.beta
    drawing = Drawing(group_size=settings.group_size)
    return {
        PLAIN: ImitateObjective,
        "S-DPO": lambda: CompareObjective(SDPO(beta)),
        "sum of pairs": lambda: CompareObjective(OverPairs(DPO(beta))),
        "DMPO": lambda: CompareObjective(DMPO(beta)),
        "GRPO": lambda: RolloutObjective(Clipped(), drawing=drawing, kl_weight=1e-3),
    }


def experiment(
    half: TunableItems,
    settings: Settings,
    rates: Mapping[str, list[float]],
    seeds: int,
    contexts: int,
) -> dict[str, Any]:
    """All methods against the checkpoint as it was and against plain fine-tuning."""
    generator = np.random.default_rng(0)
    every = half.contexts(TRAINING)
    chosen = np.sort(generator.choice(every, min(contexts, len(every)), replace=False))
    numbers = torch.from_numpy(chosen)
    started = time.process_time()
    candidates = half.candidates(numbers, half.policy, seed=0)
    compared = TargetAgainstOthers(negatives=3, choice=Drawn())(candidates, seed=0)
    comparisons = ComparisonSet.of_candidates(compared, candidates).with_reference(
        half.policy, half, batch_size=256
    )
    before = half.evaluate(half.policy, TEST)
    unchanged = score(half.evaluate(half.policy, VALIDATION))
    note(f"{len(comparisons)} comparisons, {time.process_time() - started:.0f} s of CPU")
    after: dict[str, dict[str, Float[np.ndarray, " row"]]] = {}
    sweeps: dict[str, Any] = {}
    for name, make in methods(settings).items():
        rows: ComparisonSet | LoggedTargets = comparisons
        if name in (PLAIN, "GRPO"):
            rows = LoggedTargets(numbers)
        validated, policies = {}, {}
        for rate in rates[name]:
            policies[rate] = tuned(half, make(), rows, settings, rate, seed=0)
            validated[rate] = score(half.evaluate(policies[rate], VALIDATION))
        best = max(validated, key=lambda rate: validated[rate])
        others = [tuned(half, make(), rows, settings, best, seed=seed) for seed in range(1, seeds)]
        told = [half.evaluate(policy, TEST) for policy in (policies[best], *others)]
        after[name] = {
            measure: np.mean([each.values[measure] for each in told], 0)
            for measure in REPORTED
            if measure in told[0].values
        }
        sweeps[name] = {"validated": validated, "chosen": best}
        note(f"{name}: {validated}, chosen {best:g}, {time.process_time() - started:.0f} s of CPU")
    return report(half, before, after, sweeps, unchanged) | {"seeds": list(range(seeds))}


def tuned(
    half: TunableItems,
    objective: Objective,
    rows: ComparisonSet | LoggedTargets,
    settings: Settings,
    rate: float,
    *,
    seed: int,
) -> Policy:
    """A copy of the policy after so many steps, in evaluation mode, in which it is trained too."""
    policy = copy.deepcopy(half.policy).requires_grad_(requires_grad=True).eval()
    reference = frozen_copy(half.policy) if objective.group_size > 0 else None
    parameters = [weight for weight in policy.parameters() if weight.requires_grad]
    optimizer = AdamW(parameters, lr=rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    order = torch.cat(
        [
            torch.randperm(len(rows), generator=generator)
            for _ in range(settings.steps * settings.batch_size // len(rows) + 1)
        ]
    )
    for step, part in enumerate(order.split(settings.batch_size)[: settings.steps]):
        batch = rows.batch(part, half)
        rollouts = None
        if objective.group_size > 0 and batch.numbers is not None:
            drawn = policy.sample(batch.contexts, objective.group_size, seed=1000 * seed + step)
            judged = half.judge(batch.numbers, drawn.responses)
            none = judged.reward[:, :0]
            rollouts = Rollouts(drawn, judged.reward, judged.gate, none, half.reward_names)
        optimizer.zero_grad(set_to_none=True)
        objective(policy, reference, batch, rollouts)["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, CLIPPED_NORM)
        optimizer.step()
    return policy


def score(found: Evaluation) -> float:
    """What learning rates are chosen by."""
    return float(np.nanmean(found.values[found.main]))


def report(
    half: TunableItems,
    before: Evaluation,
    after: Mapping[str, Mapping[str, Float[np.ndarray, " row"]]],
    sweeps: Mapping[str, Any],
    unchanged: float,
) -> dict[str, Any]:
    """Means and paired differences of every measure, worst groups, and what is shown."""
    rows = {"before tuning": before.values, **after}
    found: dict[str, Any] = {}
    for name, values in rows.items():
        measures: dict[str, Any] = {}
        for measure in REPORTED:
            if measure not in values or not np.isfinite(values[measure]).any():
                continue
            measures[measure] = {"mean": float(np.nanmean(values[measure]))}
            for other in ("before tuning", PLAIN):
                if other != name and name != "before tuning":
                    difference = paired(values[measure], rows[other][measure])
                    measures[measure][f"minus {other}"] = vars(difference)
        worst = group_report(values[before.main], before.groups, resamples=RESAMPLES)
        measures["worst group"] = {"name": worst.worst, **vars(worst.worst_utility)}
        for other in ("before tuning", PLAIN):
            if other != name and name != "before tuning":
                difference = worst_difference(
                    values[before.main], rows[other][before.main], np.array(before.groups)
                )
                measures["worst group"][f"minus {other}"] = vars(difference)
        found[name] = measures
    better = [
        name
        for name in after
        if name != PLAIN and found[name][before.main][f"minus {PLAIN}"]["low"] > 0
    ]
    return {
        "facts": dict(half.facts),
        "validation before tuning": unchanged,
        "learning rates": sweeps,
        "test": found,
        "criterion": CRITERION,
        "better than plain fine-tuning": better,
        "shown": bool(better),
    }


def paired(values: Float[np.ndarray, " row"], baseline: Float[np.ndarray, " row"]) -> Interval:
    """The paired difference where both are known."""
    known = np.isfinite(values) & np.isfinite(baseline)
    return paired_comparison(values[known], baseline[known], resamples=RESAMPLES).difference


def worst_difference(
    values: Float[np.ndarray, " row"], baseline: Float[np.ndarray, " row"], groups: np.ndarray
) -> Interval:
    """How the least of the groups' means differs; people are drawn within groups, for both."""
    generator = np.random.default_rng(0)
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]

    def least(rows: list[np.ndarray]) -> float:
        return min(values[row].mean() for row in rows) - min(baseline[row].mean() for row in rows)

    drawn = [
        least([row[generator.integers(0, len(row), len(row))] for row in members])
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(least(members)), float(low), float(high), len(values))


def print_table(found: Mapping[str, Any]) -> None:
    """Means with differences to plain fine-tuning, one method a block."""
    for name, measures in found["test"].items():
        rate = found["learning rates"].get(name, {}).get("chosen")
        print(name if rate is None else f"{name} (learning rate {rate:g})")
        for measure, value in measures.items():
            line = f"  {measure:20} {value['mean']:8.4f}"
            for other in ("before tuning", PLAIN):
                change = value.get(f"minus {other}")
                if change is not None:
                    line += f"   minus {other} {change['mean']:+.4f} "
                    line += f"[{change['low']:+.4f}, {change['high']:+.4f}]"
            print(line)


def note(line: str) -> None:
    """A line of progress, at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
