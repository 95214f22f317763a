"""Shaping on and off under a reward model that has learnt too little, on a real recommender.

What an item is truly worth in a context is how like the item that was met next it is, and how well
it matches what is preferred, each standardised. Reward models are fitted to noisy comparisons of
it, one to few and briefly, one to many. Under each, the policy that a KL weight leads to is taken
in closed form over the whole catalogue, `recommender * exp(reward / weight)`, with the reward as it
is and shaped (PAR, ten draws of the recommender as references). Both are compared at the same
divergence from the recommender: at the same weight the shaped one simply moves less.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from personalize.evaluation.intervals import bootstrap_interval, paired_comparison
from personalize.preference_optimization.tunable import TEST, TRAINING
from personalize.rewards.bradley_terry import RewardTraining, bradley_terry_loss, seeded, train
from personalize.rewards.shaping import PreferenceAsReward
from recsys.tuning import TunableItems, TunedItems
from recsys.tuning_contexts import RowLimits

FITS = {"few comparisons": (100, 60), "many comparisons": (20_000, 600)}
DIVERGENCES, WEIGHTS = (0.5, 1.0, 2.0, 3.0, 4.0), (0.1, 0.3, 1.0)
NOISE, ROWS = 1.0, 50
CRITERION = (
    "under the model of few comparisons the shaped reward's policy is worth more in truth than the "
    "plain one's at some divergence, by an interval over contexts, and less at none"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--preferences", type=Path)
    parser.add_argument("--contexts", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5, help="reward models of each kind")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    limits = RowLimits(train=options.contexts, validation=1, test=options.contexts)
    half = TunedItems(
        checkpoint=options.checkpoint, preferences=options.preferences, limits=limits
    ).open()
    known, asked = (torch.as_tensor(half.contexts(split)) for split in (TRAINING, TEST))
    world = Judged(half, asked, everywhere(half, asked), true_worth(half, asked))
    before = (world.log_reference.exp() * world.truth).sum(1).numpy()
    measures: dict[str, Any] = {"truth of the recommender": vars(bootstrap_interval(before))}
    truth_known, shown = true_worth(half, known), {}
    for fit, (count, steps) in FITS.items():
        proxies = [
            rewarded(half, asked, fitted(half, known, truth_known, (count, steps, seed)))
            for seed in range(options.seeds)
        ]
        found, shown[fit] = compared(world, proxies)
        measures |= {f"{fit}, {name}": value for name, value in found.items()}
    for measure, value in measures.items():
        print(f"{measure:52} {value['mean']:7.3f}  [{value['low']:7.3f}, {value['high']:7.3f}]")
    if options.json:
        facts = {"facts": dict(half.facts), "seeds": list(range(options.seeds))}
        verdict = {"criterion": CRITERION, "shown": shown["few comparisons"], "shown by fit": shown}
        print(json.dumps({"measures": measures, **facts, **verdict}))


@dataclass(frozen=True)
class Judged:
    """The contexts asked, with what the recommender says of every item and what each is worth."""

    half: TunableItems
    contexts: Tensor
    log_reference: Tensor
    truth: Tensor


def compared(world: Judged, proxies: list[Tensor]) -> tuple[dict[str, Any], bool]:
    """Plain and shaped rewards of several models, and whether shaping is shown to help."""
    accuracy = [right(proxy, world.truth, world.log_reference) for proxy in proxies]
    measures = {"pairs right": vars(bootstrap_interval(np.array(accuracy)))}
    shaped = []
    for seed, proxy in enumerate(proxies):
        references = drawn(proxy, world.log_reference, 10, seed)
        shaped.append(PreferenceAsReward()(proxy[..., None], references[..., None])[..., 0])
    both = {"plain": proxies, "PAR": shaped}
    for weight in WEIGHTS:
        for name, rewards in both.items():
            policies = [(world.log_reference + r / weight).log_softmax(-1) for r in rewards]
            moved = [(p.exp() * (p - world.log_reference)).sum(1).numpy() for p in policies]
            worth = [(p.exp() * world.truth).sum(1).numpy() for p in policies]
            at = f"at weight {weight:g}, {name}"
            measures[f"truth {at}"] = vars(bootstrap_interval(np.mean(worth, 0)))
            measures[f"KL {at}"] = vars(bootstrap_interval(np.mean(moved, 0)))
    leads = []
    for kl in DIVERGENCES:
        worth = {}
        for name, rewards in both.items():
            policies = [at_divergence(world.log_reference, reward, kl) for reward in rewards]
            worth[name] = np.mean([(p * world.truth).sum(1).numpy() for p in policies], 0)
            measures[f"truth at KL {kl:g}, {name}"] = vars(bootstrap_interval(worth[name]))
        leads.append(paired_comparison(worth["PAR"], worth["plain"]).difference)
        measures[f"truth at KL {kl:g}, PAR less plain"] = vars(leads[-1])
    better, worse = any(lead.low > 0 for lead in leads), any(lead.high < 0 for lead in leads)
    return measures, better and not worse


def items_of(half: TunableItems, rows: int) -> Tensor:
    """The whole catalogue, for every row."""
    return torch.arange(half.facts["items"]).expand(rows, -1)


@torch.no_grad()
def everywhere(half: TunableItems, contexts: Tensor) -> Tensor:
    """Log-probability of every item in every context."""
    found = []
    for part in contexts.split(ROWS):
        every = half.policy.log_prob(half.batch(part), items_of(half, len(part)))
        found.append(every.sum(-1).double().log_softmax(-1))
    return torch.cat(found)


def true_worth(half: TunableItems, contexts: Tensor) -> Tensor:
    """Likeness to what was met next and match with what is preferred, each standardised."""
    judged = half.judge(contexts, items_of(half, len(contexts))).reward.double()
    both = [half.reward_names.index(name) for name in ("target_likeness", "preference_match")]
    parts = judged[..., both]
    spread = parts.std((0, 1))
    return ((parts - parts.mean((0, 1))) / torch.where(spread > 1e-6, spread, 1)).sum(-1)


def features(half: TunableItems, contexts: Tensor, items: Tensor) -> Tensor:
    """What a reward model reads of items in contexts."""
    context, item = half.features(contexts, items)
    return torch.cat([context[:, None].expand(-1, items.shape[1], -1), item], -1)


def fitted(
    half: TunableItems, contexts: Tensor, truth: Tensor, size: tuple[int, int, int]
) -> nn.Module:
    """A small network fitted to noisy comparisons of random items; count, steps and seed."""
    count, steps, seed = size
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(contexts), (count,), generator=generator)
    pairs = torch.randint(truth.shape[1], (count, 2), generator=generator)
    gap = truth[rows, pairs[:, 0]] - truth[rows, pairs[:, 1]]
    first = torch.rand(count, generator=generator, dtype=torch.float64) < (gap / NOISE).sigmoid()
    pairs = torch.where(first[:, None], pairs, pairs.flip(1))
    parts = [
        features(half, contexts[part], pairs[at])
        for part, at in zip(rows.split(2000), torch.arange(count).split(2000), strict=True)
    ]
    seen = torch.cat(parts)
    width = seen.shape[-1]
    model = seeded(lambda: nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, 1)), seed)

    def loss(chosen: Tensor) -> Tensor:
        score = model(seen[chosen])[..., 0]
        margin = score[:, 0] - score[:, 1]
        return bradley_terry_loss(margin, torch.ones_like(margin)).mean()

    train(model, loss, count, RewardTraining(steps=steps, batch_size=128, seed=seed))
    return model


@torch.no_grad()
def rewarded(half: TunableItems, contexts: Tensor, model: nn.Module) -> Tensor:
    """The model's reward of every item, with mean 0 and deviation 1 over all."""
    parts = [
        model(features(half, part, items_of(half, len(part))))[..., 0].double()
        for part in contexts.split(ROWS)
    ]
    found = torch.cat(parts)
    return (found - found.mean()) / found.std()


