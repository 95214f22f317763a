"""Where a steered recommender's candidates come from: the trie, or the whole catalogue."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from personalize.steering.chain import Chain
from personalize.steering.guidance import guide
from personalize.steering.particles import steer
from recsys.batch import HistoryBatch
from recsys.opened_chain import OpenedChain
from recsys.recommender import Filters, Recommender
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.decode import BeamSearch, CodeDecoder, Scoring
from recsys.retriever.generative import GenerativeRetriever
from recsys.retriever.guidance import (
    ContrastiveDecoder,
    GuidedDecoder,
    stacked,
    without_preferences,
)
from recsys.retriever.lookahead import TrieLookahead, TriePrior
from recsys.retriever.sampler import PrefixValue, TrieSampler
from recsys.top_items import top_items

CANDIDATES = 50


@dataclass(frozen=True)
class Candidates:
    """Items to choose a list from.

    Attributes:
        items: Distinct in every row; -1 is none.
        scores: The recommender's own, before any tilt, in nats; `-inf` beside -1.
        calls: Rows of predictions that it took per row: a prefix, or the whole catalogue.
    """

    items: Int[Tensor, "batch candidate"]
    scores: Float[Tensor, "batch candidate"]
    calls: int

    def united(self, other: "Candidates") -> "Candidates":
        """All items of both; where both have one, the higher score counts."""
        items = torch.cat([self.items, other.items], 1)
        scores = torch.cat([self.scores, other.scores], 1)
        order = scores.sort(dim=1, descending=True, stable=True).indices
        items, scores = items.gather(1, order), scores.gather(1, order)
        repeated = ((items.unsqueeze(2) == items.unsqueeze(1)).tril(-1)).any(2)
        return Candidates(
            items.masked_fill(repeated, -1),
            scores.masked_fill(repeated, -torch.inf),
            self.calls + other.calls,
        )


class Proposer(ABC):
    """Candidates of a recommender, guided and tilted as a chain says.

    Attributes:
        model: The recommender itself, for edits of its activations.
        stacks: Whether guidance reads a batch with and without preferences at once.
    """

    model: nn.Module
    stacks: bool

    @abstractmethod
    def propose(
        self,
        batch: HistoryBatch,
        rewards: Float[Tensor, "batch item"] | None,
        opened: OpenedChain,
        *,
        filters: Filters,
        seed: int = 0,
    ) -> Candidates:
        """Candidates of every row.

        Args:
            batch: The rows, told what is wanted.
            rewards: What every item is worth; None looks ahead for nothing and draws nothing.
            opened: The chain; its guidance, look-ahead and particles are applied.
            filters: Items that must not be returned.
            seed: Of what is drawn.
        """


class TrieProposer(Proposer):
    """What a beam, or particles, find on the trie of semantic IDs.

    With a look-ahead scores are `renormalized` (see `BeamSearch`), whatever the model's own search
    does: a prior of items says what lies under a prefix only where no probability goes to codes
    without an item.
    """

    def __init__(
        self,
        model: GenerativeRetriever | CausalRetriever,
        prior: TriePrior,
        *,
        width: int,
        scoring: Scoring = "raw",
    ) -> None:
        """Search.

        Args:
            model: What is searched; of a `CausalRetriever` its codes alone.
            prior: The trie with the prior of the look-ahead.
            width: Prefixes kept at each level, and candidates.
            scoring: Of a search without look-ahead.
        """
        self.model, self.stacks = model, True
        self.decoder: CodeDecoder = model.code_decoder()
        self.trie, self._prior = prior.trie, prior
        self._search = BeamSearch(width, scoring)

    def propose(
        self,
        batch: HistoryBatch,
        rewards: Float[Tensor, "batch item"] | None,
        opened: OpenedChain,
        *,
        filters: Filters,
        seed: int = 0,
    ) -> Candidates:
        """Found by a beam, or drawn where the chain has particles."""
        chain, decoder = opened.chain, self.decoder
        weight, strength = chain.guidance.weight, chain.lookahead.strength
        if weight != 1.0 and opened.negative is not None:
            decoder = ContrastiveDecoder(decoder, opened.negative, weight)
        elif weight != 1.0:
            decoder = GuidedDecoder(decoder, weight)
        passes = 1 if weight == 1.0 else 2
        trie = self.trie
        if rewards is not None and chain.particles is not None:
            return self._drawn(decoder, batch, rewards, chain, filters=filters, seed=seed)
        search, ahead, worth = self._search, None, 0.0
        if rewards is not None and strength:
            search = replace(search, scoring="renormalized")
            ahead = TrieLookahead(self._prior, rewards, strength=strength)
        count = search.width
        found = search(decoder, batch, trie, count=count, filters=filters, lookahead=ahead)
        if rewards is not None and strength:
            worth = strength * rewards.gather(1, found.item_ids.clamp_min(0))
        calls = passes * (1 + count * (trie.level_count - 1))
        return Candidates(found.item_ids, found.scores - worth, calls)

    def _drawn(
        self,
        decoder: CodeDecoder,
        batch: HistoryBatch,
        rewards: Float[Tensor, "batch item"],
        chain: Chain,
        *,
        filters: Filters,
        seed: int,
    ) -> Candidates:
        """The distinct items that particles drew, of children that a look-ahead tilts."""
        settings, trie = chain.particles, self.trie
        if settings is None:
            raise ValueError("the chain has no particles.")
        strength = settings.strength or 1.0  # at 0 no value weighs anything
        ahead = TrieLookahead(self._prior, rewards, strength=strength, best=False)
        value = PrefixValue(ahead, strength=strength)
        tilt = None
        if chain.lookahead.strength:
            tilt = TrieLookahead(
                self._prior, rewards, strength=chain.lookahead.strength, best=False
            )
        sampler = TrieSampler(decoder, trie, filters=filters, lookahead=tilt)
        drawn = steer(sampler, batch, batch, value, settings, seed=seed)
        items = trie.item_of_leaf[drawn.x.nodes].long()
        repeated = (items.unsqueeze(2) == items.unsqueeze(1)).tril(-1).any(2)
        scores = drawn.x.log_probability.masked_fill(repeated, -torch.inf)
        calls = drawn.calls * (1 if chain.guidance.weight == 1.0 else 2)
        return Candidates(items.masked_fill(repeated, -1), scores, calls)


@dataclass(frozen=True)
class CatalogueProposer(Proposer):
    """The best of a score for every item: what a look-ahead finds on a trie, here by addition.

    Guidance is on the scores, away from the same scores without preferences. Nothing is drawn, and
    a negative recommender has no part in it.

    Attributes:
        model: See the class it implements.
        score: Score of every item for every row, in nats.
        width: Candidates of every row.
        stacks: See the class it implements.
    """

    model: nn.Module
    score: Callable[[HistoryBatch], Float[Tensor, "batch item"]]
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
        """The best of the scores of all items, tilted by the look-ahead's strength."""
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
        """Guided scores of all items."""
        weight = opened.chain.guidance.weight
        if weight == 1:
            return self.score(batch)
        without = without_preferences(batch)
        scores, plain = self.score(stacked(batch, without)).chunk(2)
        return guide(plain, (scores, weight))


