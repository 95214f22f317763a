"""One round of rejection sampling over directions: does a policy follow a preference by its angle?

Toy: 32 items, a policy that reads context and direction, first trained on logged choices that
follow their direction weakly. Rounds of `rejection_sampling` (8 draws, directions anew from the cap
of 45 degrees) and the supervised loss follow; the control does the same with one draw, which
selects nothing. A sweep of 9 angles from -45 to 45 degrees gives the mean of task and attribute.
With a recommender: its catalogue, its score as the task, minus popularity as the attribute; what is
trained is what is added to its scores.

Criterion: after two rounds Kendall's tau of angle and attribute at least 0.9, and the area the
sweep dominates above the reference larger than before and than the control's, in every seed.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from benchmarks.methods.recommender_pools import RecommenderPools, recommender_pools
from personalize.conditioning.directions import directions_at, directions_on_cap
from personalize.evaluation.angle_sweep import angle_errors, dominated_area, kendall_tau
from personalize.generator import Reward
from personalize.preference_optimization.rejection_sampling import rejection_sampling

SEEDS = (0, 1, 2, 3, 4)
ANGLES = torch.linspace(-math.pi / 4, math.pi / 4, 9)
ITEMS, WIDTH, ROUNDS = 32, 4, 2
Logits = Callable[[Tensor, Tensor], Tensor]


class TableReward(Reward[Tensor, Tensor]):
    """Rewards looked up: what is made is the number of an item, a context has a table of them."""

    names = ("task", "attribute")

    def __init__(self, table: Callable[[Tensor], Tensor]) -> None:
        self._table = table

    def __call__(self, x: Tensor, context: Tensor) -> Float[Tensor, "batch particle dimension"]:
        """Both rewards of every item drawn."""
        table = self._table(context)
        return table.gather(1, x[..., None].expand(*x.shape, table.shape[-1]))


class ToyPolicy(nn.Module):
    """Logits of the items for a context and a direction."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH + 2, 64), nn.GELU(), nn.Linear(64, ITEMS))

    def forward(self, context: Tensor, directions: Tensor) -> Tensor:
        """Logits."""
        return self.layers(torch.cat([context, 2 * directions], 1))


class Shift(nn.Module):
    """What a direction adds to standardised scores: a multiple of each of two item features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Linear(32, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(width + 2, 32), nn.GELU(), last)

    def forward(self, context: Tensor, directions: Tensor) -> Tensor:
        """One multiple for the score and one for the attribute."""
        return self.layers(torch.cat([context, 2 * directions], 1))


def main() -> None:
    """Measure, print and, with `--json`, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recommender", type=Path, help="a checkpoint or run of `recsys fit`")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "seeds": options.seeds,
        "criterion": (__doc__ or "").split("Criterion: ")[1].strip(),
        "toy": [toy(seed) for seed in options.seeds],
    }
    for row in found["toy"]:
        _print("toy", row)
    found["shown"] = all(shown(row) for row in found["toy"])
    if options.recommender:
        pools = recommender_pools(options.recommender)
        found["recommender"] = [real(pools, seed) for seed in options.seeds[:3]]
        for row in found["recommender"]:
            _print("recommender", row)
    if options.json:
        print(json.dumps(found))


def shown(row: dict[str, Any]) -> bool:
    """The criterion for one seed."""
    after, area = row["after"], row["after"]["area"]
    others = max(row[name]["area"] for name in ("before", "control"))
    return after["tau"] >= 0.9 and area > others


