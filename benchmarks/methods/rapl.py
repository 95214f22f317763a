"""Does a transport reward learn a hidden taste from fewer comparisons than a reward network?

Sequences of 12 steps have 3 features that matter and 9 that do not. A hidden person compares pairs
of sequences. In the world `like` the person wants sequences near a preferred one in what matters,
at the right time; in `more` the person wants more of it, step by step. Both methods get the same
features and the same 10, 30 or 100 comparisons:

* `transport` aligns a linear map of the features by triplets and scores by transport to one
  example. The example is the person's favourite of 20 sequences (`given`), or the sequence that
  won the most comparisons (`won`), which costs nothing more.
* `network` is a Bradley-Terry reward: a network of one hidden layer on steps, summed.
* `plain` is the transport reward without any comparison.

Shown if in the world `like`, the one the method is made for, `transport given` has a higher
Spearman correlation with the hidden utility on 100 other sequences than `network` at 10 and at 30
comparisons, the intervals of the paired differences over the seeds above 0.
"""

import argparse
import json

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from personalize.evaluation.intervals import bootstrap_interval
from personalize.evaluation.rank_correlation import rank_correlation
from personalize.rewards.optimal_transport import (
    AlignedFeatures,
    Examples,
    SquaredCost,
    TransportReward,
    triplet_loss,
)

STEPS, MATTER, NUISANCE, POOL, HELD_OUT = 12, 3, 9, 60, 100
FITTED_STEPS = 60
REWARD = TransportReward(cost=SquaredCost(), time_weight=0.5)
WORLDS = ("like", "more")


def main() -> None:
    """Measure, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--comparisons", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, differences = [], {}
    print("world  comparisons  method             Spearman   95 % interval")
    for world in WORLDS:
        for count in options.comparisons:
            found = [measured(world, count, seed) for seed in range(options.seeds)]
            for name in found[0]:
                value = bootstrap_interval(np.array([one[name] for one in found]))
                rows.append([world, count, name, value.mean, value.low, value.high])
                print(
                    f"{world:6} {count:11}  {name:18} {value.mean:8.3f}   "
                    f"{value.low:6.3f} to {value.high:6.3f}",
                    flush=True,
                )
            gap = bootstrap_interval(
                np.array([one["transport given"] - one["network"] for one in found])
            )
            differences[f"{world} {count}"] = [gap.mean, gap.low, gap.high]
            print(f"{'':19} given - network    {gap.mean:8.3f}   {gap.low:6.3f} to {gap.high:6.3f}")
    shown = all(differences.get(f"like {n}", (0, 0, 0))[1] > 0 for n in (10, 30))
    print("shown" if shown else "not shown")
    if options.json:
        criterion = (__doc__ or "").split("\n\n")[-1].strip()
        print(
            json.dumps(
                {
                    "method": "rapl",
                    "seeds": options.seeds,
                    "criterion": criterion,
                    "rows": rows,
                    "differences": differences,
                    "shown": shown,
                }
            )
        )


def measured(world: str, comparisons: int, seed: int) -> dict[str, float]:
    """Correlations of every method with one hidden taste."""
    draw = torch.Generator().manual_seed(1000 * seed + comparisons)
    torch.manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(MATTER + NUISANCE, MATTER + NUISANCE, generator=draw))[0]
    told = smooth(POOL + HELD_OUT, draw)
    wanted = smooth(1, draw)[:, :, :MATTER]
    matters = told[..., :MATTER]
    if world == "like":
        utility = -(matters - wanted).square().mean((1, 2))
    else:
        utility = matters.mean(1) @ torch.tensor([1.0, 0.7, 0.4])
    seen = told @ turn
    pool, held_out, worth = seen[:POOL], seen[POOL:], utility[:POOL]
    pairs = torch.randint(POOL, (comparisons, 2), generator=draw)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    swap = worth[pairs[:, 0]] < worth[pairs[:, 1]]
    pairs = torch.where(swap[:, None], pairs.flip(1), pairs)
    favourite = int(worth[:20].argmax())
    won = int(torch.bincount(pairs[:, 0], minlength=POOL).argmax())
    scores = {
        "transport given": transport(pool, pairs, favourite, held_out),
        "transport won": transport(pool, pairs, won, held_out),
        "network": network(pool, pairs, held_out),
        "plain": distance(held_out, pool[favourite]),
    }
    return {
        name: rank_correlation(score.numpy(), utility[POOL:].numpy())
        for name, score in scores.items()
    }


def smooth(count: int, draw: torch.Generator) -> Tensor:
    """Sequences that change slowly."""
    steps = torch.randn(count, STEPS, MATTER + NUISANCE, generator=draw)
    level = torch.randn(count, 1, MATTER + NUISANCE, generator=draw)
    return level + 0.6 * steps.cumsum(1) / STEPS**0.5


def transport(pool: Tensor, pairs: Tensor, anchor: int, asked: Tensor) -> Tensor:
    """Transport to the anchor in features aligned by what is nearer to it."""
    aligned = AlignedFeatures(pool.shape[-1], width=6)
    optimizer = torch.optim.Adam(aligned.parameters(), 2e-2, weight_decay=1e-3)
    kept = pairs[(pairs != anchor).all(1)]
    for _ in range(FITTED_STEPS):
        batch = kept[torch.randperm(len(kept))[:16]]
        example = aligned(pool[anchor])
        nearer, farther = (-distance(aligned(pool[batch[:, n]]), example) for n in (0, 1))
        optimizer.zero_grad(set_to_none=True)
        triplet_loss(nearer, farther).backward()
        optimizer.step()
    with torch.no_grad():
        return distance(aligned(asked), aligned(pool[anchor]))


def distance(sequences: Tensor, example: Tensor) -> Tensor:
    """The transport reward of each sequence."""
    return REWARD(sequences[None], Examples.whole(example[None]))[0]


def network(pool: Tensor, pairs: Tensor, asked: Tensor) -> Tensor:
    """A Bradley-Terry reward of steps."""
    model = nn.Sequential(nn.Linear(pool.shape[-1] + 1, 32), nn.GELU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3, weight_decay=1e-3)

    def reward(sequences: Tensor) -> Tensor:
        when = torch.linspace(-1, 1, STEPS)[None, :, None].expand(len(sequences), -1, 1)
        return model(torch.cat((sequences, when), -1))[..., 0].mean(1)

    for _ in range(4 * FITTED_STEPS):
        batch = pairs[torch.randperm(len(pairs))[:16]]
        margin = reward(pool[batch[:, 0]]) - reward(pool[batch[:, 1]])
        optimizer.zero_grad(set_to_none=True)
        functional.softplus(-margin).mean().backward()
        optimizer.step()
    with torch.no_grad():
        return reward(asked)


if __name__ == "__main__":
    main()
