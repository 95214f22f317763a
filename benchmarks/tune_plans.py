"""A planner tuned by near misses, by policy optimisation and by cloning: style at which safety?

All begin at the same trained planner, take equally many steps on training moments under a calm and
a brisk style, and have a sweep of learning rates each, decided by the safe style match on
validation moments. What is told is of test moments of other recordings, driven by the planner's own
choice, with intervals that draw drivers whole. Policy optimisation is done on anchors alone, on
trajectories by the surrogate, and on chains of denoising.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
    swept,
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
from personalize.preference_optimization.tunable import TEST, Evaluation
from personalize.rewards.combination import Separate
from personalize.rewards.pipeline import RewardPipeline

WEIGHTS = {"pdms": 1.0, "style_match": 1.0}
NO_WORSE = 0.02
"""A collision rate is no worse where it is surely not this much higher."""
SLOW, FAST = (1e-5, 3e-5, 1e-4), (3e-5, 1e-4, 3e-4)
CRITERION = (
    "the style match is higher than cloning's (interval above 0) and the collision rate surely not "
    f"{NO_WORSE:g} higher (upper end of the interval)"
)


@dataclass(frozen=True)
class Method:
    """One way to tune.

    Attributes:
        policy: What counts as a response.
        objective: Makes what is minimised.
        builder: Makes comparisons; None reads targets or draws.
        rates: Learning rates to try.
        batch_size: Contexts, or comparisons, in a step.
    """

    policy: Any
    objective: Callable[[], Objective]
    builder: NearMisses | None
    rates: tuple[float, ...]
    batch_size: int = 32


def optimisation(*, chain: bool = False) -> RolloutObjective:
    """Clipped ratios on the sum of quality and style, each normalised within its group."""
    weights = tuple(WEIGHTS.get(name, 0.0) for name in REWARDS)
    kl, samples = (0.0, 1) if chain else (0.05, 0)
    return RolloutObjective(
        Clipped(),
        RewardPipeline(Separate(weights)),
        drawing=Drawing(group_size=8),
        kl_weight=kl,
        imitation_weight=0.1 * samples,
        imitation_samples=samples,
    )


def methods() -> dict[str, Method]:
    """All that are compared, cloning first."""
    return {
        "cloning": Method(DiffusionPolicy, ImitateObjective, None, SLOW),
        "near-miss DPO": Method(
            DiffusionPolicy, lambda: CompareObjective(DPO(0.1)), NearMisses(WEIGHTS), SLOW
        ),
        "GRPO on anchors": Method(AnchorPolicy, optimisation, None, FAST),
        "GRPO on the surrogate": Method(DiffusionPolicy, optimisation, None, FAST),
        "GRPO on the chain": Method(
            ChainPolicy, lambda: optimisation(chain=True), None, (1e-4, 3e-4), batch_size=16
        ),
    }


def main() -> None:
    """Tune, drive the test moments, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo-driving"))
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--without", nargs="*", default=[], help="methods to leave out")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    chosen = {name: way for name, way in methods().items() if name not in options.without}
    seeds = tuple(range(options.seeds))
    result = experiment(options.run, chosen, options.moments, options.steps, seeds)
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
) -> dict[str, Any]:
    """Every method, as means over seeds in every test context; cloning must be among them."""
    halves: dict[Any, TunablePlans] = {}
    found: dict[str, Evaluation] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    for name, method in chosen.items():
        if method.policy not in halves:
            halves[method.policy] = opened(run, moments=moments, policy=method.policy)
        half = halves[method.policy]
        if "before" not in found:
            found["before"] = half.evaluate(half.policy, TEST)
        made, facts[name] = trained(half, method, steps, seeds)
        found[name] = average([half.evaluate(one.policy, TEST) for one in made])
        groups = drivers(half, run / "styles", TEST)
        print(f"{name}: {facts[name]}")
        print(table({name: changes(found[name], found["before"], groups)}), flush=True)
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
    half: TunablePlans, method: Method, steps: int, seeds: tuple[int, ...]
) -> tuple[list[Tuned], dict[str, Any]]:
    """The half's planner after one method, seed by seed."""
    rows = logged(half) if method.builder is None else compared(half, method.builder)
    settings = Tuning(method.rates[0], steps=steps, batch_size=method.batch_size)
    return swept(
        half,
        lambda chosen: tuned(half, method.objective, rows, chosen),
        method.rates,
        seeds,
        settings,
    )


if __name__ == "__main__":
    main()
