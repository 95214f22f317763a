"""Self-attention over the items of a history, trained on every step with a full softmax."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.full_softmax import full_softmax_loss
from recsys.recommender import Filters, Recommendations, Recommender
from recsys.top_items import top_items


class SASRec(Recommender):
    """A causal transformer over item embeddings; the same embeddings score the next item.

    The published loss contrasts one random negative; here every item competes, which is worth
    about 60 % of recall and is what a fair baseline needs.

    Source:
        Kang and McAuley, 2018, arXiv:1808.09781; full cross-entropy after Petrov and Macdonald,
        2023, doi:10.1145/3604915.3608783. Layer norms stand before each part, GELU inside.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        width: int = 128,
        layers: int = 2,
        heads: int = 2,
        maximum_history: int = 50,
        dropout: float = 0.4,
    ) -> None:
        """Draw the weights.

        Args:
            catalogue: The items.
            width: Width of the embeddings and of every layer.
            layers: Number of layers.
            heads: Attention heads; must divide the width.
            maximum_history: Places that have an embedding; later ones share the last.
            dropout: Share of activations that are set to 0 in training.

        Raises:
            ValueError: If `heads` does not divide `width`.
        """
        super().__init__()
        if width % heads:
            raise ValueError(f"heads must divide width, got {heads} heads for width {width}.")
        self.items = nn.Embedding(catalogue.item_count, width)
        self.places = nn.Embedding(maximum_history, width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for embedding in (self.items, self.places):
            nn.init.normal_(embedding.weight, std=0.02)

    def loss(self, batch: HistoryBatch) -> Float[Tensor, ""]:
        """Cross-entropy of each real target against the whole catalogue."""
        states = self._states(batch)
        if batch.target_item_ids.shape != states.shape[:2]:
            states = self._last(states, batch).unsqueeze(1)
        weights = batch.target_mask / batch.target_mask.sum().clamp_min(1)
        return full_softmax_loss(
            states.flatten(0, 1),
            self.items.weight,
            states.new_zeros(self.items.num_embeddings),
            batch.target_item_ids.flatten().unsqueeze(1),
            weights.flatten().unsqueeze(1),
        )

    def recommend(
        self, batch: HistoryBatch, *, count: int, filters: Filters | None = None
    ) -> Recommendations:
        """The items whose embedding fits the state after the last real step best."""
        return top_items(self.item_scores(batch), batch, count=count, filters=filters)

    def item_scores(self, batch: HistoryBatch) -> Float[Tensor, "batch item"]:
        """The score of every item after each row's last real step."""
        return self._scores(self._last(self._states(batch), batch))

    def _states(self, batch: HistoryBatch) -> Float[Tensor, "batch step model"]:
        """What the model knows after each step; padding is at the end, so causality hides it."""
        steps = batch.history_item_ids.shape[1]
        places = torch.arange(steps, device=batch.history_item_ids.device)
        places = places.clamp_max(self.places.num_embeddings - 1)
        embedded = self.items(batch.history_item_ids) * self.items.embedding_dim**0.5
        states = self.dropout(embedded + self.places(places))
        states = states * batch.history_mask.unsqueeze(-1)
        for layer in self.layers:
            states = layer(states)
        return self.norm(states)

    @staticmethod
    def _last(
        states: Float[Tensor, "batch step model"], batch: HistoryBatch
    ) -> Float[Tensor, "batch model"]:
        last = (batch.history_mask.sum(dim=1) - 1).clamp_min(0)
        return states[torch.arange(len(batch), device=states.device), last]

    def _scores(self, states: Float[Tensor, "*place model"]) -> Float[Tensor, "*place item"]:
        return states @ self.items.weight.T


class _Layer(nn.Module):
    """Causal self-attention and a feed-forward part, each added to what came in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Float[Tensor, "batch step model"]) -> Tensor:
        """The states after this layer."""
        rows, steps, width = states.shape
        mixed = self.queries_keys_values(self.attention_norm(states))
        parts = mixed.view(rows, steps, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            is_causal=True,
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        attended = attended.transpose(1, 2).reshape(rows, steps, width)
        states = states + self.dropout(self.attention_out(attended))
        return states + self.dropout(self.feed_forward(states))
