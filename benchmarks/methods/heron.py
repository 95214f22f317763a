"""Comparisons from a ranking of factors: proof against units, and as good as tuned weights?

Four factors of 600 responses, one skewed and two correlated, compared by rank and by an even sum;
one factor then comes in other units. A reward fitted to the ranked comparisons of half of them is
judged on the other half, and cycles are counted at several margins. With `--teacher` a planner's
real candidates: sub-scores ranked as collision, drivable area, time to collision, progress,
comfort; the candidate that wins most comparisons, and what the tuned PDM score says of it. With
`--town` items for people: match, then rating, then popularity.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from safetensors.numpy import load_file
from torch import Tensor, nn

from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.comparisons import comparison_accuracy
from personalize.preference_optimization.ranked_factors import (
    RankedFactors,
    cycle_rate,
    ranked_by_scale,
    ranked_comparisons,
)
from personalize.rewards.bradley_terry import RewardTraining, bradley_terry_loss, train

NAMES = ("first", "second", "third", "fourth")
SHARES = (0.5, 0.5, 0.5, 0.0)
TIMES, RESPONSES, FEATURES = 100.0, 300, 16
TRAINING = RewardTraining(steps=600, batch_size=256, learning_rate=3e-3)
PLANNER = ("no_collision", "drivable_area", "time_to_collision", "progress", "comfort")
LEAST_CANDIDATES = 6
PLANNER_MARGINS = (0.0, 0.0, 0.0, 0.05, 0.0)
ITEMS = ("match", "rating", "popularity")
CRITERION = (
    "no ranked label changes with the unit of a factor while labels of an even sum do; a reward "
    "fitted to ranked labels is right on more than 0.9 of held-out ones; no cycle at margin 0"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--teacher", type=Path, nargs="*", default=[], help="artifacts `teacher`")
    parser.add_argument("--town", type=Path, help="artifact `reviews` of a simulated town")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found: dict[str, Any] = {"toy": experiment(tuple(range(options.seeds)))}
    for folder in options.teacher:
        found[f"planner {folder}"] = planner_candidates(folder)
    if options.town:
        found["items"] = town_items(options.town)
    for name, result in found.items():
        print(f"{name}:")
        for measure, value in result["measures"].items():
            line = "" if "low" not in value else f"  [{value['low']:6.3f}, {value['high']:6.3f}]"
            print(f"  {measure:50} {value['mean']:6.3f}{line}")
    if options.json:
        print(json.dumps({**found, "criterion": CRITERION, "shown": found["toy"]["shown"]}))


def experiment(seeds: tuple[int, ...]) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    rows = [one_seed(seed) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    shown = (
        (columns["ranked labels kept in other units"] == 1).all()
        and measures["labels of an even sum kept in other units"]["high"] < 0.7
        and measures["reward right on held-out ranked labels"]["mean"] > 0.9
        and (columns["cycles at margin 0"] == 0).all()
    )
    return {"measures": measures, "seeds": list(seeds), "shown": bool(shown)}


def one_seed(seed: int) -> dict[str, float]:
    """One draw of responses and their factors."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2 * RESPONSES, FEATURES, generator=generator)
    factors = drawn_factors(features, generator)
    other = factors * torch.tensor([1.0, 1.0, TIMES, 1.0])
    ranking, ranking_other = (ranked_by_scale(NAMES, values, SHARES) for values in (factors, other))
    first, second = torch.triu_indices(2 * RESPONSES, 2 * RESPONSES, offset=1)
    labels, level = ranking(factors[first], factors[second])
    kept = labels == ranking_other(other[first], other[second])[0]
    sums = [values.sum(-1) for values in (factors, other)]
    even = [(total[first] - total[second]).sign() for total in sums]
    result = {
        "ranked labels kept in other units": float(kept.double().mean()),
        "labels of an even sum kept in other units": float((even[0] == even[1]).double().mean()),
        "decided by the first factor": float((level == 0).double().mean()),
        "reward right on held-out ranked labels": learnt(features, factors, ranking, seed),
    }
    for share in (0.0, 0.3, 0.7):
        by_share = ranked_by_scale(NAMES, factors, (share,) * len(NAMES))
        few = factors[:40]
        winners, _ = by_share(few[:, None], few[None])
        result[f"cycles at margin {share:g}"] = cycle_rate(winners)
    return result


