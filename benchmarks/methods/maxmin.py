"""Groups found from comparisons, and a policy for the worst-off, against one reward for all.

40 people of one taste and 10 of another that is its opposite on half of the features, with 30
comparisons each; then 200 people with 12 comparisons each, of whom 20 % are of the other taste, and
5 %. One reward for all beside one per group found by expectation-maximisation;
then policies over 60 responses tuned on each, judged by the true tastes. With `--town` also the
people of a simulated town, whose tastes differ by degrees and form no groups.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.comparisons import (
    Comparisons,
    comparison_accuracy,
    decided,
)
from personalize.rewards.bradley_terry import RewardTraining
from personalize.rewards.groups import (
    FittedGroups,
    best_groups,
    fit_groups,
    person_log_likelihood,
    worst_group_value,
)

CROWDS = {"40 + 10": (50, 30, 0.2), "160 + 40": (200, 12, 0.2), "190 + 10": (200, 12, 0.05)}
"""People, comparisons each, and the share of the other taste; the criterion is for the first."""
FEATURES, RESPONSES = 8, 400
PEAK, POOL, KL_PRICE, RESTARTS = 2.0, 60, 0.3, 4
TRAINING = RewardTraining(steps=80, learning_rate=5e-2, weight_decay=1e-2)
CRITERION = (
    "minority accuracy at least 0.9, majority at least that of one reward less 0.01, and the "
    "worst group's true utility under the MaxMin policy above that under one reward"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--town", type=Path, help="artifact `reviews` of a simulated town")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found: dict[str, Any] = {name: experiment(tuple(range(options.seeds)), name) for name in CROWDS}
    if options.town:
        found["town"] = town(options.town, tuple(range(min(options.seeds, 5))))
    for name, result in found.items():
        print(f"{name}:" + (f" shown {result['shown']}" if "shown" in result else ""))
        for measure, value in result["measures"].items():
            print(
                f"  {measure:44} {value['mean']:6.3f}  [{value['low']:6.3f}, {value['high']:6.3f}]"
            )
    if options.json:
        shown = found[next(iter(CROWDS))]["shown"]
        print(json.dumps({**found, "criterion": CRITERION, "shown": shown}))


def experiment(seeds: tuple[int, ...], crowd: str) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    rows = [one_seed(seed, crowd) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    majority = columns["majority accuracy, groups"] - columns["majority accuracy, one reward"]
    worst = bootstrap_interval(columns["worst true utility, MaxMin"] - columns["worst, one reward"])
    shown = (
        measures["minority accuracy, groups"]["mean"] >= 0.9
        and majority.mean() >= -0.01
        and worst.low > 0
    )
    return {"measures": measures, "seeds": list(seeds), "shown": bool(shown)}


def one_seed(seed: int, crowd: str) -> dict[str, float]:
    """One draw of responses, tastes and comparisons."""
    count, each, share = CROWDS[crowd]
    generator = torch.Generator().manual_seed(seed)
    responses = torch.randn(RESPONSES, FEATURES, generator=generator)
    tastes, minority = two_tastes(generator), (torch.arange(count) < share * count).long()
    utility = responses @ tastes.T
    people = torch.arange(count).repeat_interleave(each)
    comparisons = answered(utility[:, minority[people]], generator)
    linear = linear_reward(FEATURES)

    def fit(groups: int) -> Callable[[int], FittedGroups]:
        return lambda start: fit_groups(
            responses, comparisons, people, groups=groups, build=linear,
            training=replace(TRAINING, seed=1000 * seed + start),
        )  # fmt: skip

    one, two = fit(1)(0), best_groups(RESTARTS, fit(2))
    clusters = clustered_as(two.person_group, minority)
    result = {"people in their group": max(clusters, 1 - clusters)}
    order = [0, 1] if clusters >= 0.5 else [1, 0]
    tests = torch.randn(2000, FEATURES, generator=generator)
    for number, name in enumerate(("majority", "minority")):
        truth = tests @ tastes[number]
        result[f"{name} accuracy, one reward"] = agreement(one.rewards(tests)[:, 0], truth)
        own = two.rewards(tests)[:, order[number]]
        result[f"{name} accuracy, groups"] = agreement(own, truth)
    return result | policies(one, two, tastes, generator)


def policies(
    one: FittedGroups, two: FittedGroups, tastes: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """True utilities of policies tuned on the rewards."""
    pool = torch.randn(POOL, FEATURES, generator=generator)
    utility = pool @ tastes.T
    utility = (utility - utility.mean(0)) / utility.std(0)
    with torch.no_grad():
        single, groups = one.rewards(pool)[:, 0], two.rewards(pool)
    tuned = {
        "one reward": tuned_policy(lambda share: share @ single),
        "MaxMin": tuned_policy(lambda share: (share @ groups).amin()),
        "minimum per sample": tuned_policy(lambda share: share @ groups.amin(-1)),
    }
    result = {}
    for name, share in tuned.items():
        got = share @ utility
        prefix = "worst true utility, MaxMin" if name == "MaxMin" else f"worst, {name}"
        result[prefix] = float(got.amin())
        result[f"majority's true utility, {name}"] = float(got[0])
    spread = tuned["MaxMin"][:, None] * groups * POOL
    result["stated objective less its lower bound"] = float(
        worst_group_value(spread) - (tuned["MaxMin"] @ groups.amin(-1))
    )
    return result


def tuned_policy(value: Callable[[Tensor], Tensor]) -> Float[Tensor, " response"]:
    """The distribution over the pool with the best value less its price in divergence."""
    logits = torch.zeros(POOL, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        share = logits.softmax(0)
        divergence = (share * (share * POOL).log()).sum()
        (KL_PRICE * divergence - value(share)).backward()
        optimizer.step()
    return logits.softmax(0).detach()


def two_tastes(generator: torch.Generator) -> Float[Tensor, "2 feature"]:
    """A taste, and the one that is its opposite on half of the features."""
    taste = torch.randn(FEATURES, generator=generator)
    taste = PEAK * taste / taste.norm()
    turned = torch.where(torch.arange(FEATURES) % 2 == 0, -1.0, 1.0)
    return torch.stack([taste, taste * turned])


def answered(
    utility: Float[Tensor, "response comparison"], generator: torch.Generator
) -> Comparisons:
    """A comparison of two random responses per column, answered by a Bradley-Terry judge."""
    count = utility.shape[1]
    first = torch.randint(len(utility), (count,), generator=generator)
    step = torch.randint(1, len(utility), (count,), generator=generator)
    pairs = torch.stack([first, (first + step) % len(utility)], 1)
    column = torch.arange(count)
    gap = utility[pairs[:, 0], column] - utility[pairs[:, 1], column]
    wins = torch.rand(count, generator=generator) < gap.sigmoid()
    return decided(torch.where(wins[:, None], pairs, pairs.flip(1)))


def linear_reward(features: int) -> Callable[[], nn.Module]:
    """A reward linear in the features; a constant would cancel in every comparison."""
    return lambda: nn.Linear(features, 1, bias=False)


def agreement(scores: Tensor, truth: Tensor) -> float:
    """Share of pairs of neighbours in the list that are ordered as the truth orders them."""
    gap, right = scores.diff(), truth.diff()
    return float((gap.sign() == right.sign()).float().mean())


def clustered_as(found: Int[Tensor, " person"], truth: Int[Tensor, " person"]) -> float:
    """Share of people whose group has the number of their taste."""
    return float((found == truth).float().mean())


def town(tables: Path, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Groups among the people of a town: is anything gained on answers that were held back?"""
    responses, comparisons, people = town_comparisons(tables)
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        held = torch.rand(len(comparisons), generator=generator) < 0.3
        row = {}
        for groups in (1, 2, 4):
            row |= _town_row(responses, comparisons, people, held, groups=groups, seed=seed)
        rows.append(row)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    return {"measures": measures, "comparisons": len(comparisons), "seeds": list(seeds)}


