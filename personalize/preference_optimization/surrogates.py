"""Surrogates of policy optimisation: REINFORCE, clipped ratios (PPO, GRPO), GSPO, ECPO, P3O, CISPO.

Ratios are of the policy that is trained to the one that drew. Where they are of whole responses, a
response's loss is spread evenly over its steps, and the gradient is that of the whole.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from personalize.preference_optimization.surrogate import Surrogate

_MOST = 20.0  # of a log-ratio, so that its exponential stays finite


@final
@dataclass(frozen=True)
class Reinforce(Surrogate):
    """`-advantage * log-probability`; who drew is of no consequence, so one step per draw."""

    def __call__(
        self,
        new: Float[Tensor, "batch particle step"],
        old: Float[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """See `Surrogate`."""
        del old
        return -advantage[..., None] * new


@final
@dataclass(frozen=True)
class Clipped(Surrogate):
    """PPO's and GRPO's clipped ratio of every step.

    Attributes:
        low: How far below 1 a ratio may fall before its step has no gradient.
        high: How far above 1 it may rise; more than `low` is DAPO's clip-higher, 0.28.
        dual: The most a step of negative advantage may weigh, a multiple of the advantage (dual
            clip; 3 in released code); None for no limit.

    Raises:
        ValueError: If a limit is negative, `low` is 1 or more, or `dual` is 1 or less.

    Source:
        Schulman et al., 2017, arXiv:1707.06347; the dual clip Ye et al., 2020, arXiv:1912.09729.
        Names and defaults in TRL: `epsilon`, `epsilon_high`, `delta`.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float | None = None

    def __post_init__(self) -> None:
        _check_limits(self.low, self.high)
        if self.dual is not None and not self.dual > 1:
            raise ValueError(f"dual must be more than 1, got {self.dual:g}.")

    def __call__(
        self,
        new: Float[Tensor, "batch particle step"],
        old: Float[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """See `Surrogate`."""
        gain = advantage[..., None]
        kept = _clipped(_bounded(new - old).exp(), gain, self.low, self.high)
        if self.dual is not None:
            kept = torch.where(gain < 0, torch.maximum(kept, self.dual * gain), kept)
        return -kept


@final
@dataclass(frozen=True)
class SequenceClipped(Surrogate):
    """GSPO: one ratio per response, the geometric mean of those of its steps, clipped.

    Attributes:
        low: As in `Clipped`. The paper's 3e-4 and 4e-4 are for answers of thousands of steps.
        high: As in `Clipped`.

    Raises:
        ValueError: As for `Clipped`.

    Source:
        Zheng et al., 2025, Group Sequence Policy Optimization, arXiv:2507.18071; TRL's
        `importance_sampling_level="sequence"`.
    """

    low: float = 0.2
    high: float = 0.2

    def __post_init__(self) -> None:
        _check_limits(self.low, self.high)

    def __call__(
        self,
        new: Float[Tensor, "batch particle step"],
        old: Float[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """See `Surrogate`."""
        ratio = _bounded((new - old).mean(-1)).exp()
        return _spread(-_clipped(ratio, advantage, self.low, self.high), new)


@final
@dataclass(frozen=True)
class EarlyClipped(Surrogate):
    """ECPO: the policy that drew counts as no less probable than makes the ratio explode.

    `old' = max(detached new / (1 + high + margin), old)`. A response of negative advantage whose
    ratio has grown keeps a gradient, of bounded size. Ratios are of whole responses.

    Attributes:
        low: As in `Clipped`.
        high: As in `Clipped`.
        margin: The paper's delta.

    Raises:
        ValueError: As for `Clipped`, or if the margin is negative.

    Source:
        Zhou et al., 2025, OneRec technical report, arXiv:2506.13695 (early-clipped GRPO), which
        has no KL term and trains the supervised loss along.
    """

    low: float = 0.2
    high: float = 0.2
    margin: float = 0.1

    def __post_init__(self) -> None:
        _check_limits(self.low, self.high)
        if not self.margin >= 0:
            raise ValueError(f"margin must not be negative, got {self.margin:g}.")

    def __call__(
        self,
        new: Float[Tensor, "batch particle step"],
        old: Float[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """See `Surrogate`."""
        response = new.sum(-1)
        most = math.log(1 + self.high + self.margin)
        drew = torch.maximum(response.detach() - most, old.sum(-1))
        ratio = _bounded(response - drew).exp()
        return _spread(-_clipped(ratio, advantage, self.low, self.high), new)


@final
@dataclass(frozen=True)
class PairwiseSeparate(Surrogate):
    """P3O with the two ratios of a pair clipped separately, over all pairs of a group.

    The loss of a pair is `-1/2` times the sum over its members of the other's detached ratio times
    the clipped `ratio * (own advantage - other's)`. Only differences of advantages enter.

    Attributes:
        low: As in `Clipped`.
        high: As in `Clipped`.

    Raises:
        ValueError: As for `Clipped`.

    Source:
        Wu et al., 2023, Pairwise Proximal Policy Optimization, arXiv:2310.00212, in the manner of
        its first version: the gradient is the paper's, where exactly it clips we know from
        descriptions. Its KL term inside the reward is `kl_weight` of the objective here.
    """

    low: float = 0.2
    high: float = 0.2

    def __post_init__(self) -> None:
        _check_limits(self.low, self.high)

    def __call__(
        self,
        new: Float[Tensor, "batch particle step"],
        old: Float[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """See `Surrogate`."""
        ratio = _bounded((new - old).sum(-1)).exp()
        lead = advantage[:, :, None] - advantage[:, None]
        own = _clipped(ratio[:, :, None], lead, self.low, self.high)
        return _spread(_mean_over_others(-own * ratio.detach()[:, None]), new)


@final
@dataclass(frozen=True)
class PairwiseJoint(Surrogate):
    """P3O with the joint log-ratio of a pair clipped, over all pairs of a group.

    With `u` the log-ratio of the first less that of the second, a pair's loss is
    `-1/2 * detached ratios * min(lead * u, lead * clip(u, -limit, limit))`.

    Attributes:
        limit: The paper's epsilon, of a log-ratio.

    Raises:
        ValueError: If the limit is not positive.

    Source:
        Wu et al., 2023, Pairwise Proximal Policy Optimization, arXiv:2310.00212, in the manner of
        its second version; see `PairwiseSeparate`.
    """

    limit: float = 0.2

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise ValueError(f"limit must be positive, got {self.limit:g}.")

    def __call__(
        self,
        new: Float[Tensor, "batch particle step"],
        old: Float[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """See `Surrogate`."""
        log_ratio = _bounded((new - old).sum(-1))
        lead = advantage[:, :, None] - advantage[:, None]
        joint = log_ratio[:, :, None] - log_ratio[:, None]
        drawn = (log_ratio[:, :, None] + log_ratio[:, None]).detach().exp()
        kept = torch.minimum(lead * joint, lead * joint.clamp(-self.limit, self.limit))
        return _spread(_mean_over_others(-0.5 * drawn * kept), new)


@final
@dataclass(frozen=True)
class ClippedWeight(Surrogate):
    """CISPO: REINFORCE, every step weighted by its detached ratio, which is cut from above.

    No step loses its gradient, however far the policy has moved.

    Attributes:
        most: The largest weight; 5 as TRL recommends, from memory.

    Raises:
        ValueError: If it is below 1.

    Source:
        MiniMax, 2025, MiniMax-M1, arXiv:2506.13585, as TRL's `loss_type="cispo"`.
    """

    most: float = 5.0

    def __post_init__(self) -> None:
        if not self.most >= 1:
            raise ValueError(f"most must be 1 or more, got {self.most:g}.")

    def __call__(
        self,
        new: Float[Tensor, "batch particle step"],
        old: Float[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """See `Surrogate`."""
        weight = _bounded(new - old).exp().clamp(max=self.most).detach()
        return -weight * advantage[..., None] * new


def _check_limits(low: float, high: float) -> None:
    if not (0 <= low < 1 and high >= 0):
        raise ValueError(
            f"low must lie in [0, 1) and high must not be negative, got {low}, {high}."
        )


def _bounded(log_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return log_ratio.clamp(-_MOST, _MOST)


def _clipped(
    ratio: Float[Tensor, "*#shape"], gain: Float[Tensor, "*#shape"], low: float, high: float
) -> Float[Tensor, "*#shape"]:
    return torch.minimum(ratio * gain, ratio.clamp(1 - low, 1 + high) * gain)


def _mean_over_others(
    pairs: Float[Tensor, "batch particle particle"],
) -> Float[Tensor, "batch particle"]:
    """Of each response; a response and itself make no pair, and are 0 there."""
    return pairs.sum(-1) / max(pairs.shape[-1] - 1, 1)


def _spread(
    loss: Float[Tensor, "batch particle"], like: Float[Tensor, "batch particle step"]
) -> Float[Tensor, "batch particle step"]:
    return (loss[..., None] / like.shape[-1]).expand_as(like)
