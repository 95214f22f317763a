"""How candidates are found and scored: by vectors, by semantic IDs, or both."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.api.retriever import IdFilter, Retriever
from recsys.batch import HistoryBatch
from recsys.dense import DenseRetriever
from recsys.retriever.code_scores import code_scores
from recsys.retriever.decode import BeamSearch, CodeDecoder
from recsys.semantic_id.trie import SemanticIdTrie
from recsys.served_items import Allowed

_GATHERING_COSTS = 32  # keys that are multiplied in the time one is gathered
_MOST_CELLS = 1 << 18  # candidates scored at once, over all rows


@runtime_checkable
class GeneratesCodes(Protocol):
    """A recommender that generates semantic IDs."""

    trie: SemanticIdTrie | None
    item_codes: Int[Tensor, "item level"]

    def code_decoder(self) -> CodeDecoder:
        """What a search over the trie asks."""
        ...


class Search(ABC):
    """Finds candidates for rows and scores any items for them.

    Attributes:
        leaves_out_seen: Whether `candidates` itself leaves out items of the histories it reads.

    Laws, held by `tests/recsys/test_served_search.py`: candidates are distinct and allowed; rows
    do not influence each other; a score does not depend on which other items are scored.
    """

    leaves_out_seen: ClassVar[bool] = False

    @abstractmethod
    def candidates(
        self, batch: HistoryBatch, *, count: int, allowed: Allowed, without_seen: bool
    ) -> Int[np.ndarray, "batch rank"]:
        """At most `count` items for every row, best first; -1 where there are no more.

        Args:
            batch: The rows.
            count: Most items.
            allowed: Which items may be found.
            without_seen: Whether the search may leave out items of the rows' histories; who asks
                takes out those that come back all the same.
        """

    @abstractmethod
    def scores(
        self, batch: HistoryBatch, item_ids: Int[Tensor, "batch candidate"]
    ) -> Float[Tensor, "batch candidate"]:
        """The score of items for every row; higher is better."""


@dataclass(frozen=True)
class DenseSearch(Search):
    """The nearest vectors; the score of an item is the product of its key with the query.

    Attributes:
        space: What gives queries.
        keys: What every item is found by.
        retriever: Finds the nearest.
    """

    space: DenseRetriever
    keys: Float[Tensor, "item key"]
    retriever: Retriever

    def candidates(
        self, batch: HistoryBatch, *, count: int, allowed: Allowed, without_seen: bool
    ) -> Int[np.ndarray, "batch rank"]:
        """The items whose keys are nearest to the query."""
        return self.nearest(batch, count=count, only=allowed.ids)

    def nearest(
        self, batch: HistoryBatch, *, count: int, only: IdFilter
    ) -> Int[np.ndarray, "batch rank"]:
        """The same among the ids of a filter."""
        queries = self.space.dense_queries(batch).float().cpu().numpy()
        found = self.retriever.search(queries, count=count, only=only).ids
        return np.where(found < len(self.keys), found, -1)  # a shared store may hold others too

    def scores(
        self, batch: HistoryBatch, item_ids: Int[Tensor, "batch candidate"]
    ) -> Float[Tensor, "batch candidate"]:
        """Dense logits."""
        queries = self.space.dense_queries(batch).float()
        if len(self.keys) <= _GATHERING_COSTS * item_ids.shape[1]:
            return (queries @ self.keys.T).gather(1, item_ids)
        return torch.einsum("bk,bck->bc", queries, self.keys[item_ids])


@dataclass(frozen=True)
class GenerativeSearch(Search):
    """Semantic IDs by beam search; the score of an item is the log-probability of its codes.

    Attributes:
        recommender: What generates.
        trie: All semantic IDs.
    """

    leaves_out_seen: ClassVar[bool] = True
    recommender: GeneratesCodes
    trie: SemanticIdTrie

    def candidates(
        self, batch: HistoryBatch, *, count: int, allowed: Allowed, without_seen: bool
    ) -> Int[np.ndarray, "batch rank"]:
        """What a beam of the width `count` finds."""
        found = BeamSearch(width=count)(
            self.recommender.code_decoder(),
            batch,
            self.trie,
            count=count,
            filters=allowed.filters(exclude_history=without_seen),
        )
        return found.item_ids.cpu().numpy()

    def scores(
        self, batch: HistoryBatch, item_ids: Int[Tensor, "batch candidate"]
    ) -> Float[Tensor, "batch candidate"]:
        """Sums of log-probabilities over all codes of each level, which no filter changes."""
        codes = self.recommender.item_codes[item_ids]
        return code_scores(self.recommender.code_decoder(), batch, codes)


@dataclass(frozen=True)
class HybridSearch(Search):
    """Generated candidates and the nearest of the items that came after training, by vectors.

    The score is that of the dense search. Codes and co-occurrence take no part in it: nobody has
    met an item that came after training, so both would keep it from ever being found.

    Attributes:
        generative: Finds items by their codes.
        dense: Finds added items, and scores all candidates.
        added: Items that came after training.

    Source:
        LIGER (Yang et al., 2024, arXiv:2411.18814), which joins cold items to what a beam finds
        and ranks both by vectors.
    """

    leaves_out_seen: ClassVar[bool] = True
    generative: GenerativeSearch
    dense: DenseSearch
    added: Int[np.ndarray, " item_id"]

    def candidates(
        self, batch: HistoryBatch, *, count: int, allowed: Allowed, without_seen: bool
    ) -> Int[np.ndarray, "batch rank"]:
        """What the beam finds, then added items it missed; at most twice `count`."""
        found = self.generative.candidates(
            batch, count=count, allowed=allowed, without_seen=without_seen
        )
        only = allowed.among(self.added)
        if only.only is None or not len(only.only):
            return found
        cold = self.dense.nearest(batch, count=min(count, len(only.only)), only=only)
        known = (cold[:, :, None] == found[:, None, :]).any(axis=2)
        return np.concatenate([found, np.where(known, -1, cold)], axis=1)

    def scores(
        self, batch: HistoryBatch, item_ids: Int[Tensor, "batch candidate"]
    ) -> Float[Tensor, "batch candidate"]:
        """Products with the query; see `DenseSearch`."""
        return self.dense.scores(batch, item_ids)


def scored(
    search: Search, batch: HistoryBatch, item_ids: Int[np.ndarray, "batch candidate"]
) -> Float[np.ndarray, "batch candidate"]:
    """Scores in portions that fit into memory; `-inf` beside -1."""
    rows = max(1, _MOST_CELLS // max(1, item_ids.shape[1]))
    parts = []
    for start in range(0, len(item_ids), rows):
        part = slice(start, start + rows)
        wanted = torch.from_numpy(item_ids[part]).to(batch.row_ids.device)
        found = search.scores(batch.rows(part), wanted.clamp_min(0)).float()
        parts.append(found.masked_fill(wanted < 0, -torch.inf).cpu().numpy())
    return np.concatenate(parts)
