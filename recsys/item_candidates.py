"""Which items are compared in a context, and the target spoilt by degrees."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.errors import InputError
from recsys.catalogue import Catalogue
from recsys.semantic_id.trie import SemanticIdTrie


@dataclass(frozen=True)
class ItemCandidates:
    """Which items are candidates in a context, beside the one that was met next.

    Attributes:
        beam: Likeliest items.
        drawn: Items drawn by their probability; what is drawn twice counts once.
        swapped: Judge them under another person's preferences too, and with likes and avoids
            exchanged: three times the rows.
        spoilt: Highest degree to which the item that was met next is spoilt. Of every degree from
            1 on one item is taken that shares all leading codes with it but so many, where there
            is one; the reward `KeptCodes` tells the degrees.

    Raises:
        ValueError: If a number is negative.
    """

    beam: int = 20
    drawn: int = 0
    swapped: bool = False
    spoilt: int = 0

    def __post_init__(self) -> None:
        if min(self.beam, self.drawn, self.spoilt) < 0:
            raise ValueError(
                "beam, drawn and spoilt must not be negative: "
                f"{self.beam}, {self.drawn}, {self.spoilt}."
            )

    def trie_of(self, catalogue: Catalogue) -> SemanticIdTrie | None:
        """What spoilt items are found in; None where there are to be none.

        Raises:
            InputError: If there are no semantic IDs, or fewer levels than degrees.
        """
        if not self.spoilt:
            return None
        levels = len(catalogue.level_sizes)
        if self.spoilt > levels:
            raise InputError(
                f"candidates.spoilt is {self.spoilt}, but the recommender's semantic IDs have "
                f"{levels} levels; a degree spoils one."
                if levels
                else "candidates.spoilt needs semantic IDs, and this recommender has none."
            )
        return SemanticIdTrie(catalogue.item_codes.long(), tuple(catalogue.level_sizes))


def spoilt_items(
    trie: SemanticIdTrie, targets: Int[Tensor, " row"], degrees: int, *, seed: int
) -> Int[Tensor, "row degree"]:
    """For every degree an item that keeps exactly the leading codes but so many.

    Args:
        trie: All semantic IDs.
        targets: Items to spoil.
        degrees: The highest degree, at most as many as there are levels.
        seed: Of which item is taken, of several; every row takes the same random numbers.

    Returns:
        Items, degree 1 first; the target itself where no item keeps exactly so much.
    """
    path = [torch.zeros_like(targets), *trie.ancestors(targets)]
    uniform = torch.rand(degrees, generator=torch.Generator().manual_seed(seed)).to(targets.device)
    found = []
    for degree in range(1, degrees + 1):
        kept = trie.level_count - degree
        first, end = trie.leaf_range(kept, path[kept])
        nearer, nearer_end = trie.leaf_range(kept + 1, path[kept + 1])
        among = end - first - (nearer_end - nearer)
        leaf = first + (uniform[degree - 1] * among).long().clamp_max(among - 1)
        leaf = torch.where(leaf >= nearer, leaf + nearer_end - nearer, leaf)
        items = trie.item_of_leaf[leaf.clamp(0, trie.item_count - 1)].long()
        found.append(torch.where(among > 0, items, targets))
    return torch.stack(found, 1)
