"""What can be wanted of a list of items: its price, popularity, recency, shares and so on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from personalize.evaluation.goal_space import GoalSpace
from personalize.steering.calibration import rank_weights

PRICE, POPULARITY, RECENCY = "price", "popularity", "recency"
CATEGORY, BRAND = "category_share", "brand_share"
SENTIMENT, DIVERSITY = "matched_sentiment", "diversity"
ITEM_GOALS = (PRICE, POPULARITY, RECENCY, CATEGORY, BRAND, SENTIMENT, DIVERSITY)


@dataclass(frozen=True)
class ItemGoals:
    """The raw goal values of items and of lists of them.

    The value of a list is the mean of its items' values, places weighed by `rank_weights`, over
    the items whose value is known. Diversity alone belongs to a list: the mean distance, 1 less
    the cosine, between the texts of its items. The sentiment depends on whom the list is for: it
    is what people said in training of the aspect that this person cares about most.

    Attributes:
        names: One per dimension, in the order of `ITEM_GOALS`; those without data are left out.
        values: Value of every item; 0 where the mask is false, and for sentiment and diversity.
        mask: Where it is known.
        sentiment: What was said of every aspect of every item, -1 to 1; 0 where nothing was.
        text_vectors: Unit vector of every item's text, 0 where it has none.
    """

    names: tuple[str, ...]
    values: Float[Tensor, "item goal"]
    mask: Bool[Tensor, "item goal"]
    sentiment: Float[Tensor, "item aspect"]
    text_vectors: Float[Tensor, "item width"]

    def kept(self, names: Sequence[str]) -> "ItemGoals":
        """These dimensions alone."""
        places = [self.names.index(name) for name in names]
        return replace(
            self, names=tuple(names), values=self.values[:, places], mask=self.mask[:, places]
        )

    def of_items(
        self, item_ids: Int[Tensor, "batch rank"], aspects: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch rank goal"], Bool[Tensor, "batch rank goal"]]:
        """Value of every item for its row, and where it is known.

        Args:
            item_ids: Items; -1 is none.
            aspects: The aspect each row cares about most; -1 is none.
        """
        there = item_ids >= 0
        chosen = item_ids.clamp_min(0)
        values, mask = self.values[chosen], self.mask[chosen]
        if SENTIMENT in self.names:
            place = self.names.index(SENTIMENT)
            said = self.sentiment[chosen, aspects.clamp_min(0)[:, None]]
            cares = (aspects >= 0)[:, None]
            values[..., place] = torch.where(cares, said, 0.0)
            mask[..., place] = cares
        return values * there.unsqueeze(-1), mask & there.unsqueeze(-1)

    def of_lists(
        self, item_ids: Int[Tensor, "batch rank"], aspects: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch goal"], Bool[Tensor, "batch goal"]]:
        """Value of every list, best item first, and where it is known."""
        values, mask = self.of_items(item_ids, aspects)
        weights = rank_weights(item_ids.shape[1]).to(values)[:, None] * mask
        total = weights.sum(1)
        found = (values * weights).sum(1) / total.clamp_min(1e-9)
        known = total > 0
        if DIVERSITY in self.names:
            place = self.names.index(DIVERSITY)
            found[:, place], known[:, place] = self.diversity(item_ids)
        return found, known

    def diversity(
        self, item_ids: Int[Tensor, "batch rank"]
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Mean distance between the texts of a list's items; known with two texts at least."""
        vectors = self.text_vectors[item_ids.clamp_min(0)] * (item_ids >= 0).unsqueeze(-1)
        has = vectors.square().sum(-1) > 0
        count = has.sum(1)
        total = vectors.sum(1).square().sum(-1)  # of all cosines, those with itself included
        pairs = (count * (count - 1)).clamp_min(1)
        return 1 - (total - count) / pairs, count > 1


def normalized_items(
    values: Float[Tensor, "batch rank goal"],
    mask: Bool[Tensor, "batch rank goal"],
    space: GoalSpace,
) -> Float[Tensor, "batch rank goal"]:
    """Values in the units of a goal space, not clipped: what a list's mean is made of.

    What is not known counts as the middle of the space, so that it neither helps nor hurts.
    """
    low = values.new_tensor([dimension.low for dimension in space.dimensions])
    high = values.new_tensor([dimension.high for dimension in space.dimensions])
    return torch.where(mask, (values - low) / (high - low), 0.5)


def shares_of(
    ranks_of: Float[Tensor, " item"], known: Bool[Tensor, " item"]
) -> Float[Tensor, " item"]:
    """Rank of every known value among them, 0 the lowest and 1 the highest; ties share theirs.

    Example:
        >>> shares_of(torch.tensor([5.0, 1.0, 5.0, 9.0]), torch.tensor([True, True, True, False]))
        tensor([0.7500, 0.0000, 0.7500, 0.0000])
    """
    kept = ranks_of[known]
    ordered = kept.sort().values
    low = torch.searchsorted(ordered, kept)
    high = torch.searchsorted(ordered, kept, right=True) - 1
    found = torch.zeros_like(ranks_of)
    found[known] = (low + high).to(found) / 2 / max(len(kept) - 1, 1)
    return found


MEANINGS = {
    PRICE: "dearer: rank of the price among all items",
    POPULARITY: "met more often in training: rank among all items",
    RECENCY: "newer: rank of the day it was met first",
    CATEGORY: "more of the list is of one category",
    BRAND: "more of the list is of one brand",
    SENTIMENT: "people speak better of the aspect that this person cares about most",
    DIVERSITY: "the texts of the list's items are less alike",
}


def unit_texts(vectors: Float[Tensor, "item width"], known: Bool[Tensor, " item"]) -> Tensor:
    """Unit vectors of texts, 0 where an item has none."""
    return F.normalize(vectors, dim=1) * known[:, None]
