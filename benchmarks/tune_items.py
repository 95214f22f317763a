"""Do losses of preferences tune a real recommender better than plain fine-tuning does?

One checkpoint is tuned by S-DPO, by a sum of pairs, by DMPO and by GRPO, and by plain fine-tuning
for the same number of steps on the same histories. Each method's learning rate is the one of a
sweep that validates best by NDCG@10; it is then trained again from other seeds, and a context's
value is the mean over seeds. Differences on the test split are paired by context, with bootstrap
intervals, against the checkpoint as it was and against plain fine-tuning.

  python benchmarks/tune_items.py --checkpoint runs/demo/fit/mender_emb --json

With `--kept FOLDER` what a method came to is written there and not computed again, so that several
processes can each do one of them (`--only GRPO`) and a last one prints the table. What was kept
under other options is refused; only rates may differ, and those that were tried are told.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
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
from recsys.item_rewards import Collaborative, Hit, TargetLikeness
from recsys.tuning import ItemCandidates, TunableItems, TunedItems
from recsys.tuning_contexts import RowLimits

PLAIN, GRPO = "plain fine-tuning", "GRPO"
NAMES = (PLAIN, "S-DPO", "sum of pairs", "DMPO", GRPO)
CLIPPED_NORM, RESAMPLES, ROWS_AT_ONCE = 1.0, 2000, 256
FREE = ("rates", "plain_rates", "drawing_rates", "device", "kept", "only", "json")
"""Options that may differ between processes that share what they keep."""
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
        rates: Learning rates to try, by method.
        seeds: Number of seeds at the rate that is chosen.
        device: Where it is trained and evaluated.
    """

    steps: int
    batch_size: int
    beta: float
    group_size: int
    rates: Mapping[str, list[float]]
    seeds: int
    device: str


@dataclass(frozen=True)
class Outcome:
    """What one method came to.

    Attributes:
        values: Per measure one value per test context, the mean over seeds.
        validated: NDCG@10 on validation, by learning rate.
        chosen: The best of them.
    """

    values: Mapping[str, Float[np.ndarray, " row"]]
    validated: Mapping[float, float]
    chosen: float


@dataclass(frozen=True)
class Kept:
    """What methods came to, in a folder.

    Attributes:
        folder: Where; it is made when needed.
        asked: Options that all of it must have been computed under.
    """

    folder: Path
    asked: Mapping[str, str]

    def read(self, name: str) -> Outcome | None:
        """What a method came to before, if that was kept.

        Raises:
            SystemExit: If it was computed under other options.
        """
        path = self._path(name)
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        other = [key for key, value in self.asked.items() if found["asked"].get(key) != value]
        if other:
            raise SystemExit(
                f"{path} was made with another {', '.join(other)}; pass another --kept."
            )
        values = {measure: np.array(each, np.float64) for measure, each in found["values"].items()}
        validated = {float(rate): value for rate, value in found["validated"].items()}
        return Outcome(values, validated, found["chosen"])

    def write(self, name: str, found: Outcome) -> None:
        """Write what a method came to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        values = {measure: each.tolist() for measure, each in found.values.items()}
        told = {"validated": found.validated, "chosen": found.chosen, "asked": dict(self.asked)}
        self._path(name).write_text(json.dumps({"values": values, **told}))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def main() -> None:
    """Run the sweep and the seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("checkpoint", "preferences", "tables", "vectors", "semantic-ids"):
        parser.add_argument(f"--{name}", type=Path, required=name == "checkpoint")
    parser.add_argument("--codes", action="store_true", help="of a causal retriever: codes alone")
    parser.add_argument("--without-texts", action="store_true", help="GRPO's second reward")
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
    parser.add_argument("--drawing-rates", type=float, nargs="+", help="of GRPO, if others")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--kept", type=Path, help="folder where what is done is kept")
    parser.add_argument("--only", choices=NAMES, help="do this method, keep it, print no table")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    if options.only and options.kept is None:
        parser.error("--only keeps what it finds: pass --kept.")
    half = opened(options)
    rates: dict[str, list[float]] = {name: [*options.rates] for name in NAMES}
    rates[PLAIN] = options.plain_rates
    rates[GRPO] = options.drawing_rates or options.rates
    settings = Settings(
        options.steps,
        options.batch_size,
        options.beta,
        options.group_size,
        rates,
        options.seeds,
        options.device,
    )
    names = (options.only,) if options.only else NAMES
    asked = {name: str(value) for name, value in vars(options).items() if name not in FREE}
    kept = None if options.kept is None else Kept(options.kept, asked)
    outcomes = experiment(half, settings, names, options.contexts, kept)
    if options.only:
        return
    before = half.evaluate(half.policy, TEST)
    unchanged = score(half.evaluate(half.policy, VALIDATION))
    found = report(half, before, outcomes, unchanged) | {"seeds": list(range(options.seeds))}
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
        judges=[Hit(), Collaborative() if options.without_texts else TargetLikeness()],
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
        GRPO: lambda: RolloutObjective(Clipped(), drawing=drawing, kl_weight=1e-3),
    }


