"""Several preferences as one text vector: a weighted mean of what is liked and what is avoided."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from personalize.conditioning.vector import ConditioningVector, Encoder, weighed
from personalize.preferences.record import Preference

TextVectors = Callable[[Sequence[str]], np.ndarray]


@final
@dataclass(frozen=True)
class Mixture(Encoder):
    """Unit mean of the liked texts beside the unit mean of the avoided ones.

    The two are kept apart, because a text and its opposite have similar vectors: subtracting what
    is avoided from what is liked would remove what both are about.

    Attributes:
        text_vectors: Vectors of texts, such as `SentenceEncoder().encode`.
        text_width: Length of such a vector.
    """

    text_vectors: TextVectors
    text_width: int

    @property
    def width(self) -> int:
        """Twice the length of a text vector: liked, then avoided."""
        return 2 * self.text_width

    def encode(self, preferences: Sequence[Preference]) -> ConditioningVector:
        """Means weighted by strength and confidence; a half nothing was stated for is masked."""
        values = np.zeros((2, self.text_width), np.float64)
        mask = np.zeros((2, self.text_width), np.bool_)
        stated = weighed(preferences)
        if stated:
            vectors = self.text_vectors([preference.text for preference, _ in stated])
            for (preference, weight), vector in zip(stated, vectors, strict=True):
                values[int(preference.polarity == "avoid")] += weight * vector
            length = np.linalg.norm(values, axis=1, keepdims=True)
            mask |= length > 1e-9  # opposite vectors may cancel: then nothing is left to say
            values = np.divide(values, length, out=np.zeros_like(values), where=mask)
        return ConditioningVector(values.ravel().astype(np.float32), mask.ravel())
