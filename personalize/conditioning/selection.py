"""SLOT SelectionPolicy: which of a subject's preferences condition one recommendation."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from data_prep.errors import InputError

_CHUNK_PAIRS = 200_000
_POSITIONS = 1 << 32


@dataclass(frozen=True)
class PreferenceIndex:
    """Preferences as arrays, sorted by subject, position and number.

    Attributes:
        subject_ids: Whose preference it is.
        valid_from: Position from which it is known.
        text_ids: Its text, as numbered in the vectors artifact.
        avoid: Whether it is to be avoided rather than liked.
        strength: How much it matters, 0 to 1.
    """

    subject_ids: Int[np.ndarray, " preference"]
    valid_from: Int[np.ndarray, " preference"]
    text_ids: Int[np.ndarray, " preference"]
    avoid: Bool[np.ndarray, " preference"]
    strength: Float[np.ndarray, " preference"]

    @classmethod
    def from_frames(cls, preferences: pl.DataFrame, texts: pl.DataFrame) -> "PreferenceIndex":
        """The index of a `preferences` table whose texts are numbered by a `texts` table.

        Raises:
            InputError: If a preference's text has no vector.
        """
        joined = preferences.join(texts, on="text", how="left", maintain_order="left").sort(
            "subject_id", "valid_from", "preference_number"
        )
        missing = joined["text_id"].null_count()
        if missing:
            raise InputError(
                f"{missing} preferences have no vector; run personalize encode with the same "
                "--preferences."
            )
        return cls(
            subject_ids=joined["subject_id"].to_numpy().astype(np.int64),
            valid_from=joined["valid_from"].to_numpy().astype(np.int64),
            text_ids=joined["text_id"].to_numpy().astype(np.int64),
            avoid=(joined["polarity"] == "avoid").to_numpy(),
            strength=joined["strength"].to_numpy().astype(np.float32),
        )

    @property
    def keys(self) -> Int[np.ndarray, " preference"]:
        """Subject and position as one sorted number."""
        return self.subject_ids * _POSITIONS + self.valid_from


@dataclass(frozen=True)
class Question:
    """What is known when preferences are chosen, one row per recommendation.

    Attributes:
        subject_ids: Whose preferences are asked for.
        positions: Position of the target; only preferences known by then are visible.
        query_vectors: What the history is about, where a policy needs it.
        target_vectors: What the target is about; only `Oracle` reads it.
    """

    subject_ids: Int[np.ndarray, " row"]
    positions: Int[np.ndarray, " row"]
    query_vectors: Float[np.ndarray, "row width"] | None = None
    target_vectors: Float[np.ndarray, "row width"] | None = None


@dataclass(frozen=True)
class Selection:
    """The preferences chosen for each row, best first; zero and false where there are fewer.

    Attributes:
        text_ids: Texts of the vectors artifact.
        mask: Which are real.
        avoid: Which are to be avoided.
        strength: How much each matters, 0 to 1.
    """

    text_ids: Int[np.ndarray, "row preference"]
    mask: Bool[np.ndarray, "row preference"]
    avoid: Bool[np.ndarray, "row preference"]
    strength: Float[np.ndarray, "row preference"]


class SelectionPolicy(ABC):
    """Which preferences condition a recommendation.

    Laws, held by `tests/test_slots.py`: a preference whose `valid_from` lies after the row's
    position is never chosen; a text is chosen at most once per row; rows do not influence each
    other; a subject without preferences gets an empty mask.
    """

    @abstractmethod
    def choose(
        self,
        index: PreferenceIndex,
        question: Question,
        *,
        text_vectors: Float[np.ndarray, "text width"],
        count: int,
    ) -> Selection:
        """At most `count` preferences for every row, best first."""


@dataclass(frozen=True)
class Nothing(SelectionPolicy):
    """No preference at all: the history speaks alone."""

    def choose(
        self,
        index: PreferenceIndex,
        question: Question,
        *,
        text_vectors: Float[np.ndarray, "text width"],
        count: int,
    ) -> Selection:
        """Nothing for every row."""
        return _empty(len(question.subject_ids), count)


@dataclass(frozen=True)
class Latest(SelectionPolicy):
    """The strongest preferences of the newest snapshot."""

    def choose(
        self,
        index: PreferenceIndex,
        question: Question,
        *,
        text_vectors: Float[np.ndarray, "text width"],
        count: int,
    ) -> Selection:
        """The first `count` preferences of the newest snapshot not after the position."""
        selection = _empty(len(question.subject_ids), count)
        for rows, owner, found in _visible(index, question, whole_past=False):
            _fill(selection, index, rows, owner, found, -_age(owner))
        return selection


@dataclass(frozen=True)
class All(SelectionPolicy):
    """Everything ever known of the subject, newest and strongest first."""

    def choose(
        self,
        index: PreferenceIndex,
        question: Question,
        *,
        text_vectors: Float[np.ndarray, "text width"],
        count: int,
    ) -> Selection:
        """Distinct texts of all snapshots, newest first."""
        selection = _empty(len(question.subject_ids), count)
        for rows, owner, found in _visible(index, question, whole_past=True):
            _fill(selection, index, rows, owner, found, -_age(owner))
        return selection


@dataclass(frozen=True)
class Retrieved(SelectionPolicy):
    """The preferences nearest to what the history is about; looks at no target."""

    def choose(
        self,
        index: PreferenceIndex,
        question: Question,
        *,
        text_vectors: Float[np.ndarray, "text width"],
        count: int,
    ) -> Selection:
        """Distinct texts of all snapshots, nearest to the query vector first.

        Raises:
            ValueError: If the question has no query vectors.
        """
        if question.query_vectors is None:
            raise ValueError("Retrieved needs query_vectors, one per row.")
        selection = _empty(len(question.subject_ids), count)
        for rows, owner, found in _visible(index, question, whole_past=True):
            queries = question.query_vectors[rows[owner]]
            _fill(
                selection,
                index,
                rows,
                owner,
                found,
                _similarity(index, found, text_vectors, queries),
            )
        return selection


@dataclass(frozen=True)
class Oracle(SelectionPolicy):
    """The liked preferences nearest to the target: an upper bound, never a result.

    It reads the answer. On training rows that is supervision; in evaluation it may only be
    reported under this name.
    """

    def choose(
        self,
        index: PreferenceIndex,
        question: Question,
        *,
        text_vectors: Float[np.ndarray, "text width"],
        count: int,
    ) -> Selection:
        """Distinct liked texts of all snapshots, nearest to the target vector first.

        Raises:
            ValueError: If the question has no target vectors.
        """
        if question.target_vectors is None:
            raise ValueError("Oracle needs target_vectors, one per row.")
        selection = _empty(len(question.subject_ids), count)
        for rows, every_owner, every_found in _visible(index, question, whole_past=True):
            liked = ~index.avoid[every_found]
            owner, found = every_owner[liked], every_found[liked]
            targets = question.target_vectors[rows[owner]]
            _fill(
                selection,
                index,
                rows,
                owner,
                found,
                _similarity(index, found, text_vectors, targets),
            )
        return selection


def _empty(rows: int, count: int) -> Selection:
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}.")
    shape = (rows, count)
    return Selection(
        text_ids=np.zeros(shape, np.int64),
        mask=np.zeros(shape, np.bool_),
        avoid=np.zeros(shape, np.bool_),
        strength=np.zeros(shape, np.float32),
    )


def _visible(
    index: PreferenceIndex, question: Question, *, whole_past: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Chunks of (rows, owner, found): preference `found[i]` is visible to row `rows[owner[i]]`.

    Within a row, newer preferences come first and, of one snapshot, the stronger; of equal texts
    only the newest is kept.
    """
    keys = index.keys
    end = np.searchsorted(keys, question.subject_ids * _POSITIONS + question.positions, "right")
    first = np.searchsorted(keys, question.subject_ids * _POSITIONS, "left")
    if not whole_past:  # start at the newest snapshot instead of the subject's first
        newest = keys[np.maximum(end - 1, 0)] if len(keys) else np.zeros_like(end)
        first = np.maximum(first, np.searchsorted(keys, newest, "left"))
    sizes = np.maximum(end - first, 0)
    bounds = np.searchsorted(
        np.cumsum(sizes), np.arange(_CHUNK_PAIRS, sizes.sum() + _CHUNK_PAIRS, _CHUNK_PAIRS), "left"
    )
    start = 0
    for stop in [*(bounds + 1).tolist(), len(sizes)]:
        rows = np.arange(start, min(stop, len(sizes)))
        start = max(start, stop)
        if len(rows):
            owner = np.repeat(np.arange(len(rows)), sizes[rows])
            offset = np.arange(len(owner)) - np.repeat(
                np.cumsum(sizes[rows]) - sizes[rows], sizes[rows]
            )
            found = first[rows][owner] + offset
            order = np.lexsort((found, -index.valid_from[found], owner))
            yield rows, *_newest_of_equal_texts(index, owner[order], found[order])


