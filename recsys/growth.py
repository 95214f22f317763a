"""Items that came after training: a larger catalogue, and a trained recommender that knows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from personalize.checkpoint import KIND
from recsys.catalogue import Catalogue
from recsys.load import LoadedRecommender, untrained_recommender
from recsys.recommender import Recommender


@runtime_checkable
class GrowsWithCatalogue(Protocol):
    """What can recommend items it was not trained on, by their texts and codes."""

    def take_over(self, trained: Recommender) -> None:
        """Become a trained one whose items are the first of this one's."""
        ...


@dataclass(frozen=True)
class ItemWords:
    """What an item is known by from now on: its text and the vector of that."""

    text: str
    vector: Float[np.ndarray, " width"]


def grown_catalogue(
    base: Catalogue, *, words: Mapping[int, ItemWords], new_codes: Int[Tensor, "new level"]
) -> Catalogue:
    """The catalogue with items at its end, and some of its items known by other words.

    Args:
        base: The catalogue before.
        words: Text of every new item, and of known ones whose text changed, by item id.
        new_codes: Semantic IDs of the new items.

    Raises:
        ValueError: If a new item has no words, or an item id lies outside the grown catalogue.
    """
    count = base.item_count + len(new_codes)
    if not set(range(base.item_count, count)) <= set(words) <= set(range(count)):
        raise ValueError(f"words must be of items below {count}, and of every new one.")
    item_ids = torch.tensor(sorted(words), dtype=torch.long)
    text_ids = torch.cat([base.item_text_ids, torch.zeros(len(new_codes), dtype=torch.long)])
    text_mask = torch.cat([base.item_text_mask, torch.zeros(len(new_codes), dtype=torch.bool)])
    text_ids[item_ids] = len(base.text_vectors) + torch.arange(len(item_ids))
    text_mask[item_ids] = True
    vectors = [torch.from_numpy(np.array(words[item].vector)) for item in item_ids.tolist()]
    texts = tuple(words[item].text for item in item_ids.tolist())
    return Catalogue(
        item_codes=torch.cat([base.item_codes.long(), new_codes.long()]),
        level_sizes=base.level_sizes,
        item_text_ids=text_ids,
        item_text_mask=text_mask,
        text_vectors=torch.cat([base.text_vectors, torch.stack(vectors)])
        if vectors
        else (base.text_vectors),
        texts=(*base.texts, *texts) if base.texts else (),
    )


def grown_recommender(
    loaded: LoadedRecommender,
    catalogue: Catalogue,
    changes: Mapping[str, Any] | None = None,
) -> Recommender:
    """The trained recommender for a grown catalogue, in evaluation mode.

    What it learned stays as it is; a new item has no embedding of its own.

    Args:
        loaded: The recommender as it was trained.
        catalogue: Its catalogue, grown; texts are left away where it was trained without.
        changes: Options that were changed when it was loaded.

    Raises:
        InputError: If it knows items by number alone, so that a new one means nothing to it.
    """
    check_growth(loaded)
    if not len(loaded.catalogue.text_vectors):
        catalogue = without_texts(catalogue)
    source = read_artifact(loaded.folder, kind=KIND, verify=False)
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn and thrown away
        recommender = untrained_recommender(source, catalogue, changes)
    if isinstance(recommender, GrowsWithCatalogue):
        recommender.take_over(loaded.recommender)
    return recommender.eval()


def check_growth(loaded: LoadedRecommender) -> None:
    """Refuse a recommender that cannot learn of new items without training.

    Raises:
        InputError: If it knows items by number alone.
    """
    name = type(loaded.recommender).__name__
    if not isinstance(loaded.recommender, GrowsWithCatalogue):
        raise InputError(
            f"{name} knows items by their number alone, so none can be added; serve a "
            "CausalRetriever, MenderEmb, MenderTok or TIGER to add items."
        )


def without_texts(catalogue: Catalogue) -> Catalogue:
    """The same items, known by their codes alone."""
    return Catalogue(
        item_codes=catalogue.item_codes,
        level_sizes=catalogue.level_sizes,
        item_text_ids=torch.zeros_like(catalogue.item_text_ids),
        item_text_mask=torch.zeros_like(catalogue.item_text_mask),
        text_vectors=torch.zeros(0, 0),
    )
