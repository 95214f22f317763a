"""Steered questions: lists that chains bring nearer to goals, and what they reached."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.api.messages import ItemsFound, Steered, Steering
from personalize.api.steered import Measured, goals_asked, reached, steering_facts
from personalize.evaluation.goal_space import GoalSpace
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.goal_words import GoalTeller
from recsys.goals import ItemGoals, unit_texts
from recsys.opened_chain import OpenedChain
from recsys.proposals import Proposer, TrieProposer
from recsys.recommender import Filters
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.generative import GenerativeRetriever
from recsys.retriever.lookahead import TriePrior, population_prior
from recsys.served_additions import Served
from recsys.served_answers import Answering, Compared
from recsys.served_people import ServedPeople
from recsys.served_proposals import HybridProposer, dense_proposer
from recsys.served_questions import AskedItems
from recsys.served_search import scored
from recsys.steered import PLAIN, ItemRequest, SteeredItems


@dataclass(frozen=True)
class ItemSteering:
    """What steers, as it was opened.

    Attributes:
        chains: By name.
        space: The goals with their limits.
        goals: Goal values of the items that were trained on.
        aspects: Names of the aspects, by number.
        people: Whose recommendations the prior of the look-ahead is the mean of.
        teller: Tells goals in words; None where no chain does.
    """

    chains: Mapping[str, OpenedChain]
    space: GoalSpace
    goals: ItemGoals
    aspects: tuple[str, ...]
    people: HistoryBatch
    teller: GoalTeller | None

    def facts(self) -> dict[str, Any]:
        """What is served."""
        return steering_facts(self.chains, self.space)

    def goals_of(self, catalogue: Catalogue) -> ItemGoals:
        """Goal values of all items; of those added since training only the text is known."""
        known = len(self.goals.values)
        added = catalogue.item_count - known
        if not added:
            return self.goals
        vectors = self.goals.text_vectors
        texts = torch.zeros(added, vectors.shape[1])
        if len(catalogue.text_vectors) and vectors.shape[1] == catalogue.text_width:
            words = catalogue.text_vectors[catalogue.item_text_ids[known:]]
            texts = unit_texts(words, catalogue.item_text_mask[known:])
        return replace(
            self.goals,
            values=_longer(self.goals.values, added),
            mask=_longer(self.goals.mask, added),
            sentiment=_longer(self.goals.sentiment, added),
            text_vectors=torch.cat([vectors, texts]),
        )


@dataclass(frozen=True)
class SteeredSearch:
    """What steered candidates come from at one moment; items that are added replace it whole.

    Attributes:
        steering: What steers.
        served: What is served.
    """

    steering: ItemSteering
    served: Served

    @cached_property
    def goals(self) -> ItemGoals:
        """Goal values of all items."""
        return self.steering.goals_of(self.served.catalogue)

    @cached_property
    def prior(self) -> TriePrior:
        """The trie with the mean over some people."""
        generator = self._generator
        trie = generator.trie
        if trie is None:
            raise TypeError("there are no semantic IDs to generate.")
        mean = population_prior(generator.code_decoder(), self.steering.people, trie)
        return TriePrior(trie, mean)

    @property
    def _generator(self) -> GenerativeRetriever | CausalRetriever:
        recommender = self.served.recommender
        if not isinstance(recommender, GenerativeRetriever | CausalRetriever):
            raise TypeError(f"{type(recommender).__name__} generates no semantic IDs.")
        return recommender

    def measured(self, item_ids: Int[Tensor, "one rank"], aspects: Int[Tensor, " one"]) -> Measured:
        """Goal values of one list."""
        values, known = self.goals.of_lists(item_ids, aspects)
        return values[0], known[0]

    def proposer(self, mode: str, width: int) -> Proposer:
        """Where candidates of a mode come from."""
        served = self.served
        if mode == "generative":
            return self._generated(width)
        if served.space is None:
            raise TypeError("there is no space to search by vectors.")
        dense = dense_proposer(served.recommender, served.space, served.keys, width)
        if mode == "dense":
            return dense
        added = torch.arange(len(served.items)) >= served.items.trained
        return HybridProposer(self._generated(width), dense, added, served.recommender)

    def _generated(self, width: int) -> TrieProposer:
        return TrieProposer(self._generator, self.prior, width=width)


@dataclass(frozen=True)
class SteeredAnswering:
    """How steered questions of one mode are answered, each for itself.

    Attributes:
        answering: How others are answered.
        search: What candidates come from.
        mode: The mode.
    """

    answering: Answering
    search: SteeredSearch
    mode: str

    def answer(self, question: AskedItems, asked: Steering, aspect: str | None) -> ItemsFound:
        """A steered list, with what it reached and what each preference did in it.

        Args:
            question: What is asked.
            asked: The chain and the goals.
            aspect: What the person cares about most, for the matched sentiment.
        """
        steering = self.search.steering
        if not asked.goals:
            (plain,) = self.answering.answers([question])
            return plain.model_copy(update={"steered": Steered(chain=asked.chain, goals=[])})
        rows = self.answering.rows.rows([question])
        request = ItemRequest(
            batch=replace(rows.batch.rows(torch.from_numpy(rows.asked)), history_states=None),
            aspects=torch.tensor([_number(aspect, steering.aspects)]),
            goals=goals_asked(asked, steering.space),
            count=min(question.query.k, len(self.answering.items)),
            filters=_filters(question, len(self.answering.items)),
        )
        proposer = self.search.proposer(self.mode, self.answering.count(question))
        without, found = (
            SteeredItems(proposer, self.search.goals, steering.space, chain, teller=steering.teller)
            .recommend(request)
            .found
            for chain in (PLAIN, steering.chains[asked.chain])
        )
        there = found.item_ids[0] >= 0
        items, scores = found.item_ids[0][there].numpy(), found.scores[0][there].numpy()
        repeated = np.tile(items, (len(rows.owner), 1))
        own = scored(self.answering.search, rows.batch, repeated)
        worth = scores - own[rows.asked[0]]
        compared = Compared.of(rows, 0, own + worth)
        answer = self.answering.message(question, items, compared, np.arange(len(items)))
        steered = reached(
            asked,
            steering.space,
            self.search.measured(without.item_ids, request.aspects),
            self.search.measured(found.item_ids, request.aspects),
        )
        return answer.model_copy(update={"steered": steered})


def cares_about(question: AskedItems, people: ServedPeople) -> str | None:
    """The aspect somebody cares about most: the strongest that is asked for, or the first read."""
    query = question.query
    if query.preferences is not None:
        named = [wish for wish in query.preferences if wish.attribute and wish.strength > 0]
        return max(named, key=lambda wish: wish.strength).attribute if named else None
    read = () if query.user is None else people.preferences(people.number(query.user))
    return read[0].aspect if read else None


def _filters(question: AskedItems, count: int) -> Filters:
    """What may be found; seen items beyond those that are read are left out here."""
    mask = torch.ones(count, dtype=torch.bool)
    if question.allowed.mask is not None:
        mask = torch.from_numpy(question.allowed.mask.copy())
    if question.without_seen:
        mask[torch.from_numpy(question.history)] = False
    return Filters(allowed_items=mask)


def _number(aspect: str | None, names: tuple[str, ...]) -> int:
    return names.index(aspect) if aspect in names else -1


def _longer(values: Tensor, count: int) -> Float[Tensor, "item _"] | Tensor:
    return torch.cat([values, values.new_zeros(count, values.shape[1])])
