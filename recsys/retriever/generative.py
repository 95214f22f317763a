"""What all retrievers that generate semantic IDs share: the loss, the search, the truncation."""

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.errors import InputError
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.recommender import Filters, Recommendations, Recommender
from recsys.retriever.code_decoder import SemanticIdDecoder
from recsys.retriever.decode import BeamSearch, CodeDecoder
from recsys.retriever.guidance import GuidedDecoder
from recsys.retriever.transformer import Memory, NetworkSize
from recsys.semantic_id.codec import SemanticIdCodec
from recsys.semantic_id.trie import SemanticIdTrie


@dataclass(frozen=True)
class Conditioning:
    """How preferences take part in training and in recommending.

    Attributes:
        dropout: Share of training rows that lose all their preferences, so that the model also
            runs without any; 0 to 1.
        guidance: Weight of what preferences change: 1 is the model as trained, 0 ignores
            preferences, more than 1 exaggerates them. Other than 1 costs twice the time.

    Raises:
        ValueError: If the dropout is outside 0 to 1.
    """

    dropout: float = 0.1
    guidance: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a dropout that is no share."""
        if not 0.0 <= self.dropout <= 1.0:
            raise ValueError(f"dropout must lie in [0, 1], got {self.dropout:g}.")


class GenerativeRetriever(Recommender):
    """Encodes a row once, then generates the semantic ID of the next item.

    It learns from batches of prefixes, one target per row.

    Attributes:
        guidance: Weight of preferences while recommending; may be changed between calls.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        size: NetworkSize,
        tied: bool,
        search: BeamSearch,
        conditioning: Conditioning | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        """Hold what all such retrievers need.

        Raises:
            InputError: If the catalogue has no semantic IDs.
        """
        super().__init__()
        if not catalogue.level_sizes:
            raise InputError(
                "A retriever that generates semantic IDs needs some; run `recsys tokenize` "
                "and pass its artifact as data.semantic_ids."
            )
        codec = SemanticIdCodec(catalogue.item_codes.long(), tuple(catalogue.level_sizes))
        self.decoder = SemanticIdDecoder(codec, size, tied=tied)
        self.search = search
        self.trie = SemanticIdTrie(codec.item_codes, codec.level_sizes)
        self.guidance = 1.0 if conditioning is None else conditioning.guidance
        self._preference_dropout = 0.0 if conditioning is None else conditioning.dropout
        self._label_smoothing = label_smoothing
        self.register_buffer("item_codes", codec.item_codes, persistent=False)
        self.register_buffer("item_tokens", codec.item_tokens, persistent=False)

    item_codes: Int[Tensor, "item level"]
    item_tokens: Int[Tensor, "item level"]

    @abstractmethod
    def encode(
        self, batch: HistoryBatch
    ) -> tuple[Float[Tensor, "batch token model"], Bool[Tensor, "batch token"]]:
        """What the decoder reads of each row, and which of it is real: never nothing."""

    def loss(self, batch: HistoryBatch) -> Float[Tensor, ""]:
        """Cross-entropy of the target's codes, averaged over levels and real targets.

        Raises:
            ValueError: If a row has more than one target.
        """
        if batch.target_item_ids.shape[1] != 1:
            raise ValueError(
                "this retriever learns from batches of prefixes, one target per row, got "
                f"{batch.target_item_ids.shape[1]} targets; set the data to prefixes."
            )
        if self.training and self._preference_dropout > 0:
            batch = drop_preferences(batch, self._preference_dropout)
        memory = self.decoder.prepare(*self.encode(batch))
        return self.decoder.loss(
            memory,
            self.item_codes[batch.target_item_ids[:, 0]],
            batch.target_mask[:, 0],
            label_smoothing=self._label_smoothing,
        )

    def recommend(
        self, batch: HistoryBatch, *, count: int, filters: Filters | None = None
    ) -> Recommendations:
        """The best items by beam search; see `BeamSearch`."""
        return self.search(self.code_decoder(), batch, self.trie, count=count, filters=filters)

    def code_decoder(self) -> CodeDecoder:
        """What a search asks: the retriever itself, or a guided decoder around it."""
        return self if self.guidance == 1.0 else GuidedDecoder(self, self.guidance)

    def take_over(self, trained: Recommender) -> None:
        """Become a trained retriever of a smaller catalogue; no weight belongs to one item."""
        self.load_state_dict(trained.state_dict())

    def prepare(self, batch: HistoryBatch) -> Memory:
        """Encode the rows; see `CodeDecoder`."""
        return self.decoder.prepare(*self.encode(batch))

    def step(
        self,
        state: Memory,
        level: int,
        codes: Int[Tensor, "batch beam"],
        parents: Int[Tensor, "batch beam"],
    ) -> Float[Tensor, "batch beam code"]:
        """Logits of the codes of a level for every beam; see `CodeDecoder`."""
        return self.decoder.step(state, level, codes, parents)

    def path_logits(
        self, batch: HistoryBatch, codes: Int[Tensor, "batch particle level"]
    ) -> list[Float[Tensor, "batch _ code"]]:
        """Logits along whole semantic IDs; see `CodePaths`."""
        return self.decoder.path_logits(self.prepare(batch), codes)

    @property
    def path_width(self) -> int:
        """Width of `path_states`."""
        return self.decoder.embedding.embedding_dim

    def path_states(
        self, batch: HistoryBatch, codes: Int[Tensor, "batch particle level"]
    ) -> Float[Tensor, "batch particle level model"]:
        """The decoder's hidden vector after every code of whole semantic IDs."""
        return self.decoder.path_states(self.prepare(batch), codes)


def recent_history(
    batch: HistoryBatch, count: int
) -> tuple[Int[Tensor, "batch recent"], Bool[Tensor, "batch recent"]]:
    """The latest items of every row, oldest first, and which are real.

    Args:
        batch: The rows.
        count: Most items to keep; shorter batches keep their length.
    """
    items, mask = batch.history_item_ids, batch.history_mask
    if items.shape[1] <= count:
        return items, mask
    skipped = (mask.sum(1, keepdim=True) - count).clamp_min(0)
    steps = skipped + torch.arange(count, device=items.device)
    return items.gather(1, steps), mask.gather(1, steps)


def drop_preferences(batch: HistoryBatch, share: float) -> HistoryBatch:
    """The batch where each row loses all its preferences with a probability."""
    kept = torch.rand(len(batch), 1, 1, device=batch.row_ids.device) >= share
    return replace(batch, preference_mask=batch.preference_mask & kept)


def last_preferences(
    batch: HistoryBatch,
) -> tuple[
    Int[Tensor, "batch preference"],
    Bool[Tensor, "batch preference"],
    Bool[Tensor, "batch preference"],
]:
    """Texts, mask and avoidance of the preferences of each row's last real target."""
    last = (batch.target_mask.sum(1) - 1).clamp_min(0)
    row = torch.arange(len(batch), device=last.device)
    return (
        batch.preference_text_ids[row, last],
        batch.preference_mask[row, last],
        batch.preference_avoid[row, last],
    )


def last_words(
    batch: HistoryBatch,
) -> tuple[
    Float[Tensor, "batch preference width"] | None, Float[Tensor, "batch preference"] | None
]:
    """Vectors and strengths of the preferences of each row's last real target, where given."""
    last = (batch.target_mask.sum(1) - 1).clamp_min(0)
    row = torch.arange(len(batch), device=last.device)
    vectors, strength = batch.preference_vectors, batch.preference_strength
    return (
        None if vectors is None else vectors[row, last],
        None if strength is None else strength[row, last],
    )
