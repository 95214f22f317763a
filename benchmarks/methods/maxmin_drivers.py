"""Two kinds of drivers with opposed tastes: does the minimum over groups serve the worse-off one?

Nothing is asked of the planner. Four in five drivers want it calm, one in five brisk, and a plan is
worth to each what it matches of that preset. Policy optimisation on anchors maximises the mean over
drivers, or the least of the two groups' rewards, plan by plan as MaxMin-RLHF's released code does;
plans that fail a safety gate are below all others either way. What is told is the exact expectation
over anchors in test moments, a plan that fails a gate counting 0.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.methods.planner_tuning import Tuning, drivers, logged, opened, tuned
from driving.plan_judge import REWARDS
from driving.planner.anchor_policy import AnchorPolicy
from driving.tuned_plans import TunablePlans
from personalize.preference_optimization.compared import ComparisonBatch
from personalize.preference_optimization.objective import Objective, Rollouts
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.rollout_objective import Drawing, RolloutObjective
from personalize.preference_optimization.surrogates import Clipped
from personalize.preference_optimization.tunable import TEST
from personalize.rewards.advantage import SumThenNormalize
from personalize.rewards.combination import WeightedSum, WorstReward
from personalize.rewards.pipeline import RewardPipeline

GROUPS, SHARES = ("calm", "brisk"), (0.8, 0.2)
RATES = (1e-4, 3e-4)
COMBINATIONS = {"mean over drivers": WeightedSum(SHARES), "least of the groups": WorstReward()}
RESAMPLES = 2000
CRITERION = (
    "the worse-off group gets more in the mean when the least is maximised than when the mean over "
    "drivers is, at every learning rate: interval of the difference above 0"
)


class OfGroups(Objective):
    """Policy optimisation that sees the rewards of the two groups alone."""

    def __init__(self, combination: WeightedSum | WorstReward) -> None:
        super().__init__()
        self.inner = RolloutObjective(
            Clipped(),
            RewardPipeline(combination, advantage=SumThenNormalize()),
            drawing=Drawing(group_size=8),
            kl_weight=0.02,
        )
        self.group_size = self.inner.group_size

    def forward(
        self,
        policy: Policy,
        reference: Policy | None,
        batch: ComparisonBatch,
        rollouts: Rollouts | None = None,
    ) -> Mapping[str, Float[Tensor, ""]]:
        """See `Objective`."""
        if rollouts is None:
            raise ValueError("there are no rollouts.")
        columns = [rollouts.names.index(name) for name in GROUPS]
        seen = replace(
            rollouts,
            reward=rollouts.reward[..., columns],
            reference_reward=rollouts.reference_reward[..., columns],
            names=GROUPS,
        )
        return self.inner(policy, reference, batch, seen)


def main() -> None:
    """Tune, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo-driving"))
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    half = opened(options.run, moments=options.moments, policy=AnchorPolicy, asked=("none",))
    result = experiment(half, options.run, options.steps, tuple(range(options.seeds)))
    for name, row in result["worth"].items():
        cells = "  ".join(f"{group} {value:.4f}" for group, value in row.items())
        print(f"{name:34} {cells}")
    for rate, row in result["least_less_mean"].items():
        print(
            f"worse-off group, {rate}: {row['mean']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
        )
    if options.json:
        print(json.dumps(result | {"criterion": CRITERION}))


def experiment(half: TunablePlans, run: Path, steps: int, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Both combinations at all learning rates, as means over seeds in every context."""
    groups, rows = drivers(half, run / "styles", TEST), logged(half)
    worth = {"before": expected(half, half.policy)}
    for rate in RATES:
        for name, combination in COMBINATIONS.items():
            made = [
                tuned(
                    half,
                    lambda combination=combination: OfGroups(combination),
                    rows,
                    Tuning(rate, steps=steps, seed=seed),
                )
                for seed in seeds
            ]
            each = [expected(half, one.policy) for one in made]
            worth[f"{name}, {rate:g}"] = np.mean(each, 0)
    least = {
        f"{rate:g}": least_difference(
            worth[f"least of the groups, {rate:g}"], worth[f"mean over drivers, {rate:g}"], groups
        )
        for rate in RATES
    }
    return {
        "worth": {
            name: {
                **dict(zip((*GROUPS, "safe"), map(float, value.mean(0)), strict=True)),
                "worse off": float(value.mean(0)[:2].min()),
                "mean over drivers": float(value.mean(0)[:2] @ np.array(SHARES)),
            }
            for name, value in worth.items()
        },
        "least_less_mean": least,
        "contexts": len(groups),
        "drivers": len(np.unique(groups)),
        "steps": steps,
        "seeds": list(seeds),
        "shown": all(row["low"] > 0 for row in least.values()),
    }


@torch.no_grad()
def expected(half: TunablePlans, policy: Policy) -> Float[np.ndarray, "context 3"]:
    """What each group gets of a policy's anchors in the mean, and how probable a safe one is."""
    contexts = torch.from_numpy(half.contexts(TEST))
    every = torch.arange(len(policy.planner.anchors)).expand(len(contexts), -1)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    judged = half.judge(contexts, every)
    share = policy.log_prob(half.batch(contexts), every)[..., 0].exp()
    columns = [REWARDS.index(name) for name in GROUPS]
    worth = judged.reward[..., columns] * judged.gate[..., None]
    found = torch.cat([worth, judged.gate[..., None].float()], -1)
    return (share[..., None] * found).sum(1).double().numpy()


def least_difference(
    first: Float[np.ndarray, "context 3"],
    second: Float[np.ndarray, "context 3"],
    groups: np.ndarray,
) -> dict[str, float]:
    """The worse-off group's mean under one policy less that under another; drivers drawn whole."""
    _, number = np.unique(groups, return_inverse=True)
    sums = [np.zeros((number.max() + 1, 2)) for _ in range(2)]
    for total, values in zip(sums, (first, second), strict=True):
        np.add.at(total, number, values[:, :2])
    counts = np.bincount(number)
    drawn = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    size = counts[drawn].sum(1)[:, None]
    one, other = ((total[drawn].sum(1) / size).min(1) for total in sums)
    low, high = np.quantile(one - other, [0.025, 0.975])
    mean = first[:, :2].mean(0).min() - second[:, :2].mean(0).min()
    return {"mean": float(mean), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    main()
