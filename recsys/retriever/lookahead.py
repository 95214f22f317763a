"""Exact look-ahead on the trie: what lies under a prefix, as a bias on its last code."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from personalize.steering.lookahead import TreeLookahead
from recsys.batch import HistoryBatch
from recsys.retriever.decode import BeamSearch, CodeDecoder
from recsys.semantic_id.trie import SemanticIdTrie

ROWS_AT_ONCE = 8


class TriePrior:
    """A trie with a prior over its items, added up once for all rewards."""

    def __init__(
        self,
        trie: SemanticIdTrie,
        log_prior: Float[Tensor, "prior item"] | None = None,
        *,
        allowed_items: Bool[Tensor, " item"] | None = None,
    ) -> None:
        """Add up the prior under every prefix.

        Args:
            trie: All semantic IDs.
            log_prior: Logarithm of a distribution of items, for all rows or each; see
                `population_prior`. Uniform by default, which is a poor one.
            allowed_items: Items that may be returned at all; the others are not looked at, so that
                they make no prefix look good.
        """
        self.trie = trie
        order = self.item_of_leaf = trie.item_of_leaf.long()
        prior = torch.zeros(1, len(order), device=order.device) if log_prior is None else log_prior
        if allowed_items is not None:
            prior = prior.masked_fill(~allowed_items, -torch.inf)
        levels = [trie.first_child(level) for level in range(trie.level_count)]
        self.tree = TreeLookahead(levels, prior[:, order])


class TrieLookahead:
    """The tilt of every prefix for every row; a beam then finds the reward-tilted best items.

    A finished item's score is `log p(item) + strength * reward(item)`, whichever way leads to it:
    the prior decides only which prefixes are kept on the way.
    """

    def __init__(
        self,
        prior: TriePrior,
        rewards: Float[Tensor, "batch item"],
        *,
        strength: float,
        best: bool = True,
    ) -> None:
        """Look at what lies under every prefix.

        Args:
            prior: The trie and its prior.
            rewards: One per row and item; higher is better.
            strength: What a reward of 1 is worth, in nats.
            best: Look at the best item, which a search wants, instead of the mean, which sampling
                wants.
        """
        self._tilts = prior.tree.tilts(rewards[:, prior.item_of_leaf], strength=strength, best=best)

    @property
    def start(self) -> Float[Tensor, "batch one"]:
        """The tilt of the root: what every prefix of a row begins with."""
        return self._tilts[0]

    def tilt(self, level: int, nodes: Int[Tensor, "batch node"]) -> Float[Tensor, "batch node"]:
        """The tilt of nodes of a level; level 0 is the root."""
        return self._tilts[level].gather(1, nodes)

    def bias(
        self,
        level: int,
        nodes: Int[Tensor, "batch beam"],
        children: Int[Tensor, "batch beam child"],
    ) -> Float[Tensor, "batch beam child"]:
        """The tilt of each child less its parent's.

        Args:
            level: Level of the nodes.
            nodes: Numbers of nodes at that level.
            children: Numbers of their children at the level below.
        """
        below = self.tilt(level + 1, children.flatten(1)).view(children.shape)
        return below - self.tilt(level, nodes).unsqueeze(-1)


def item_log_probabilities(
    decoder: CodeDecoder, batch: HistoryBatch, trie: SemanticIdTrie
) -> Float[Tensor, "batch item"]:
    """Log-probability of every item of the trie, code by code among codes that lead to an item.

    It takes a beam as wide as the catalogue, a few rows at a time.
    """
    search = BeamSearch(trie.item_count, "renormalized")
    found = []
    for first in range(0, len(batch), ROWS_AT_ONCE):
        rows = batch.rows(slice(first, first + ROWS_AT_ONCE))
        items = search(decoder, rows, trie, count=trie.item_count)
        empty = torch.zeros_like(items.scores)
        found.append(empty.scatter(1, items.item_ids, items.scores))
    return torch.cat(found)


def population_prior(
    decoder: CodeDecoder, batch: HistoryBatch, trie: SemanticIdTrie
) -> Float[Tensor, "1 item"]:
    """Mean log-probability of every item over some people: a prior for a `TriePrior`.

    Args:
        decoder: What will be searched.
        batch: A few dozen rows, none of which need be those searched for.
        trie: All semantic IDs.
    """
    return item_log_probabilities(decoder, batch, trie).mean(0, keepdim=True)
