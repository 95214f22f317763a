"""Recommenders that misbehave on purpose, chosen by class_path in tests of the doors."""

import time

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.recommender import Filters, Recommendations, Recommender
from recsys.top_items import top_items


class Stub(Recommender):
    """Learns one score per item with dropout; may be slow, or diverge at a step."""

    def __init__(self, catalogue: Catalogue, *, seconds: float = 0.0, diverge_at: int = -1) -> None:
        super().__init__()
        self.scores = nn.Embedding(catalogue.item_count, 4)
        self.dropout = nn.Dropout(0.5)
        self.seconds = seconds
        self.diverge_at = diverge_at
        self.steps = 0

    def loss(self, batch: HistoryBatch) -> Float[Tensor, ""]:
        if self.training:
            time.sleep(self.seconds)
            self.steps += 1
        last = self.scores(batch.history_item_ids) * batch.history_mask.unsqueeze(-1)
        logits = self.dropout(last.mean(dim=1)) @ self.scores.weight.T
        loss = nn.functional.cross_entropy(logits, batch.target_item_ids[:, 0])
        return loss * torch.nan if self.steps == self.diverge_at else loss

    def recommend(
        self, batch: HistoryBatch, *, count: int, filters: Filters | None = None
    ) -> Recommendations:
        last = self.scores(batch.history_item_ids) * batch.history_mask.unsqueeze(-1)
        scores = last.mean(dim=1) @ self.scores.weight.T
        return top_items(scores, batch, count=count, filters=filters)
