"""A planner tuned by near misses, by policy optimisation and by cloning: style at which safety?

All begin at the same trained planner, take equally many steps on training moments under a calm and
a brisk style, and have a sweep of learning rates each, decided by the safe style match on
validation moments; rows that end in `collisions` are decided by the style match among all that
collide there no more often than cloning. What is told is of test moments of other recordings,
driven by the planner's own choice, with intervals that draw drivers whole. Policy optimisation is
done on anchors alone, on trajectories by the surrogate, and on chains of denoising; each without
and with a cost of failing a gate, whose weight is chosen with the rate. `--parts` says which plans
changed (`methods/drawn_and_driven.py`).
"""

import argparse
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods.drawn_and_driven import drawn_gain, parted
from benchmarks.methods.planner_tuning import (
    Tuned,
    Tuning,
    average,
    changes,
    compared,
    drivers,
    logged,
    means,
    opened,
    table,
    tuned,
)
from driving.plan_judge import REWARDS
from driving.planner.anchor_policy import AnchorPolicy
from driving.planner.chain_policy import ChainPolicy
from driving.planner.diffusion_policy import DiffusionPolicy
from driving.tuned_plans import TunablePlans
from personalize.preference_optimization.comparison_objective import (
    CompareObjective,
    ImitateObjective,
)
from personalize.preference_optimization.contrasts import DPO
from personalize.preference_optimization.near_misses import NearMisses
from personalize.preference_optimization.objective import Objective
from personalize.preference_optimization.rollout_objective import Drawing, RolloutObjective
from personalize.preference_optimization.surrogates import Clipped
from personalize.preference_optimization.tunable import TEST, TRAINING, VALIDATION, Evaluation
from personalize.rewards.combination import Separate
from personalize.rewards.pipeline import RewardPipeline

WEIGHTS = {"pdms": 1.0, "style_match": 1.0}
NO_WORSE = 0.02
"""A collision rate is no worse where it is surely not this much higher."""
SLOW, FAST = (1e-5, 3e-5, 1e-4), (3e-5, 1e-4, 3e-4)
CHOSEN_BY = ("safe_style_match", "style_match", "collision", "off_road")
Validated = Mapping[tuple[float, float], Mapping[str, float]]
"""Means on validation moments by learning rate and cost of failing."""
Rule = Callable[[Validated], tuple[float, float]]
CRITERION = (
    "the style match is higher than cloning's (interval above 0) and the collision rate surely not "
    f"{NO_WORSE:g} higher (upper end of the interval)"
)


@dataclass(frozen=True)
class Method:
    """One way to tune.

    Attributes:
        policy: What counts as a response.
        objective: Makes what is minimised, from what failing a gate costs.
        builder: Makes comparisons; None reads targets or draws.
        rates: Learning rates to try.
        batch_size: Contexts, or comparisons, in a step.
        failure_weights: Costs of failing to try.
        draws: Whether it learns from what it draws.
    """

    policy: Any
    objective: Callable[[float], Objective]
    builder: NearMisses | None
    rates: tuple[float, ...]
    batch_size: int = 32
    failure_weights: tuple[float, ...] = (0.0,)
    draws: bool = False


def optimisation(failure_weight: float, *, chain: bool = False) -> RolloutObjective:
    """Clipped ratios on the sum of quality and style, each normalised within its group."""
    weights = tuple(WEIGHTS.get(name, 0.0) for name in REWARDS)
    kl, samples = (0.0, 1) if chain else (0.05, 0)
    return RolloutObjective(
        Clipped(),
        RewardPipeline(Separate(weights), failure_weight=failure_weight),
        drawing=Drawing(group_size=8),
        kl_weight=kl,
        imitation_weight=0.1 * samples,
        imitation_samples=samples,
    )


