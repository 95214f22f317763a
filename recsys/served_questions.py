"""What is asked for, resolved: histories and wishes as numbers, and the rows a model answers.

Every question becomes a few rows: as asked, without any wish, and once without each single wish.
So what a preference did to an item is not estimated but asked again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from personalize.api.messages import ItemQuery, UsedWish, Wish
from personalize.api.ports import RequestRefused
from personalize.preferences.aspects import AspectList
from recsys.batch import HistoryBatch
from recsys.collate import RowPreferences, prefix_batch, windows
from recsys.recommender import ReadsHistoriesApart
from recsys.served_items import Allowed, ServedItems
from recsys.served_people import ServedPeople
from recsys.served_texts import TextMemory


@dataclass(frozen=True)
class AskedItems:
    """One question, resolved.

    Attributes:
        query: As it was asked.
        history: Items met, oldest first.
        wishes: Preferences as they are used, in the order asked.
        weighing: Places in `wishes` of those that weigh anything, in an order of their own that
            does not depend on the order asked.
        allowed: What its filters let pass.
    """

    query: ItemQuery
    history: Int[np.ndarray, " step"]
    wishes: tuple[UsedWish, ...]
    weighing: tuple[int, ...]
    allowed: Allowed

    @property
    def without_seen(self) -> bool:
        """Whether items of the history may not be found."""
        return self.query.filters.seen == "exclude"


@dataclass(frozen=True)
class Asking:
    """What questions are resolved by.

    Attributes:
        items: The items.
        people: The users.
        aspects: What attributes are called, and the sentences they stand for.
        preference_count: Most preferences of a user that are taken where none are given.
    """

    items: ServedItems
    people: ServedPeople
    aspects: AspectList
    preference_count: int

    def resolved(self, query: ItemQuery) -> AskedItems:
        """A question with its defaults filled in.

        Raises:
            RequestRefused: If it names what does not exist.
        """
        user = None if query.user is None else self.people.number(query.user)
        history = np.zeros(0, np.int64)
        if query.history is not None:
            history = self.items.numbers(query.history, param="history")
        elif user is not None:
            history = self.people.history(user)
        wishes: tuple[UsedWish, ...] = ()
        if query.preferences is not None:
            wishes = tuple(self._used(wish) for wish in query.preferences)
        elif user is not None:
            known = self.people.preferences(user)[: self.preference_count]
            wishes = tuple(UsedWish(text=p.text, polarity=p.polarity, strength=1.0) for p in known)
        places = [place for place, wish in enumerate(wishes) if wish.strength > 0]
        places.sort(key=lambda p: (wishes[p].polarity, wishes[p].text, wishes[p].strength))
        allowed = self.items.allowed(query.filters)
        return AskedItems(query, history, wishes, tuple(places), allowed)

    def _used(self, wish: Wish) -> UsedWish:
        text = wish.text
        if wish.attribute is not None:
            if wish.attribute not in self.aspects.aspects:
                raise RequestRefused(
                    f"There is no attribute {wish.attribute!r}; known are "
                    f"{', '.join(self.aspects.names)}.",
                    param="preferences",
                )
            text = self.aspects.sentence(wish.attribute, wish.polarity)
        return UsedWish(
            text=text or "",
            polarity=wish.polarity,
            strength=wish.strength,
            attribute=wish.attribute,
        )


@dataclass(frozen=True)
class Rows:
    """The rows that answer some questions, one question's after another's.

    Attributes:
        batch: The rows.
        owner: Which question each row belongs to.
        asked: The row of each question as it was asked.
        without: Its row without any wish; the same where it has none.
        left_out: For each question, the row without each of its weighing wishes; empty where that
            was not asked.
    """

    batch: HistoryBatch
    owner: Int[np.ndarray, " row"]
    asked: Int[np.ndarray, " question"]
    without: Int[np.ndarray, " question"]
    left_out: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class RowMaker:
    """Makes rows of questions.

    Attributes:
        texts: Vectors of texts.
        maximum_history: Newest items of a history that are read.
        wishes: Whether wishes change the answer; where they do not, a question is one row.
        vectors: Whether wishes travel as vectors with a strength, or as numbers of known texts.
        reader: Reads a history once for all its rows; None where rows are read one by one.
    """

    texts: TextMemory
    maximum_history: int
    wishes: bool
    vectors: bool
    reader: ReadsHistoriesApart | None = None

    def rows(self, questions: Sequence[AskedItems]) -> Rows:
        """The rows of these questions."""
        counts = [len(question.weighing) if self.wishes else 0 for question in questions]
        variants = [
            _variants(n, explain=q.query.explain) for n, q in zip(counts, questions, strict=True)
        ]
        asked = np.concatenate([[0], np.cumsum([len(v) for v in variants])[:-1]]).astype(np.int64)
        owner = np.repeat(np.arange(len(questions)), [len(v) for v in variants])
        width = max(1, *counts, 1)
        kept = np.zeros((len(owner), width), np.bool_)
        for start, count, masks in zip(asked.tolist(), counts, variants, strict=True):
            kept[start : start + len(masks), :count] = masks
        left_out = [
            tuple(range(start + 2, start + len(masks)))
            if len(masks) > 2
            else ((start + 1,) if count == 1 and question.query.explain else ())
            for question, start, count, masks in zip(
                questions, asked.tolist(), counts, variants, strict=True
            )
        ]
        several = np.array([len(masks) > 1 for masks in variants], np.int64)
        batch = self._batch(questions, owner, kept, counts)
        return Rows(batch, owner, asked, asked + several, tuple(left_out))

    def _batch(
        self,
        questions: Sequence[AskedItems],
        owner: Int[np.ndarray, " row"],
        kept: Bool[np.ndarray, "row preference"],
        counts: Sequence[int],
    ) -> HistoryBatch:
        shown = [question.history[-self.maximum_history :] for question in questions]
        lengths = np.array([len(history) for history in shown])
        histories = windows(np.concatenate(shown), lengths.cumsum() - lengths, lengths)
        words = self._words(questions, counts, kept.shape[1])
        batch = prefix_batch(
            np.arange(len(owner)),
            type(histories)(histories.values[owner], histories.mask[owner]),
            np.zeros(len(owner), np.int64),
            RowPreferences(words.text_ids[owner], kept, words.avoid[owner] & kept),
        )
        if self.reader is not None:
            first = torch.from_numpy(np.unique(owner, return_index=True)[1])
            states = self.reader.read_histories(batch.rows(first))
            batch = replace(batch, history_states=states[torch.from_numpy(owner)])
        if not self.vectors:
            return batch
        return replace(
            batch,
            preference_vectors=torch.from_numpy(words.vectors[owner]).unsqueeze(1),
            preference_strength=torch.from_numpy(words.strength[owner]).unsqueeze(1),
        )

    def _words(
        self, questions: Sequence[AskedItems], counts: Sequence[int], width: int
    ) -> "_Words":
        """The wishes of every question, padded."""
        shape = (len(questions), width)
        words = _Words(
            np.zeros(shape, np.int64),
            np.zeros(shape, np.bool_),
            np.zeros(shape, np.float32),
            np.zeros((*shape, self.texts.width if self.vectors else 0), np.float32),
        )
        places, texts = [], []
        for row, (question, count) in enumerate(zip(questions, counts, strict=True)):
            for place, number in enumerate(question.weighing[:count]):
                wish = question.wishes[number]
                places.append((row, place))
                texts.append(wish.text)
                words.text_ids[row, place] = self.texts.number(wish.text) or 0
                words.avoid[row, place] = wish.polarity == "avoid"
                words.strength[row, place] = wish.strength
        if texts and self.vectors:
            rows, columns = zip(*places, strict=True)
            words.vectors[rows, columns] = self.texts.vectors(texts)
        return words


@dataclass(frozen=True)
class _Words:
    text_ids: Int[np.ndarray, "question preference"]
    avoid: Bool[np.ndarray, "question preference"]
    strength: Float[np.ndarray, "question preference"]
    vectors: Float[np.ndarray, "question preference width"]


def _variants(count: int, *, explain: bool) -> Bool[np.ndarray, "variant preference"]:
    """Which wishes each row of a question keeps: all, none, then all but one."""
    if not count:
        return np.zeros((1, 0), np.bool_)
    rows = [np.ones((1, count), np.bool_), np.zeros((1, count), np.bool_)]
    if explain and count > 1:  # without the only one is without any
        rows.append(~np.eye(count, dtype=np.bool_))
    return np.concatenate(rows)
