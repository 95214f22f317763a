"""Two rewards of unlike scale: which of them does an advantage know of, by the order of operations?

Groups of 8 responses with independent rewards of scale 10 and 1, or correlated ones. Correlations
of the advantage with each, over all responses and within groups, when rewards are summed first and
when each is normalised first. Then a policy is trained with either and judged by both rewards.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.methods.par import contexts_only
from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.objective import Rollouts
from personalize.preference_optimization.rollout_objective import Drawing, RolloutObjective
from personalize.preference_optimization.surrogates import Clipped
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy
from personalize.rewards.advantage import Advantage, NormalizeThenSum, SumThenNormalize
from personalize.rewards.combination import Parts
from personalize.rewards.pipeline import RewardPipeline

SCALES, GROUP, STEPS = (10.0, 1.0), 8, 150
ORDERS: dict[str, Advantage] = {
    "normalise, then sum": NormalizeThenSum(),
    "sum, then normalise": SumThenNormalize(),
}
CRITERION = (
    "normalised first, the advantage correlates with the small reward 0.6 or more in every seed"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    rows = [one_seed(seed) for seed in range(options.seeds)]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    for name, value in measures.items():
        print(f"{name:58} {value['mean']:6.3f}  [{value['low']:6.3f}, {value['high']:6.3f}]")
    shown = bool((columns["correlation with the small, normalise, then sum"] >= 0.6).all())
    found: dict[str, Any] = {"measures": measures, "seeds": list(range(options.seeds))}
    if options.json:
        print(json.dumps({**found, "criterion": CRITERION, "shown": shown}))


def one_seed(seed: int) -> dict[str, float]:
    """Correlations, and what a policy trained with each order has of each reward."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor(SCALES)
    reward = torch.randn(500, GROUP, 2, generator=generator) * scale
    within = reward - reward.mean(1, keepdim=True)
    worth = torch.randn(10, 40, 2, generator=generator) * scale
    result = {}
    for name, order in ORDERS.items():
        advantage = order(Parts(reward, torch.ones(500, 2)))
        trained = expected(worth, order, seed)
        for k, which in enumerate(("large", "small")):
            result[f"correlation with the {which}, {name}"] = correlation(advantage, reward[..., k])
            own = correlation(advantage, within[..., k])
            result[f"correlation within groups with the {which}, {name}"] = own
            result[f"{which} reward of the policy, in deviations, {name}"] = float(
                trained[k] / SCALES[k]
            )
    return result


def expected(worth: Tensor, order: Advantage, seed: int) -> Tensor:
    """Both rewards a policy gets in the mean after training."""
    policy = TabularPolicy(torch.zeros(worth.shape[:2]))
    objective = RolloutObjective(
        Clipped(), RewardPipeline(advantage=order), drawing=Drawing(group_size=16)
    )
    optimizer = torch.optim.SGD(policy.parameters(), lr=10.0)
    contexts = NumberedContexts(torch.arange(len(worth)))
    for step in range(STEPS):
        drawn = policy.sample(contexts, 16, seed=1000 * seed + step)
        reward = worth[contexts.numbers[:, None], drawn.responses]
        gate = torch.ones_like(drawn.responses, dtype=torch.bool)
        rollouts = Rollouts(drawn, reward, gate, reward[:, :0], ("large", "small"))
        loss = objective(policy, None, contexts_only(contexts), rollouts)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (policy.probabilities.detach()[..., None] * worth).sum(1).mean(0)


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's, over all entries."""
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


if __name__ == "__main__":
    main()
