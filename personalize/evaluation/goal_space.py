"""Goal space: what can be wanted of an output, each dimension from 0 to 1."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOW_SHARE, HIGH_SHARE = 0.025, 0.975
STRONGLY_CORRELATED = 0.9


@dataclass(frozen=True)
class GoalDimension:
    """One thing that can be wanted more or less of.

    Attributes:
        name: Its name.
        unit: Unit of its raw value; empty where it has none.
        meaning: What a larger value is, in a few words.
        low: Raw value that is 0.
        high: Raw value that is 1.
    """

    name: str
    unit: str
    meaning: str
    low: float
    high: float


@dataclass(frozen=True)
class GoalSpace:
    """Named dimensions with their limits; frozen with the probe it was made for.

    Attributes:
        dimensions: In order.
    """

    dimensions: tuple[GoalDimension, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dimensions, in order."""
        return tuple(dimension.name for dimension in self.dimensions)

    def __len__(self) -> int:
        """Number of dimensions."""
        return len(self.dimensions)

    def normalized(self, raw: Float[Tensor, "*row goal"]) -> Float[Tensor, "*row goal"]:
        """Raw values from 0 to 1: clipped to the limits.

        Example:
            >>> space = GoalSpace((GoalDimension("speed", "m/s", "faster", 5.0, 15.0),))
            >>> space.normalized(torch.tensor([[10.0], [20.0]]))
            tensor([[0.5000],
                    [1.0000]])
        """
        low = raw.new_tensor([dimension.low for dimension in self.dimensions])
        high = raw.new_tensor([dimension.high for dimension in self.dimensions])
        return ((raw - low) / (high - low)).clamp(0, 1)


def fitted_limits(
    raw: Float[Tensor, "row goal"], mask: Bool[Tensor, "row goal"]
) -> tuple[Float[Tensor, " goal"], Float[Tensor, " goal"]]:
    """The middle 95 % of every dimension among seed outputs.

    Args:
        raw: Raw values of unsteered outputs and logged ones.
        mask: Which are known.

    Returns:
        Lower and upper limit; NaN where nothing is known, equal where all values are.

    Source:
        Chang et al., 2025, Measuring steerability, arXiv:2505.23816, which clips to the middle
        95 % of its seed texts.
    """
    known = torch.where(mask, raw.double(), torch.nan)
    shares = torch.tensor([LOW_SHARE, HIGH_SHARE], dtype=torch.float64, device=raw.device)
    low, high = torch.nanquantile(known, shares, dim=0)
    return low, high
