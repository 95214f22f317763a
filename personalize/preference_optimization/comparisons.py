"""Comparisons: which of two rows of a table is better, and how clearly."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Comparisons:
    """Pairs of rows, the better one named first.

    A row is a response in a context. Rows of one comparison may differ in the response, in the
    context or in both; the table they point into belongs to the caller.

    Attributes:
        better: Rows that won.
        worse: Rows that lost, in the same order.
        strength: 0 to 1. At 1 the first won for certain, at 0 both are as good; a share `p` of
            judges who preferred the first is the strength `2 p - 1`.

    Raises:
        ValueError: If the three differ in length, a row is negative or compared with itself, or a
            strength lies outside [0, 1].

    Example:
        >>> decided(torch.tensor([[3, 1], [0, 2]])).win_share
        tensor([1., 1.])
    """

    better: Int[Tensor, " comparison"]
    worse: Int[Tensor, " paired"]
    strength: Float[Tensor, " labelled"]

    def __post_init__(self) -> None:
        lengths = len(self.better), len(self.worse), len(self.strength)
        if len(set(lengths)) > 1:
            raise ValueError(
                f"better, worse and strength must be equally long, got {lengths[0]}, "
                f"{lengths[1]} and {lengths[2]}."
            )
        if not len(self):
            return
        if min(int(self.better.amin()), int(self.worse.amin())) < 0:
            raise ValueError("better and worse must be rows, 0 or more, got a negative number.")
        if (self.better == self.worse).any():
            raise ValueError("A row must not be compared with itself.")
        if not ((self.strength >= 0) & (self.strength <= 1)).all():
            raise ValueError("strength must lie in [0, 1].")

    def __len__(self) -> int:
        """Number of comparisons."""
        return len(self.better)

    @property
    def win_share(self) -> Float[Tensor, " comparison"]:
        """The probability the first should win with: 1/2 for equals, 1 where it is certain."""
        return (1 + self.strength) / 2

    def rows(self, chosen: Int[Tensor, " chosen"] | slice) -> "Comparisons":
        """Some of the comparisons."""
        return Comparisons(self.better[chosen], self.worse[chosen], self.strength[chosen])


def decided(pairs: Int[Tensor, "comparison 2"]) -> Comparisons:
    """Comparisons of strength 1 from pairs of rows, the better one first."""
    strength = torch.ones(len(pairs), device=pairs.device)
    return Comparisons(pairs[:, 0], pairs[:, 1], strength)


def comparison_accuracy(
    scores: Float[Tensor, " row"], comparisons: Comparisons
) -> Float[Tensor, " comparison"]:
    """1 for every comparison whose better row scores higher, 0 for the others, 1/2 at equal scores.

    Comparisons of strength 0 have no right answer: leave them out.

    Example:
        >>> comparison_accuracy(torch.tensor([2.0, 1.0]), decided(torch.tensor([[0, 1], [1, 0]])))
        tensor([1., 0.])
    """
    margin = scores[comparisons.better] - scores[comparisons.worse]
    return (margin > 0).to(scores.dtype) + 0.5 * (margin == 0).to(scores.dtype)
