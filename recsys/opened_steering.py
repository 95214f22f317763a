"""Opens chains to be served, with the goals of the steerability evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.artifact import Artifact
from data_prep.errors import InputError
from personalize.api.goal_limits import evaluated_goal_space, evaluated_options
from personalize.steering.chain import Chain
from recsys.batch import HistoryBatch
from recsys.goal_words import GoalTeller, goal_words
from recsys.load import LoadedRecommender
from recsys.opened_chain import Critique, OpenedChain, opened_chain
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.generative import GenerativeRetriever
from recsys.served_steering import ItemSteering
from recsys.steerability import Items


def opened_steering(
    chains: Mapping[str, Chain],
    loaded: LoadedRecommender,
    *,
    preferences: Path | None,
    evaluated: Artifact | None,
    encode: Callable[[Sequence[str]], np.ndarray],
) -> ItemSteering:
    """What steers a recommender.

    Args:
        chains: By name.
        loaded: The recommender.
        preferences: Artifact `preferences` of its tables.
        evaluated: Artifact `steerability`, whose limits are taken; None fits them anew.
        encode: Makes one vector per text.

    Raises:
        InputError: If a chain has a part that is not served, or the limits are of other goals.
    """
    for name, chain in chains.items():
        _check(name, chain, loaded)
    about = {} if evaluated is None else evaluated_options(evaluated, ("category", "brand"))
    source = Items(checkpoint=loaded.folder, preferences=preferences, told=False, **about)
    half = source.opened(loaded)
    space, goals = half.space, half.goals
    if evaluated is not None:
        space = evaluated_goal_space(evaluated, half.space.names)
        goals = half.goals.kept(space.names)
    teller = None
    if any(chain.telling.strength for chain in chains.values()):
        words = goal_words(space.names, half.notes)
        teller = GoalTeller(space.names, words, encode, loaded.catalogue.text_vectors)
    return ItemSteering(
        chains={name: _opened(chain, loaded) for name, chain in chains.items()},
        space=space,
        goals=goals,
        aspects=half.questions.aspect_names,
        people=half.questions.people_of_prior,
        teller=teller,
    )


def _check(name: str, chain: Chain, loaded: LoadedRecommender) -> None:
    """Refuse what cannot be steered, and what would be left out."""
    recommender = loaded.recommender
    if not isinstance(recommender, GenerativeRetriever | CausalRetriever):
        raise InputError(f"{type(recommender).__name__} cannot be steered; serve no chains of it.")
    reads = recommender.weighs_preferences and len(loaded.catalogue.text_vectors)
    if chain.telling.strength and not reads:
        raise InputError(
            f"The chain {name} tells goals in words, which {type(recommender).__name__} does not "
            "read; leave out telling."
        )


def _opened(chain: Chain, loaded: LoadedRecommender) -> OpenedChain:
    """The chain with what it reads; a critic knows nothing of items added since training."""
    opened = opened_chain(chain, loaded)
    if opened.critique is None:
        return opened
    return replace(opened, critique=_KnownItems(opened.critique, loaded.catalogue.item_count))


@dataclass(frozen=True)
class _KnownItems:
    """A critique that gives items from a number on the mean of the others in their row."""

    critique: Critique
    count: int

    def __call__(
        self, batch: HistoryBatch, items: Int[Tensor, "batch candidate"]
    ) -> Float[Tensor, "batch candidate"]:
        added = items >= self.count
        value = self.critique(batch, items.masked_fill(added, -1))
        known = value.masked_fill(added | (items < 0), torch.nan)
        return torch.where(added, known.nanmean(1, keepdim=True).nan_to_num(), value)
