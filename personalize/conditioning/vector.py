"""SLOT Encoder: the preferences of one subject become one vector with a validity mask."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from personalize.preferences.record import Preference


@dataclass(frozen=True)
class ConditioningVector:
    """What a generator is conditioned on.

    Attributes:
        values: One number per dimension, 0 where the mask is false.
        mask: Which dimensions anything was stated about.

    Raises:
        ValueError: If the lengths differ, a value is not finite, or one that is masked is not 0.
    """

    values: Float[np.ndarray, " width"]
    mask: Bool[np.ndarray, " masked"]

    def __post_init__(self) -> None:
        """Refuse a vector whose mask does not fit it."""
        if len(self.values) != len(self.mask):
            raise ValueError(
                f"values and mask must be equally long, got {len(self.values)} "
                f"and {len(self.mask)}."
            )
        if not np.isfinite(self.values).all():
            raise ValueError("values must be finite; mask what is unknown.")
        if self.values[~self.mask].any():
            raise ValueError("values must be 0 where the mask is false.")


class Encoder(ABC):
    """Turns the preferences of one subject, as known at one position, into one vector.

    Laws, held by `tests/test_slots.py` for every variant: the order of the preferences is
    irrelevant, to the last bit; nothing stated gives a vector that is masked throughout, not a
    vector of zeros that counts; a preference of no strength is as good as none.
    """

    @property
    @abstractmethod
    def width(self) -> int:
        """Length of the vector."""

    @abstractmethod
    def encode(self, preferences: Sequence[Preference]) -> ConditioningVector:
        """The vector of these preferences."""


def weighed(preferences: Sequence[Preference]) -> list[tuple[Preference, float]]:
    """Preferences that weigh anything with their weight, strength times confidence, in fixed order.

    The order is that of their content, so that sums over them do not depend on the order given.
    """
    ordered = sorted(
        preferences,
        key=lambda p: (p.aspect, p.polarity, p.text, p.strength, p.confidence),
    )
    return [(p, p.strength * p.confidence) for p in ordered if p.strength * p.confidence > 0]
