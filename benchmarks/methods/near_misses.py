"""Near misses or any negative: which rejected plans keep a planner from collisions?

The winner is always the same: of the planner's candidates and the logged way, the one with the best
PDM score and style match among those that pass the gates. The loser is the candidate that fails
nearest to what is imitated (near misses, as DriveDPO has it), any that fails, or any that scores
lower. What is learnt is the distribution over the planner's anchors. Each kind has a sweep of
learning rates of its own, chosen on validation moments.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods.planner_tuning import (
    Tuning,
    average,
    changes,
    compared,
    drivers,
    means,
    opened,
    swept,
    table,
    tuned,
)
from driving.planner.anchor_policy import AnchorPolicy
from driving.tuned_plans import TunablePlans
from personalize.preference_optimization.comparison_objective import CompareObjective
from personalize.preference_optimization.contrasts import DPO
from personalize.preference_optimization.near_misses import NearMisses
from personalize.preference_optimization.target_pairs import Drawn
from personalize.preference_optimization.tunable import TEST

SCORE = {"pdms": 1.0, "style_match": 1.0}
BUILDERS = {
    "near misses": NearMisses(SCORE),
    "any that fails": NearMisses(SCORE, choice=Drawn()),
    "any that scores lower": NearMisses(SCORE, fails_below=float("inf"), choice=Drawn()),
}
RATES = (1e-5, 3e-5, 1e-4)
CRITERION = (
    "tuned on near misses the planner collides less on test moments than tuned on any candidate "
    "that scores lower, and than on any that fails: both intervals of the difference below 0"
)


def main() -> None:
    """Tune, drive the test moments, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo-driving"))
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    half = opened(options.run, moments=options.moments, policy=AnchorPolicy)
    result = experiment(half, options.run, options.steps, tuple(range(options.seeds)))
    print(table(result["means"]))
    for name, row in result["differences"].items():
        change = row["collision"]
        print(f"{name}: {change['mean']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}]")
    if options.json:
        print(json.dumps(result | {"criterion": CRITERION}))


def experiment(half: TunablePlans, run: Path, steps: int, seeds: tuple[int, ...]) -> dict[str, Any]:
    """All three kinds of negatives, as means over seeds in every context."""
    groups = drivers(half, run / "styles", TEST)
    before = half.evaluate(half.policy, TEST)
    found, facts = {}, {}
    for name, builder in BUILDERS.items():
        pairs = compared(half, builder)
        made, facts[name] = swept(
            half,
            lambda settings, pairs=pairs: tuned(
                half, lambda: CompareObjective(DPO(0.1)), pairs, settings
            ),
            RATES,
            seeds,
            Tuning(RATES[0], steps=steps),
        )
        facts[name]["pairs"] = len(pairs)
        found[name] = average([half.evaluate(one.policy, TEST) for one in made])
    hard = found["near misses"]
    differences = {
        f"near misses less {name}": changes(hard, found[name], groups)
        for name in BUILDERS
        if name != "near misses"
    }
    shown = all(row["collision"]["high"] < 0 for row in differences.values())
    return {
        "means": {"before": means(before, groups)}
        | {name: means(value, groups) for name, value in found.items()},
        "differences": differences,
        "facts": facts,
        "contexts": len(before.groups),
        "drivers": len(np.unique(groups)),
        "steps": steps,
        "seeds": list(seeds),
        "shown": shown,
    }


if __name__ == "__main__":
    main()
