"""The first codes of a semantic ID given: the coarse category is chosen, the model finishes."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from recsys.recommender import Filters
from recsys.semantic_id.trie import SemanticIdTrie


@dataclass(frozen=True)
class PrefixClamp:
    """Lets only items through whose semantic ID begins with some codes.

    A beam search under it takes no beam outside the prefix, and ranks the items under it as a
    search of the whole catalogue would.

    Attributes:
        codes: The first codes, in order; none clamp nothing.

    Source:
        An editable plan before the action, in the manner of MolmoAct (Lee et al., 2025,
        arXiv:2508.07917); that a prefix of codes is the recommender's plan is ours.
    """

    codes: tuple[int, ...] = ()

    def allowed_items(self, trie: SemanticIdTrie) -> Bool[Tensor, " item"]:
        """Which items of the catalogue begin so.

        Raises:
            ValueError: If none does, or there are more codes than levels.
        """
        if len(self.codes) > trie.level_count:
            raise ValueError(
                f"a prefix has at most {trie.level_count} codes here, got {len(self.codes)}."
            )
        node = 0
        for level, code in enumerate(self.codes):
            first, end = trie.first_child(level)[node : node + 2].tolist()
            places = (trie.code(level)[first:end] == code).nonzero()
            if not len(places):
                raise ValueError(f"no item's semantic ID begins with {self.codes[: level + 1]}.")
            node = first + int(places[0, 0])
        first, end = node, node + 1
        for level in range(len(self.codes), trie.level_count):
            first, end = trie.first_child(level)[[first, end]].tolist()
        allowed = torch.zeros(trie.item_count, dtype=torch.bool, device=trie.item_of_leaf.device)
        allowed[trie.item_of_leaf[first:end].long()] = True
        return allowed

    def __call__(self, filters: Filters, trie: SemanticIdTrie) -> Filters:
        """The filters, narrowed to the items under the prefix."""
        if not self.codes:
            return filters
        allowed = self.allowed_items(trie)
        if filters.allowed_items is not None:
            allowed = allowed & filters.allowed_items
        return replace(filters, allowed_items=allowed)