def proposer(
    recommender: Recommender, *, width: int | None = None, prior: TriePrior | None = None
) -> Proposer:
    """Where a recommender's candidates come from.

    Args:
        recommender: One that generates semantic IDs, or a `CausalRetriever`; the latter proposes
            from the whole catalogue unless its ranking has a search; then its codes alone propose.
        width: Candidates of every row; as wide as the recommender's own search by default, or
            50 of the whole catalogue.
        prior: The look-ahead's; uniform by default.

    Raises:
        TypeError: If the recommender is of another kind.
    """
    if isinstance(recommender, GenerativeRetriever):
        search = recommender.search
        width = min(width or search.width, recommender.trie.item_count)
        prior = prior or TriePrior(recommender.trie)
        return TrieProposer(recommender, prior, width=width, scoring=search.scoring)
    if not isinstance(recommender, CausalRetriever):
        raise TypeError(
            f"{type(recommender).__name__} cannot be steered; take a retriever that generates "
            "semantic IDs, or a causal one."
        )
    search = recommender.ranking.search
    width = width or (CANDIDATES if search is None else search.width)
    width = min(width, len(recommender.item_bias))
    if search is None or recommender.trie is None:
        return CatalogueProposer(recommender, recommender.item_scores, width)
    prior = prior or TriePrior(recommender.trie)
    return TrieProposer(recommender, prior, width=width, scoring=search.scoring)
