"""Weights of rewards read from contexts: are they the true ones, and better than fixed ones?

Toy: choices by softmax(8 * w.r) among 20 candidates with four rewards of unequal base levels.
(1) One true w = (.7, .1, .1, .1): total variation of what each loss finds. (2) Two kinds of context
with different w: regret of the best candidate under the true utility, per-context weights against
the best fixed ones (fitted by the same loss). With a recommender or a planner's scored proposals
the same is asked of real choices: surprise in nats at held-out choices, per-context against fixed.

(3) Four kinds of context: the true utility, less its mean over candidates, of what per-context
weights pick among 16, against the best of 300 fixed weights, chosen by the true utility itself.

Criterion: total variation of the likelihood below 0.05 and of the raw softmax above 0.5; regret of
per-context weights below that of fixed ones, 95 % interval of the difference without 0; utility by
the likelihood's weights at least 1.2 times that of the best fixed ones in every seed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from benchmarks.methods.planner_pools import planner_pools
from benchmarks.methods.recommender_pools import RecommenderPools, recommender_pools
from personalize.conditioning.weight_adapter import (
    ChoiceLikelihood,
    Pools,
    PoolTargets,
    WeightAdapter,
    WeightLoss,
    fit_weights,
    standardized,
    weighed,
)
from personalize.evaluation.intervals import PairedComparison, paired_comparison

SEEDS = (0, 1, 2, 3, 4)
TRUE = torch.tensor([0.7, 0.1, 0.1, 0.1])
KINDS = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6]])
LEVELS = torch.tensor([0.0, 1.0, 5.0, 2.0])
LOSSES: dict[str, WeightLoss] = {"kl": PoolTargets(), "logit": ChoiceLikelihood()}
TEMPERATURES = (0.25, 0.5, 2.0)
POOL = 100


def main() -> None:
    """Measure, print and, with `--json`, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recommender", type=Path, help="a checkpoint or run of `recsys fit`")
    parser.add_argument("--planner", type=Path, help="a run of `driving fit` with a teacher")
    parser.add_argument("--no-toy", action="store_true", help="real choices alone")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "seeds": SEEDS,
        "criterion": (__doc__ or "").split("Criterion: ")[1].strip(),
    }
    if not options.no_toy:
        one, two = one_weight(), two_kinds()
        accurate = one["logit"]["mean"] < 0.05 < 0.5 < one["raw"]["mean"]
        picked = four_kinds()
        found |= {"one_weight": one, "two_kinds": two, "four_kinds": picked}
        ahead = min(picked["logit"]["ratios"]) >= 1.2
        found["shown"] = accurate and two["logit"]["high"] < 0 and ahead
    if options.recommender:
        pools = recommender_pools(options.recommender)
        parts = [best_items(pools[name]) for name in ("validation", "test")]
        found["recommender"] = real(parts[0], parts[1], "recommender")
    if options.planner:
        found["planner"] = real(*planner_pools(options.planner), "planner")
    if options.json:
        print(json.dumps(found))


def one_weight() -> dict[str, dict[str, float]]:
    """Total variation to the true weights, by how they were found."""
    distances: dict[str, list[float]] = {"raw": [], **{name: [] for name in LOSSES}}
    for seed in SEEDS:
        pools, _ = choices(seed, TRUE.expand(2000, 4))
        raw = pools.rewards[torch.arange(2000), pools.chosen].softmax(-1).mean(0)
        distances["raw"].append(_distance(raw, TRUE))
        for name, loss in LOSSES.items():
            adapter = fitted(torch.ones(2000, 1), pools, loss, seed)
            distances[name].append(_distance(adapter(torch.ones(1, 1))[0].detach(), TRUE))
        for value in TEMPERATURES:  # the target is a constant: no training is needed to see it
            standard = standardized(pools.rewards, pools.mask)[torch.arange(2000), pools.chosen]
            target = (standard / value).softmax(-1).mean(0)
            distances.setdefault(f"kl {value}", []).append(_distance(target, TRUE))
    for name, values in distances.items():
        print(f"one true weight    {name:6} total variation {np.mean(values):.3f} {values}")
    return {
        name: {"mean": float(np.mean(values)), "largest": max(values)}
        for name, values in distances.items()
    }


