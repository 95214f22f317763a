"""SLOT Advantage: how much better each response is than the others of its context."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from personalize.rewards.combination import Parts

_LEAST = 1e-4  # the number that TRL adds to every deviation


class Scale(ABC):
    """SLOT: to what size centred rewards are brought; a variant is a frozen dataclass.

    Laws, held by `tests/personalize/rewards/test_advantage.py` for every variant: the order of the
    responses of a context is kept and their mean stays 0; zeros stay zeros.
    """

    @abstractmethod
    def __call__(
        self, centred: Float[Tensor, "batch particle part"]
    ) -> Float[Tensor, "batch particle part"]:
        """The scaled values, each part by itself.

        Args:
            centred: Rewards less their mean over the responses of their context.
        """


@final
@dataclass(frozen=True)
class GroupScale(Scale):
    """In standard deviations of the context's responses: every context counts alike.

    That makes much of small differences: a context whose responses are nearly equal pushes as hard
    as one where they differ. `BatchScale` and `ConstantScale` do not.

    Source:
        GRPO, as TRL's `scale_rewards="group"`: Bessel's correction, and 1e-4 added.
    """

    def __call__(
        self, centred: Float[Tensor, "batch particle part"]
    ) -> Float[Tensor, "batch particle part"]:
        """See `Scale`."""
        freedom = max(centred.shape[1] - 1, 1)
        return centred / ((centred.square().sum(1, keepdim=True) / freedom).sqrt() + _LEAST)


@final
@dataclass(frozen=True)
class BatchScale(Scale):
    """In standard deviations over the batch.

    Source:
        TRL's `scale_rewards="batch"`, but for one thing: there the deviation is that of the rewards
        and here that of the centred rewards, so that a constant per context changes nothing.
    """

    def __call__(
        self, centred: Float[Tensor, "batch particle part"]
    ) -> Float[Tensor, "batch particle part"]:
        """See `Scale`."""
        freedom = max(centred.shape[0] * centred.shape[1] - 1, 1)
        return centred / ((centred.square().sum((0, 1)) / freedom).sqrt() + _LEAST)


@final
@dataclass(frozen=True)
class ConstantScale(Scale):
    """Divided by a constant.

    Attributes:
        divisor: What by.

    Raises:
        ValueError: If it is not positive.

    Source:
        Plan-R1's released code divides centred process rewards by 0.1.
    """

    divisor: float = 0.1

    def __post_init__(self) -> None:
        if not self.divisor > 0:
            raise ValueError(f"divisor must be positive, got {self.divisor:g}.")

    def __call__(
        self, centred: Float[Tensor, "batch particle part"]
    ) -> Float[Tensor, "batch particle part"]:
        """See `Scale`."""
        return centred / self.divisor


@final
@dataclass(frozen=True)
class NoScale(Scale):
    """As they are: the size of the reward is the size of the step (Dr. GRPO)."""

    def __call__(
        self, centred: Float[Tensor, "batch particle part"]
    ) -> Float[Tensor, "batch particle part"]:
        """See `Scale`."""
        return centred


@final
@dataclass(frozen=True)
class LeaveOneOutScale(Scale):
    """Less the mean of the other responses: centred times `G / (G - 1)` (RLOO)."""

    def __call__(
        self, centred: Float[Tensor, "batch particle part"]
    ) -> Float[Tensor, "batch particle part"]:
        """See `Scale`."""
        count = centred.shape[1]
        return centred * (count / max(count - 1, 1))


class Advantage(ABC):
    """Parts to one advantage per response; a variant is a frozen dataclass.

    Laws, held by `tests/personalize/rewards/test_advantage.py` for every variant: over the
    responses of a context it adds up to 0; who is no worse in any part has no smaller advantage;
    equals have none; a constant added to a part of a whole context changes nothing.
    """

    @abstractmethod
    def __call__(self, parts: Parts) -> Float[Tensor, "batch particle"]:
        """The advantage of every response."""


@final
@dataclass(frozen=True)
class NormalizeThenSum(Advantage):
    """Each part is centred and scaled by itself, then weighted and summed, then scaled once more.

    So a part counts by its weight, not by its spread: with two rewards of scale 10 to 1, summed
    first, the advantage hardly knows of the second.

    Attributes:
        scale: Of each part; None takes `GroupScale`.
        total: Of the sum; None takes `BatchScale`.

    Source:
        TRL's `multi_objective_aggregation="normalize_then_sum"` (GDPO); its default is the other.
    """

    scale: Scale | None = None
    total: Scale | None = None

    def __call__(self, parts: Parts) -> Float[Tensor, "batch particle"]:
        """See `Advantage`."""
        scale, total = self.scale or GroupScale(), self.total or BatchScale()
        each = scale(_centred(parts.value)) * parts.weight[:, None]
        return total(each.sum(-1, keepdim=True))[..., 0]


@final
@dataclass(frozen=True)
class SumThenNormalize(Advantage):
    """Parts are weighted and summed, then centred and scaled.

    Attributes:
        scale: Of the sum; None takes `GroupScale`.

    Source:
        TRL's `multi_objective_aggregation="sum_then_normalize"`, its default.
    """

    scale: Scale | None = None

    def __call__(self, parts: Parts) -> Float[Tensor, "batch particle"]:
        """See `Advantage`."""
        total = (parts.value * parts.weight[:, None]).sum(-1, keepdim=True)
        scale = self.scale or GroupScale()
        return scale(_centred(total))[..., 0]


def reward_to_go(
    reward: Float[Tensor, "*batch step"], *, discount: float = 1.0
) -> Float[Tensor, "*batch step"]:
    """The discounted sum of each step's reward and all that follow.

    Args:
        reward: Of every step.
        discount: Per step, 0 to 1; at 0 each step has its own alone.

    Raises:
        ValueError: If the discount lies outside [0, 1].

    Source:
        Plan-R1 takes it of process rewards that were centred and divided by 0.1 before.

    Example:
        >>> reward_to_go(torch.tensor([1.0, 0.0, 4.0]), discount=0.5)
        tensor([2., 2., 4.])
    """
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must lie in [0, 1], got {discount:g}.")
    steps = torch.arange(reward.shape[-1], device=reward.device)
    ahead = steps[:, None] - steps
    kept = torch.where(ahead >= 0, discount ** ahead.clamp_min(0).to(reward), 0)
    return reward @ kept


def _centred(
    value: Float[Tensor, "batch particle part"],
) -> Float[Tensor, "batch particle part"]:
    """Less the mean of the context; equals get exactly 0, whatever their mean rounds to."""
    first = value[:, :1]
    lead = value - first
    rounding = 8 * torch.finfo(value.dtype).eps * torch.maximum(value.abs(), first.abs())
    lead = torch.where(lead.abs() <= rounding, 0, lead)
    return lead - lead.mean(1, keepdim=True)
