"""Follow-up likelihood as a reward (FLR): how many labels is what follows a choice worth?

A model of what follows is fitted to sequences of half of the people, without ratings: whether one
of the next three choices is of the kind, whether the next comes soon, whether the next three are of
another kind, and whether there is none. Its likelihoods make a reward of an item after a history.
Pairs of items of the other half are judged: two that one person rated at least two stars apart,
and, with a town's planted preferences, two that nobody chose. A Bradley-Terry reward reads the same
features and learns from n labelled pairs of the first half; reported is the n at which it is as
good. Cosine to the history, which needs no model at all, and popularity stand beside them.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from safetensors.numpy import load_file
from torch import Tensor
from torch.nn import functional

from benchmarks.methods.heron import item_factors
from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.follow_up import FollowUpModel, follow_up_reward

EVENTS = ("of the kind", "soon", "of another kind", "none")
KINDS, NEXT, STARS, PER_PERSON, LEAST_HISTORY = 16, 3, 2.0, 5, 2
PLANTED_GAP, PLANTED_PAIRS = 0.3, 4
LABELS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
DRAWS = 10
CRITERION = (
    "the number of labels at which Bradley-Terry is as good is reported; shown where the follow-up "
    "reward is right more often than a coin (interval), than cosine alone and than 16 labels"
)


@dataclass(frozen=True)
class Sequences:
    """What people chose, in order, and what is known of items.

    Attributes:
        items: Of each person.
        days: When, likewise.
        stars: Ratings, likewise; NaN where there is none.
        vectors: Of every item, of unit length.
        kinds: The same in few dimensions.
    """

    items: list[np.ndarray]
    days: list[np.ndarray]
    stars: list[np.ndarray]
    vectors: Float[np.ndarray, "item width"]
    kinds: Float[np.ndarray, "item kind"]


@dataclass(frozen=True)
class Judged:
    """Pairs of items after a history, the better one first."""

    better: Float[Tensor, "pair feature"]
    worse: Float[Tensor, "pair feature"]
    person: Int[np.ndarray, " pair"]


def main() -> None:
    """Run all data sets, print the tables and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--town", type=Path, help="folder of a simulated town: tables, vectors")
    parser.add_argument("--real", type=Path, help="folder of real reviews: tables, vectors")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    seeds = tuple(range(options.seeds))
    found: dict[str, Any] = {}
    if options.town:
        found["town, planted preferences"] = experiment(
            options.town, seeds, by_aspects=True, planted=True
        )
        found["town, stars"] = experiment(options.town, seeds, by_aspects=True)
        found["town, stars, by text"] = experiment(options.town, seeds, by_aspects=False)
    if options.real:
        found["real, stars, by text"] = experiment(options.real, seeds, by_aspects=False)
    for name, result in found.items():
        print(f"{name}: {result['pairs']} pairs a seed")
        for measure, labels in result["crossover"].items():
            print(f"  labels worth as much as {measure}: {labels}")
        for measure, value in result["measures"].items():
            print(
                f"  {measure:40} {value['mean']:6.3f}  [{value['low']:6.3f}, {value['high']:6.3f}]"
            )
    if options.json:
        shown = bool(found) and all(result["shown"] for result in found.values())
        print(json.dumps({**found, "criterion": CRITERION, "shown": shown}))


def experiment(
    folder: Path, seeds: tuple[int, ...], *, by_aspects: bool, planted: bool = False
) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    log = read(folder, by_aspects=by_aspects)
    rows = [one_seed(log, folder / "tables" if planted else None, seed) for seed in seeds]
    pairs = int(np.mean([row.pop("pairs") for row in rows]))
    measures = {
        name: vars(bootstrap_interval(np.array([row[name] for row in rows]))) for name in rows[0]
    }
    mine = measures["follow-up"]["mean"]
    crossover: dict[str, int | str] = {}
    for name in ("follow-up", "follow-up, kinds alone"):
        reached = [n for n in LABELS if measures[f"{n:4} labels"]["mean"] >= measures[name]["mean"]]
        crossover[name] = reached[0] if reached else f"above {LABELS[-1]}"
    shown = (
        measures["follow-up, low end over people"]["mean"] > 0.5
        and mine > measures["cosine to the history"]["mean"]
        and mine > measures["  16 labels"]["mean"]
    )
    return {
        "measures": measures,
        "pairs": pairs,
        "seeds": list(seeds),
        "crossover": crossover,
        "shown": bool(shown),
    }