def two_kinds() -> dict[str, dict[str, float]]:
    """Regret of per-context weights less that of fixed ones, by loss."""
    result = {}
    for name, loss in LOSSES.items():
        own, fixed, distances = [], [], []
        for seed in SEEDS:
            kind = torch.arange(3000) % 2
            generator = torch.Generator().manual_seed(seed)
            centres = torch.randn(2, 16, generator=generator)
            contexts = centres[kind] + torch.randn(3000, 16, generator=generator)
            pools, utility = choices(seed, KINDS[kind])
            rows, test = torch.arange(2000), torch.arange(2000, 3000)
            adapter = fitted(contexts[rows], pools.rows(rows), loss, seed)
            constant = fitted(torch.ones(2000, 1), pools.rows(rows), loss, seed)
            for adapted, inputs, kept in (
                (adapter, contexts[test], own), (constant, torch.ones(1000, 1), fixed),
            ):  # fmt: skip
                weights = adapted(inputs).detach()
                best = weighed(pools.rewards[test], weights).argmax(1, keepdim=True)
                kept.append(utility[test].amax(1) - utility[test].gather(1, best)[:, 0])
            distances.append((adapter(contexts[test]) - KINDS[kind[test]]).abs().sum(1) / 2)
        compared = paired_comparison(_flat(own), _flat(fixed), resamples=2000)
        result[name] = _as_json(compared) | {
            "own": float(_flat(own).mean()), "fixed": float(_flat(fixed).mean()),
            "total_variation": float(torch.cat(distances).detach().mean()),
        }  # fmt: skip
        print(f"two kinds of context {name:6} {result[name]}")
    return result


