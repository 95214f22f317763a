"""How a recommender that reads wishes is told a goal: in words, with a strength."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from personalize.steering.goals import Goals
from recsys.batch import HistoryBatch
from recsys.goals import BRAND, CATEGORY, POPULARITY, PRICE, RECENCY

MIDDLE = 0.5


@dataclass(frozen=True)
class Words:
    """What stands for the two ends of a dimension.

    Attributes:
        more: A wish for more of it.
        less: A wish for less of it; None asks to avoid what `more` says.
    """

    more: str
    less: str | None


WORDS: Mapping[str, Words] = {
    PRICE: Words("Looks for expensive, premium things.", "Looks for cheap things at a low price."),
    POPULARITY: Words("Looks for popular best sellers.", "Looks for rare things that few buy."),
    RECENCY: Words("Looks for the newest models.", "Looks for old, classic models."),
}


def goal_words(names: Sequence[str], about: Mapping[str, str]) -> Mapping[str, Words]:
    """The words of every dimension that has some.

    Args:
        names: Dimensions of the goal space.
        about: What the shares are of, as `item_goals` notes it.
    """
    found = {name: WORDS[name] for name in names if name in WORDS}
    for name in (CATEGORY, BRAND):
        if name in names:
            found[name] = Words(f"Looks for {about[name].removeprefix('share of ')}.", None)
    return found


class GoalTeller:
    """Adds wishes to a batch: one for every dimension asked, as strong as the goal is far out.

    A goal in the middle of its dimension is not told; one at an end is told with full strength.
    Dimensions without words, such as diversity, cannot be told.
    """

    def __init__(
        self,
        names: Sequence[str],
        words: Mapping[str, Words],
        encode: Callable[[Sequence[str]], np.ndarray],
        text_vectors: Float[Tensor, "text width"],
    ) -> None:
        """Encode the words.

        Args:
            names: Dimensions of the goal space, in order.
            words: Words of some of them.
            encode: Makes one vector per text.
            text_vectors: Vectors of the catalogue's texts, which the batch's own wishes are.
        """
        self._texts = text_vectors
        width = text_vectors.shape[1]
        self._vectors = torch.zeros(2, len(names), width)
        self._avoid = torch.zeros(2, len(names), dtype=torch.bool)
        self._there = torch.tensor([name in words for name in names], dtype=torch.bool)
        for place, name in enumerate(names):
            if name in words:
                less = words[name].less
                texts = [words[name].more if less is None else less, words[name].more]
                self._vectors[:, place] = torch.from_numpy(np.asarray(encode(texts))).float()
                self._avoid[0, place] = less is None

    def tell(self, batch: HistoryBatch, goals: Goals, *, strength: float) -> HistoryBatch:
        """The batch with one more wish per dimension; 0 gives the batch itself."""
        if strength == 0:
            return batch
        rows, targets = batch.preference_mask.shape[:2]
        more = (goals.values > MIDDLE).long()
        place = torch.arange(more.shape[1])
        vectors, avoid = self._vectors[more, place], self._avoid[more, place]
        far = (goals.values - MIDDLE).abs() / MIDDLE * strength
        mask = goals.mask & self._there & (far > 0)
        own = batch.preference_vectors
        own = self._texts[batch.preference_text_ids] if own is None else own
        weight = batch.preference_strength
        weight = torch.ones(own.shape[:-1]) if weight is None else weight

        def joined(first: Tensor, second: Tensor) -> Tensor:
            second = second.unsqueeze(1).expand(rows, targets, *second.shape[1:])
            return torch.cat([first, second.to(first.dtype)], dim=2)

        return replace(
            batch,
            preference_text_ids=joined(batch.preference_text_ids, torch.zeros_like(more)),
            preference_mask=joined(batch.preference_mask, mask),
            preference_avoid=joined(batch.preference_avoid, avoid),
            preference_vectors=joined(own, vectors),
            preference_strength=joined(weight, far.clamp(0, 1)),
        )
