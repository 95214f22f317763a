"""What a retriever may know of the items and texts: codes, vectors and words, by number."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Catalogue:
    """The data behind the numbers in a `HistoryBatch`.

    Attributes:
        item_codes: Semantic ID of every item, the collision digit last; no columns without codes.
        level_sizes: Number of codes at each level, as many as `item_codes` has columns.
        item_text_ids: Text each item is known by, 0 where the mask is false.
        item_text_mask: Which items have a text.
        text_vectors: Vector of every text of items and preferences; no rows without texts.
        texts: The texts themselves, for retrievers that read words.
    """

    item_codes: Int[Tensor, "item level"]
    level_sizes: tuple[int, ...]
    item_text_ids: Int[Tensor, " item"]
    item_text_mask: Bool[Tensor, " item"]
    text_vectors: Float[Tensor, "text width"]
    texts: tuple[str, ...] = ()

    @property
    def item_count(self) -> int:
        """Number of items."""
        return self.item_codes.shape[0]

    @property
    def text_width(self) -> int:
        """Length of a text vector."""
        return self.text_vectors.shape[1]


def catalogue_sizes(catalogue: Catalogue) -> dict[str, int | list[int]]:
    """The sizes a network depends on: items, codes of each level, texts and width of a vector."""
    return {
        "item_count": catalogue.item_count,
        "level_sizes": list(catalogue.level_sizes),
        "text_count": catalogue.text_vectors.shape[0],
        "text_width": catalogue.text_width,
    }
