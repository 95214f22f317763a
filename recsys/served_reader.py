"""Preferences read in reviews that are sent along, as `personalize extract` reads those of a table.

The reviews count as the newest of one person: the answer is what is known after all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from personalize.api.messages import (
    Conditioning,
    PreferencesAnswer,
    ReadPreference,
    ReviewText,
)
from personalize.api.ports import RequestRefused
from personalize.conditioning.text import SentenceEncoder
from personalize.conditioning.vector import Encoder
from personalize.preferences.aggregate import AggregationSettings, UserPreferences
from personalize.preferences.aspects import AspectList
from personalize.preferences.extract import training_reviews, with_words
from personalize.preferences.extractive import ExtractiveExtractor
from personalize.preferences.extractor import Review
from personalize.preferences.record import Preference
from recsys.served_people import quote

TextVectors = Callable[[Sequence[str]], np.ndarray]
ConditioningChoice = Callable[[TextVectors, int], Encoder]
"""Makes an encoder of preferences from an encoder of texts and the length of its vectors."""


@dataclass(frozen=True, eq=False)
class ReviewReader:
    """Reads reviews; its extractor is fitted to the training reviews when it is first needed.

    Attributes:
        sentences: Vectors of texts.
        aspects: What is looked for.
        interactions: The table of that name, whose training reviews the extractor is fitted to.
        conditioning: What the preferences become.
    """

    sentences: SentenceEncoder
    aspects: AspectList
    interactions: pl.DataFrame
    conditioning: Encoder

    def read(self, reviews: Sequence[ReviewText]) -> PreferencesAnswer:
        """The preferences of whoever wrote these reviews, oldest first, and their vector.

        Raises:
            RequestRefused: If two of them have one id, so that a quote could be of either.
        """
        ids = [n if review.id is None else review.id for n, review in enumerate(reviews)]
        if len(set(ids)) < len(ids):
            repeated = next(number for number in ids if ids.count(number) > 1)
            raise RequestRefused(
                f"Two reviews have the id {repeated}; one without an id has its place.",
                param="reviews",
            )
        known = UserPreferences(self.aspects, AggregationSettings())
        asked = [Review(n, r.text, r.rating) for n, r in zip(ids, reviews, strict=True)]
        for review, opinions in zip(asked, self._extractor.read(asked), strict=True):
            known.add(with_words(opinions, review.text, self.aspects))
        found = known.snapshot(0, len(reviews))
        vector = self.conditioning.encode(found)
        texts = {review.review_id: review.text for review in asked}
        return PreferencesAnswer(
            extractor=self._extractor.name,
            extractor_version=self._extractor.version,
            preferences=[_message(preference, texts) for preference in found],
            conditioning=Conditioning(
                encoder=type(self.conditioning).__name__,
                dimensions=None,
                values=vector.values.tolist(),
                mask=vector.mask.tolist(),
            ),
        )

    @cached_property
    def _extractor(self) -> ExtractiveExtractor:
        name = f"{self.sentences.model_name}-{self.sentences.fingerprint[:12]}"
        return ExtractiveExtractor.fitted(
            self.sentences,
            self.aspects,
            training_reviews(self.interactions),
            encoder_name=name,
        )


def _message(preference: Preference, texts: dict[int, str]) -> ReadPreference:
    return ReadPreference(
        text=preference.text,
        polarity=preference.polarity,
        aspect=preference.aspect,
        strength=preference.strength,
        confidence=preference.confidence,
        evidence=[quote(s.source_id, s.start, s.end, texts) for s in preference.evidence],
    )
