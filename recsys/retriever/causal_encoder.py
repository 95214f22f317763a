"""A small causal transformer over one vector per item; every step sees only what came before."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class CausalSize:
    """Sizes of a causal encoder.

    Attributes:
        width: Width of every layer.
        layers: Number of layers.
        heads: Attention heads; divides the width.
        maximum_history: Distances between steps that are told apart; larger ones share the last.
        dropout: Share of activations set to 0 in training.
        input_dropout: The same for the item vectors that come in.
        match: Whether preferences are also matched with the items' texts directly; makes the
            softmax wider by a text vector.

    Raises:
        ValueError: If `heads` does not divide `width`.
    """

    width: int = 128
    layers: int = 2
    heads: int = 2
    maximum_history: int = 50
    dropout: float = 0.3
    input_dropout: float = 0.3
    match: bool = False

    def __post_init__(self) -> None:
        """Refuse heads that do not fit."""
        if self.width % self.heads:
            raise ValueError(
                f"heads must divide width, got {self.heads} heads for width {self.width}."
            )


class CausalEncoder(nn.Module):
    """What is known after each step of a history.

    Attention has a learned bias per head and distance instead of positions, so a history means
    the same wherever it is cut.
    """

    def __init__(self, size: CausalSize) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(size.width)
        self.dropout_in = nn.Dropout(size.input_dropout)
        self.layers = nn.ModuleList(_CausalLayer(size) for _ in range(size.layers))
        self.norm_out = nn.LayerNorm(size.width)

    def forward(
        self, items: Float[Tensor, "batch step model"]
    ) -> Float[Tensor, "batch step model"]:
        """States after each step; padding at the end is never read by a real step."""
        states = self.dropout_in(self.norm_in(items))
        for layer in self.layers:
            states = layer(states)
        return self.norm_out(states)


class _CausalLayer(nn.Module):
    def __init__(self, size: CausalSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.attention_norm = nn.LayerNorm(size.width)
        self.queries_keys_values = nn.Linear(size.width, 3 * size.width)
        self.attention_out = nn.Linear(size.width, size.width)
        self.distance_bias = nn.Parameter(torch.zeros(size.heads, size.maximum_history))
        self.attention_dropout = size.dropout
        self.dropout = nn.Dropout(size.dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(size.width),
            nn.Linear(size.width, 4 * size.width),
            nn.GELU(),
            nn.Dropout(size.dropout),
            nn.Linear(4 * size.width, size.width),
            nn.Dropout(size.dropout),
        )

    def forward(
        self, states: Float[Tensor, "batch step model"]
    ) -> Float[Tensor, "batch step model"]:
        rows, steps, width = states.shape
        mixed = self.queries_keys_values(self.attention_norm(states))
        parts = mixed.view(rows, steps, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=self._bias(steps, states).to(queries.dtype),
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        attended = attended.transpose(1, 2).reshape(rows, steps, width)
        states = states + self.dropout(self.attention_out(attended))
        return states + self.feed_forward(states)

    def _bias(self, steps: int, states: Tensor) -> Float[Tensor, "head step seen"]:
        """Bias by distance; `-inf` where a step would see a later one."""
        place = torch.arange(steps, device=states.device)
        distance = place[:, None] - place[None, :]
        near = distance.clamp(0, self.distance_bias.shape[1] - 1)
        return self.distance_bias[:, near].masked_fill(distance < 0, -torch.inf)