def learnt(features: Tensor, factors: Tensor, ranking: RankedFactors, seed: int) -> float:
    """Accuracy on comparisons among the second half, of a reward that saw those of the first."""
    halves = torch.arange(len(features)) // RESPONSES
    found = ranked_comparisons(factors, ranking, halves, per_row=16, seed=seed)
    own = halves[found.comparisons.better]
    known, held = (found.comparisons.rows((own == half).nonzero()[:, 0]) for half in (0, 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 1))

    def loss(drawn: Tensor) -> Tensor:
        better, worse = features[known.better[drawn]], features[known.worse[drawn]]
        return bradley_terry_loss(
            (model(better) - model(worse))[:, 0], known.win_share[drawn]
        ).mean()

    train(model, loss, len(known), TRAINING)
    with torch.no_grad():
        return float(comparison_accuracy(model(features)[:, 0], held).mean())


def drawn_factors(
    features: Float[Tensor, "row feature"], generator: torch.Generator
) -> Float[Tensor, "row factor"]:
    """Four factors that the features tell, the third skewed, the fourth like the first."""
    mixed = features @ torch.randn(FEATURES, 4, generator=generator) / FEATURES**0.5
    third = mixed[:, 2].exp()
    fourth = 0.7 * mixed[:, 0] + 0.7 * mixed[:, 3]
    return torch.stack([mixed[:, 0], mixed[:, 1], third, fourth], 1)


def planner_candidates(teacher: Path) -> dict[str, Any]:
    """Ranked factors against the PDM score on the drives of a teacher."""
    arrays = load_file(teacher / "teacher.safetensors")
    known = np.asarray(arrays["sub_score_mask"][..., : len(PLANNER)].all(-1))
    enough = known.sum(1) >= LEAST_CANDIDATES
    there = torch.as_tensor(known[enough])
    factors = torch.as_tensor(arrays["sub_scores"][enough][..., : len(PLANNER)]).double()
    factors = torch.where(there[..., None], factors, 0.0)
    met = there[:, :, None] & there[:, None]
    units = factors * factors.new_tensor([1.0, 1.0, 1.0, TIMES, 1.0])
    ranking = RankedFactors(PLANNER, PLANNER_MARGINS)
    ranking_units = RankedFactors(PLANNER, (0.0, 0.0, 0.0, TIMES * PLANNER_MARGINS[3], 0.0))
    score = pdm(factors)
    winners, level = ranking(factors[:, :, None], factors[:, None])
    winners = winners * met
    by_units = ranking_units(units[:, :, None], units[:, None])[0] * met
    values = {
        "most wins by rank": winners.sum(-1).double(),
        "most wins by rank, progress in other units": by_units.sum(-1).double(),
        "even sum": factors.sum(-1),
        "even sum, progress in other units": units.sum(-1),
        "best PDM score": score,
    }
    picks = {
        name: value.masked_fill(~there, -torch.inf).argmax(-1) for name, value in values.items()
    }
    result: dict[str, Any] = {
        f"PDM score, {name}": vars(bootstrap_interval(_taken(score, pick)))
        for name, pick in picks.items()
    }
    result["PDM score, any candidate"] = vars(
        bootstrap_interval(((score * there).sum(-1) / there.sum(-1)).numpy())
    )
    pairs = met & torch.triu(torch.ones_like(met[0]), 1)
    for number, name in enumerate((*PLANNER, "nothing")):
        result[f"decided by {name}"] = {"mean": float((level[pairs] == number).double().mean())}
    gap = (score[:, :, None] - score[:, None]).sign()
    both = pairs & (winners != 0) & (gap != 0)
    same = float((winners == gap)[both].double().mean())
    result["same winner as the PDM score"] = {"mean": same}
    result["cycles"] = {"mean": float(np.mean([cycle_rate(one) for one in winners]))}
    return {"measures": result, "scenes": len(factors), "margins": PLANNER_MARGINS}


