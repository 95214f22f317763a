"""What a critic of items sees: histories as a recommender reads them, wishes, and item vectors."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.errors import InputError
from personalize.rewards.critic import CriticContext
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.dense import DenseRetriever, dense_retriever
from recsys.load import LoadedRecommender
from recsys.recommender import ReadsHistoriesApart, Recommender
from recsys.retriever.generative import last_preferences, last_words
from recsys.retriever.preference_shift import mean_wishes


@dataclass(frozen=True)
class CriticReader:
    """What a critic sees of histories, preferences and items.

    Attributes:
        recommender: In evaluation mode.
        catalogue: What it was built from.
        space: Where items have vectors: the recommender's own keys, else its texts'.
    """

    recommender: Recommender
    catalogue: Catalogue
    space: DenseRetriever

    @classmethod
    def of(cls, loaded: LoadedRecommender) -> "CriticReader":
        """The reader of a trained recommender.

        Raises:
            InputError: If items have no vectors.
        """
        try:
            space = dense_retriever(loaded.recommender, loaded.catalogue)
        except ValueError as error:
            raise InputError(
                f"{loaded.folder} was trained without vectors, so a critic sees nothing of its "
                "items; take a recommender that was trained with data.vectors."
            ) from error
        return cls(loaded.recommender, loaded.catalogue, space)

    @torch.no_grad()
    def context(self, batch: HistoryBatch) -> CriticContext:
        """Histories as the recommender reads them, and what is liked less what is avoided."""
        text_ids, mask, avoid = last_preferences(batch)
        vectors, strength = last_words(batch)
        words = self.catalogue.text_vectors.to(mask.device)
        told = (words[text_ids] if vectors is None else vectors) if len(words) else None
        if told is None:
            preference = torch.zeros(len(batch), 0)
        else:
            wishes = mean_wishes(told, mask, avoid, strength)
            preference = wishes.liked - wishes.avoided
        if isinstance(self.recommender, ReadsHistoriesApart):
            return CriticContext(self.recommender.read_histories(batch), preference)
        unasked = replace(batch, preference_mask=torch.zeros_like(batch.preference_mask))
        return CriticContext(self.space.dense_queries(unasked), preference)

    @torch.no_grad()
    def actions(self) -> Float[Tensor, "item action"]:
        """The vector of every item."""
        return self.space.dense_keys().float()