def toy(seed: int, *, steps: int = 150) -> dict[str, Any]:
    """Sweeps of the weakly conditioned policy, of it after two rounds, and of the control."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(WIDTH, ITEMS, generator=generator)
    attribute = torch.randn(ITEMS, generator=generator)

    def table(context: Tensor) -> Tensor:
        task = context @ features / WIDTH**0.5
        return torch.stack([task, attribute.expand_as(task)], -1)

    reward = TableReward(table)
    contexts = torch.randn(2048, WIDTH, generator=generator)
    torch.manual_seed(seed)
    policy = ToyPolicy()
    directions = directions_on_cap(2048, 2, seed=seed)
    logged = 0.7 * torch.einsum("bid,bd->bi", table(contexts), directions)
    imitate(policy, contexts, directions, drawn(logged, 1, seed)[:, 0], steps=3 * steps)
    started = {name: value.clone() for name, value in policy.state_dict().items()}
    test = torch.randn(512, WIDTH, generator=generator)
    result: dict[str, Any] = {"seed": seed, "before": sweep(policy, test, table)}
    for name, count in (("after", 8), ("control", 1)):
        policy.load_state_dict(started)
        for number in range(ROUNDS):
            one_round(policy, policy, contexts, reward, count, 100 * seed + number, steps)
        result[name] = sweep(policy, test, table)
    return result


def one_round(
    logits: Logits, module: nn.Module, contexts: Tensor, reward: Reward, count: int, seed: int,
    steps: int,
) -> None:  # fmt: skip
    """Draw under new directions, keep the best, imitate it."""
    directions = directions_on_cap(len(contexts), 2, seed=seed)
    kept = rejection_sampling(
        lambda context, given, number, draw: drawn(logits(context, given), number, draw),
        reward, contexts, directions, count=count, seed=seed,
    )  # fmt: skip
    imitate(module, contexts, directions, kept.best, steps=steps, logits=logits)


def imitate(
    module: nn.Module, contexts: Tensor, directions: Tensor, items: Tensor, *, steps: int,
    logits: Logits | None = None,
) -> None:  # fmt: skip
    """The ordinary supervised loss."""
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    for step in range(steps):
        rows = torch.arange(256 * step, 256 * (step + 1)) % len(items)
        scores = (logits or module)(contexts[rows], directions[rows])
        optimizer.zero_grad()
        functional.cross_entropy(scores, items[rows]).backward()
        optimizer.step()


def drawn(logits: Tensor, count: int, seed: int) -> Tensor:
    """So many items per row."""
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(logits.softmax(-1), count, replacement=True, generator=generator)


@torch.no_grad()
def sweep(logits: Logits, contexts: Tensor, table: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Mean rewards by angle, and what they show, above what a uniform choice would have.

    The dominated area counts the half of the front that has more of the attribute.
    """
    points = []
    values = table(contexts)
    for angle in ANGLES:
        asked = directions_at(angle[None], 2).expand(len(contexts), 2)
        shares = logits(contexts, asked).softmax(-1)
        points.append((shares[..., None] * values).sum(1).mean(0))
    found = torch.stack(points)
    centre = values.mean((0, 1))
    return {
        "tau": round(kendall_tau(ANGLES, found[:, 1]), 3),
        "area": round(float(dominated_area(found, centre)), 4),
        "angle_error_rad": round(float(angle_errors(found - centre, ANGLES).mean()), 3),
        "task": [round(float(v), 3) for v in found[:, 0]],
        "attribute": [round(float(v), 3) for v in found[:, 1]],
    }


class CataloguePolicy:
    """A recommender's standardised scores and what a direction adds; contexts are row numbers."""

    def __init__(self, pools: RecommenderPools, shift: Shift) -> None:
        self.contexts, self.shift = pools.contexts, shift
        self.values = pools.rewards[..., :2] * torch.tensor([1.0, -1.0])
        self.sharpness = pools.scores.std(1, keepdim=True)

    def __call__(self, rows: Tensor, directions: Tensor) -> Tensor:
        """Logits of all items; without anything added, the recommender's own."""
        added = self.shift(self.contexts[rows], directions)
        task, attribute = self.values[rows].unbind(-1)
        return (self.sharpness[rows] + added[:, :1]) * task + added[:, 1:] * attribute

    def table(self, rows: Tensor) -> Tensor:
        """Both rewards of every item."""
        return self.values[rows]


def real(pools: Mapping[str, RecommenderPools], seed: int) -> dict[str, Any]:
    """The same on a recommender's catalogue; contexts of validation rows, sweep on test rows."""
    torch.manual_seed(seed)
    shift = Shift(pools["test"].contexts.shape[1])
    training, held_out = (CataloguePolicy(pools[name], shift) for name in ("validation", "test"))
    rows = torch.arange(len(held_out.values))
    result: dict[str, Any] = {"seed": seed, "before": sweep(held_out, rows, held_out.table)}
    for number in range(ROUNDS):
        one_round(
            training, shift, torch.arange(len(training.values)), TableReward(training.table),
            8, 100 * seed + number, 100,
        )  # fmt: skip
    result["after"] = sweep(held_out, rows, held_out.table)
    asked = directions_at(ANGLES, 2)[:, None].expand(-1, len(rows), -1)
    with torch.no_grad():
        scores = [pools["test"].scores, *(held_out(rows, given) for given in asked)]
    result["ndcg10"] = [round(ndcg(score, pools["test"].targets), 4) for score in scores]
    return result


def ndcg(scores: Tensor, targets: Tensor) -> float:
    """NDCG at 10 of one target per row."""
    rank = (scores > scores.gather(1, targets[:, None])).sum(1)
    return float(torch.where(rank < 10, 1 / (rank + 2.0).log2(), 0.0).mean())


def _print(title: str, row: dict[str, Any]) -> None:
    for name in ("before", "control", "after"):
        if name in row:
            print(f"{title} seed {row['seed']} {name:8} {row[name]}")
    if "ndcg10" in row:
        print(f"{title} seed {row['seed']} NDCG@10 as it was, then by angle: {row['ndcg10']}")
    print(end="", flush=True)


if __name__ == "__main__":
    main()
