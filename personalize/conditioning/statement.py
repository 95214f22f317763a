"""All preferences as one statement: a text that says them all, and its vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from personalize.conditioning.mixture import TextVectors
from personalize.conditioning.vector import ConditioningVector, Encoder, weighed
from personalize.preferences.record import Preference


@final
@dataclass(frozen=True)
class Statement(Encoder):
    """Vector of one text that states every preference, the strongest first.

    Attributes:
        text_vectors: Vectors of texts, such as `SentenceEncoder().encode`.
        text_width: Length of such a vector.
        most: Most preferences that are stated; a sentence model reads only so many words.

    Raises:
        ValueError: If `most` is not positive.
    """

    text_vectors: TextVectors
    text_width: int
    most: int = 8

    def __post_init__(self) -> None:
        """Refuse a statement of nothing."""
        if self.most < 1:
            raise ValueError(f"most must be at least 1, got {self.most}.")

    @property
    def width(self) -> int:
        """Length of a text vector."""
        return self.text_width

    def encode(self, preferences: Sequence[Preference]) -> ConditioningVector:
        """Vector of the statement; masked throughout where there is nothing to state."""
        text = self.text(preferences)
        if not text:
            return ConditioningVector(
                np.zeros(self.width, np.float32), np.zeros(self.width, np.bool_)
            )
        vector = np.asarray(self.text_vectors([text])[0], np.float32)
        return ConditioningVector(vector, np.ones(self.width, np.bool_))

    def text(self, preferences: Sequence[Preference]) -> str:
        """The statement itself; empty where no preference weighs anything."""
        strongest = sorted(weighed(preferences), key=lambda pair: -pair[1])[: self.most]
        return " ".join(_sentence(preference.text) for preference, _ in strongest)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
