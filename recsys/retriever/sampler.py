"""The recommender as a sampler: one code of a semantic ID per step, always on the trie."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.generator import Predict, Sampler, Value
from recsys.batch import HistoryBatch
from recsys.recommender import Filters
from recsys.retriever.decode import CodeDecoder, LevelBias, Scoring
from recsys.retriever.lookahead import TrieLookahead
from recsys.retriever.trie_filter import TrieFilter
from recsys.semantic_id.trie import SemanticIdTrie


@dataclass(frozen=True)
class Prefixes:
    """Prefixes of semantic IDs, or whole ones.

    Attributes:
        level: Number of codes.
        nodes: Nodes of the trie at that level; at the last level the leaves.
        log_probability: Of each under the decoder alone, without a look-ahead.
    """

    level: int
    nodes: Int[Tensor, "batch particle"]
    log_probability: Float[Tensor, "batch particle"]


@dataclass(frozen=True)
class DrawnPrefixes:
    """The state of `TrieSampler`.

    Attributes:
        memory: The decoder's own state, which its steps change in place.
        gate: What may not be returned.
        nodes: Node every particle is at.
        codes: The code it was reached by.
        parents: Beam of the decoder's last call that every particle continues.
        log_probability: See `Prefixes`.
        log_weight: See `personalize.generator.Particles`.
        seed: Of what is drawn.
        condition: What the decoder read.
    """

    memory: Any
    gate: TrieFilter
    nodes: Int[Tensor, "batch particle"]
    codes: Int[Tensor, "batch particle"]
    parents: Int[Tensor, "batch particle"]
    log_probability: Float[Tensor, "batch particle"]
    log_weight: Float[Tensor, "batch particle"]
    seed: int
    condition: HistoryBatch


class TrieSampler(Sampler[HistoryBatch, HistoryBatch, DrawnPrefixes, Prefixes]):
    """Draws items code by code from what a decoder says of the children of a prefix.

    With a look-ahead it draws from the tilted children; the weight is what their tilted
    probabilities add up to. Where the look-ahead's prior is the decoder's own distribution the
    weights are all alike, and the draw is exact.

    Attributes:
        steps: One per level.
        stochastic: True.
    """

    def __init__(
        self,
        decoder: CodeDecoder,
        trie: SemanticIdTrie,
        *,
        filters: Filters | None = None,
        lookahead: LevelBias | None = None,
        scoring: Scoring = "renormalized",
    ) -> None:
        """Take a decoder, which may be a guided one.

        Args:
            decoder: What is asked.
            trie: All semantic IDs.
            filters: Items that must not be drawn.
            lookahead: What is added to the logits of children.
            scoring: As in `BeamSearch`: `renormalized` draws from the decoder's distribution on
                the children, `raw` lets codes without a child count as weight that is lost.
        """
        self.steps, self.stochastic = trie.level_count, True
        self._decoder, self._trie, self._lookahead = decoder, trie, lookahead
        self._filters, self._scoring = filters or Filters(), scoring

    def init(
        self, context: HistoryBatch, condition: HistoryBatch, count: int, *, seed: int
    ) -> DrawnPrefixes:
        """So many particles per row, at the root.

        Args:
            context: Rows whose history filters look at.
            condition: The same rows as the decoder reads them, with what is preferred.
            count: Particles per row.
            seed: Of all draws; every row takes the same random numbers.
        """
        rows = torch.zeros(len(context), count, dtype=torch.long, device=context.row_ids.device)
        gate = TrieFilter(self._trie, context, self._filters)
        memory = self._decoder.prepare(condition)
        none = rows.float()
        return DrawnPrefixes(memory, gate, rows, rows, rows, none, none, seed, condition)

    def predict(
        self, state: DrawnPrefixes, number: int, condition: HistoryBatch
    ) -> Float[Tensor, "batch particle code"]:
        """The decoder's logits of a level, which it may be asked for once."""
        if number:
            return self._decoder.step(state.memory, number, state.codes, state.parents)
        one = state.codes[:, :1]
        return self._decoder.step(state.memory, 0, one, one).expand(-1, state.codes.shape[1], -1)

    def step(self, state: DrawnPrefixes, number: int, predict: Predict) -> DrawnPrefixes:
        """One code more for every particle."""
        logits = predict(state, number, state.condition).float()
        children_logits, children = self._trie.expand(number, state.nodes, logits)
        children_logits = state.gate.close(number, state.nodes, children_logits, children)
        total = logits if self._scoring == "raw" else children_logits
        own = log_shares = children_logits - total.logsumexp(-1, keepdim=True)
        if self._lookahead is not None:
            log_shares = own + self._lookahead.bias(number, state.nodes, children)
        generator = torch.Generator().manual_seed(state.seed * 1009 + number)
        uniform = torch.rand(log_shares.shape[1:], generator=generator).clamp(1e-12, 1 - 1e-7)
        drawn = log_shares - (-uniform.log()).log().to(log_shares.device)
        picked = drawn.argmax(-1, keepdim=True)
        nodes = children.gather(-1, picked).squeeze(-1)
        kept = torch.arange(nodes.shape[1], device=nodes.device).expand_as(nodes)
        return replace(
            state,
            nodes=nodes,
            codes=self._trie.code(number)[nodes].long(),
            parents=kept if number else torch.zeros_like(nodes),
            log_probability=state.log_probability + own.gather(-1, picked).squeeze(-1),
            log_weight=state.log_weight + log_shares.logsumexp(-1),
        )

    def preview(self, state: DrawnPrefixes, number: int) -> Prefixes:
        """The prefixes so far; after the last step whole semantic IDs."""
        return Prefixes(number + 1, state.nodes, state.log_probability)

    def take(self, state: DrawnPrefixes, index: Int[Tensor, "batch particle"]) -> DrawnPrefixes:
        """Some of the particles; the decoder reorders its memory in the next step."""
        return replace(
            state,
            nodes=state.nodes.gather(1, index),
            codes=state.codes.gather(1, index),
            parents=state.parents.gather(1, index),
            log_probability=state.log_probability.gather(1, index),
            log_weight=state.log_weight.gather(1, index),
        )

    def weighed(
        self, state: DrawnPrefixes, log_weight: Float[Tensor, "batch particle"]
    ) -> DrawnPrefixes:
        """The same particles with other weights."""
        return replace(state, log_weight=log_weight)


class PrefixValue(Value[Prefixes, HistoryBatch]):
    """The soft value of prefixes: what lies under them, by a look-ahead of a known strength."""

    def __init__(self, lookahead: TrieLookahead, *, strength: float) -> None:
        self._lookahead, self._strength = lookahead, strength

    def __call__(self, x: Prefixes, context: HistoryBatch) -> Float[Tensor, "batch particle"]:
        """The tilt in units of reward; of a whole semantic ID its item's reward."""
        return self._lookahead.tilt(x.level, x.nodes) / self._strength