def pdm(factors: Float[Tensor, "*row factor"]) -> Float[Tensor, "*row"]:
    """The PDM score of its parts: gates times a weighted mean."""
    weighted = 5 * factors[..., 2] + 5 * factors[..., 3] + 2 * factors[..., 4]
    return factors[..., 0] * factors[..., 1] * weighted / 12


def town_items(tables: Path) -> dict[str, Any]:
    """Items for 200 people of a town by match, rating and popularity, margins at 0.3 deviations."""
    match, rating, popularity = item_factors(tables)
    people = min(200, len(match))
    factors = torch.stack(
        [match[:people], rating.expand(people, -1), popularity.expand(people, -1)], -1
    )
    ranking = ranked_by_scale(ITEMS, factors.flatten(0, 1), (0.3, 0.3, 0.0))
    contexts = torch.arange(people).repeat_interleave(factors.shape[1])
    found = ranked_comparisons(factors.flatten(0, 1), ranking, contexts, per_row=2)
    result: dict[str, Any] = {
        f"decided by {name}": {"mean": float((found.level == number).double().mean())}
        for number, name in enumerate(ITEMS)
    }
    pairs = len(found.comparisons) + found.undecided
    result["decided by nothing"] = {"mean": found.undecided / pairs}
    rates = [cycle_rate(ranking(one[:, None], one[None])[0]) for one in factors[:50, :100]]
    result["cycles"] = vars(bootstrap_interval(np.array(rates)))
    return {"measures": result, "comparisons": len(found.comparisons), "people": people}


def item_factors(tables: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Match of every person with every item; mean rating and log count of every item."""
    items = pl.read_parquet(tables / "items.parquet").sort("item_id").select("item_id")
    attributes = pl.read_parquet(tables / "planted_attributes.parquet")
    wide = items.join(
        attributes.pivot("aspect", index="item_id", values="value"), on="item_id", how="left"
    )
    wide = wide.fill_null(0.0)
    aspects = [name for name in wide.columns if name != "item_id"]
    planted = pl.read_parquet(tables / "planted_preferences.parquet").filter(
        pl.col("valid_until").is_null()
    )
    sign = pl.when(pl.col("polarity") == "like").then(1.0).otherwise(-1.0)
    wishes = (
        planted.with_columns(weight=sign * pl.col("strength"))
        .pivot("aspect", index="user_id", values="weight", aggregate_function="sum")
        .sort("user_id")
        .fill_null(0.0)
    )
    wanted = torch.as_tensor(
        np.stack([wishes[name].to_numpy() if name in wishes.columns else np.zeros(wishes.height)
                  for name in aspects], 1), dtype=torch.float64
    )  # fmt: skip
    match = wanted @ torch.as_tensor(wide.select(aspects).to_numpy(), dtype=torch.float64).T
    seen = (
        pl.read_parquet(tables / "interactions.parquet")
        .group_by("item_id")
        .agg(pl.col("rating").mean(), pl.len().alias("count"))
    )
    by_item = items.join(seen, on="item_id", how="left")
    rating = by_item["rating"].fill_null(by_item["rating"].mean()).to_numpy()
    count = by_item["count"].fill_null(0).to_numpy()
    return match, torch.tensor(rating), torch.log1p(torch.tensor(count).double())


def _taken(values: Tensor, chosen: Tensor) -> Float[np.ndarray, " scene"]:
    return values.gather(1, chosen[:, None])[:, 0].numpy()


if __name__ == "__main__":
    main()
