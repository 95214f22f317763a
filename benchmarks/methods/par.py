"""Reward shaping against an exploited reward: does PAR keep a policy off what only looks good?

Fifty responses with a proxy reward that is also the true one, but for one response, which the proxy
puts 12 above all and which is in truth worth -5. The policy that each shaped reward leads to under
a KL weight is taken in closed form, `reference * exp(shaped / weight)`, and then reached by policy
optimisation on draws: with the divergence in the reward and with GRPO's penalty, with the
advantage as it is and scaled by its group's deviation.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.compared import ComparisonBatch
from personalize.preference_optimization.objective import Rollouts
from personalize.preference_optimization.policy import frozen_copy
from personalize.preference_optimization.rollout_objective import Drawing, RolloutObjective
from personalize.preference_optimization.surrogates import Clipped
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy
from personalize.rewards.advantage import GroupScale, NoScale, SumThenNormalize
from personalize.rewards.pipeline import RewardPipeline
from personalize.rewards.shaping import (
    ClippedShaping,
    LogSigmoidShaping,
    PolynomialShaping,
    PreferenceAsReward,
    Shaping,
    StandardizedShaping,
    TanhShaping,
    UnitRangeShaping,
    Unshaped,
)

RESPONSES, PROXY, TRUTH = 50, 12.0, -5.0
WEIGHTS = (0.1, 0.3, 1.0)
SHAPINGS: dict[str, tuple[Shaping, int]] = {
    "raw": (Unshaped(), 1),
    "min-max": (UnitRangeShaping(), 1),
    "standardised": (StandardizedShaping(), 1),
    "clipped": (ClippedShaping(), 1),
    "log-sigmoid, 10 references": (LogSigmoidShaping(), 10),
    "tanh, 10 references": (TanhShaping(), 10),
    "polynomial, 10 references": (PolynomialShaping(), 10),
    "PAR, 10 references": (PreferenceAsReward(), 10),
    "PAR, 1 reference": (PreferenceAsReward(), 1),
}
CRITERION = (
    "in closed form at KL weight 0.3: exploit probability of PAR with 10 references < 0.2, of the "
    "raw reward > 0.9, PAR below min-max, and one reference within 0.03 of ten"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1000, help="of policy optimisation")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    proxy, references = drawn_rewards(options.seeds)
    true = proxy.clone()
    true[:, 0] = TRUTH
    measures: dict[str, Any] = {}
    for name, (shaping, count) in SHAPINGS.items():
        shaped = shaping(proxy[..., None], references[:, :count, None])[..., 0]
        for weight in WEIGHTS:
            policy = (shaped / weight).softmax(-1)
            measures[f"exploit, exact, weight {weight:g}, {name}"] = interval(policy[:, 0])
            measures[f"truth, exact, weight {weight:g}, {name}"] = interval((policy * true).sum(1))
    for name in ("raw", "PAR, 10 references"):
        shaping, count = SHAPINGS[name]
        for way, pipeline, penalty in ways(shaping, 0.3):
            policy = optimised(
                proxy, references[:, :count], pipeline, kl_weight=penalty, steps=options.steps
            )
            measures[f"exploit, draws, weight 0.3, {way}, {name}"] = interval(policy[:, 0])
    for measure, value in measures.items():
        print(f"{measure:74} {value['mean']:6.3f}  [{value['low']:6.3f}, {value['high']:6.3f}]")
    at = {name: measures[f"exploit, exact, weight 0.3, {name}"]["mean"] for name in SHAPINGS}
    ten, one = at["PAR, 10 references"], at["PAR, 1 reference"]
    shown = ten < 0.2 and at["raw"] > 0.9 and ten < at["min-max"] and abs(one - ten) <= 0.03
    found = {"measures": measures, "seeds": list(range(options.seeds)), "steps": options.steps}
    if options.json:
        print(json.dumps({**found, "criterion": CRITERION, "shown": bool(shown)}))


def drawn_rewards(seeds: int) -> tuple[Tensor, Tensor]:
    """Proxy rewards of all responses and of ten draws of the reference, a row per seed."""
    rows, references = [], []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        proxy = torch.randn(RESPONSES, generator=generator, dtype=torch.float64)
        proxy[0] = PROXY
        draws = torch.randint(1, RESPONSES, (10,), generator=generator)  # the exploit is rare
        rows.append(proxy)
        references.append(proxy[draws])
    return torch.stack(rows), torch.stack(references)


def ways(shaping: Shaping, weight: float) -> list[tuple[str, RewardPipeline, float]]:
    """How the divergence enters and how the advantage is scaled."""
    plain, scaled = SumThenNormalize(NoScale()), SumThenNormalize(GroupScale())
    return [
        ("KL in the reward", RewardPipeline(None, shaping, plain, kl_weight=weight), 0.0),
        ("KL as penalty (k3)", RewardPipeline(None, shaping, plain), weight),
        ("KL in the reward, group scale", RewardPipeline(None, shaping, scaled, kl_weight=weight),
         0.0),
    ]  # fmt: skip


def optimised(
    proxy: Tensor, references: Tensor, pipeline: RewardPipeline, *, kl_weight: float, steps: int
) -> Tensor:
    """Probabilities after policy optimisation on draws; every seed is a context of its own."""
    policy = TabularPolicy(torch.zeros_like(proxy))
    reference = frozen_copy(policy)
    objective = RolloutObjective(
        Clipped(), pipeline, drawing=Drawing(group_size=32), kl_weight=kl_weight
    )
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.5 * len(proxy))
    contexts = NumberedContexts(torch.arange(len(proxy)))
    batch = contexts_only(contexts)
    average = torch.zeros_like(proxy)
    for step in range(steps):
        drawn = policy.sample(contexts, 32, seed=step)
        gate = torch.ones_like(drawn.responses, dtype=torch.bool)
        reward = proxy.gather(1, drawn.responses)[..., None]
        rollouts = Rollouts(drawn, reward, gate, references[..., None], ("proxy",))
        loss = objective(policy, reference, batch, rollouts)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= steps // 2:
            average += policy.probabilities.detach() / (steps - steps // 2)
    return average


def contexts_only(contexts: NumberedContexts) -> ComparisonBatch:
    """A batch of contexts, for an objective that reads no comparisons."""
    ones = torch.ones(len(contexts))
    return ComparisonBatch(
        contexts=contexts,
        responses=torch.zeros(len(contexts), 2, dtype=torch.long),
        present=torch.ones(len(contexts), 2, dtype=torch.bool),
        strength=ones,
        margin=ones,
        weight=ones,
        grade=torch.zeros(len(contexts), 2),
        group=torch.zeros(len(contexts), dtype=torch.long),
    )


def interval(values: Tensor) -> dict[str, float]:
    """A mean over seeds with its interval."""
    return vars(bootstrap_interval(np.asarray(values.numpy(), dtype=np.float64)))


if __name__ == "__main__":
    main()
