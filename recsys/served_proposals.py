"""Where candidates for steered answers come from, in the modes that vectors take part in."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from personalize.steering.guidance import guide
from recsys.batch import HistoryBatch
from recsys.dense import DenseRetriever
from recsys.opened_chain import OpenedChain
from recsys.proposals import Candidates, Proposer
from recsys.recommender import Filters
from recsys.retriever.guidance import stacked, without_preferences
from recsys.top_items import top_items


@dataclass(frozen=True)
class DenseProposer(Proposer):
    """The best of tilted dense scores of all items.

    Guidance is on the scores, away from the same recommender without preferences.

    Attributes:
        model: See the class it implements.
        space: What gives queries.
        keys: What every item is found by.
        width: Candidates of every row.
        stacks: See the class it implements.
    """

    model: nn.Module
    space: DenseRetriever
    keys: Float[Tensor, "item key"]
    width: int
    stacks: bool = True

    def propose(
        self,
        batch: HistoryBatch,
        rewards: Float[Tensor, "batch item"] | None,
        opened: OpenedChain,
        *,
        filters: Filters,
        seed: int = 0,
    ) -> Candidates:
        """Nothing is drawn: the look-ahead's strength tilts the scores of all items."""
        chain = opened.chain
        scores = self.scores(batch, opened)
        tilted = scores if rewards is None else scores + chain.lookahead.strength * rewards
        items = top_items(tilted, batch, count=self.width, filters=filters).item_ids
        return self.scored(items, scores, 1 if chain.guidance.weight == 1 else 2)

    def scored(
        self, items: Int[Tensor, "batch rank"], scores: Float[Tensor, "batch item"], calls: int
    ) -> Candidates:
        """Items with their scores."""
        own = scores.gather(1, items.clamp_min(0)).masked_fill(items < 0, -torch.inf)
        return Candidates(items, own, calls)

    def scores(self, batch: HistoryBatch, opened: OpenedChain) -> Float[Tensor, "batch item"]:
        """Guided dense scores of all items."""
        weight = opened.chain.guidance.weight
        if weight == 1:
            return self._plain(batch)
        without = without_preferences(batch)
        if opened.negative is None:  # edits are then made for both at once
            scores, plain = self._plain(stacked(batch, without)).chunk(2)
        else:
            scores, plain = self._plain(batch), self._plain(without)
        return guide(plain, (scores, weight))

    def _plain(self, batch: HistoryBatch) -> Float[Tensor, "batch item"]:
        return self.space.dense_queries(batch).float() @ self.keys.T


@dataclass(frozen=True)
class HybridProposer(Proposer):
    """What is generated, steered, and the best of the items added since training, by vectors.

    Attributes:
        generated: Finds items by their codes.
        dense: Finds added items, and scores all candidates.
        added: Which items came after training.
        model: See the class it implements.
        stacks: Likewise.
    """

    generated: Proposer
    dense: DenseProposer
    added: Bool[Tensor, " item"]
    model: nn.Module
    stacks: bool = True

    def propose(
        self,
        batch: HistoryBatch,
        rewards: Float[Tensor, "batch item"] | None,
        opened: OpenedChain,
        *,
        filters: Filters,
        seed: int = 0,
    ) -> Candidates:
        """Candidates with dense scores, best first."""
        found = self.generated.propose(batch, rewards, opened, filters=filters, seed=seed)
        own = self.dense.scored(found.items, self.dense.scores(batch, opened), found.calls)
        known = filters.allowed_items
        only = self.added if known is None else self.added & known
        cold = self.dense.propose(
            batch, rewards, opened, filters=replace(filters, allowed_items=only), seed=seed
        )
        return own.united(cold)
