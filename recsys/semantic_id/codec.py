"""The codec: the one place that knows levels, offsets, special tokens and item <-> codes."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from data_prep.errors import InputError

PADDING_TOKEN = 0
BEGIN_TOKEN = 1
END_TOKEN = 2
SPECIAL_TOKENS = 3
"""Tokens below this number are special; codes come after them, so neither can be the other."""


@dataclass(frozen=True)
class SemanticIdCodec:
    """Items as codes, codes as tokens, and both back.

    Codes are the digits of a semantic ID: level `l` counts from 0 to `level_sizes[l] - 1`. Tokens
    number all codes of all levels in one vocabulary: the code `c` of level `l` is the token
    `offsets[l] + c`.

    Args:
        item_codes: Semantic ID of every item; rows are distinct.
        level_sizes: Number of codes at each level.

    Raises:
        ValueError: If the sizes do not fit the codes, a code is out of range, an ID repeats, or
            there are too many possible IDs to number.
    """

    item_codes: Int[Tensor, "item level"]
    level_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the codes once, so that nothing else has to."""
        if len(self.level_sizes) != self.item_codes.shape[1]:
            raise ValueError(
                f"level_sizes must name {self.item_codes.shape[1]} levels, "
                f"got {len(self.level_sizes)}."
            )
        sizes = torch.tensor(self.level_sizes, device=self.item_codes.device)
        if bool(((self.item_codes < 0) | (self.item_codes >= sizes)).any()):
            raise ValueError("item_codes must lie between 0 and their level's size minus 1.")
        if math.prod(self.level_sizes) >= 2**63:
            raise ValueError(
                f"level_sizes {self.level_sizes} make more IDs than 63 bits can number."
            )
        if torch.unique(self.item_codes, dim=0).shape[0] != self.item_codes.shape[0]:
            raise ValueError("item_codes must be distinct; add a collision digit first.")

    @property
    def item_count(self) -> int:
        """Number of items."""
        return self.item_codes.shape[0]

    @property
    def levels(self) -> int:
        """Number of codes in a semantic ID."""
        return len(self.level_sizes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First token of every level."""
        starts = [SPECIAL_TOKENS]
        for size in self.level_sizes[:-1]:
            starts.append(starts[-1] + size)
        return tuple(starts[: self.levels])

    @cached_property
    def vocabulary_size(self) -> int:
        """Number of tokens, special ones included."""
        return SPECIAL_TOKENS + sum(self.level_sizes)

    @cached_property
    def item_tokens(self) -> Int[Tensor, "item level"]:
        """Tokens of every item's semantic ID."""
        return self.item_codes + torch.tensor(self.offsets, device=self.item_codes.device)

    def codes(self, item_ids: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape level"]:
        """Semantic IDs of items."""
        return self.item_codes[item_ids]

    def tokens(self, item_ids: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape level"]:
        """Tokens of the semantic IDs of items."""
        return self.item_tokens[item_ids]

    def codes_of_tokens(self, tokens: Int[Tensor, "*shape level"]) -> Int[Tensor, "*shape level"]:
        """Codes of tokens, one level after the other; a special token gives a negative code."""
        return tokens - torch.tensor(self.offsets, device=tokens.device)

    def items(
        self, codes: Int[Tensor, "*shape level"]
    ) -> tuple[Int[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
        """The items that have these semantic IDs.

        Returns:
            Item ids, and a mask that is false where no item has the ID; the item id is 0 there.
        """
        sizes = torch.tensor(self.level_sizes, device=codes.device)
        in_range = ((codes >= 0) & (codes < sizes)).all(-1)
        keys = self._keys(torch.where(in_range[..., None], codes, 0))
        sorted_keys, item_of = self._sorted
        place = torch.searchsorted(sorted_keys, keys).clamp_max(self.item_count - 1)
        found = in_range & (sorted_keys[place] == keys)
        return torch.where(found, item_of[place], 0), found

    def state(self) -> dict[str, Any]:
        """Plain JSON values from which `from_state` builds the same codec."""
        return {"level_sizes": list(self.level_sizes), "item_codes": self.item_codes.tolist()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "SemanticIdCodec":
        """The codec whose `state` this is.

        Raises:
            ValueError: If the state is not one.
        """
        try:
            sizes = tuple(int(size) for size in state["level_sizes"])
            codes = torch.tensor(state["item_codes"], dtype=torch.long).view(-1, len(sizes))
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"This is no codec state: {error}.") from error
        return cls(codes, sizes)

    @cached_property
    def _sorted(self) -> tuple[Int[Tensor, " item"], Int[Tensor, " item"]]:
        keys, order = torch.sort(self._keys(self.item_codes))
        return keys, order

    def _keys(self, codes: Int[Tensor, "*shape level"]) -> Int[Tensor, "*shape"]:
        """Each semantic ID as one number below 2**63."""
        key = torch.zeros_like(codes[..., 0])
        for level, size in enumerate(self.level_sizes):
            key = key * size + codes[..., level]
        return key


def with_collision_digit(
    codes: Int[Tensor, "item level"],
    level_sizes: tuple[int, ...],
    *,
    collision_size: int | None = None,
    most_per_bucket: int = 256,
) -> SemanticIdCodec:
    """A codec whose IDs are made distinct by one more digit.

    Items with the same codes share a bucket; the digit counts them from 0 in the order of their
    item ids. Item ids follow the items' keys, so the digit does not depend on the order of a file.

    Args:
        codes: Codes of every item, possibly repeated.
        level_sizes: Number of codes at each level.
        collision_size: Number of codes of the digit's level; None takes the largest bucket. More
            leaves room for items that come later.
        most_per_bucket: Largest bucket accepted where `collision_size` is None.

    Raises:
        InputError: If a bucket holds more items than the digit can tell apart.

    Source:
        TIGER (Rajput et al., 2023, arXiv:2305.05065), section 3.1; the overflow check is ours.
    """
    _, bucket = torch.unique(codes, dim=0, return_inverse=True)
    order = torch.argsort(bucket, stable=True)
    counts = torch.bincount(bucket)
    starts = torch.cumsum(counts, 0) - counts
    digit = torch.empty_like(bucket)
    digit[order] = torch.arange(len(bucket), device=codes.device) - starts[bucket[order]]
    largest = int(counts.max()) if len(counts) else 1
    most = most_per_bucket if collision_size is None else collision_size
    if largest > most:
        item = int(order[starts[counts.argmax()]])
        raise InputError(
            f"{largest} items share the codes {codes[item].tolist()}, more than the "
            f"{most} one collision digit may tell apart; use more levels or more codes, "
            "or a larger --collision-size."
        )
    full = torch.cat([codes, digit[:, None]], dim=1)
    return SemanticIdCodec(full, (*level_sizes, collision_size or largest))


def with_moved_digit(
    codes: Int[Tensor, "item level"], level_sizes: tuple[int, ...]
) -> SemanticIdCodec:
    """A codec whose IDs are made distinct by moving the last digit of items that collide.

    No level is added. Of items with the same codes the one with the smallest item id keeps them;
    each other one takes the nearest number that is free at the last level under the same prefix,
    the smaller of two. Sensible where few items collide.

    Args:
        codes: Codes of every item, possibly repeated.
        level_sizes: Number of codes at each level.

    Raises:
        InputError: If no number is free under a prefix.
    """
    rows = [tuple(row) for row in codes.tolist()]
    taken, waiting = set(), []
    for item, row in enumerate(rows):
        (waiting.append(item) if row in taken else taken.add(row))
    for item in waiting:
        *prefix, last = rows[item]
        free = (
            digit
            for digit in sorted(range(level_sizes[-1]), key=lambda d: (abs(d - last), d))
            if (*prefix, digit) not in taken
        )
        digit = next(free, None)
        if digit is None:
            raise InputError(
                f"More than {level_sizes[-1]} items share the codes {prefix}, so their last digit "
                "cannot tell them apart; add a collision digit."
            )
        rows[item] = (*prefix, digit)
        taken.add(rows[item])
    return SemanticIdCodec(torch.tensor(rows, dtype=codes.dtype).view(codes.shape), level_sizes)
