"""TIGER: the next item's semantic ID from the semantic IDs of the history."""

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.retriever.decode import BeamSearch
from recsys.retriever.generative import GenerativeRetriever, recent_history
from recsys.retriever.transformer import Encoder, NetworkSize
from recsys.semantic_id.codec import PADDING_TOKEN


@final
class Tiger(GenerativeRetriever):
    """Reads the codes of the latest items as tokens, oldest first; knows no preferences.

    A row without any history reads one padding token. Where the paper adds a hashed user token
    and an end token, this reads neither: every semantic ID has the same length.

    Source:
        Rajput et al., 2023, Recommender Systems with Generative Retrieval, arXiv 2305.05065.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        size: NetworkSize = NetworkSize(),  # noqa: B008  (frozen, and shown by --help)
        history_items: int = 20,
        tied: bool = True,
        label_smoothing: float = 0.0,
        search: BeamSearch = BeamSearch(),  # noqa: B008  (frozen, and shown by --help)
    ) -> None:
        """Build the network.

        Args:
            catalogue: Semantic IDs of the items.
            size: Widths and depths.
            history_items: Latest items read; older ones are left out.
            tied: Use the token embeddings as output heads, as T5 does.
            label_smoothing: Share of the target's probability spread over all codes.
            search: How to search when recommending.
        """
        super().__init__(
            catalogue,
            size=size,
            tied=tied,
            search=search,
            label_smoothing=label_smoothing,
        )
        self.encoder = Encoder(size)
        self._history_items = history_items

    def encode(
        self, batch: HistoryBatch
    ) -> tuple[Float[Tensor, "batch token model"], Bool[Tensor, "batch token"]]:
        """One vector per code of the history."""
        items, mask = recent_history(batch, self._history_items)
        tokens = self.item_tokens[items].masked_fill(~mask.unsqueeze(-1), PADDING_TOKEN).flatten(1)
        token_mask = mask.unsqueeze(-1).expand(-1, -1, self.item_tokens.shape[1]).flatten(1)
        token_mask = token_mask | (torch.arange(tokens.shape[1], device=mask.device) == 0)
        return self.encoder(self.decoder.embedding(tokens), token_mask), token_mask
