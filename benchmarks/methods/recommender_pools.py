"""Contexts and candidates of a trained recommender: what the benchmarks of conditions start from.

A context is what the recommender makes of a history; the candidates are the whole catalogue. Their
rewards are four: the recommender's own score, popularity (logarithm of training interactions),
recency (mean day of them) and the match of the item's text with those of the last ten items met.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

from data_prep.artifact import read_artifact
from data_prep.schema import INTERACTIONS
from recsys.batch import HistoryBatch
from recsys.data import InteractionDataModule
from recsys.load import LoadedRecommender, load_recommender
from recsys.recommender import ReadsHistoriesApart

REWARDS = ("score", "popularity", "recency", "match")
RECENT = 10


@dataclass(frozen=True)
class RecommenderPools:
    """Rows of one split.

    Attributes:
        contexts: Encodings of the histories, each number standardised over validation rows.
        rewards: Of every item, each standardised over the catalogue.
        scores: The recommender's score of every item, as it is.
        targets: The next item.
    """

    contexts: Tensor
    rewards: Tensor
    scores: Tensor
    targets: Tensor


def recommender_pools(checkpoint: Path) -> dict[str, RecommenderPools]:
    """Pools of the validation and test rows of what a recommender was trained on."""
    loaded = load_recommender(checkpoint)
    data = InteractionDataModule(
        loaded.paths["tables"], loaded.paths.get("vectors"), loaded.paths.get("semantic_ids"),
        maximum_history=loaded.maximum_history,
    )  # fmt: skip
    popularity, recency = item_statistics(loaded.paths["tables"], loaded.catalogue.item_count)
    validation = _rows(loaded, list(data.val_dataloader()), popularity, recency)
    test = _rows(loaded, list(data.test_dataloader()), popularity, recency)
    mean, deviation = validation.contexts.mean(0), validation.contexts.std(0).clamp_min(1e-6)
    return {
        name: RecommenderPools(
            (rows.contexts - mean) / deviation, rows.rewards, rows.scores, rows.targets
        )
        for name, rows in (("validation", validation), ("test", test))
    }


def item_statistics(tables: Path, item_count: int) -> tuple[Tensor, Tensor]:
    """Logarithm of one more than the training interactions of every item, and their mean day."""
    met = (
        read_artifact(tables, kind="reviews").table(INTERACTIONS).filter(pl.col("split") == "train")
    )
    items = met["item_id"].to_numpy()
    counts = np.bincount(items, minlength=item_count)
    days = np.bincount(items, met["timestamp_s"].to_numpy() / 86_400, minlength=item_count)
    middle = float(met["timestamp_s"].to_numpy().mean() / 86_400)
    days = np.where(counts > 0, days / np.maximum(counts, 1), middle)
    return torch.tensor(np.log1p(counts)).float(), torch.tensor(days - middle).float()


@torch.no_grad()
def _rows(
    loaded: LoadedRecommender, batches: list[HistoryBatch], popularity: Tensor, recency: Tensor
) -> RecommenderPools:
    recommender, catalogue = loaded.recommender, loaded.catalogue
    if not isinstance(recommender, ReadsHistoriesApart):
        raise TypeError(f"{type(recommender).__name__} does not read histories apart.")
    texts = functional.normalize(catalogue.text_vectors.float(), dim=1)[catalogue.item_text_ids]
    texts = texts * catalogue.item_text_mask[:, None]
    contexts, rewards, scores, targets = [], [], [], []
    for batch in batches:
        found = recommender.recommend(batch, count=catalogue.item_count)
        score = torch.zeros(len(batch), catalogue.item_count)
        score.scatter_(1, found.item_ids, found.scores)
        kept = batch.history_mask & (
            batch.history_mask.sum(1, keepdim=True) - torch.arange(batch.history_mask.shape[1])
            <= RECENT
        )
        match = (texts[batch.history_item_ids] * kept[..., None]).sum(1) @ texts.T
        shared = torch.stack([popularity, recency]).expand(len(batch), 2, -1)
        rewards.append(torch.stack([score, shared[:, 0], shared[:, 1], match], -1))
        contexts.append(recommender.read_histories(batch))
        scores.append(score)
        targets.append(batch.target_item_ids[:, 0])
    both = torch.cat(rewards)
    both = (both - both.mean(1, keepdim=True)) / both.std(1, keepdim=True).clamp_min(1e-6)
    return RecommenderPools(torch.cat(contexts), both, torch.cat(scores), torch.cat(targets))
