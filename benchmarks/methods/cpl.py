"""Contrastive preference learning: is the optimal policy found from labels by regret?

Six states, four actions, random transitions and rewards; the policy of maximal entropy is solved
exactly. Every pair of (state, action) is labelled by the advantage, as often as it would win, and a
table of logits learns by CPL at several lambdas. `KL` is that of the optimal policy from the learnt
one. Then one action of each state is left out of all comparisons, and its probability is told. As
a control the labels come from rewards instead (partial return).
"""

import argparse
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrasts import CPL
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy

STATES, ACTIONS, DISCOUNT, TEMPERATURE = 6, 4, 0.9, 0.5
LAMBDAS, STEPS, LEARNING_RATE = (0.5, 0.75, 1.0), 600, 0.05
CRITERION = (
    "KL below 0.01 at lambda 1 in every seed and above it with labels by reward; a smaller lambda "
    "leaves less probability to an action that was never compared, with intervals of the "
    "difference above 0"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found = experiment(tuple(range(options.seeds)))
    for name, row in found["measures"].items():
        print(f"{name:50} {row['mean']:7.4f}  [{row['low']:7.4f}, {row['high']:7.4f}]")
    if options.json:
        print(json.dumps(found))


def experiment(seeds: tuple[int, ...]) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    rows = [one_seed(seed) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    unseen = [columns[f"unseen action, lambda {one:g}"] for one in LAMBDAS]
    falls = [bootstrap_interval(high - low) for low, high in pairwise(unseen)]
    shown = (
        (columns["KL, lambda 1"] < 0.01).all()
        and (columns["KL, lambda 1, labels by reward"] > 0.01).all()
        and all(interval.low > 0 for interval in falls)
    )
    return {
        "measures": {name: vars(bootstrap_interval(values)) for name, values in columns.items()},
        "unseen_falls_with_lambda": [vars(interval) for interval in falls],
        "seeds": list(seeds),
        "criterion": CRITERION,
        "shown": bool(shown),
    }


def one_seed(seed: int) -> dict[str, float]:
    """Every lambda in one small world."""
    optimal, reward = world(seed)
    advantage = TEMPERATURE * optimal.log()
    generator = torch.Generator().manual_seed(100 + seed)
    seen = torch.ones(STATES, ACTIONS, dtype=torch.bool)
    left_out = torch.randint(ACTIONS, (STATES,), generator=generator)
    seen[torch.arange(STATES), left_out] = False
    everything = torch.ones_like(seen)
    result = {"unseen action, at the start": 1 / ACTIONS}
    for one in LAMBDAS:
        whole = learnt(advantage, everything, one)
        part = learnt(advantage, seen, one)
        result[f"KL, lambda {one:g}"] = divergence(optimal, whole)
        result[f"unseen action, lambda {one:g}"] = float(part[~seen].mean())
    by_reward = learnt(reward, everything, 1.0)
    result["KL, lambda 1, labels by reward"] = divergence(optimal, by_reward)
    return result


def world(
    seed: int,
) -> tuple[Float[Tensor, "state action"], Float[Tensor, "state action"]]:
    """The policy of maximal entropy of a random world, and its rewards."""
    generator = torch.Generator().manual_seed(seed)
    shape = (STATES, ACTIONS)
    reward = torch.randn(shape, generator=generator, dtype=torch.float64)
    moves = torch.rand((*shape, STATES), generator=generator, dtype=torch.float64) ** 3
    moves = moves / moves.sum(-1, keepdim=True)
    quality = reward
    for _ in range(400):
        value = TEMPERATURE * (quality / TEMPERATURE).logsumexp(-1)
        quality = reward + DISCOUNT * moves @ value
    return (quality / TEMPERATURE).softmax(-1), reward


def learnt(
    worth: Float[Tensor, "state action"],
    seen: Bool[Tensor, "state action"],
    conservatism: float,
    *,
    steps: int = STEPS,
) -> Float[Tensor, "state action"]:
    """The policy that CPL learns from every pair of what is seen, labelled by a worth."""
    policy = TabularPolicy(torch.zeros(STATES, ACTIONS, dtype=torch.float64))
    places = seen.nonzero()
    first, second = torch.triu_indices(len(places), len(places), offset=1)
    worths = worth[seen]
    ahead = worths[first] >= worths[second]
    best, other = torch.where(ahead, first, second), torch.where(ahead, second, first)
    rows = torch.stack([best, other], 1)
    states, actions = places[:, 0], places[:, 1]
    strength = 2 * (worths[best] - worths[other]).sigmoid() - 1
    neutral = replace(Scored.of(torch.zeros(rows.shape, dtype=torch.float64)), strength=strength)
    contrast = CPL(beta=TEMPERATURE, conservatism=conservatism)
    optimizer = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        score = policy.log_prob(NumberedContexts(states), actions[:, None])[:, 0, 0]
        contrast(replace(neutral, score=score[rows])).mean().backward()
        optimizer.step()
    return policy.probabilities.detach()


def divergence(
    wanted: Float[Tensor, "state action"], found: Float[Tensor, "state action"]
) -> float:
    """Mean KL divergence over states."""
    return float((wanted * (wanted / found).log()).sum(-1).mean())


if __name__ == "__main__":
    main()