def experiment(
    half: TunableItems,
    settings: Settings,
    names: Sequence[str],
    contexts: int,
    kept: "Kept | None",
) -> dict[str, Outcome]:
    """What each method comes to; what is kept from before is read."""
    generator = np.random.default_rng(0)
    every = half.contexts(TRAINING)
    chosen = np.sort(generator.choice(every, min(contexts, len(every)), replace=False))
    numbers = torch.from_numpy(chosen)
    half.policy.to(settings.device)
    comparisons = None
    outcomes = {}
    for name in names:
        found = None if kept is None else kept.read(name)
        if found is None:
            rows: ComparisonSet | LoggedTargets = LoggedTargets(numbers)
            if name not in (PLAIN, GRPO):
                rows = comparisons = comparisons or compared(half, numbers)
            found = outcome(half, settings, name, rows)
            if kept is not None:
                kept.write(name, found)
        note(f"{name}: {found.validated}, chosen {found.chosen:g}, {time.process_time():.0f} s")
        outcomes[name] = found
    return outcomes


def compared(half: TunableItems, numbers: Int[Tensor, " context"]) -> ComparisonSet:
    """What was met next against three of the likeliest items, with the checkpoint's scores."""
    candidates = half.candidates(numbers, half.policy, seed=0)
    rows = TargetAgainstOthers(negatives=3, choice=Drawn())(candidates, seed=0)
    found = ComparisonSet.of_candidates(rows, candidates)
    return found.with_reference(half.policy, half, batch_size=ROWS_AT_ONCE)


def outcome(
    half: TunableItems, settings: Settings, name: str, rows: ComparisonSet | LoggedTargets
) -> Outcome:
    """One method: its learning rate is swept with the first seed, then every seed is told."""
    make = methods(settings)[name]
    validated, policies = {}, {}
    for rate in settings.rates[name]:
        policies[rate] = tuned(half, make(), rows, settings, rate, seed=0)
        validated[rate] = score(half.evaluate(policies[rate], VALIDATION))
    best = max(validated, key=lambda rate: validated[rate])
    seeds = range(1, settings.seeds)
    others = [tuned(half, make(), rows, settings, best, seed=seed) for seed in seeds]
    told = [half.evaluate(policy, TEST) for policy in (policies[best], *others)]
    values = {
        measure: np.mean([each.values[measure] for each in told], 0)
        for measure in REPORTED
        if measure in told[0].values
    }
    return Outcome(values, validated, best)


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
        batch = rows.batch(part, half).to(settings.device)
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
    outcomes: Mapping[str, Outcome],
    unchanged: float,
) -> dict[str, Any]:
    """Means and paired differences of every measure, worst groups, and what is shown."""
    after = {name: each.values for name, each in outcomes.items()}
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
        "learning rates": {
            name: {"validated": each.validated, "chosen": each.chosen}
            for name, each in outcomes.items()
        },
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
