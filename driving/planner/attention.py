"""Attention with key masks, and the pre-norm transformer layer of the scene encoder."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


def attention(
    queries: Float[Tensor, "batch query width"],
    keys: Float[Tensor, "batch key width"],
    values: Float[Tensor, "batch key width"],
    heads: int,
    key_mask: Bool[Tensor, "batch 1 1 key"] | None = None,
) -> Float[Tensor, "batch query width"]:
    """Scaled dot-product attention of several heads.

    Args:
        queries: What looks.
        keys: What is looked at.
        values: What is taken from it.
        heads: Parts the width is cut into.
        key_mask: Which keys are there, at least one per row; None where all are.
    """
    split = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (queries, keys, values))
    found = functional.scaled_dot_product_attention(*split, attn_mask=key_mask)
    return found.transpose(1, 2).flatten(2)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, feedforward)
        self.outer = nn.Linear(feedforward, width)

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        key_mask: Bool[Tensor, "batch 1 1 token"],
    ) -> Float[Tensor, "batch token width"]:
        """The tokens after one layer; masked ones are not looked at."""
        queries, keys, values = self.projection(self.attention_norm(tokens)).chunk(3, dim=-1)
        seen = attention(queries, keys, values, self.heads, key_mask)
        tokens = tokens + self.output(seen)
        hidden = self.inner(self.feedforward_norm(tokens)).relu_()
        return tokens + self.outer(hidden)
