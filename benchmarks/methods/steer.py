"""STEER's token weights: do they know the entropy's change, and do they keep entropy and reward?

First, how scores of steps correlate with the measured change of entropy after one policy-gradient
step on that step's logits. Then GRPO on bandits of 256 codes, several updates per draw, at three
learning rates: entropy on the way and at the end and expected reward at the end, without weights,
with exact and with released ones, without at the rate that the weights amount to on average, and
with the same weights given to other steps.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.methods.par import contexts_only
from personalize.evaluation.intervals import bootstrap_interval, paired_comparison
from personalize.preference_optimization.divergence import entropy
from personalize.preference_optimization.objective import Rollouts
from personalize.preference_optimization.rollout_objective import Drawing, RolloutObjective
from personalize.preference_optimization.surrogates import Clipped
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy
from personalize.preference_optimization.token_weights import (
    EntropyStabilized,
    ReleasedEntropyStabilized,
    TokenWeight,
    entropy_change,
    released_entropy_change,
)
from personalize.rewards.advantage import SumThenNormalize
from personalize.rewards.pipeline import RewardPipeline

CODES, SOFTMAXES, NOISE = 256, 4000, 0.5


class Shuffled(TokenWeight):
    """The same weights, each to another step: what is left is the size of the steps."""

    def __init__(self, weight: TokenWeight) -> None:
        self.weight = weight
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, logits: Tensor, chosen: Tensor, advantage: Tensor) -> Tensor:
        """Weights in another order, drawn anew every time."""
        found = self.weight(logits, chosen, advantage)
        order = torch.randperm(found.numel(), generator=self.generator)
        return found.flatten()[order].view_as(found)


WAYS: dict[str, tuple[TokenWeight | None, float]] = {
    "no weights": (None, 1.0),
    "no weights, 1.2 times the rate": (None, 1.2),
    "exact": (EntropyStabilized(), 1.0),
    "exact, in [0.2, 1.2]": (EntropyStabilized(0.2, 1.2), 1.0),
    "exact, in [0.2, 1.2], shuffled": (Shuffled(EntropyStabilized(0.2, 1.2)), 1.0),
    "released": (ReleasedEntropyStabilized(), 1.0),
}
RATES = (1.0, 3.0, 8.0)
CRITERION = (
    "the exact form correlates with the measured change above 0.99; the outcome with weights in "
    "[0.8, 1.2] at every rate: more entropy on the way than without weights, reward not lower"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--draws", type=int, default=150, help="of 16 responses, 4 updates each")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    rows = [correlations(seed) for seed in range(5)]
    measures: dict[str, Any] = {
        f"correlation with the change, {name}": interval(np.array([row[name] for row in rows]))
        for name in rows[0]
    }
    kept, paid = True, False
    for rate in RATES:
        ends = {
            name: trained(options.seeds, options.draws, rate * times, weight)
            for name, (weight, times) in WAYS.items()
        }
        plain = ends.pop("no weights")
        measures |= {f"{name}, rate {rate:g}": interval(plain[name]) for name in plain}
        for way, end in ends.items():
            for name, values in end.items():
                lead = paired_comparison(values, plain[name]).difference
                measures[f"{name}, rate {rate:g}, {way}, less no weights"] = vars(lead)
        wide, other = ends["exact, in [0.2, 1.2]"], ends["exact, in [0.2, 1.2], shuffled"]
        for name, values in wide.items():
            lead = paired_comparison(values, other[name]).difference
            measures[f"{name}, rate {rate:g}, in [0.2, 1.2], less shuffled"] = vars(lead)
        exact = f"rate {rate:g}, exact, less no weights"
        kept = kept and measures[f"entropy on the way, {exact}"]["low"] > 0
        paid = paid or measures[f"expected reward, {exact}"]["high"] < 0
    for measure, value in measures.items():
        print(f"{measure:80} {value['mean']:7.3f}  [{value['low']:7.3f}, {value['high']:7.3f}]")
    known = measures["correlation with the change, exact"]["low"] > 0.99
    parts = {"shown correlation": bool(known), "shown outcome": bool(kept and not paid)}
    if options.json:
        found = {"measures": measures, "seeds": list(range(options.seeds)), "rates": RATES}
        shown = all(parts.values())
        print(json.dumps({**found, "criterion": CRITERION, **parts, "shown": shown}))


def correlations(seed: int) -> dict[str, float]:
    """Of scores with the measured change, over random softmaxes of random sharpness."""
    generator = torch.Generator().manual_seed(seed)
    sharpness = 4 * torch.rand(1, SOFTMAXES, 1, 1, generator=generator, dtype=torch.float64)
    logits = sharpness * torch.randn(1, SOFTMAXES, 1, 16, generator=generator, dtype=torch.float64)
    shares = logits.softmax(-1)
    chosen = torch.multinomial(shares[0, :, 0], 1, generator=generator)[None]
    advantage = torch.randn(1, SOFTMAXES, generator=generator, dtype=torch.float64)
    taken = shares.gather(-1, chosen[..., None])[..., 0]
    moved = torch.nn.functional.one_hot(chosen, 16) - shares
    rate = 1e-6
    after = entropy(logits + rate * advantage[..., None, None] * moved)
    change = (after - entropy(logits)) / rate
    released = -released_entropy_change(logits, chosen, advantage)
    theorem = -advantage[..., None] * taken * (1 - taken) * (taken.log() + entropy(logits))

    def with_change(score: Tensor, change: Tensor = change) -> float:
        return float(torch.corrcoef(torch.stack([score.flatten(), change.flatten()]))[0, 1])

    return {
        "exact": with_change(entropy_change(logits, chosen, advantage)),
        "ratio times advantage": with_change(theorem),
        "released": with_change(released),
        "released, sizes": with_change(released.abs(), change.abs()),
    }


def trained(
    seeds: int, draws: int, rate: float, weight: TokenWeight | None
) -> dict[str, np.ndarray]:
    """How GRPO ends on a bandit per seed, all trained together."""
    generator = torch.Generator().manual_seed(7)
    worth = torch.randn(seeds, CODES, generator=generator)
    policy = TabularPolicy(0.5 * torch.randn(seeds, CODES, generator=generator))
    objective = RolloutObjective(
        Clipped(dual=3.0),
        RewardPipeline(advantage=SumThenNormalize()),
        drawing=Drawing(group_size=16, updates=4),
        token_weight=weight,
    )
    optimizer = torch.optim.SGD(policy.parameters(), lr=rate * seeds / 10)
    contexts = NumberedContexts(torch.arange(seeds))
    batch = contexts_only(contexts)
    on_the_way = torch.zeros(seeds)
    for number in range(draws):
        drawn = policy.sample(contexts, objective.group_size, seed=number)
        noise = NOISE * torch.randn(drawn.responses.shape, generator=generator)
        reward = (worth.gather(1, drawn.responses) + noise)[..., None]
        gate = torch.ones_like(drawn.responses, dtype=torch.bool)
        rollouts = Rollouts(drawn, reward, gate, reward[:, :0], ("worth",))
        for _ in range(objective.updates):
            loss = objective(policy, None, batch, rollouts)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        on_the_way += entropy(policy.table.detach()) / draws
    share = policy.probabilities.detach()
    likeliest = worth.gather(1, share.argmax(1, keepdim=True))[:, 0]
    return {
        "entropy on the way": as_doubles(on_the_way),
        "entropy at the end": as_doubles(entropy(policy.table.detach())),
        "expected reward": as_doubles((share * worth).sum(1)),
        "reward of the likeliest": as_doubles(likeliest),
    }


def as_doubles(values: Tensor) -> np.ndarray:
    """One number per seed."""
    return values.double().numpy()


def interval(values: np.ndarray) -> dict[str, float]:
    """A mean over seeds with its interval."""
    return vars(bootstrap_interval(values))


if __name__ == "__main__":
    main()
