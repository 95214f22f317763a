"""SLOT Shaping: rewards bounded or brought to scale before they are maximised."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


class Shaping(ABC):
    """Rewards to rewards, each part by itself; a variant is a frozen dataclass.

    Where a variant needs statistics it takes those of the batch; the released code keeps running
    ones.

    Laws, held by `tests/personalize/rewards/test_shaping.py` for every variant: of two responses to
    one context the better is not shaped below the other; permuting responses permutes values;
    finite for finite rewards.

    Attributes:
        uses_reference: Whether rewards of reference responses enter.
    """

    uses_reference: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self,
        reward: Float[Tensor, "batch particle part"],
        reference: Float[Tensor, "batch drawn part"],
    ) -> Float[Tensor, "batch particle part"]:
        """The shaped rewards.

        Args:
            reward: Of what the policy drew.
            reference: Of the reference's responses to the same contexts.
        """


@final
@dataclass(frozen=True)
class Unshaped(Shaping):
    """Rewards as they are."""

    def __call__(
        self,
        reward: Float[Tensor, "batch particle part"],
        reference: Float[Tensor, "batch drawn part"],
    ) -> Float[Tensor, "batch particle part"]:
        """See `Shaping`."""
        del reference
        return reward


@final
@dataclass(frozen=True)
class PreferenceAsReward(Shaping):
    """`sigma(steepness * (reward - reference))`, averaged over the references.

    It lies in (0, 1) and is steepest where response and reference are equals; with one reference it
    is Bradley-Terry's probability to beat it. A constant per context, added to both, is of no
    consequence. It caps what an exploited reward can pay but does not take it away: with a small KL
    weight the exploit wins all the same. So it does where the advantage is then scaled by its
    group's deviation, which undoes the cap: take `NoScale`, and the divergence in the reward
    (`benchmarks/methods/par.py`).

    Attributes:
        steepness: The paper's k, per unit of reward.

    Raises:
        ValueError: If the steepness is not positive.

    Source:
        Fu et al., 2025, Reward Shaping to Mitigate Reward Hacking in RLHF (PAR), arXiv:2502.18770,
        and its released code; steepness 1 and one reference suffice there.
    """

    uses_reference: ClassVar[bool] = True
    steepness: float = 1.0

    def __post_init__(self) -> None:
        if not self.steepness > 0:
            raise ValueError(f"steepness must be positive, got {self.steepness:g}.")

    def __call__(
        self,
        reward: Float[Tensor, "batch particle part"],
        reference: Float[Tensor, "batch drawn part"],
    ) -> Float[Tensor, "batch particle part"]:
        """See `Shaping`."""
        return (self.steepness * _leads(reward, reference)).sigmoid().mean(2)


@final
@dataclass(frozen=True)
class TanhShaping(Shaping):
    """`tanh(reward - reference)`, averaged over the references.

    Source:
        The option `reward_tanh` with `reward_relative` of PAR's released code.
    """

    uses_reference: ClassVar[bool] = True

    def __call__(
        self,
        reward: Float[Tensor, "batch particle part"],
        reference: Float[Tensor, "batch drawn part"],
    ) -> Float[Tensor, "batch particle part"]:
        """See `Shaping`."""
        return _leads(reward, reference).tanh().mean(2)


@final
@dataclass(frozen=True)
class PolynomialShaping(Shaping):
    """The polynomial of order 5 that is fitted to the logistic function on [-5, 5], of the lead.

    Source:
        The option `reward_fittedpoly` with `reward_relative` of PAR's released code. There it is 0
        and 1 outside the interval, though it reaches -0.011 and 1.011 at the ends, so that a
        larger reward may get less; here the lead is cut to the interval.
    """

    uses_reference: ClassVar[bool] = True

    def __call__(
        self,
        reward: Float[Tensor, "batch particle part"],
        reference: Float[Tensor, "batch drawn part"],
    ) -> Float[Tensor, "batch particle part"]:
        """See `Shaping`."""
        lead = _leads(reward, reference).clamp(-5, 5)
        square = lead.square()
        slope = 0.228788512 + square * (-0.0101309121 + square * 0.000202669170)
        return (0.5 + lead * slope).mean(2)


@final
@dataclass(frozen=True)
class LogSigmoidShaping(Shaping):
    """`log sigma(reward - level)`, the level a percentile of the references' rewards.

    The percentile is that of a normal distribution with the references' mean and deviation; with
    one reference it is this one's reward.

    Attributes:
        percentile: In (0, 1).

    Raises:
        ValueError: If the percentile lies outside (0, 1).

    Source:
        Wang et al., 2024, Transforming and Combining Rewards for Aligning Large Language Models,
        arXiv:2402.00742, as in PAR's released code (`reward_lsc`).
    """

    uses_reference: ClassVar[bool] = True
    percentile: float = 0.85

    def __post_init__(self) -> None:
        if not 0 < self.percentile < 1:
            raise ValueError(f"percentile must lie between 0 and 1, got {self.percentile:g}.")

    def __call__(
        self,
        reward: Float[Tensor, "batch particle part"],
        reference: Float[Tensor, "batch drawn part"],
    ) -> Float[Tensor, "batch particle part"]:
        """See `Shaping`."""
        deviation = reference.std(1, correction=min(1, reference.shape[1] - 1), keepdim=True)
        above = NormalDist().inv_cdf(self.percentile) * deviation
        return functional.logsigmoid(reward - reference.mean(1, keepdim=True) - above)


@final
@dataclass(frozen=True)
class StandardizedShaping(Shaping):
    """Less the mean of the batch, in its standard deviations; 0 where all are alike.

    Source:
        The option `reward_meanstd` of PAR's released code.
    """

    def __call__(
        self,
        reward: Float[Tensor, "batch particle part"],
        reference: Float[Tensor, "batch drawn part"],
    ) -> Float[Tensor, "batch particle part"]:
        """See `Shaping`."""
        del reference
        mean, deviation = _mean_deviation(reward)
        return (reward - mean) / torch.where(deviation > 1e-6 * mean.abs(), deviation, 1)


@final
@dataclass(frozen=True)
class ClippedShaping(Shaping):
    """Cut to within so many standard deviations of the mean of the batch.

    Attributes:
        deviations: How many.

    Raises:
        ValueError: If it is not positive.

    Source:
        The option `reward_clipping` of PAR's released code.
    """

    deviations: float = 1.0

    def __post_init__(self) -> None:
        if not self.deviations > 0:
            raise ValueError(f"deviations must be positive, got {self.deviations:g}.")

    def __call__(
        self,
        reward: Float[Tensor, "batch particle part"],
        reference: Float[Tensor, "batch drawn part"],
    ) -> Float[Tensor, "batch particle part"]:
        """See `Shaping`."""
        del reference
        mean, deviation = _mean_deviation(reward)
        reach = self.deviations * deviation
        return torch.minimum(torch.maximum(reward, mean - reach), mean + reach)


@final
@dataclass(frozen=True)
class UnitRangeShaping(Shaping):
    """From 0, the least of the batch, to 1, the most; 0 where all are equal.

    Source:
        The option `reward_minmax` of PAR's released code.
    """

    def __call__(
        self,
        reward: Float[Tensor, "batch particle part"],
        reference: Float[Tensor, "batch drawn part"],
    ) -> Float[Tensor, "batch particle part"]:
        """See `Shaping`."""
        del reference
        least = reward.amin((0, 1))
        width = reward.amax((0, 1)) - least
        return (reward - least) / torch.where(width > 0, width, 1)


def _leads(
    reward: Float[Tensor, "batch particle part"], reference: Float[Tensor, "batch drawn part"]
) -> Float[Tensor, "batch particle drawn part"]:
    return reward[:, :, None] - reference[:, None]


def _mean_deviation(
    reward: Float[Tensor, "batch particle part"],
) -> tuple[Float[Tensor, " part"], Float[Tensor, " part"]]:
    return reward.mean((0, 1)), reward.std((0, 1), correction=0)
