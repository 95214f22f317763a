"""Texts as tokens, cut once, and packed side by side into one text per row."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

LIKE, AVOID, ITEM, END = range(4)
LEADS = ("I like: ", "I avoid: ", "Item: ")


class PromptTable(nn.Module):
    """The tokens of every text under every lead, and the end token.

    Text `t` of kind `k` takes the places `starts[k, t]` to `starts[k, t] + lengths[k, t] - 1`.
    The table is made anew from the texts and is no part of the module's state.
    """

    def __init__(
        self,
        texts: tuple[str, ...],
        tokenizer: Any,  # noqa: ANN401  (transformers has no type for any tokenizer)
        *,
        most_text_tokens: int,
    ) -> None:
        super().__init__()
        pieces, lengths = [], []
        for lead in LEADS:
            written = tokenizer([lead + text for text in texts], add_special_tokens=False)
            cut = [row[:most_text_tokens] for row in written["input_ids"]]
            lengths.append(torch.tensor([len(row) for row in cut]))
            pieces += [token for row in cut for token in row]
        sizes = torch.stack(lengths)
        self.longest = int(sizes.max())
        ends = sizes.flatten().cumsum(0).view(sizes.shape)
        end_token = tokenizer.eos_token_id
        self.end_token = int(tokenizer.pad_token_id if end_token is None else end_token)
        self.register_buffer("tokens", torch.tensor(pieces, dtype=torch.int32), persistent=False)
        self.register_buffer("lengths", sizes, persistent=False)
        self.register_buffer("starts", ends - sizes, persistent=False)

    tokens: Int[Tensor, " place"]
    lengths: Int[Tensor, "lead text"]
    starts: Int[Tensor, "lead text"]


@dataclass(frozen=True)
class Prompt:
    """One text per row, its end token last, padding after it.

    Attributes:
        tokens: Tokens of the encoder.
        kinds: What each token belongs to: something liked, avoided, an item or the end.
        mask: Which tokens are real.
    """

    tokens: Int[Tensor, "batch token"]
    kinds: Int[Tensor, "batch token"]
    mask: Bool[Tensor, "batch token"]


def pack(
    table: PromptTable,
    text_ids: Int[Tensor, "batch part"],
    kinds: Int[Tensor, "batch part"],
    part_mask: Bool[Tensor, "batch part"],
    *,
    preferences: int,
    most_tokens: int,
) -> Prompt:
    """The parts of each row side by side, without gaps.

    Preferences come first and are kept first, in their order; of the items, oldest first, the
    latest are kept as far as they fit, whole. The width of the answer depends on shapes alone, so
    nothing waits for the device.

    Args:
        table: The tokens.
        text_ids: Text of each part.
        kinds: What each part is.
        part_mask: Which parts are real.
        preferences: How many of the parts, the first ones, are preferences.
        most_tokens: Most tokens of a row, the end token included.
    """
    lengths = table.lengths[kinds, text_ids] * part_mask
    width = min(most_tokens, text_ids.shape[1] * table.longest + 1)
    wanted, met = lengths[:, :preferences], lengths[:, preferences:]
    wanted = wanted * (wanted.cumsum(1) < width)
    left = width - 1 - wanted.sum(1, keepdim=True)
    met = met * (met.flip(1).cumsum(1).flip(1) <= left)
    kept = torch.cat((wanted, met), dim=1)
    ends = kept.cumsum(1)
    total = ends[:, -1:]
    places = torch.arange(width, device=text_ids.device).expand(len(text_ids), -1).contiguous()
    part = torch.searchsorted(ends, places, right=True).clamp_max(text_ids.shape[1] - 1)
    within = places - (ends - kept).gather(1, part)
    source = table.starts[kinds, text_ids].gather(1, part) + within
    tokens = table.tokens[source.clamp(0, table.tokens.shape[0] - 1)].long()
    tokens = torch.where(places < total, tokens, table.end_token)
    part_kinds = torch.where(places < total, kinds.gather(1, part), END)
    return Prompt(tokens, part_kinds, places <= total)
