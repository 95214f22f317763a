"""P3O and a constant added to all rewards of a context: whose gradient notices?

A tabular policy of 8 contexts and 12 responses; groups of 4 are drawn and rewards are shifted by
N(0, 20) per context. How much the gradient of a batch of 400 groups changes, and how well that of
16,000 points along the exact one: for plain policy gradient, less the group's mean, in the group's
deviations, and for all pairs; as drawn, and after the policy has moved.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.surrogate import Surrogate
from personalize.preference_optimization.surrogates import (
    Clipped,
    PairwiseJoint,
    PairwiseSeparate,
    Reinforce,
)
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy
from personalize.rewards.advantage import Advantage, GroupScale, NoScale, SumThenNormalize
from personalize.rewards.combination import Parts

CONTEXTS, CHOICES, GROUP, GROUPS, SHIFT = 8, 12, 4, 2000, 20.0
BATCH = 8 * 50
WAYS: dict[str, tuple[Surrogate, Advantage | None]] = {
    "plain policy gradient": (Reinforce(), None),
    "less the group's mean": (Clipped(), SumThenNormalize(NoScale())),
    "in the group's deviations": (Clipped(), SumThenNormalize(GroupScale())),
    "all pairs, clipped separately": (PairwiseSeparate(), None),
    "all pairs, clipped jointly": (PairwiseJoint(), None),
}
CRITERION = (
    "relative change of the gradient of all pairs < 1e-6 where plain policy gradient's is 1 or "
    "more, and its cosine with the exact gradient > 0.98, in every seed"
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
        print(f"{name:58} {value['mean']:9.3g}  [{value['low']:9.3g}, {value['high']:9.3g}]")
    shown = bool((columns["change, plain policy gradient"] >= 1).all())
    for way in ("all pairs, clipped separately", "all pairs, clipped jointly"):
        invariant = (columns[f"change, {way}"] < 1e-6).all()
        invariant &= (columns[f"change after moving, {way}"] < 1e-6).all()
        shown = shown and bool(invariant and (columns[f"cosine, {way}"] > 0.98).all())
    found: dict[str, Any] = {"measures": measures, "seeds": list(range(options.seeds))}
    if options.json:
        print(json.dumps({**found, "criterion": CRITERION, "shown": shown}))


def one_seed(seed: int) -> dict[str, float]:
    """Changes and cosines for one policy, reward and draw."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(CONTEXTS, CHOICES, generator=generator, dtype=torch.float64)
    worth = torch.randn(CONTEXTS, CHOICES, generator=generator, dtype=torch.float64)
    policy = TabularPolicy(logits)
    numbers = torch.arange(CONTEXTS).repeat(GROUPS)
    shares = policy.probabilities.detach()[numbers]
    responses = torch.multinomial(shares, GROUP, replacement=True, generator=generator)
    old = policy.log_prob(NumberedContexts(numbers), responses).detach()
    reward = worth[numbers].gather(1, responses)
    shift = SHIFT * torch.randn(CONTEXTS, generator=generator, dtype=torch.float64)[numbers, None]
    moved = TabularPolicy(
        logits + 0.1 * torch.randn(CONTEXTS, CHOICES, generator=generator, dtype=torch.float64)
    )
    loss = -(policy.probabilities * worth).sum(1).mean()
    (exact,) = torch.autograd.grad(loss, policy.table)
    result = {}
    for name, (surrogate, advantage) in WAYS.items():

        def slope(
            of: TabularPolicy,
            reward: Tensor,
            surrogate: Surrogate = surrogate,
            advantage: Advantage | None = advantage,
        ) -> Tensor:
            rows = len(reward)
            gain = reward
            if advantage is not None:
                gain = advantage(Parts(reward[..., None], torch.ones(rows, 1)))
            new = of.log_prob(NumberedContexts(numbers[:rows]), responses[:rows])
            loss = surrogate(new, old[:rows], gain).sum(-1).mean()
            return torch.autograd.grad(loss, of.table)[0]

        few = reward[:BATCH]
        for when, at in (("change", policy), ("change after moving", moved)):
            before, after = slope(at, few), slope(at, few + shift[:BATCH])
            result[f"{when}, {name}"] = float((after - before).norm() / before.norm())
        found = slope(policy, reward).flatten()
        result[f"cosine, {name}"] = float(torch.cosine_similarity(found, exact.flatten(), dim=0))
    return result


if __name__ == "__main__":
    main()
