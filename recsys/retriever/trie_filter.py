"""Which prefixes of a trie still lead to an item that may be returned."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recsys.batch import HistoryBatch
from recsys.recommender import Filters
from recsys.semantic_id.trie import SemanticIdTrie


class TrieFilter:
    """Closes the branches under which no item may be returned, row by row.

    An allow list is a count of allowed items per node, shared by all rows. A row's own history
    is short, so it is followed upwards instead: a node on the path to a seen item is closed where
    the row has seen every allowed item under it.
    """

    def __init__(self, trie: SemanticIdTrie, batch: HistoryBatch, filters: Filters) -> None:
        self._trie = trie
        self._allowed_below: list[Int[Tensor, " node"]] | None = None
        self._seen_nodes: list[Int[Tensor, "batch step"]] | None = None
        if filters.allowed_items is not None:
            self._allowed_below = trie.allowed_below(filters.allowed_items)
        if filters.exclude_history:
            items, mask = batch.history_item_ids, batch.history_mask
            if filters.allowed_items is not None:
                mask = mask & filters.allowed_items[items]
            self._seen = mask & ~_repeats(items, mask)
            self._seen_nodes = trie.ancestors(items)

    def close(
        self,
        level: int,
        nodes: Int[Tensor, "batch beam"],
        logits: Float[Tensor, "batch beam child"],
        children: Int[Tensor, "batch beam child"],
    ) -> Float[Tensor, "batch beam child"]:
        """The logits of children with `-inf` where nothing under a child may be returned."""
        if self._allowed_below is not None:
            logits = logits.masked_fill(self._allowed_below[level][children] == 0, -torch.inf)
        if self._seen_nodes is None:
            return logits
        seen_nodes = self._seen_nodes[level]
        exhausted = self._exhausted(level, seen_nodes)
        first_child = self._trie.first_child(level)
        parents = torch.searchsorted(first_child, seen_nodes, right=True) - 1
        closes = exhausted.unsqueeze(1) & (parents.unsqueeze(1) == nodes.unsqueeze(2))
        place = self._trie.place_of_child(level, seen_nodes, parents)
        place = place.unsqueeze(1).expand(closes.shape)
        ceiling = torch.where(closes, -torch.inf, torch.inf)
        ceiling = torch.full_like(logits, torch.inf).scatter_reduce(2, place, ceiling, "amin")
        return torch.minimum(logits, ceiling)

    def _exhausted(
        self, level: int, seen_nodes: Int[Tensor, "batch step"]
    ) -> Bool[Tensor, "batch step"]:
        """Whether the row has seen every allowed item under each of these nodes."""
        if self._allowed_below is None:
            below = self._trie.leaves_below(level + 1, seen_nodes)
        else:
            below = self._allowed_below[level][seen_nodes]
        same = seen_nodes.unsqueeze(2) == seen_nodes.unsqueeze(1)
        return (same & self._seen.unsqueeze(1)).sum(2) == below


def _repeats(
    items: Int[Tensor, "batch step"], mask: Bool[Tensor, "batch step"]
) -> Bool[Tensor, "batch step"]:
    """Steps whose item was met at an earlier real step of the row."""
    same = (items.unsqueeze(2) == items.unsqueeze(1)) & mask.unsqueeze(1)
    return same.tril(-1).any(2)