def one_seed(log: Sequences, planted: Path | None, seed: int) -> dict[str, float]:
    """Every reward on one split of the people into halves."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(log.items))
    known, held = order[: len(order) // 2], order[len(order) // 2 :]
    popularity = np.log1p(
        np.bincount(np.concatenate([log.items[p] for p in known]), minlength=len(log.vectors))
    )
    features, happened = follow_ups(log, known, popularity)
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-6)
    model = FollowUpModel(features.shape[1], EVENTS)
    model.fit((features - mean) / deviation, happened)
    judge = planted_pairs if planted else star_pairs
    train, test = (
        judge(log, people, popularity, generator, *(() if planted is None else (planted,)))
        for people in (known, held)
    )
    scaled = [(side - mean) / deviation for side in (test.better, test.worse)]
    with torch.no_grad():
        said = [model(side) for side in scaled]
    result: dict[str, float] = {"pairs": float(len(test.person))}
    right = correct(*(follow_up_reward(side[:, :2], side[:, 2:]) for side in said))
    result["follow-up"] = float(right.mean())
    by_person = bootstrap_interval(right, groups=test.person, seed=seed, resamples=2000)
    result["follow-up, low end over people"] = by_person.low
    kinds = correct(*(follow_up_reward(side[:, :1], side[:, 2:3]) for side in said))
    result["follow-up, kinds alone"] = float(kinds.mean())
    result["cosine to the history"] = float(correct(*(side[:, 0] for side in scaled)).mean())
    result["popularity"] = float(correct(*(side[:, 2] for side in scaled)).mean())
    for count in LABELS:
        result[f"{count:4} labels"] = learnt(train, test, deviation, count, generator)
    return result


def read(folder: Path, *, by_aspects: bool) -> Sequences:
    """Sequences and item vectors of the artifacts in a folder."""
    vectors = aspects(folder) if by_aspects else texts(folder)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    _, _, directions = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    kinds = (vectors - vectors.mean(0)) @ directions[:KINDS].T
    log = pl.read_parquet(folder / "tables" / "interactions.parquet").sort("user_id", "position")
    people = log.partition_by("user_id", maintain_order=True)
    return Sequences(
        items=[one["item_id"].to_numpy() for one in people],
        days=[one["timestamp_s"].cast(pl.Float64).to_numpy() / 86400 for one in people],
        stars=[one["rating"].fill_null(float("nan")).to_numpy() for one in people],
        vectors=vectors,
        kinds=kinds / kinds.std(0),
    )


def texts(folder: Path) -> Float[np.ndarray, "item width"]:
    """Vectors of the texts that items are known by; zeros where there is none."""
    values = load_file(folder / "vectors" / "vectors.safetensors")["values"].astype(np.float64)
    known = pl.read_parquet(folder / "vectors" / "item_text_ids.parquet").sort("item_id")
    vectors = values[known["text_id"].fill_null(0).to_numpy()]
    vectors[known["text_id"].is_null().to_numpy()] = 0.0
    return vectors


def aspects(folder: Path) -> Float[np.ndarray, "item aspect"]:
    """How good a simulated item is in each aspect; 0 where one makes no sense for it."""
    items = pl.read_parquet(folder / "tables" / "items.parquet").select("item_id")
    planted = pl.read_parquet(folder / "tables" / "planted_attributes.parquet")
    wide = planted.pivot("aspect", index="item_id", values="value")
    joined = items.join(wide, on="item_id", how="left").sort("item_id").fill_null(0.0)
    return joined.drop("item_id").to_numpy().astype(np.float64)


def described(
    log: Sequences, history: np.ndarray, items: np.ndarray, popularity: np.ndarray
) -> Float[np.ndarray, "item feature"]:
    """What is known of items after a history: likeness, popularity, kind, and kind by kind."""
    centre = log.vectors[history].mean(0)
    likeness = log.vectors[items] @ log.vectors[history].T
    kind = log.kinds[items]
    plain = [log.vectors[items] @ centre, likeness.max(1), popularity[items]]
    return np.column_stack([*plain, kind, kind * log.kinds[history].mean(0)])


def follow_ups(
    log: Sequences, people: np.ndarray, popularity: np.ndarray
) -> tuple[Float[Tensor, "row feature"], Tensor]:
    """Every choice of some people with what followed it."""
    sample = log.vectors[:: max(1, len(log.vectors) // 300)]
    alike = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
    near, far = np.quantile(alike, [0.8, 0.5])
    gaps = np.concatenate([np.diff(log.days[person]) for person in people])
    soon = np.median(gaps[gaps > 0])
    features, happened = [], []
    for person in people:
        items, days = log.items[person], log.days[person]
        for place in range(1, len(items)):
            after = items[place + 1 : place + 1 + NEXT]
            cosine = log.vectors[after] @ log.vectors[items[place]]
            some = len(after) > 0
            features.append(described(log, items[:place], items[place : place + 1], popularity)[0])
            happened.append(
                (
                    some and cosine.max() >= near,
                    some and days[place + 1] - days[place] <= soon,
                    some and cosine.mean() <= far,
                    not some,
                )
            )
    return torch.as_tensor(np.stack(features)), torch.as_tensor(np.array(happened, dtype=bool))


def star_pairs(
    log: Sequences, people: np.ndarray, popularity: np.ndarray, generator: np.random.Generator
) -> Judged:
    """Two items that a person rated far apart, after what came before either."""
    better, worse, owners = [], [], []
    for person in people:
        items, stars = log.items[person], log.stars[person]
        first, second = np.nonzero(stars[:, None] - stars[None] >= STARS)
        early = np.minimum(first, second) >= LEAST_HISTORY
        chosen = generator.permutation(np.nonzero(early)[0])[:PER_PERSON]
        for one, other in zip(first[chosen], second[chosen], strict=True):
            pair = items[[one, other]]
            both = described(log, items[: min(one, other)], pair, popularity)
            better.append(both[0])
            worse.append(both[1])
            owners.append(person)
    return _judged(better, worse, owners)


def planted_pairs(
    log: Sequences,
    people: np.ndarray,
    popularity: np.ndarray,
    generator: np.random.Generator,
    tables: Path,
) -> Judged:
    """Two random items, the better one by what a simulated person truly likes."""
    match = item_factors(tables)[0].numpy()
    better, worse, owners = [], [], []
    for person in people:
        if person >= len(match):
            continue
        pairs = generator.integers(0, len(log.vectors), size=(4 * PLANTED_PAIRS, 2))
        gap = match[person][pairs[:, 0]] - match[person][pairs[:, 1]]
        pairs = np.where(gap[:, None] < 0, pairs[:, ::-1], pairs)
        for pair in pairs[np.abs(gap) > PLANTED_GAP][:PLANTED_PAIRS]:
            both = described(log, log.items[person], pair, popularity)
            better.append(both[0])
            worse.append(both[1])
            owners.append(person)
    return _judged(better, worse, owners)


def _judged(better: list, worse: list, owners: list) -> Judged:
    sides = [torch.as_tensor(np.stack(side)) for side in (better, worse)]
    return Judged(sides[0], sides[1], np.array(owners))


def learnt(
    train: Judged, test: Judged, deviation: Tensor, count: int, generator: np.random.Generator
) -> float:
    """Mean accuracy of a linear Bradley-Terry reward on so many labels, drawn several times."""
    known = (train.better - train.worse) / deviation
    held = (test.better - test.worse) / deviation
    found = []
    for _ in range(DRAWS):
        chosen = generator.choice(len(known), min(count, len(known)), replace=False)
        weights = fitted(known[chosen])
        found.append(float(correct(held @ weights, torch.zeros(len(held))).mean()))
    return float(np.mean(found))


def fitted(differences: Float[Tensor, "pair feature"]) -> Float[Tensor, " feature"]:
    """The likeliest linear reward under a standard normal prior of its weights."""
    weights = torch.zeros(differences.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = -functional.logsigmoid(differences @ weights).sum() + weights.square().sum() / 2
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach()


def correct(better: Tensor, worse: Tensor) -> Float[np.ndarray, " pair"]:
    """1 where the better one scores higher, 1/2 where both score the same."""
    return ((better > worse).double() + 0.5 * (better == worse).double()).numpy()


if __name__ == "__main__":
    main()
