"""What a person wants of what is generated: a point in goal space, some of it left open."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from personalize.generator import Context, Reward, Value, X


@dataclass(frozen=True)
class Goals:
    """A goal per context, in the normalised units of a `GoalSpace`.

    Attributes:
        values: 0 to 1 per dimension; 0 where the mask is false.
        mask: Which dimensions anything is asked of.
    """

    values: Float[Tensor, "batch goal"]
    mask: Bool[Tensor, "batch goal"]

    def rows(self, chosen: Int[Tensor, " chosen"] | slice) -> "Goals":
        """Some rows of the batch."""
        return Goals(self.values[chosen], self.mask[chosen])


def no_goals(batch: int, dimensions: int) -> Goals:
    """Goals that ask for nothing."""
    return Goals(torch.zeros(batch, dimensions), torch.zeros(batch, dimensions, dtype=torch.bool))


def closeness(
    rewards: Float[Tensor, "batch particle goal"], goals: Goals
) -> Float[Tensor, "batch particle"]:
    """Minus the squared distance of every particle to its context's goal, open dimensions aside.

    It is 0 at the goal and where nothing is asked, and negative elsewhere.

    Example:
        >>> goals = Goals(torch.tensor([[0.5, 0.0]]), torch.tensor([[True, False]]))
        >>> closeness(torch.tensor([[[0.5, 0.9], [0.0, 0.1]]]), goals)
        tensor([[-0.0000, -0.2500]])
    """
    gaps = (rewards - goals.values[:, None]) * goals.mask[:, None]
    return -gaps.square().sum(-1)


class GoalCloseness(Value[X, Context]):
    """How close rewards come to goals; see `closeness`.

    Source:
        The pick of AlignDiff (Dong et al., 2023, arXiv:2310.02054), which takes the candidate with
        the least masked squared error.
    """

    def __init__(self, reward: Reward[X, Context], goals: Goals) -> None:
        self._reward, self._goals = reward, goals

    def __call__(self, x: X, context: Context) -> Float[Tensor, "batch particle"]:
        """Minus the squared distance; 0 at the goal."""
        return closeness(self._reward(x, context), self._goals)


class Direction(Value[X, Context]):
    """The component of rewards along a direction, one per context.

    Source:
        Wang et al., 2024, Directional Preference Alignment, arXiv:2402.18571: utility is the
        product of a unit direction with the vector of rewards.
    """

    def __init__(
        self, reward: Reward[X, Context], directions: Float[Tensor, "batch dimension"]
    ) -> None:
        self._reward, self._directions = reward, directions

    def __call__(self, x: X, context: Context) -> Float[Tensor, "batch particle"]:
        """The product of every particle's rewards with its context's direction."""
        return torch.einsum("bpd,bd->bp", self._reward(x, context), self._directions)
