"""Retrieval by vectors: what asks for items, and what items are found by."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.recommender import Recommender
from recsys.retriever.generative import last_preferences, last_words
from recsys.retriever.preference_shift import mean_wishes


@runtime_checkable
class DenseRetriever(Protocol):
    """What has a vector for every row and every item; their product is the item's dense score."""

    def dense_queries(self, batch: HistoryBatch) -> Float[Tensor, "batch key"]:
        """What asks for items after each row's last real step, under its preferences."""
        ...

    def dense_keys(self) -> Float[Tensor, "item key"]:
        """What every item is found by."""
        ...


class TextSpace:
    """Items as their texts: for recommenders that have no vectors of their own to search with.

    The query is the unit mean of the texts of the history, plus the mean of what is liked, less
    the mean of what is to be avoided, both by strength (`mean_wishes`). Nothing of it is learned.
    An item without a text has a key of zeros.

    Args:
        catalogue: The items and the vectors of their texts.

    Raises:
        ValueError: If the catalogue has no text vectors.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        if not len(catalogue.text_vectors):
            raise ValueError("the catalogue has no text vectors, so nothing can be found by them.")
        self._texts = F.normalize(catalogue.text_vectors, dim=1)
        self._item_texts: Int[Tensor, " item"] = catalogue.item_text_ids
        self._known: Bool[Tensor, " item"] = catalogue.item_text_mask

    def dense_queries(self, batch: HistoryBatch) -> Float[Tensor, "batch key"]:
        """What the history is about and what is wished; see the class."""
        met = batch.history_item_ids
        real = (batch.history_mask & self._known[met]).unsqueeze(-1)
        about = F.normalize((self._texts[self._item_texts[met]] * real).sum(1), dim=1)
        text_ids, mask, avoid = last_preferences(batch)
        vectors, strength = last_words(batch)
        words = self._texts[text_ids] if vectors is None else F.normalize(vectors, dim=-1)
        wishes = mean_wishes(words, mask, avoid, strength)
        return about + wishes.liked - wishes.avoided

    def dense_keys(self) -> Float[Tensor, "item key"]:
        """The unit vector of every item's text."""
        return torch.where(self._known[:, None], self._texts[self._item_texts], 0.0)


def dense_retriever(recommender: Recommender, catalogue: Catalogue) -> DenseRetriever:
    """The recommender, if it has a dense head, else the space of its catalogue's texts.

    Raises:
        ValueError: If it has none, and the catalogue no text vectors.
    """
    return recommender if isinstance(recommender, DenseRetriever) else TextSpace(catalogue)


def space_name(recommender: Recommender) -> str:
    """Which space `dense_retriever` searches: `model` or `text`."""
    return "model" if isinstance(recommender, DenseRetriever) else "text"
