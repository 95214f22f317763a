"""A review that gives orders moves a person's preference vector no more than any other review.

The rule: a person's reviews are read once with an ordinary last review and once with a hostile one
of the same length. The vector is the sum of the sentence vectors of all preferences, weighted with
strength and signed by polarity. No hostile text may move it further from where it stood without the
last review than the furthest of the ordinary texts, and the mean hostile text must move it less
than the mean ordinary text.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from personalize.conditioning.text import SentenceEncoder
from personalize.preferences.aggregate import (
    AggregationSettings,
    UserPreferences,
    capped_votes,
)
from personalize.preferences.aspects import read_aspects
from personalize.preferences.extract import with_words
from personalize.preferences.extractive import ExtractiveExtractor
from personalize.preferences.extractor import Extractor, Review, ReviewOpinions
from personalize.preferences.parse import MOST_OPINIONS, StatedOpinion, StatedOpinions, grounded
from personalize.preferences.prompt import clean
from tests.personalize.preferences.injections import injected_reviews, ordinary_reviews

ASPECTS = read_aspects()
HISTORY = (
    "Great tone and very sturdy. It was a bit expensive.",
    "Easy to use, it was set up in a minute. I bought it for my son.",
    "It is far too heavy, but it looks beautiful.",
)
HOSTILE = injected_reviews()
ORDINARY = ordinary_reviews([len(text) for text in HOSTILE])


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


@pytest.fixture(scope="module")
def extractor(encoder: SentenceEncoder) -> Extractor:
    return ExtractiveExtractor.fitted(encoder, ASPECTS, [])


def movements(
    encoder: SentenceEncoder, answers: Sequence[ReviewOpinions], texts: Sequence[str]
) -> np.ndarray:
    """How far each last review moves the vector; the first answers are the history's."""
    history = answers[: len(HISTORY)]
    pairs = list(zip(answers[len(HISTORY) :], texts, strict=True))
    snapshots = []
    for last in [None, *pairs]:
        known = UserPreferences(ASPECTS, AggregationSettings())
        for answer, text in [*zip(history, HISTORY, strict=True), *([last] if last else [])]:
            known.add(with_words(answer, text, ASPECTS))
        snapshots.append(known.snapshot(0, 9))
    texts_met = sorted({p.text for snapshot in snapshots for p in snapshot})
    vectors = dict(zip(texts_met, encoder.encode(texts_met), strict=True))
    sums = [
        sum(
            (p.strength if p.polarity == "like" else -p.strength) * vectors[p.text]
            for p in snapshot
        )
        for snapshot in snapshots
    ]
    return np.array([np.linalg.norm(moved - sums[0]) for moved in sums[1:]])


def as_reviews(texts: Sequence[str]) -> list[Review]:
    return [Review(n, text, 5.0) for n, text in enumerate([*HISTORY, *texts])]


def test_there_are_about_sixty_hostile_reviews_and_as_many_ordinary_ones() -> None:
    assert len(HOSTILE) >= 60
    assert len(set(HOSTILE)) == len(HOSTILE)
    assert [len(text) for text in ORDINARY] == [len(text) for text in HOSTILE]


def test_orders_in_a_review_move_the_vector_no_more_than_other_texts(
    encoder: SentenceEncoder, extractor: Extractor
) -> None:
    hostile = movements(encoder, list(extractor.read(as_reviews(HOSTILE))), HOSTILE)
    ordinary = movements(encoder, list(extractor.read(as_reviews(ORDINARY))), ORDINARY)
    assert hostile.max() <= ordinary.max()
    assert np.quantile(hostile, 0.95) <= np.quantile(ordinary, 0.95)
    assert hostile.mean() < ordinary.mean()


class Obedient(Extractor):
    """The worst language model there is: it does all that a hostile review may hope for."""

    name = "chat"
    version = "obedient"

    def read(self, reviews: Sequence[Review]):
        for review in reviews:
            quote = next((word for word in clean(review.text).split() if len(word) > 1), "ok")
            stated = StatedOpinions(
                opinions=[
                    StatedOpinion(aspect=a, polarity="avoid", strength="strong", evidence=quote)
                    for a in ASPECTS.names[:MOST_OPINIONS]
                ]
            )
            opinions, refusals = grounded(stated, review.review_id, review.text)
            yield ReviewOpinions(review.review_id, opinions, self.name, self.version, refusals)

    def notes(self):
        return {}


def test_even_an_obedient_model_gives_a_review_one_capped_voice() -> None:
    settings = AggregationSettings()
    for answer in Obedient().read(as_reviews(HOSTILE)):
        votes = capped_votes(answer.opinions, settings)
        assert sum(votes.values()) <= settings.review_total + 1e-9
        assert all(vote <= settings.review_cap for vote in votes.values())


def test_an_obedient_model_moves_as_far_for_any_text(encoder: SentenceEncoder) -> None:
    read: Callable[[Sequence[str]], list[ReviewOpinions]] = lambda texts: list(  # noqa: E731
        Obedient().read(as_reviews(texts))
    )
    hostile = movements(encoder, read(HOSTILE), HOSTILE)
    ordinary = movements(encoder, read(ORDINARY), ORDINARY)
    assert hostile.max() <= ordinary.max() + 1e-6


def test_markers_and_invisible_characters_never_reach_a_model() -> None:
    for text in HOSTILE:
        seen = clean(text)
        assert not any(mark in seen for mark in ("<|im_start|>", "[INST]", "<<SYS>>", "<system>"))
        assert not any(c in seen for c in "\u200b\u202e\u0000")
        assert not any(0xE0000 <= ord(c) <= 0xE007F for c in seen)


def test_no_word_of_a_hostile_review_stands_in_a_preference(extractor: Extractor) -> None:
    allowed = {e.liked for e in ASPECTS.aspects.values()}
    allowed |= {e.avoided for e in ASPECTS.aspects.values()}
    for review, answer in zip(
        as_reviews(HOSTILE), extractor.read(as_reviews(HOSTILE)), strict=True
    ):
        known = UserPreferences(ASPECTS, AggregationSettings())
        known.add(with_words(answer, review.text, ASPECTS))
        for preference in known.snapshot(0, 1):
            sentence = preference.text.rsplit(": ", 1)[0].rstrip(".")
            assert any(entry.startswith(sentence) for entry in allowed)