def methods(failure_weights: tuple[float, ...] = (5.0, 10.0)) -> dict[str, Method]:
    """All that are compared, cloning first."""
    of_chains = functools.partial(optimisation, chain=True)
    drawing = {
        "GRPO on anchors": Method(AnchorPolicy, optimisation, None, FAST, draws=True),
        "GRPO on the surrogate": Method(DiffusionPolicy, optimisation, None, FAST, draws=True),
        "GRPO on the chain": Method(
            ChainPolicy, of_chains, None, FAST[1:], batch_size=16, draws=True
        ),
    }
    found = {
        "cloning": Method(DiffusionPolicy, lambda _: ImitateObjective(), None, SLOW),
        "near-miss DPO": Method(
            DiffusionPolicy, lambda _: CompareObjective(DPO(0.1)), NearMisses(WEIGHTS), SLOW
        ),
    }
    for name, method in drawing.items():
        found[name] = method
        found[f"{name}, failing costs"] = replace(method, failure_weights=failure_weights)
    return found


def main() -> None:
    """Tune, drive the test moments, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo-driving"))
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="methods beside cloning; else all")
    parser.add_argument("--failure-weights", nargs="+", type=float, default=[5.0, 10.0])
    parser.add_argument("--parts", action="store_true", help="say which plans changed, and how")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    every = methods(tuple(options.failure_weights))
    unknown = set(options.only) - set(every)
    if unknown:
        parser.error(f"--only knows {', '.join(every)}; got {', '.join(sorted(unknown))}")
    names = {"cloning", *options.only} if options.only else set(every)
    chosen = {name: way for name, way in every.items() if name in names}
    seeds = tuple(range(options.seeds))
    result = experiment(
        options.run, chosen, options.moments, options.steps, seeds, parts=options.parts
    )
    print(table(result["means"]))
    for name, row in result["less_cloning"].items():
        match, hit = row["style_match"], row["collision"]
        print(
            f"{name} less cloning: style match {match['mean']:+.4f} [{match['low']:+.4f}, "
            f"{match['high']:+.4f}], collision {hit['mean']:+.4f} [{hit['low']:+.4f}, "
            f"{hit['high']:+.4f}]"
        )
    if options.json:
        print(json.dumps(result | {"criterion": CRITERION}))


def experiment(
    run: Path,
    chosen: Mapping[str, Method],
    moments: int,
    steps: int,
    seeds: tuple[int, ...],
    *,
    parts: bool = False,
) -> dict[str, Any]:
    """Every method, as means over seeds in every test context; cloning must be among them."""
    halves: dict[Any, TunablePlans] = {}
    found: dict[str, Evaluation] = {}
    facts: dict[str, dict[str, Any]] = {}
    rules: dict[str, Rule] = {"": best_safe_match}
    for name, method in chosen.items():
        if method.policy not in halves:
            halves[method.policy] = opened(run, moments=moments, policy=method.policy)
        half = halves[method.policy]
        if "before" not in found:
            found["before"] = half.evaluate(half.policy, TEST)
        groups = drivers(half, run / "styles", TEST)
        for rule, (made, told) in trained(half, method, steps, seeds, rules).items():
            one = name + rule
            facts[one] = told
            found[one] = average([half.evaluate(each.policy, TEST) for each in made])
            print(f"{one}: {told}")
            print(table({one: changes(found[one], found["before"], groups)}), flush=True)
            if method.draws:
                facts[one] = facts[one] | gained(half, made[0], run, one)
            if parts and not rule:
                facts[one] = facts[one] | looked_into(half, made[0], run, one)
        if name == "cloning":
            most = facts[name]["chosen"]["collision"]
            rules[", collisions"] = functools.partial(no_more_collisions, most=most)
    groups = drivers(next(iter(halves.values())), run / "styles", TEST)
    less = {
        name: changes(value, found["cloning"], groups)
        for name, value in found.items()
        if name not in ("cloning", "before")
    }
    shown = {
        name: row["style_match"]["low"] > 0 and row["collision"]["high"] < NO_WORSE
        for name, row in less.items()
    }
    return {
        "run": str(run),
        "means": {name: means(value, groups) for name, value in found.items()},
        "less_cloning": less,
        "less_before": {
            name: changes(value, found["before"], groups)
            for name, value in found.items()
            if name != "before"
        },
        "facts": facts,
        "contexts": len(groups),
        "drivers": len(np.unique(groups)),
        "steps": steps,
        "seeds": list(seeds),
        "shown_by_method": shown,
        "shown": any(shown.values()),
    }


def trained(
    half: TunablePlans,
    method: Method,
    steps: int,
    seeds: Sequence[int],
    rules: Mapping[str, Rule],
) -> dict[str, tuple[list[Tuned], dict[str, Any]]]:
    """By every rule of choice: the planner seed by seed, at the rate and cost that were chosen."""
    rows = logged(half) if method.builder is None else compared(half, method.builder)
    settings = Tuning(method.rates[0], steps=steps, batch_size=method.batch_size)

    def one(rate: float, weight: float, seed: int) -> Tuned:
        objective = functools.partial(method.objective, weight)
        return tuned(half, objective, rows, replace(settings, learning_rate=rate, seed=seed))

    made = {
        (rate, weight, seeds[0]): one(rate, weight, seeds[0])
        for weight in method.failure_weights
        for rate in method.rates
    }
    validated = {
        key[:2]: validation(half.evaluate(found.policy, VALIDATION)) for key, found in made.items()
    }
    found = {}
    for name, rule in rules.items():
        best = rule(validated)
        for seed in seeds:
            made[*best, seed] = made.get((*best, seed)) or one(*best, seed)
        facts = {
            "learning_rate": best[0],
            "failure_weight": best[1],
            "chosen": validated[best],
            "validation": {f"{r:g}, {w:g}": row for (r, w), row in validated.items()},
            "seconds_per_step": round(made[*best, seeds[0]].seconds_per_step, 4),
        }
        found[name] = [made[*best, seed] for seed in seeds], facts
    return found


def validation(found: Evaluation) -> dict[str, float]:
    """Means of what choices are made by."""
    return {name: round(float(np.nanmean(found.values[name])), 5) for name in CHOSEN_BY}


def best_safe_match(validated: Validated) -> tuple[float, float]:
    """The rate and the cost of failing with the best safe style match."""
    return max(validated, key=lambda key: validated[key]["safe_style_match"])


def no_more_collisions(validated: Validated, most: float) -> tuple[float, float]:
    """Those with the best style match among all that collide no more than so often.

    Where all collide more often it is the one that does so least.
    """
    allowed = [key for key, row in validated.items() if row["collision"] <= most]
    if not allowed:
        return min(validated, key=lambda key: validated[key]["collision"])
    return max(allowed, key=lambda key: validated[key]["style_match"])


def gained(half: TunablePlans, made: Tuned, run: Path, name: str) -> dict[str, Any]:
    """What is drawn in training moments less what was, printed as well."""
    groups = drivers(half, run / "styles", TRAINING)
    gain = drawn_gain(half, made.policy, TRAINING, WEIGHTS, groups)
    cells = (
        f"{key} {v['mean']:+.4f} [{v['low']:+.4f}, {v['high']:+.4f}]" for key, v in gain.items()
    )
    print(f"{name}: drawn in training moments: {', '.join(cells)}", flush=True)
    return {"drawn in training moments": gain}


def looked_into(half: TunablePlans, made: Tuned, run: Path, name: str) -> dict[str, Any]:
    """Which plans changed on training and on test moments, printed as well."""
    found = {}
    for split in (TRAINING, TEST):
        found[split] = parted(half, made.policy, split, drivers(half, run / "styles", split))
        print(name)
        print(table({f"{split}: {key}": row for key, row in found[split].items()}), flush=True)
    return {"parts": found}


if __name__ == "__main__":
    main()
