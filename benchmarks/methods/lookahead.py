"""Exact look-ahead on a real catalogue: recall of the reward-tilted best five, and what it costs.

    python benchmarks/methods/lookahead.py --checkpoint runs/demo/fit/mender_emb --json

Rewards are the product of items' popularity and recency (ranks from training) with a random
direction and size per person, as a goal asks for a change. The exact ranking scores every item of
the catalogue. Beside the look-ahead with the population's prior stand a uniform prior and ranking
the plain beam again. Criterion: recall of at least 0.8, 0.98 and 1.0 at beam widths 5, 10 and 20,
and a cost below 5 % of the decode.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

from data_prep.artifact import read_artifact
from data_prep.schema import INTERACTIONS
from recsys.collate import prefix_batch, windows
from recsys.goals import shares_of
from recsys.histories import Histories
from recsys.load import load_recommender
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.decode import BeamSearch
from recsys.retriever.generative import GenerativeRetriever
from recsys.retriever.lookahead import (
    TrieLookahead,
    TriePrior,
    item_log_probabilities,
    population_prior,
)

WIDTHS, LEAST_RECALL, MOST_COST = (5, 10, 20), (0.8, 0.98, 1.0), 0.05
PRIOR_PEOPLE = 64
STRENGTHS = (1.0, 5.0, 20.0)
SEEDS = (0, 1, 2)


def main() -> None:
    """Measure, print a table and, if asked, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--people", type=int, default=128)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        found = measured(arguments.checkpoint, arguments.people)
    print(f"{'strength':>8} {'width':>5} {'population prior':>17} {'uniform':>8} {'again':>6}")
    for row in found["recall"]:
        print(
            f"{row['strength']:8g} {row['width']:5d} {row['population']:9.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}] {row['uniform']:8.3f} {row['again']:6.3f}"
        )
    print(f"cost: {found['cost']:.1%} of a decode of width 20 (median of {found['timings']})")
    if arguments.json:
        print(json.dumps(found))


def measured(checkpoint: Path, people: int) -> dict:
    """All numbers."""
    loaded = load_recommender(checkpoint)
    model = loaded.recommender
    if not isinstance(model, GenerativeRetriever | CausalRetriever) or model.trie is None:
        raise SystemExit(f"{checkpoint} does not generate semantic IDs.")
    interactions = read_artifact(loaded.paths["tables"], kind="reviews").table(INTERACTIONS)
    histories = Histories.from_interactions(interactions)
    rows = histories.prefixes(("test",), maximum_history=loaded.maximum_history)
    chosen = np.random.default_rng(0).permutation(len(rows))[: people + PRIOR_PEOPLE]
    past = windows(histories.item_ids, rows.starts[chosen], rows.lengths[chosen])
    batch = prefix_batch(np.arange(len(chosen)), past, np.zeros(len(chosen), np.int64))
    others, asked = batch.rows(slice(PRIOR_PEOPLE)), batch.rows(slice(PRIOR_PEOPLE, None))
    decoder, trie = model.code_decoder(), model.trie
    log_p = item_log_probabilities(decoder, asked, trie)
    features = item_features(interactions, trie.item_count)
    priors = {
        "population": TriePrior(trie, population_prior(decoder, others, trie)),
        "uniform": TriePrior(trie),
    }
    recalls = []
    for strength in STRENGTHS:
        for width, least in zip(WIDTHS, LEAST_RECALL, strict=True):
            found: dict[str, list[float]] = {"population": [], "uniform": [], "again": []}
            for seed in SEEDS:
                change = torch.randn(len(asked), 2, generator=torch.Generator().manual_seed(seed))
                rewards = change @ features.T
                best = (log_p + strength * rewards).topk(5).indices
                search = BeamSearch(width, "renormalized")
                for name, prior in priors.items():
                    ahead = TrieLookahead(
                        prior, rewards, strength=strength, best=name == "population"
                    )
                    items = search(decoder, asked, trie, count=5, lookahead=ahead).item_ids
                    found[name] += recall(items, best)
                plain = search(decoder, asked, trie, count=width)
                again = plain.scores + strength * rewards.gather(1, plain.item_ids)
                found["again"] += recall(plain.item_ids.gather(1, again.topk(5).indices), best)
            values = np.array(found["population"])
            drawn = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
            low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
            recalls.append(
                {"strength": strength, "width": width, "least": least, "low": low, "high": high}
                | {name: float(np.mean(numbers)) for name, numbers in found.items()}
            )
    cost, timings = relative_cost(decoder, asked.rows(slice(64)), trie, priors, features)
    return {
        "benchmark": "lookahead",
        "checkpoint": str(checkpoint),
        "items": trie.item_count,
        "people": len(asked),
        "seeds": SEEDS,
        "recall": recalls,
        "cost": cost,
        "timings": timings,
        "criterion": "recall 0.8, 0.98, 1.0 at widths 5, 10, 20; cost below 5 % of the decode",
        "shown": all(row["population"] >= row["least"] for row in recalls) and cost < MOST_COST,
    }


def item_features(interactions: pl.DataFrame, count: int) -> torch.Tensor:
    """Popularity and recency of every item, as ranks."""
    train = interactions.filter(pl.col("split") == "train")
    every = torch.ones(count, dtype=torch.bool)
    met = np.bincount(train["item_id"].to_numpy(), minlength=count).astype(np.float32)
    first = np.zeros(count, np.float32)
    began = train.group_by("item_id").agg(pl.col("timestamp_s").fill_null(0).min())
    days = began["timestamp_s"].to_numpy() / 86_400
    first[began["item_id"].to_numpy()] = days - days.min()
    columns = (torch.from_numpy(met), torch.from_numpy(first))
    return torch.stack([shares_of(column, every) for column in columns], 1)


def recall(found: torch.Tensor, best: torch.Tensor) -> list[float]:
    """Share of the best that was found, row by row."""
    return (best.unsqueeze(2) == found.unsqueeze(1)).any(2).float().mean(1).tolist()


def relative_cost(decoder, batch, trie, priors, features) -> tuple[float, int]:  # noqa: ANN001
    """What the look-ahead adds to a decode, as a share of it: medians of pairs in turn."""
    search, count = BeamSearch(20, "renormalized"), 15
    change = torch.randn(len(batch), 2, generator=torch.Generator().manual_seed(0))

    def plain() -> None:
        search(decoder, batch, trie, count=10)

    def looking() -> None:
        ahead = TrieLookahead(priors["population"], change @ features.T, strength=5.0)
        search(decoder, batch, trie, count=10, lookahead=ahead)

    plain()
    looking()
    pairs = [(seconds(plain), seconds(looking)) for _ in range(count)]
    return float(np.median([after / before for before, after in pairs]) - 1), count


def seconds(call: Callable[[], None]) -> float:
    """Processor time of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


if __name__ == "__main__":
    main()
