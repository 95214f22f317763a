"""Beam search over the trie of semantic IDs: constant shapes, no host sync, real items only."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from recsys.batch import HistoryBatch
from recsys.recommender import Filters, Recommendations
from recsys.retriever.trie_filter import TrieFilter
from recsys.semantic_id.trie import SemanticIdTrie

State = TypeVar("State")
Scoring = Literal["raw", "renormalized"]


@runtime_checkable
class CodeDecoder(Protocol[State]):
    """What a beam search asks of a model: read the batch once, then one level at a time."""

    def prepare(self, batch: HistoryBatch) -> State:
        """Everything that is computed once per row; steps may change it in place."""
        ...

    def step(
        self,
        state: State,
        level: int,
        codes: Int[Tensor, "batch beam"],
        parents: Int[Tensor, "batch beam"],
    ) -> Float[Tensor, "batch beam code"]:
        """Logits of the codes of a level for every beam.

        Args:
            state: From `prepare`, after all lower levels.
            level: The level to predict; 0 has one beam, whose code means nothing.
            codes: Code of the level above that each beam ends in.
            parents: Beam of the previous call that each beam continues.
        """
        ...


@runtime_checkable
class CodePaths(Protocol):
    """What reads whole semantic IDs at once, with a gradient, beside searching for them."""

    def path_logits(
        self, batch: HistoryBatch, codes: Int[Tensor, "batch particle level"]
    ) -> list[Float[Tensor, "batch _ code"]]:
        """Logits of the codes of every level after the codes above it.

        Args:
            batch: The rows; each is read once, however many particles it has.
            codes: Semantic IDs; they need not be distinct.

        Returns:
            One tensor per level; the first may have one row of logits for all particles.
        """
        ...


@runtime_checkable
class LevelBias(Protocol):
    """What is added to the logits of children, level by level; see `TrieLookahead`."""

    @property
    def start(self) -> Float[Tensor, "batch one"]:
        """What every prefix of a row begins with."""
        ...

    def bias(
        self,
        level: int,
        nodes: Int[Tensor, "batch beam"],
        children: Int[Tensor, "batch beam child"],
    ) -> Float[Tensor, "batch beam child"]:
        """What is added to each child of the nodes of a level; finite."""
        ...


@dataclass(frozen=True)
class BeamSearch:
    """How to search.

    A filtered search returns what an unfiltered one would on a catalogue without the filtered
    items: a prefix whose items are all filtered takes no beam. As many items come back as are
    asked for, unless fewer are allowed.

    Attributes:
        width: Prefixes kept at each level, at least; never fewer than items are asked for.
        scoring: `raw` adds up log-probabilities over all codes of a level. `renormalized` adds up
            log-probabilities over the codes that lead to an allowed item, so a prefix with one
            child passes its score on.

    Raises:
        ValueError: If the width is not positive.
    """

    width: int = 20
    scoring: Scoring = "raw"

    def __post_init__(self) -> None:
        """Refuse a width below one."""
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}.")

    def __call__(
        self,
        decoder: CodeDecoder,
        batch: HistoryBatch,
        trie: SemanticIdTrie,
        *,
        count: int,
        filters: Filters | None = None,
        lookahead: LevelBias | None = None,
    ) -> Recommendations:
        """The best items of every row.

        Every level takes the same steps on the same shapes whatever the values: a slot without
        a prefix carries `-inf` and never recovers.

        Args:
            decoder: The model.
            batch: The rows.
            trie: All semantic IDs.
            count: Items to return per row.
            filters: Items that must not be returned.
            lookahead: What is added to log-probabilities on the way. No bias opens what the trie or
                a filter closes.
        """
        beams = max(self.width, count)
        state = decoder.prepare(batch)
        gate = TrieFilter(trie, batch, filters or Filters())
        rows = torch.zeros(len(batch), 1, dtype=torch.long, device=batch.row_ids.device)
        nodes, codes, parents = rows, rows, rows
        scores = rows.float() if lookahead is None else lookahead.start
        for level in range(trie.level_count):
            logits = decoder.step(state, level, codes, parents).float()
            children_logits, children = trie.expand(level, nodes, logits)
            children_logits = gate.close(level, nodes, children_logits, children)
            total = logits if self.scoring == "raw" else children_logits
            normalizer = total.logsumexp(-1).clamp_min(torch.finfo(total.dtype).min)
            candidates = children_logits + (scores - normalizer).unsqueeze(-1)
            if lookahead is not None:
                candidates = candidates + lookahead.bias(level, nodes, children)
            slots = min(beams, candidates.shape[1] * candidates.shape[2])
            scores, picked = candidates.flatten(1).topk(slots)
            parents = picked // children.shape[2]
            nodes = children.flatten(1).gather(1, picked)
            codes = trie.code(level)[nodes].long()
        items = trie.item_of_leaf[nodes].long().masked_fill(scores == -torch.inf, -1)
        missing = max(count - items.shape[1], 0)
        items = pad(items[:, :count], (0, missing), value=-1)
        return Recommendations(items, pad(scores[:, :count], (0, missing), value=-torch.inf))
