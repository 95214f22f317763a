"""A causal retriever: one vector per item, one pass per person, dense and generative heads."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.cooccurrence import CooccurrencePrior, CooccurrenceSettings
from recsys.full_softmax import full_softmax_loss
from recsys.recommender import Filters, Recommendations, Recommender
from recsys.retriever.causal_encoder import CausalEncoder, CausalSize
from recsys.retriever.code_heads import CodeHeads, CodeState
from recsys.retriever.decode import BeamSearch, CodeDecoder
from recsys.retriever.generative import last_preferences, last_words
from recsys.retriever.item_vectors import ItemVectors
from recsys.retriever.preference_shift import PreferenceShift, Wishes
from recsys.semantic_id.trie import SemanticIdTrie
from recsys.top_items import top_items


@dataclass(frozen=True)
class Ranking:
    """How the parts of the model are weighed when items are ranked.

    The score of an item is `dense * log p_dense + prior * log q + codes * log p_codes`, each over
    the whole catalogue. With a search, the candidates are the items the beam finds and
    `log p_codes` is their beam score; without one all items are candidates and the codes take no
    part. With `dense` and `prior` at 0 a search is generative retrieval alone.

    Attributes:
        dense: Weight of the dense head.
        prior: Weight of the co-occurrence prior.
        codes: Weight of the generative score.
        search: Beam search that proposes candidates; None ranks the whole catalogue.
        guidance: Weight of what preferences change: 1 is the model as trained, 0 ignores them.
    """

    dense: float = 1.0
    prior: float = 0.7
    codes: float = 1.0
    search: BeamSearch | None = None
    guidance: float = 1.0


@dataclass(frozen=True)
class CausalTraining:
    """What the causal retriever minimises.

    Attributes:
        codes: Weight of the code heads' loss beside the dense one.
        future_steps: Items after a step that count as its targets.
        future_decay: Weight of each further one, 0 to 1.
        preference_dropout: Share of rows that lose their preferences, 0 to 1.
        match: Weights at the start of what is liked and of what is avoided, where preferences are
            matched with the items' texts; they are learned.
        temperature: Scale of the cosine scores at the start; it is learned.
    """

    codes: float = 0.3
    future_steps: int = 5
    future_decay: float = 0.5
    preference_dropout: float = 0.2
    match: tuple[float, float] = (1.0, -0.5)
    temperature: float = 16.0


class CausalRetriever(Recommender):
    """Reads one vector per item and predicts the next item after every step at once.

    An item's vector is the sum of an embedding of its own, its projected text vector and the
    embeddings of its codes. A causal encoder turns the history into a state; preferences are added
    to it. Two heads read the state: a dense one (cosine with every item, softmax over the whole
    catalogue) and one per level of the semantic ID, decoded over the trie. A co-occurrence prior,
    counted before training, is added when items are ranked.

    Source:
        Ours. Cosine softmax as in Wang et al., 2017, arXiv:1704.06369; dense beside generative
        retrieval as in LIGER (Yang et al., 2024, arXiv:2411.18814).
    """

    uses_preferences: ClassVar[bool] = True
    weighs_preferences: ClassVar[bool] = True
    surveys: ClassVar[bool] = True

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        size: CausalSize | None = None,
        training: CausalTraining | None = None,
        ranking: Ranking | None = None,
        prior: CooccurrenceSettings | None = None,
    ) -> None:
        """Draw the weights.

        Args:
            catalogue: The items; text vectors and codes are used where they are there.
            size: Sizes of the encoder.
            training: What is minimised.
            ranking: How items are ranked; may be changed after training.
            prior: How co-occurrence is counted.
        """
        super().__init__()
        self.size = size or CausalSize()
        self.training_choice = training or CausalTraining()
        self.ranking = ranking or Ranking()
        self.items = ItemVectors(catalogue, self.size.width)
        self.encoder = CausalEncoder(self.size)
        self.preferences = PreferenceShift(
            catalogue, self.size.width, match=self.training_choice.match
        )
        self.prior = CooccurrencePrior(catalogue.item_count, prior)
        self.heads, self.trie = None, None
        if catalogue.level_sizes:
            self.heads = CodeHeads(catalogue.level_sizes, self.size.width)
            self.trie = SemanticIdTrie(catalogue.item_codes.long(), catalogue.level_sizes)
        self.register_buffer("item_codes", catalogue.item_codes.long(), persistent=False)
        self.log_temperature = nn.Parameter(
            torch.tensor(math.log(self.training_choice.temperature))
        )
        self.item_bias = nn.Parameter(torch.zeros(catalogue.item_count))

    item_codes: Int[Tensor, "item level"]

    def survey(self, batches: Iterable[HistoryBatch]) -> None:
        """Count the co-occurrence prior."""
        self.prior.survey(batches)

    def loss(self, batch: HistoryBatch) -> Float[Tensor, ""]:
        """Dense cross-entropy towards the next few items, plus that of the next item's codes."""
        dropped = self.training_choice.preference_dropout if self.training else 0.0
        states = self._states(batch)
        if batch.target_item_ids.shape != states.shape[:2]:  # one target, after the last step
            row = torch.arange(len(batch), device=states.device)
            states = states[row, (batch.history_mask.sum(1) - 1).clamp_min(0)].unsqueeze(1)
        kept = torch.rand(len(batch), 1, 1, device=states.device) >= dropped
        wishes = self.preferences.wishes(
            batch.preference_text_ids,
            batch.preference_mask & kept,
            batch.preference_avoid,
            vectors=batch.preference_vectors,
            strength=batch.preference_strength,
        )
        states = states + self.preferences.shift(wishes)
        future, weights = future_targets(
            batch.target_item_ids,
            batch.target_mask,
            steps=self.training_choice.future_steps,
            decay=self.training_choice.future_decay,
        )
        real = batch.target_mask
        weights = weights * real.unsqueeze(-1) / real.sum().clamp_min(1)
        loss = full_softmax_loss(
            self._queries(states, wishes).flatten(0, 1),
            self._keys(),
            self.item_bias,
            future.flatten(0, 1),
            weights.flatten(0, 1),
        )
        if self.heads is None or not self.training_choice.codes:
            return loss
        codes = self.item_codes[batch.target_item_ids]
        code_loss = self.heads.loss(states.flatten(0, 1), codes.flatten(0, 1), real.flatten())
        return loss + self.training_choice.codes * code_loss

    def recommend(
        self, batch: HistoryBatch, *, count: int, filters: Filters | None = None
    ) -> Recommendations:
        """The best items by the weighted score of `Ranking`."""
        scores = self.item_scores(batch)
        if self.ranking.search is None or self.trie is None:
            return top_items(scores, batch, count=count, filters=filters)
        width = max(self.ranking.search.width, count)
        found = self.ranking.search(self, batch, self.trie, count=width, filters=filters)
        known = found.item_ids >= 0
        dense = scores.gather(1, found.item_ids.clamp_min(0))
        total = torch.where(known, dense + self.ranking.codes * found.scores, -torch.inf)
        best, place = total.topk(count, dim=1)
        return Recommendations(found.item_ids.gather(1, place), best)

    def item_scores(self, batch: HistoryBatch) -> Float[Tensor, "batch item"]:
        """The score of every item without the codes' part; see `Ranking`."""
        state, wishes = self._last_state(batch)
        scores = self.ranking.dense * self._dense_logits(state, wishes).log_softmax(-1)
        return scores + self.ranking.prior * self.prior(batch) if self.ranking.prior else scores

    def read_histories(self, batch: HistoryBatch) -> Float[Tensor, "batch model"]:
        """The state after each row's last real step, before any preference."""
        row = torch.arange(len(batch), device=batch.row_ids.device)
        last = (batch.history_mask.sum(1) - 1).clamp_min(0)
        return self._states(batch)[row, last]

    def dense_queries(self, batch: HistoryBatch) -> Float[Tensor, "batch key"]:
        """What asks for items; the product with an item's key is its dense logit."""
        queries = self._queries(*self._last_state(batch))
        return torch.cat([queries, torch.ones_like(queries[:, :1])], dim=1)

    def dense_keys(self) -> Float[Tensor, "item key"]:
        """What items are found by, their bias last; see `dense_queries`."""
        return torch.cat([self._keys(), self.item_bias.unsqueeze(1)], dim=1)

    def code_decoder(self) -> CodeDecoder:
        """What a search over the trie asks: the retriever itself."""
        return self

    def take_over(self, trained: Recommender) -> None:
        """Become a trained retriever whose items are the first of this one's.

        Raises:
            TypeError: If the other is no causal retriever.
        """
        if not isinstance(trained, CausalRetriever):
            raise TypeError(f"a CausalRetriever cannot take over a {type(trained).__name__}.")
        new = len(self.item_bias) - len(trained.item_bias)
        grown = {
            name: value
            for name, value in trained.state_dict().items()
            if name not in ("items.own.weight", "item_bias") and not name.startswith("prior.")
        }
        bias = trained.item_bias.detach()
        grown["item_bias"] = torch.cat([bias, bias.new_zeros(new)])
        grown["items.own.weight"] = F.pad(trained.items.own.weight.detach(), (0, 0, 0, new))
        self.load_state_dict(grown, strict=False)
        self.items.keep_centre(trained.items)
        self.prior.take_over(trained.prior)

    def prepare(self, batch: HistoryBatch) -> CodeState:
        """The rows' states; see `recsys.retriever.decode.CodeDecoder`."""
        return CodeState(self._last_state(batch)[0], [])

    def step(
        self,
        state: CodeState,
        level: int,
        codes: Int[Tensor, "batch beam"],
        parents: Int[Tensor, "batch beam"],
    ) -> Float[Tensor, "batch beam code"]:
        """Logits of a level for every beam; see `recsys.retriever.decode.CodeDecoder`.

        Raises:
            ValueError: If the catalogue had no codes.
        """
        return self._heads().step(state, level, codes, parents)

    def path_logits(
        self, batch: HistoryBatch, codes: Int[Tensor, "batch particle level"]
    ) -> list[Float[Tensor, "batch _ code"]]:
        """Logits along whole semantic IDs; see `recsys.retriever.decode.CodePaths`.

        Raises:
            ValueError: If the catalogue had no codes.
        """
        heads, above = self._heads(), list(codes.unbind(2))
        start = self.prepare(batch).hidden.unsqueeze(1)
        every = start.expand(-1, codes.shape[1], -1)
        return [
            heads.logits(level, every if level else start, above[:level])
            for level in range(len(above))
        ]

    @property
    def path_width(self) -> int:
        """Width of `path_states`."""
        return self.size.width

    def path_states(
        self, batch: HistoryBatch, codes: Int[Tensor, "batch particle level"]
    ) -> Float[Tensor, "batch particle level model"]:
        """What speaks for every code of whole semantic IDs; see `CodeHeads.chosen`.

        Raises:
            ValueError: If the catalogue had no codes.
        """
        heads, every = self._heads(), list(codes.unbind(2))
        state = self.prepare(batch).hidden.unsqueeze(1).expand(-1, codes.shape[1], -1)
        states = [heads.chosen(level, state, every[: level + 1]) for level in range(len(every))]
        return torch.stack(states, 2)

    def _heads(self) -> CodeHeads:
        if self.heads is None:
            raise ValueError("the catalogue has no semantic IDs, so none can be generated.")
        return self.heads

    def _states(self, batch: HistoryBatch) -> Float[Tensor, "batch step model"]:
        return self.encoder(self.items.read(batch.history_item_ids))

    def _last_state(self, batch: HistoryBatch) -> tuple[Float[Tensor, "batch model"], Wishes]:
        """The conditioned state after each row's last real step, and what is wished there."""
        text_ids, mask, avoid = last_preferences(batch)
        vectors, strength = last_words(batch)
        wishes = self.preferences.wishes(
            text_ids, mask, avoid, vectors=vectors, strength=strength
        ).times(self.ranking.guidance)
        read = batch.history_states
        states = self.read_histories(batch) if read is None else read
        return states + self.preferences.shift(wishes), wishes

    def _dense_logits(
        self, states: Float[Tensor, "*row model"], wishes: Wishes
    ) -> Float[Tensor, "*row item"]:
        return F.linear(self._queries(states, wishes), self._keys(), self.item_bias).float()

    def _queries(
        self, states: Float[Tensor, "*row model"], wishes: Wishes
    ) -> Float[Tensor, "*row key"]:
        """What asks for items: the state's direction and, if matched, what is wished in words."""
        cosine = F.normalize(states, dim=-1) * self.log_temperature.exp()
        if not self.size.match:
            return cosine
        matched = self.preferences.match(wishes) * self.log_temperature.exp()
        return torch.cat([cosine, matched], dim=-1)

    def _keys(self) -> Float[Tensor, "item key"]:
        """What items are asked by; the counterpart of `_queries`."""
        table = F.normalize(self.items.table(), dim=-1)
        return torch.cat([table, self.items.centred_text], dim=-1) if self.size.match else table


def future_targets(
    target_item_ids: Int[Tensor, "batch step"],
    target_mask: Bool[Tensor, "batch step"],
    *,
    steps: int,
    decay: float,
) -> tuple[Int[Tensor, "batch step future"], Float[Tensor, "batch step future"]]:
    """The next few targets of every step and their weights, which add up to 1.

    Args:
        target_item_ids: The item after each step.
        target_mask: Which are real.
        steps: Targets looked at, the next one included; at least 1.
        decay: Weight of each further one, relative to the one before.

    Returns:
        Items, and weights that are 0 where there is no such target.
    """
    length = target_item_ids.shape[1]
    places = torch.arange(length, device=target_item_ids.device)[:, None]
    places = places + torch.arange(steps, device=target_item_ids.device)
    inside = places < length
    places = places.clamp_max(length - 1)
    weights = target_mask[:, places] & inside
    weights = weights * decay ** torch.arange(steps, device=target_item_ids.device)
    total = weights.sum(-1, keepdim=True).clamp_min(1e-9)
    return target_item_ids[:, places], weights / total
