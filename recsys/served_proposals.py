"""Where candidates for steered answers come from, in the modes that vectors take part in."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from personalize.steering.chain import Chain
from personalize.steering.guidance import guide
from recsys.batch import HistoryBatch
from recsys.dense import DenseRetriever
from recsys.proposals import Candidates, Proposer
from recsys.recommender import Filters
from recsys.retriever.guidance import without_preferences
from recsys.top_items import top_items


@dataclass(frozen=True)
class DenseProposer(Proposer):
    """The best of tilted dense scores of all items; guidance is on the scores.

    Attributes:
        space: What gives queries.
        keys: What every item is found by.
        width: Candidates of every row.
    """

    space: DenseRetriever
    keys: Float[Tensor, "item key"]
    width: int

    def propose(
        self,
        batch: HistoryBatch,
        rewards: Float[Tensor, "batch item"] | None,
        chain: Chain,
        *,
        filters: Filters,
        seed: int = 0,
    ) -> Candidates:
        """Nothing is drawn: the look-ahead's strength tilts the scores of all items."""
        scores = self.scores(batch, chain.guidance.weight)
        tilted = scores if rewards is None else scores + chain.lookahead.strength * rewards
        items = top_items(tilted, batch, count=self.width, filters=filters).item_ids
        own = scores.gather(1, items.clamp_min(0)).masked_fill(items < 0, -torch.inf)
        return Candidates(items, own, 1 if chain.guidance.weight == 1 else 2)

    def scores(self, batch: HistoryBatch, weight: float) -> Float[Tensor, "batch item"]:
        """Guided dense scores of all items."""
        scores = self._plain(batch)
        if weight == 1:
            return scores
        return guide(self._plain(without_preferences(batch)), (scores, weight))

    def _plain(self, batch: HistoryBatch) -> Float[Tensor, "batch item"]:
        return self.space.dense_queries(batch).float() @ self.keys.T


@dataclass(frozen=True)
class HybridProposer(Proposer):
    """What is generated, steered, and the best of the items added since training, by vectors.

    Attributes:
        generated: Finds items by their codes.
        dense: Finds added items, and scores all candidates.
        added: Which items came after training.
    """

    generated: Proposer
    dense: DenseProposer
    added: Bool[Tensor, " item"]

    def propose(
        self,
        batch: HistoryBatch,
        rewards: Float[Tensor, "batch item"] | None,
        chain: Chain,
        *,
        filters: Filters,
        seed: int = 0,
    ) -> Candidates:
        """Candidates with dense scores, best first."""
        found = self.generated.propose(batch, rewards, chain, filters=filters, seed=seed)
        scores = self.dense.scores(batch, chain.guidance.weight)
        own = scores.gather(1, found.items.clamp_min(0)).masked_fill(found.items < 0, -torch.inf)
        known = filters.allowed_items
        only = self.added if known is None else self.added & known
        cold = self.dense.propose(
            batch, rewards, chain, filters=replace(filters, allowed_items=only), seed=seed
        )
        return Candidates(found.items, own, found.calls).united(cold)