def _newest_of_equal_texts(
    index: PreferenceIndex, owner: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    text = index.text_ids[found]
    order = np.lexsort((np.arange(len(owner)), text, owner))
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (np.diff(owner[order]) != 0) | (np.diff(text[order]) != 0)
    kept = np.sort(order[fresh])
    return owner[kept], found[kept]


def _age(owner: np.ndarray) -> np.ndarray:
    """Place within its row, 0 for the newest and strongest."""
    starts = np.searchsorted(owner, owner, "left")
    return np.arange(len(owner)) - starts


def _similarity(
    index: PreferenceIndex, found: np.ndarray, text_vectors: np.ndarray, queries: np.ndarray
) -> np.ndarray:
    return np.einsum("pw,pw->p", text_vectors[index.text_ids[found]], queries)


def _fill(
    selection: Selection,
    index: PreferenceIndex,
    rows: np.ndarray,
    owner: np.ndarray,
    found: np.ndarray,
    score: np.ndarray,
) -> None:
    """Write each row's best-scored preferences into the selection; the first of equals wins."""
    order = np.lexsort((np.arange(len(owner)), -score, owner))
    owner, found = owner[order], found[order]
    place = _age(owner)
    kept = place < selection.mask.shape[1]
    row, place, found = rows[owner[kept]], place[kept], found[kept]
    selection.text_ids[row, place] = index.text_ids[found]
    selection.mask[row, place] = True
    selection.avoid[row, place] = index.avoid[found]
    selection.strength[row, place] = index.strength[found]
