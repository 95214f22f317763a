"""Mender-Emb: the next item's semantic ID from cached text vectors of preferences and items."""

from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from data_prep.errors import InputError
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.retriever.decode import BeamSearch
from recsys.retriever.generative import (
    Conditioning,
    GenerativeRetriever,
    last_preferences,
    last_words,
    recent_history,
)
from recsys.retriever.transformer import Encoder, NetworkSize

LIKE, AVOID, ITEM, START = range(4)


@final
class MenderEmb(GenerativeRetriever):
    """Reads one vector per preference and per item of the history.

    A vector is the projected text vector plus what kind of thing it is (liked, avoided, item) and,
    for items, how many items ago it was met. The preferences are a set, the history a sequence.
    One learned vector is always there, so a row without preferences and history reads something.

    A preference's vector is scaled by its strength; at 0 it is not read at all. What kind of thing
    it is is not scaled, so a very weak preference still differs from none.

    With `size.encoder_layers` at 0 the decoder reads these vectors as they are, as in the paper;
    above 0 they first attend to one another.

    Source:
        Paischer et al., 2025, Preference Discerning with LLM-Enhanced Generative Retrieval, arXiv
        2412.08604. Positions, kinds, the mask and the codes in the memory are ours; the released
        code attends to a bag of items and padding.
    """

    uses_preferences: ClassVar[bool] = True
    weighs_preferences: ClassVar[bool] = True

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        size: NetworkSize = NetworkSize(),  # noqa: B008  (frozen, and shown by --help)
        history_items: int = 20,
        codes_in_memory: bool = True,
        conditioning: Conditioning = Conditioning(),  # noqa: B008
        label_smoothing: float = 0.0,
        search: BeamSearch = BeamSearch(),  # noqa: B008
    ) -> None:
        """Build the network.

        Args:
            catalogue: Semantic IDs of the items and vectors of all texts.
            size: Widths and depths.
            history_items: Latest items read; older ones are left out.
            codes_in_memory: Add the embeddings of an item's codes to its vector.
            conditioning: How preferences take part.
            label_smoothing: Share of the target's probability spread over all codes.
            search: How to search when recommending.

        Raises:
            InputError: If the catalogue has no text vectors or no semantic IDs.
        """
        super().__init__(
            catalogue,
            size=size,
            tied=True,
            search=search,
            conditioning=conditioning,
            label_smoothing=label_smoothing,
        )
        if catalogue.text_vectors.shape[0] == 0:
            raise InputError(
                "Mender-Emb reads text vectors; run `personalize encode` and pass its artifact as "
                "data.vectors."
            )
        self.encoder = Encoder(size, relative_positions=False)
        self.project = nn.Linear(catalogue.text_width, size.width, bias=False)
        self.kinds = nn.Embedding(4, size.width)
        self.items_ago = nn.Embedding(history_items, size.width)
        nn.init.normal_(self.project.weight)  # unit vectors come out as large as T5's embeddings
        self._history_items = history_items
        self._codes_in_memory = codes_in_memory
        vectors = F.normalize(catalogue.text_vectors.float(), dim=1)
        self.register_buffer("text_vectors", vectors, persistent=False)
        self.register_buffer("item_text_ids", catalogue.item_text_ids, persistent=False)
        self.register_buffer("item_text_mask", catalogue.item_text_mask, persistent=False)

    text_vectors: Float[Tensor, "text width"]
    item_text_ids: Int[Tensor, " item"]
    item_text_mask: Bool[Tensor, " item"]

    def encode(
        self, batch: HistoryBatch
    ) -> tuple[Float[Tensor, "batch token model"], Bool[Tensor, "batch token"]]:
        """A learned vector, one per preference, one per item of the history."""
        text_ids, preference_mask, avoid = last_preferences(batch)
        items, item_mask = recent_history(batch, self._history_items)
        start = self.kinds.weight[START].expand(len(batch), 1, -1)
        texts, strength = last_words(batch)
        texts = self.text_vectors[text_ids] if texts is None else F.normalize(texts, dim=-1)
        if strength is not None:
            preference_mask = preference_mask & (strength > 0)
            texts = texts * strength.unsqueeze(-1)
        wanted = self.project(texts) + self.kinds(torch.where(avoid, AVOID, LIKE))
        vectors = torch.cat((start, wanted, self._item_vectors(items, item_mask)), dim=1)
        mask = torch.cat((torch.ones_like(item_mask[:, :1]), preference_mask, item_mask), dim=1)
        return self.encoder(vectors, mask), mask

    def _item_vectors(
        self, items: Int[Tensor, "batch recent"], mask: Bool[Tensor, "batch recent"]
    ) -> Float[Tensor, "batch recent model"]:
        texts = self.text_vectors[self.item_text_ids[items]]
        vectors = self.project(texts * self.item_text_mask[items].unsqueeze(-1))
        after = mask.sum(1, keepdim=True) - 1 - torch.arange(items.shape[1], device=items.device)
        vectors = vectors + self.items_ago(after.clamp_min(0)) + self.kinds.weight[ITEM]
        if self._codes_in_memory:
            vectors = vectors + self.decoder.embedding(self.item_tokens[items]).mean(2)
        return vectors
