"""Opens chains to be served, with the goals of the steerability evaluation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_prep.artifact import Artifact
from data_prep.errors import InputError
from personalize.api.goal_limits import evaluated_goal_space, evaluated_options
from personalize.steering.chain import Chain
from recsys.goal_words import GoalTeller, goal_words
from recsys.load import LoadedRecommender
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
        chains=dict(chains),
        space=space,
        goals=goals,
        aspects=half.questions.aspect_names,
        people=half.questions.people_of_prior,
        teller=teller,
    )


def _check(name: str, chain: Chain, loaded: LoadedRecommender) -> None:
    """Refuse what cannot be steered, and what would be left out without a word."""
    recommender = loaded.recommender
    if not isinstance(recommender, GenerativeRetriever | CausalRetriever):
        raise InputError(f"{type(recommender).__name__} cannot be steered; serve no chains of it.")
    parts = {
        "edits": bool(chain.edits.strength and chain.edits.folder),
        "guidance.negative": chain.guidance.negative is not None,
        "selection.critic": bool(chain.selection.critic_weight),
    }
    if not_served := [part for part, asked in parts.items() if asked]:
        raise InputError(
            f"The chain {name} has {not_served[0]}, which is not served for recommendations; leave "
            "it out."
        )
    reads = recommender.weighs_preferences and len(loaded.catalogue.text_vectors)
    if chain.telling.strength and not reads:
        raise InputError(
            f"The chain {name} tells goals in words, which {type(recommender).__name__} does not "
            "read; leave out telling."
        )
