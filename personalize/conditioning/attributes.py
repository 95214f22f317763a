"""Named attributes: one signed number per aspect."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from personalize.conditioning.vector import ConditioningVector, Encoder, weighed
from personalize.preferences.record import Preference


@final
@dataclass(frozen=True)
class Attributes(Encoder):
    """How much each aspect is liked (positive) or avoided (negative), -1 to 1.

    Several preferences about one aspect are averaged by confidence: a like and an avoid of equal
    strength and confidence cancel to 0, which is stated and therefore not masked. A preference
    about an aspect that is not listed is left out.

    Attributes:
        aspects: The aspects, one per dimension.

    Raises:
        ValueError: If no aspect is listed or one is listed twice.
    """

    aspects: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a list that does not number its aspects."""
        if not self.aspects or len(set(self.aspects)) != len(self.aspects):
            raise ValueError(f"aspects must be distinct and at least one, got {self.aspects}.")

    @property
    def width(self) -> int:
        """Number of aspects."""
        return len(self.aspects)

    def encode(self, preferences: Sequence[Preference]) -> ConditioningVector:
        """Signed strength of every aspect; masked where nothing was stated."""
        total, weight = np.zeros(self.width), np.zeros(self.width)
        place = {aspect: number for number, aspect in enumerate(self.aspects)}
        for preference, strength in weighed(preferences):
            if preference.aspect in place:
                number = place[preference.aspect]
                total[number] += strength if preference.polarity == "like" else -strength
                weight[number] += preference.confidence
        mask = weight > 0
        values = np.divide(total, weight, out=np.zeros(self.width), where=mask)
        return ConditioningVector(values.astype(np.float32), mask)