def four_kinds() -> dict[str, dict[str, Any]]:
    """Utility of what is picked, by loss, beside the best fixed weights and who knows the truth."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in LOSSES}
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(100 + seed)
        kind = torch.arange(3000) % 4
        centres = torch.randn(4, 16, generator=generator)
        contexts = centres[kind] + 0.5 * torch.randn(3000, 16, generator=generator)
        true = 0.1 + 0.6 * torch.eye(4)  # each kind wants another one of the four rewards
        pools, utility = choices(seed, true[kind], candidates=16)
        rows, test = torch.arange(2000), torch.arange(2000, 3000)
        gain = utility[test] - utility[test].mean(1, keepdim=True)

        offered = pools.rewards[test]

        def worth(weights: Tensor, offered: Tensor = offered, gain: Tensor = gain) -> float:
            best = weighed(offered, weights).argmax(1, keepdim=True)
            return float(gain.gather(1, best).mean())

        draws = -torch.rand(300, 4, generator=generator).clamp_min(1e-9).log()
        draws = draws / draws.sum(-1, keepdim=True)  # even on the simplex
        fixed = max(worth(weights.expand(1000, 4)) for weights in draws)
        for name, loss in LOSSES.items():
            adapter = fitted(contexts[rows], pools.rows(rows), loss, seed)
            with torch.no_grad():
                own = worth(adapter(contexts[test]))
            values = {"own": own, "fixed": fixed, "truth": worth(true[kind[test]])}
            for key, value in (values | {"ratios": own / fixed}).items():
                found[name].setdefault(key, []).append(value)
    for name, values in found.items():
        shown = {key: round(float(np.mean(value)), 3) for key, value in values.items()}
        print(f"four kinds of context {name:6} {shown}")
    return {name: dict(values) for name, values in found.items()}


def real(
    training: tuple[Tensor, Pools], test: tuple[Tensor, Pools], title: str
) -> dict[str, dict[str, Any]]:
    """Surprise at held-out real choices and top-1 agreement: per-context against fixed weights.

    How long to train is chosen on the last fifth of the training rows, for either alike.
    """
    result = {}
    contexts = {"own": (training[0], test[0])}
    contexts["fixed"] = (torch.ones(len(training[0]), 1), torch.ones(len(test[0]), 1))
    for name, loss in LOSSES.items():
        found: dict[str, list[Tensor]] = {"own": [], "fixed": []}
        hits: dict[str, list[float]] = {"own": [], "fixed": []}
        chosen: dict[str, list[int]] = {"own": [], "fixed": []}
        weights = torch.zeros(0)
        for seed in SEEDS[:3]:
            for kind, (known, asked) in contexts.items():
                adapter, steps = stopped_early(known, training[1], loss, seed)
                sharpness = best_sharpness(training[1], adapter(known).detach())
                weights = adapter(asked).detach()
                found[kind].append(surprise(test[1], weights, sharpness))
                hits[kind].append(agreement(test[1], weights))
                chosen[kind].append(steps)
        means = {kind: torch.stack(parts).mean(0) for kind, parts in found.items()}
        difference = paired_comparison(
            means["own"].double().numpy(), means["fixed"].double().numpy(), resamples=2000
        )
        result[name] = _as_json(difference) | {
            **{kind: round(float(values.mean()), 4) for kind, values in means.items()},
            **{f"top1_{kind}": round(float(np.mean(values)), 4) for kind, values in hits.items()},
            "top1_uniform": agreement(test[1], torch.ones_like(weights)),
            "fixed_weights": [round(float(weight), 3) for weight in weights[0]],
            "steps": chosen, "rows": len(test[0]), "training_rows": len(training[0]),
        }  # fmt: skip
        print(f"{title} {name:6} {result[name]}", flush=True)
    return result


def stopped_early(
    contexts: Tensor, pools: Pools, loss: WeightLoss, seed: int
) -> tuple[WeightAdapter, int]:
    """An adapter trained for as many steps as the last fifth of the rows likes best."""
    held = torch.arange(len(contexts)) >= 4 * len(contexts) // 5  # people or scenes of their own
    kept, asked = (~held).nonzero()[:, 0], held.nonzero()[:, 0]
    tried = []
    for steps in (10, 50, 250):
        adapter = fitted(contexts[kept], pools.rows(kept), loss, seed, steps=steps)
        with torch.no_grad():
            value = loss(adapter(contexts[asked]), adapter.log_sharpness, pools.rows(asked))
        tried.append((float(value), steps))
    steps = min(tried)[1]
    return fitted(contexts, pools, loss, seed, steps=steps), steps


def best_items(rows: RecommenderPools) -> tuple[Tensor, Pools]:
    """The 100 items the recommender scores highest, of rows whose next item is among them."""
    items = rows.scores.topk(POOL).indices
    hit = items == rows.targets[:, None]
    there = hit.any(1)
    rewards = rows.rewards.gather(1, items[..., None].expand(*items.shape, rows.rewards.shape[2]))
    rewards = standardized(rewards, torch.ones_like(hit))
    pools = Pools(rewards, torch.ones_like(hit), hit.long().argmax(1))
    kept = there.nonzero()[:, 0]
    print(f"recommender: {len(kept)} of {len(there)} rows have their next item among {POOL}")
    return rows.contexts[kept], pools.rows(kept)


def choices(seed: int, weights: Tensor, *, candidates: int = 20) -> tuple[Pools, Tensor]:
    """Pools with choices, and the true utility of every candidate."""
    generator = torch.Generator().manual_seed(seed + 50)
    rewards = torch.randn(len(weights), candidates, 4, generator=generator)
    utility = weighed(rewards, weights)
    gumbel = -(-torch.rand(utility.shape, generator=generator).clamp(1e-9, 1 - 1e-7).log()).log()
    chosen = (8 * utility + gumbel).argmax(1)
    return Pools(rewards + LEVELS, _all(rewards), chosen), utility


def fitted(
    contexts: Tensor, pools: Pools, loss: WeightLoss, seed: int, *, steps: int = 400
) -> WeightAdapter:
    """A fresh adapter, trained."""
    torch.manual_seed(seed)
    adapter = WeightAdapter(contexts.shape[1], pools.rewards.shape[2], hidden=16)
    return fit_weights(adapter, contexts, pools, loss, steps=steps, learning_rate=0.02, seed=seed)


def surprise(pools: Pools, weights: Tensor, sharpness: float) -> Tensor:
    """Minus the log-probability of every choice."""
    scores = (sharpness * weighed(pools.rewards, weights)).masked_fill(~pools.mask, -torch.inf)
    return -scores.log_softmax(1).gather(1, pools.chosen[:, None])[:, 0]


def best_sharpness(pools: Pools, weights: Tensor) -> float:
    """The sharpness under which these choices surprise least, of 40."""
    tried = np.geomspace(0.05, 20, 40)
    return float(min(tried, key=lambda value: surprise(pools, weights, value).mean()))


def agreement(pools: Pools, weights: Tensor) -> float:
    """Share of pools in which the best candidate is the chosen one."""
    best = weighed(pools.rewards, weights).masked_fill(~pools.mask, -torch.inf).argmax(1)
    return float((best == pools.chosen).float().mean())


def _all(rewards: Tensor) -> Tensor:
    return torch.ones(rewards.shape[:2], dtype=torch.bool)


def _distance(found: Tensor, true: Tensor) -> float:
    return round(float((found - true).abs().sum() / 2), 4)


def _flat(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).double().numpy()


def _as_json(compared: PairedComparison) -> dict[str, float]:
    difference = compared.difference
    return {
        "difference": round(difference.mean, 5), "low": round(difference.low, 5),
        "high": round(difference.high, 5), "p_value": round(compared.p_value, 5),
    }  # fmt: skip


if __name__ == "__main__":
    main()
