"""Responses spoilt by degrees: how much is kept of one is known without a label."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor


class Corruption(ABC):
    """How responses are spoilt; a variant is a frozen dataclass.

    Laws: degree 0 changes nothing; a higher degree spoils all that a lower one does, by the same
    random numbers.
    """

    @abstractmethod
    def __call__(self, responses: Tensor, degree: int, generator: Generator) -> Tensor:
        """The responses `[batch, ...]` at a degree.

        Args:
            responses: Whole ones.
            degree: 0 or more.
            generator: In the same state for every degree.
        """


def graded_responses(
    responses: Tensor, corruption: Corruption, degrees: int, *, seed: int = 0
) -> tuple[Tensor, Int[Tensor, "batch particle"]]:
    """Responses at every degree from 0 (whole) to `degrees`, and the degree of each.

    Args:
        responses: `[batch, ...]`.
        corruption: How they are spoilt.
        degrees: The highest degree.
        seed: Of what is drawn.

    Returns:
        Responses `[batch, particle, ...]`, the whole one first.

    Raises:
        ValueError: If `degrees` is below 1.

    Source:
        In the manner of the preference degrees of SPO (self-supervised preference optimisation),
        which removes key content of a text step by step; no code was seen.
    """
    if degrees < 1:
        raise ValueError(f"degrees must be 1 or more, got {degrees}.")
    made = [
        corruption(responses, degree, Generator().manual_seed(seed))
        for degree in range(degrees + 1)
    ]
    return torch.stack(made, 1), torch.arange(degrees + 1).expand(len(responses), -1)


@final
@dataclass(frozen=True)
class CodesOfAnother(Corruption):
    """As many levels of a code sequence as the degree says are those of another in the batch.

    Which levels is drawn, and of whom. Where another has the same code the level is spoilt all the
    same: the result may be nearer to the whole than its degree, and it may be no known sequence.
    """

    def __call__(
        self, responses: Int[Tensor, "batch level"], degree: int, generator: Generator
    ) -> Int[Tensor, "batch level"]:
        """See `Corruption`.

        Raises:
            ValueError: If there is only one sequence, or the degree is above the levels.
        """
        count, levels = responses.shape
        if count < 2 or degree > levels:
            raise ValueError(
                f"two sequences and a degree of at most {levels} are needed, got {count} and "
                f"{degree}."
            )
        step = 1 + torch.randint(count - 1, (count,), generator=generator)
        other = responses[(torch.arange(count) + step) % count]
        order = torch.rand(count, levels, generator=generator).argsort(-1).argsort(-1)
        return torch.where(order < degree, other, responses)


@final
@dataclass(frozen=True)
class Notches(Corruption):
    """So many notches of the same disturbance are added to a row of numbers.

    Attributes:
        size: Standard deviation of one notch in every last dimension, in its unit, such as metres
            across and along and radians of heading.
        smooth: Steps over which a disturbance of a trajectory is averaged; 1 is white noise.

    Raises:
        ValueError: If a size is negative or `smooth` below 1.
    """

    size: tuple[float, ...]
    smooth: int = 1

    def __post_init__(self) -> None:
        if not all(size >= 0 for size in self.size) or self.smooth < 1:
            raise ValueError(
                f"size must not be negative and smooth 1 or more, got {self.size} and "
                f"{self.smooth}."
            )

    def __call__(
        self, responses: Float[Tensor, "batch step dimension"], degree: int, generator: Generator
    ) -> Float[Tensor, "batch step dimension"]:
        """See `Corruption`."""
        count, steps, width = responses.shape
        noise = torch.randn(count, steps + self.smooth - 1, width, generator=generator)
        even = noise.unfold(1, self.smooth, 1).sum(-1) / self.smooth**0.5
        return responses + degree * even.to(responses) * responses.new_tensor(self.size)
