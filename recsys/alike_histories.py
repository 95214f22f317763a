"""What a person may prefer, inferred from others whose histories are alike."""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from recsys.batch import HistoryBatch


@dataclass(frozen=True)
class AlikeHistories:
    """What people of the training split preferred, found by histories that are like theirs.

    A person takes the preferences of the other one whose history is nearest: by the cosine of the
    mean texts of what was met, about the mean of all items. Nobody is asked for their own, whatever
    they said, and no target is looked at. All of it is of the training split, as is what the
    recommender itself learnt of other people; it may have been said after the person's present.

    Attributes:
        rows: The newest training row of each person who preferred something there.
        user_ids: Whose each is.
        item_vectors: Unit vector of every item about the mean of all; 0 where it has no text.
    """

    rows: HistoryBatch
    user_ids: Int[Tensor, " person"]
    item_vectors: Float[Tensor, "item width"]

    @classmethod
    def of(
        cls,
        rows: HistoryBatch,
        user_ids: Int[Tensor, " row"],
        item_vectors: Float[Tensor, "item width"],
    ) -> "AlikeHistories":
        """Those of some rows in which anything is preferred.

        Args:
            rows: Training rows, one of each person.
            user_ids: Whose each is.
            item_vectors: Vector of every item's text, 0 where it has none.
        """
        known = item_vectors.abs().sum(1) > 0
        centre = item_vectors[known].mean(0) if bool(known.any()) else 0.0
        vectors = F.normalize((item_vectors - centre) * known[:, None], dim=1)
        told = rows.preference_mask.any(-1)[:, 0].nonzero()[:, 0]
        return cls(rows.rows(told), user_ids[told], vectors)

    def nearest(
        self, histories: HistoryBatch, user_ids: Int[Tensor, " batch"]
    ) -> tuple[Int[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """The row that is most like each history and somebody else's, and whether there is one.

        There is none for a history without texts, and where nobody else preferred anything. Of
        rows that are equally near the first is taken.
        """
        own = self._vectors(histories)
        if not len(self.rows):
            nobody = user_ids.new_zeros(len(own))
            return nobody, nobody.bool()
        cosine = own @ self._vectors(self.rows).T
        cosine = cosine.masked_fill(user_ids[:, None] == self.user_ids, -2.0)
        found = cosine.max(1)
        return found.indices, (found.values > -2.0) & (own.abs().sum(1) > 0)

    def told(self, histories: HistoryBatch, user_ids: Int[Tensor, " batch"]) -> HistoryBatch:
        """The histories with the preferences that are inferred in place of their own."""
        place, there = self.nearest(histories, user_ids)
        if not len(self.rows):
            return replace(
                histories, preference_mask=histories.preference_mask & there[:, None, None]
            )
        stated = self.rows.rows(place)
        mask = stated.preference_mask & there[:, None, None]
        return replace(
            histories,
            preference_text_ids=stated.preference_text_ids * mask,
            preference_mask=mask,
            preference_avoid=stated.preference_avoid & mask,
        )

    def _vectors(self, histories: HistoryBatch) -> Float[Tensor, "batch width"]:
        met = self.item_vectors[histories.history_item_ids] * histories.history_mask.unsqueeze(-1)
        return F.normalize(met.sum(1), dim=1)
