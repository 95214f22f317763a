"""The embedded extractor: no language model, no download, no prompt that could be injected.

A review is cut into clauses; each clause gets a sentence vector; the nearest example sentences say
which aspect it is about, or that it is about none; a linear head says whether it praises or
complains. Nothing in the text is ever interpreted as an instruction, because nothing here could.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from personalize.preferences.aspects import AspectList
from personalize.preferences.extractor import Extractor, Opinion, Review, ReviewOpinions
from personalize.preferences.polarity import (
    Clauses,
    PolarityHead,
    example_texts,
    fit_polarity_head,
    star_class,
)
from personalize.preferences.sentences import split_clauses

VERSION = "1"
_CHUNK_REVIEWS = 1024
_MOST_REMEMBERED = 40_000  # texts; 60 MB of vectors


@runtime_checkable
class SentenceVectors(Protocol):
    """What the extractor needs of a text encoder."""

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "text width"]:
        """One vector of length one per text."""
        ...


@dataclass(frozen=True)
class ExtractiveSettings:
    """The numbers the embedded extractor decides by.

    Attributes:
        nearness: Cosine that a clause must have to an example before it is about that aspect.
        word_bonus: Added to the cosine where a word of the aspect occurs.
        least_certainty: Distance of the probability of praise from one half, doubled, below which
            a clause holds no opinion.
        stars_logit: Log-odds that five stars add, and one star takes away.
        word_logit: Log-odds that an aspect's own opinion words add or take away.
        most_clauses: Clauses read in one review, from its beginning.
        always_read: Clauses read whatever their words; later ones need a word of the aspect list.
        most_rated_clauses: Star-rated clauses of each class the head is trained on.
    """

    nearness: float = 0.45
    word_bonus: float = 0.2
    least_certainty: float = 0.4
    stars_logit: float = 0.7
    word_logit: float = 1.5
    most_clauses: int = 32
    always_read: int = 8
    most_rated_clauses: int = 6000


class ExtractiveExtractor(Extractor):
    """Sentence vectors, example sentences and a polarity head; see the module."""

    name = "extractive"

    def __init__(
        self,
        encoder: SentenceVectors,
        aspects: AspectList,
        head: PolarityHead,
        settings: ExtractiveSettings | None = None,
        encoder_name: str = "unnamed",
    ) -> None:
        self.settings = settings or ExtractiveSettings()
        self.version = f"{VERSION}+{encoder_name}+aspects-{aspects.fingerprint}"
        self._memory = encoder if isinstance(encoder, _Memory) else _Memory(encoder)
        self._aspects = aspects
        self._head = head
        texts, owners = _prototypes(aspects)
        self._prototypes = self._memory.encode(texts)
        self._owners = owners
        self._reviews = self._clauses = self._opinions = 0

    @classmethod
    def fitted(
        cls,
        encoder: SentenceVectors,
        aspects: AspectList,
        training: Sequence[Review],
        settings: ExtractiveSettings | None = None,
        encoder_name: str = "unnamed",
    ) -> "ExtractiveExtractor":
        """An extractor whose polarity head is trained on the stars of the training reviews."""
        settings = settings or ExtractiveSettings()
        memory = _Memory(encoder)
        memory.encode(_prototypes(aspects)[0])  # the examples are among them: encoded once
        texts, is_praise = example_texts(aspects)
        rated, rated_is_praise = _rated_texts(training, settings)
        head = fit_polarity_head(
            _described(texts, memory, aspects),
            is_praise,
            _described(rated, encoder, aspects),
            rated_is_praise,
        )
        return cls(memory, aspects, head, settings, encoder_name)

    def read(self, reviews: Sequence[Review]) -> Iterator[ReviewOpinions]:
        """The opinions in each review, in order; encoded some thousand clauses at a time."""
        for first in range(0, len(reviews), _CHUNK_REVIEWS):
            yield from self._read_chunk(reviews[first : first + _CHUNK_REVIEWS])

    def notes(self) -> dict[str, int | float | str]:
        """Reviews, clauses and opinions so far, and what the head was trained on."""
        return {
            "reviews": self._reviews,
            "clauses": self._clauses,
            "opinions": self._opinions,
            "rated_clauses_of_complaint": self._head.rated_clauses[0],
            "rated_clauses_of_praise": self._head.rated_clauses[1],
        }

    def praise(self, reviews: Sequence[Review]) -> Bool[np.ndarray, " review"]:
        """Whether each short text praises rather than complains, taken as one clause."""
        clauses = _described([review.text for review in reviews], self._memory, self._aspects)
        stars = np.array([self._stars(review.rating) for review in reviews])
        signs = np.array([np.sign(sum(cue.signs.values())) for cue in clauses.cues])
        logits = self._head(clauses.features) + stars + self.settings.word_logit * signs
        return logits > 0

    def _stars(self, rating: float | None) -> float:
        """Log-odds that the stars of a review add."""
        return 0.0 if rating is None else self.settings.stars_logit * (rating - 3.0) / 2.0

    def aspect_scores(self, clauses: Clauses) -> Float[np.ndarray, "clause aspect"]:
        """Nearness of each clause to each aspect; minus infinity where background is nearer."""
        names = self._aspects.names
        cosines = clauses.vectors @ self._prototypes.T
        scores = np.stack(
            [cosines[:, self._owners == number].max(axis=1) for number in range(len(names))], axis=1
        )
        background = self._owners == len(names)
        ground = (
            cosines[:, background].max(axis=1)
            if background.any()
            else np.full(len(scores), -1.0, scores.dtype)
        )
        column = {name: number for number, name in enumerate(names)}
        for row, cue in enumerate(clauses.cues):
            for name in cue.aspects:
                scores[row, column[name]] += self.settings.word_bonus * (
                    1.5 if name in cue.signs else 1.0
                )
        scores[scores < ground[:, None]] = -np.inf
        return scores

    def _read_chunk(self, reviews: Sequence[Review]) -> Iterator[ReviewOpinions]:
        spans = [self._worth_reading(review.text) for review in reviews]
        texts = [
            review.text[start:end]
            for review, found in zip(reviews, spans, strict=True)
            for start, end in found
        ]
        clauses = _described(texts, self._memory, self._aspects)
        scores = self.aspect_scores(clauses)
        logits = self._head(clauses.features)
        self._reviews += len(reviews)
        self._clauses += len(texts)
        row = 0
        for review, found in zip(reviews, spans, strict=True):
            opinions: list[Opinion] = []
            for span in found:
                opinions += self._opinions_of(
                    review.rating, span, scores[row], logits[row], clauses.cues[row].signs
                )
                row += 1
            self._opinions += len(opinions)
            yield ReviewOpinions(review.review_id, tuple(opinions), self.name, self.version)

    def _worth_reading(self, text: str) -> list[tuple[int, int]]:
        """Spans of the clauses that get a vector: the first ones, and later ones with a cue."""
        spans = split_clauses(text, most=self.settings.most_clauses)
        early, late = spans[: self.settings.always_read], spans[self.settings.always_read :]
        count = self._aspects.cues.count
        return early + [span for span in late if count(text[slice(*span)]).any_opinion]

    def _opinions_of(
        self,
        rating: float | None,
        span: tuple[int, int],
        scores: Float[np.ndarray, " aspect"],
        logit: np.floating,
        signs: dict[str, int],
    ) -> list[Opinion]:
        """At most two opinions of one clause: the nearest aspect, and one its own words name."""
        settings = self.settings
        order = np.argsort(-scores, kind="stable")
        found = []
        for rank, number in enumerate(order[:3].tolist()):
            name = self._aspects.names[number]
            if scores[number] < settings.nearness or (rank and name not in signs):
                continue
            sign = int(np.sign(signs.get(name, 0)))
            total = float(logit) + settings.word_logit * sign
            total += self._stars(rating)
            certainty = float(np.tanh(total / 2.0))  # two times the probability, less one
            if abs(certainty) < settings.least_certainty:
                continue
            polarity = "like" if certainty > 0 else "avoid"
            found.append(Opinion(name, polarity, round(min(abs(certainty), 1.0), 4), *span))
        return found[:2]


class _Memory:
    """Vectors of texts met before: short clauses return often ("Highly recommended.")."""

    def __init__(self, encoder: SentenceVectors) -> None:
        self._encoder = encoder
        self._known: dict[str, Float[np.ndarray, " width"]] = {}

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "text width"]:
        """One vector per text; only those not met before are encoded."""
        new = sorted({text for text in texts if text not in self._known})
        if new or not texts:
            vectors = self._encoder.encode(new)
            if not texts:
                return vectors
            if len(self._known) + len(new) > _MOST_REMEMBERED:
                kept = {text: self._known[text] for text in set(texts) if text in self._known}
                self._known = kept
            self._known.update(zip(new, vectors, strict=True))
        return np.stack([self._known[text] for text in texts])


def _prototypes(aspects: AspectList) -> tuple[list[str], Int[np.ndarray, " text"]]:
    """All example sentences and the number of their aspect; background comes last."""
    texts: list[str] = []
    owners: list[int] = []
    for number, entry in enumerate(aspects.aspects.values()):
        examples = entry.like + entry.avoid
        texts += examples
        owners += [number] * len(examples)
    ground = aspects.background + aspects.praise + aspects.complaints
    return texts + list(ground), np.array(owners + [len(aspects.aspects)] * len(ground))


def _described(texts: Sequence[str], encoder: SentenceVectors, aspects: AspectList) -> Clauses:
    """Clauses with vectors and counted words; each distinct text is encoded once."""
    distinct = sorted(set(texts))
    place = {text: number for number, text in enumerate(distinct)}
    vectors = encoder.encode(distinct)
    counted = [aspects.cues.count(text) for text in distinct]
    rows = [place[text] for text in texts]
    return Clauses(texts, vectors[np.array(rows, dtype=np.int64)], [counted[row] for row in rows])


def _rated_texts(
    reviews: Sequence[Review], settings: ExtractiveSettings
) -> tuple[list[str], Bool[np.ndarray, " clause"]]:
    """Clauses of liked and disliked reviews, as many of one as of the other, evenly drawn."""
    by_class: dict[int, list[Review]] = {0: [], 1: []}
    for review in sorted(reviews, key=lambda review: review.review_id):
        if (number := star_class(review.rating)) is not None:
            by_class[number].append(review)
    texts: list[str] = []
    classes: list[bool] = []
    most = settings.most_rated_clauses
    for number in (0, 1):
        found = _first_clauses(by_class[number], most, settings.most_clauses)
        most = max(len(found), 1)
        texts += found
        classes += [bool(number)] * len(found)
    return texts, np.array(classes, dtype=bool)


def _first_clauses(reviews: Sequence[Review], most: int, most_clauses: int) -> list[str]:
    """Clauses of reviews spread evenly over the data until there are enough."""
    found: list[str] = []
    seed = np.random.default_rng(0)
    for number in seed.permutation(len(reviews)).tolist():
        text = reviews[number].text
        found += [text[start:end] for start, end in split_clauses(text, most=most_clauses)]
        if len(found) >= most:
            break
    return found[:most]