def _town_row(
    responses: Tensor,
    comparisons: Comparisons,
    people: Tensor,
    held: Tensor,
    *,
    groups: int,
    seed: int,
) -> dict[str, float]:
    kept, test = (~held).nonzero()[:, 0], held.nonzero()[:, 0]
    found = best_groups(
        3,
        lambda start: fit_groups(
            responses, comparisons.rows(kept), people[kept], groups=groups,
            build=linear_reward(responses.shape[1]),
            training=replace(TRAINING, seed=1000 * seed + start),
        ),
    )  # fmt: skip
    group = person_log_likelihood(
        found.rewards, responses, comparisons.rows(kept), people[kept]
    ).argmax(1)
    answers = comparisons.rows(test)
    with torch.no_grad():
        scores = found.rewards.raw(responses)
    right = torch.stack(
        [comparison_accuracy(scores[:, number], answers) for number in range(groups)], 1
    )
    own = right.gather(1, group[people[test], None])[:, 0]
    parts = [float(own[group[people[test]] == number].mean()) for number in range(groups)]
    shares = torch.bincount(group, minlength=groups) / len(group)
    return {
        f"accuracy, {groups} groups": float(own.mean()),
        f"accuracy of the worst group, {groups} groups": min(parts),
        f"share of the smallest group, {groups} groups": float(shares.min()),
    }


def town_comparisons(tables: Path) -> tuple[Tensor, Comparisons, Tensor]:
    """What people bought against what they might have: another item of the same department.

    Features are the planted attributes of the items, which no recommender is told.
    """
    attributes = pl.read_parquet(tables / "planted_attributes.parquet")
    wide = attributes.pivot("aspect", index="item_id", values="value").sort("item_id")
    items = pl.read_parquet(tables / "items.parquet").sort("item_id")
    wide = items.select("item_id").join(wide, on="item_id", how="left").fill_null(0.0)
    features = torch.as_tensor(wide.drop("item_id").to_numpy(), dtype=torch.float32)
    department = items["categories"].list.first().to_list()
    bought = pl.read_parquet(tables / "interactions.parquet").filter(pl.col("rating") >= 4)
    random = np.random.default_rng(0)
    beside = {
        name: np.array([item for item, other in enumerate(department) if other == name])
        for name in set(department)
    }
    pairs, people = [], []
    for user, item in bought.select("user_id", "item_id").iter_rows():
        other = int(random.choice(beside[department[item]]))
        if other != item:
            pairs.append((item, other))
            people.append(user)
    numbers = np.unique(people, return_inverse=True)[1]
    return features, decided(torch.tensor(pairs)), torch.as_tensor(numbers)


if __name__ == "__main__":
    main()
