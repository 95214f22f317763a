"""The half that answers for recommendations: questions, items added while serving, people."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from data_prep.errors import InputError
from personalize.api.journal import Journal, JournalMovedError
from personalize.api.messages import (
    AddedItem,
    Item,
    ItemQuery,
    ItemsFound,
    ItemsPage,
    NewItem,
    PreferencesAnswer,
    ReadRequest,
    UserPage,
    UserView,
)
from personalize.api.ports import Answers, ItemsHalf, RequestRefused
from personalize.api.retriever import Retriever
from personalize.api.steered import chain_asked
from recsys.growth import check_growth
from recsys.predict import run_name
from recsys.recommender import ReadsHistoriesApart
from recsys.served_additions import Entry, Served, Trained, accepted, put_keys, reassigned
from recsys.served_answers import Answering
from recsys.served_questions import AskedItems, Asking, RowMaker
from recsys.served_reader import ReviewReader
from recsys.served_search import DenseSearch, GeneratesCodes, GenerativeSearch, HybridSearch, Search
from recsys.served_steering import ItemSteering, SteeredAnswering, SteeredSearch, cares_about
from recsys.served_texts import TextMemory

_APPEND_TRIES = 5
_SAMPLE_REVIEW = "Light enough to carry all day. The strap hurts my shoulder."


class ServedRecommender(ItemsHalf):
    """The half that answers; what it answers from is replaced whole when an item is added.

    A known item that is sent again keeps its id and its semantic ID; its text, its vectors and
    what is shown of it change.

    Args:
        trained: What was trained.
        retriever: Searches the keys of its items.
        asking: What questions are resolved by.
        texts: Vectors of texts.
        reader: Reads reviews.
        journal: What was added; None where nothing can be.
        candidates: Items that are compared at least.
        steering: What steers; None where nothing does.
        hashes: Content hash of every artifact, by name.
    """

    def __init__(  # noqa: PLR0913  (one per part; only `Items.open` calls it)
        self,
        *,
        trained: Trained,
        retriever: Retriever,
        asking: Asking,
        texts: TextMemory,
        reader: ReviewReader,
        journal: Journal | None,
        candidates: int,
        steering: ItemSteering | None,
        hashes: Mapping[str, str],
    ) -> None:
        self._trained = trained
        self._retriever = retriever
        self._asking = asking
        self._texts = texts
        self._reader = reader
        self._journal = journal
        self._candidates = candidates
        self._steering = steering
        self._hashes = hashes
        self._model = run_name(trained.loaded.folder)
        self._serve(Served.as_trained(trained))
        if journal is not None and journal.entries:
            self._take([Entry.from_record(record) for record in journal.entries])

    def retrieve(self, queries: Sequence[ItemQuery]) -> Answers[ItemsFound]:
        """The best items for every query; those of one mode are answered together.

        What a score is, `recsys.served_search` says for each mode. Steered questions are answered
        one by one.
        """
        answers: dict[int, ItemsFound | RequestRefused] = {}
        by_mode: dict[str, list[tuple[int, AskedItems]]] = {}
        for place, query in enumerate(queries):
            try:
                asked = self._resolved(query)
            except RequestRefused as refusal:
                answers[place] = refusal
                continue
            by_mode.setdefault(query.mode, []).append((place, asked))
        with torch.inference_mode():
            for mode, asked in by_mode.items():
                found = self._answers(mode, [question for _, question in asked])
                answers.update(zip([place for place, _ in asked], found, strict=True))
        return [answers[place] for place in range(len(queries))]

    def _answers(self, mode: str, questions: Sequence[AskedItems]) -> list[ItemsFound]:
        plain = [question for question in questions if question.query.steering is None]
        found = iter(self._answering[mode].answers(plain))
        return [
            next(found)
            if question.query.steering is None or self._steered is None
            else SteeredAnswering(self._answering[mode], self._steered, mode).answer(
                question, question.query.steering, cares_about(question, self._asking.people)
            )
            for question in questions
        ]

    def read(self, request: ReadRequest) -> PreferencesAnswer:
        """The preferences in reviews, and the vector they condition on.

        Raises:
            RequestRefused: If it holds no reviews.
        """
        if request.reviews is None:
            raise RequestRefused("Recommendations are read in reviews.", param="reviews")
        with torch.inference_mode():
            return self._reader.read(request.reviews)

    def add(self, items: Sequence[NewItem]) -> Answers[AddedItem]:
        """Add or change items; see the class for what a known one keeps.

        Raises:
            InputError: If this recommender cannot know of new items, or nothing is to be kept.
        """
        if self._journal is None:
            raise RequestRefused("No items can be added here; name a file as added to keep them.")
        self._check_growth()
        with torch.inference_mode():
            for _ in range(_APPEND_TRIES):
                entries, answers = accepted(self._served, self._trained, items, self._texts.vectors)
                grown = self._grown(entries)
                try:
                    self._journal.append([entry.record() for entry in entries])
                except JournalMovedError:  # another process added something: take it over first
                    self.catch_up()
                    continue
                self._swap(grown, entries)
                return list(answers)
        raise InputError("Items could not be kept: another process adds all the time; try again.")

    def catch_up(self) -> None:
        """Take over what another process added since."""
        if self._journal is not None and (news := self._journal.news()):
            with torch.inference_mode():
                self._take([Entry.from_record(record) for record in news])

    def items(self, query: str, *, start: int, count: int) -> ItemsPage:
        """Items whose id, title, brand or category has these words; all where there are none."""
        return self._served.items.page(query, start=start, count=count)

    def item(self, item: str) -> Item:
        """One item.

        Raises:
            RequestRefused: If there is none of this id.
        """
        return self._served.items.item(self._served.items.number(item, param="item"))

    def users(self, query: str, *, start: int, count: int) -> UserPage:
        """Users whose id has this text in it; all where it is empty."""
        return self._asking.people.page(query, start=start, count=count)

    def user(self, user: str) -> UserView:
        """A user's history and what was read in it.

        Raises:
            RequestRefused: If there is none of this id.
        """
        return self._asking.people.view(user, self._served.items)

    def facts(self) -> Mapping[str, Any]:
        """What is served."""
        return {
            "model": self._model,
            "recommender": type(self._served.recommender).__name__,
            "modes": list(self._answering),
            "reads_preferences": self._served.recommender.uses_preferences
            and "preferences" in self._trained.loaded.paths,
            "attributes": [
                {"name": name, "text": self._asking.aspects.sentence(name, "like")}
                for name in self._asking.aspects.names
            ],
            "items": len(self._served.items),
            "items_added": len(self._served.items) - self._served.items.trained,
            "users": len(self._asking.people),
            "compared_at_least": self._candidates,
            "steering": None if self._steering is None else self._steering.facts(),
            "artifacts": dict(self._hashes),
            "retriever": dict(self._retriever.facts()),
        }

    def self_query(self) -> None:
        """Ask itself one question of each kind.

        Raises:
            InputError: If it cannot answer.
        """
        wishes = [{"attribute": self._asking.aspects.names[0]}]
        question = {
            "history": [self._served.items.facts[0].key],
            "preferences": wishes if self._served.recommender.weighs_preferences else [],
            "k": 1,
        }
        queries = [ItemQuery.model_validate(question | {"mode": m}) for m in self._answering]
        if self._steering is not None:
            goals = dict.fromkeys(self._steering.space.names, 1.0)
            asked = [{"chain": chain, "goals": goals} for chain in self._steering.chains]
            last = question | {"mode": list(self._answering)[-1]}
            queries += [ItemQuery.model_validate(last | {"steering": one}) for one in asked]
        for query, answer in zip(queries, self.retrieve(queries), strict=True):
            if isinstance(answer, RequestRefused):
                raise answer
            if len(self._served.items) > 1 and not answer.items:
                raise InputError(f"{self._model} found nothing in the mode {query.mode}.")
        review = {"text": _SAMPLE_REVIEW, "rating": 4}
        self.read(ReadRequest.model_validate({"reviews": [review]}))

    def _resolved(self, query: ItemQuery) -> AskedItems:
        if query.mode not in self._answering:
            raise RequestRefused(
                f"{self._model} cannot be asked in the mode {query.mode}; it knows "
                f"{', '.join(self._answering)}.",
                param="mode",
            )
        if query.steering is not None:
            steering = self._steering
            chains, space = (None, None) if steering is None else (steering.chains, steering.space)
            chain_asked(query.steering, chains, space, param="steering")
        asked = self._asking.resolved(query)
        recommender = self._served.recommender
        if recommender.uses_preferences and not recommender.weighs_preferences:
            for place in asked.weighing:
                wish = asked.wishes[place]
                if wish.strength < 1 or self._texts.number(wish.text) is None:
                    raise RequestRefused(
                        f"{type(recommender).__name__} reads only preferences it knows the words "
                        f"of, at strength 1; {wish.text[:80]!r} is none.",
                        param="preferences",
                    )
        return asked

    def _check_growth(self) -> None:
        """Refuse items where the recommender cannot know them, or nothing says what they are."""
        check_growth(self._trained.loaded)
        if not len(self._trained.catalogue.text_vectors):
            raise InputError("No item can be added without text vectors; name some as vectors.")
        if self._trained.catalogue.level_sizes and self._trained.quantizer is None:
            raise InputError(
                "No item can be added: its semantic IDs hold no quantizer; run recsys tokenize."
            )

    def _grown(self, entries: Sequence[Entry]) -> Served:
        if not entries:
            return self._served
        return self._served.grown(self._trained, entries, self._texts.vectors)

    def _take(self, entries: Sequence[Entry]) -> None:
        """Take over entries of the journal."""
        self._check_growth()
        present = reassigned(self._served, self._trained, entries, self._texts.vectors)
        self._swap(self._grown(present), present)

    def _swap(self, grown: Served, entries: Sequence[Entry]) -> None:
        """Answer from now on with what was added."""
        if not entries:
            return
        if grown.space is not None:
            numbers = [grown.items.number(entry.item.id) for entry in entries]
            put_keys(self._retriever, grown, numbers)
        self._serve(grown)

    def _serve(self, served: Served) -> None:
        self._served = served
        steering = self._steering
        self._steered = None if steering is None else SteeredSearch(steering, served)
        self._asking = Asking(
            served.items, self._asking.people, self._asking.aspects, self._asking.preference_count
        )
        maximum = self._trained.loaded.maximum_history
        recommender = served.recommender
        reader = recommender if isinstance(recommender, ReadsHistoriesApart) else None
        self._answering = {
            mode: Answering(
                model=self._model,
                search=search,
                rows=RowMaker(
                    texts=self._texts,
                    maximum_history=maximum,
                    wishes=recommender.uses_preferences or by_text,
                    vectors=recommender.weighs_preferences or by_text,
                    reader=None if by_text else reader,
                ),
                items=served.items,
                candidates=self._candidates,
            )
            for mode, search, by_text in _searches(served, self._retriever)
        }


def _searches(served: Served, retriever: Retriever) -> list[tuple[str, Search, bool]]:
    """Every mode that can be asked: its search, and whether it scores by texts, not the model."""
    recommender = served.recommender
    found: list[tuple[str, Search, bool]] = []
    dense = None
    if served.space is not None:
        dense = DenseSearch(served.space, served.keys, retriever)
        found.append(("dense", dense, served.space is not recommender))
    if isinstance(recommender, GeneratesCodes) and recommender.trie is not None:
        generative = GenerativeSearch(recommender, recommender.trie)
        added = np.arange(served.items.trained, len(served.items))
        found.append(("generative", generative, False))
        if dense is not None:
            hybrid = HybridSearch(generative, dense, added)
            found.append(("hybrid", hybrid, served.space is not recommender))
    return found