def right(proxy: Tensor, truth: Tensor, log_reference: Tensor) -> float:
    """How often the model orders two draws of the recommender as the truth does."""
    generator = torch.Generator().manual_seed(1)
    pairs = torch.multinomial(log_reference.exp(), 20, generator=generator)
    gaps = [values.gather(1, pairs).diff(dim=1) for values in (proxy, truth)]
    return float((gaps[0].sign() == gaps[1].sign()).double().mean())


def drawn(proxy: Tensor, log_reference: Tensor, count: int, seed: int) -> Tensor:
    """Rewards of draws of the recommender."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.multinomial(log_reference.exp(), count, replacement=True, generator=generator)
    return proxy.gather(1, items)


def at_divergence(log_reference: Tensor, reward: Tensor, divergence: float) -> Tensor:
    """The policy of the KL weight at which the mean divergence over contexts is the one given."""
    low, high = -4.0, 12.0  # of the logarithm of the inverse weight
    log_policy = log_reference
    for _ in range(40):
        middle = (low + high) / 2
        log_policy = (log_reference + np.exp(middle) * reward).log_softmax(-1)
        moved = (log_policy.exp() * (log_policy - log_reference)).sum(1).mean()
        low, high = (middle, high) if moved < divergence else (low, middle)
    return log_policy.exp()


if __name__ == "__main__":
    main()
