"""SLOT Combination: several rewards as the parts of an advantage; and what gates do to them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from personalize.rewards.self_play import RankedWins, mean_win_share


@dataclass(frozen=True)
class Parts:
    """What is still apart: an advantage brings parts to one scale and sums them with their weights.

    Attributes:
        value: Of every response.
        weight: Of every part in each context; never negative.
    """

    value: Float[Tensor, "batch particle part"]
    weight: Float[Tensor, "batch part"]


class Combination(ABC):
    """Rewards to parts; a variant is a frozen dataclass.

    Laws, held by `tests/personalize/rewards/test_combination.py` for every variant: permuting
    responses permutes values; a response that is no worse in any reward has no smaller part;
    weights are not negative.
    """

    @abstractmethod
    def __call__(
        self,
        reward: Float[Tensor, "batch particle dimension"],
        context_weights: Float[Tensor, "batch dimension"] | None = None,
    ) -> Parts:
        """The parts of every response.

        Args:
            reward: Named qualities; higher is better.
            context_weights: How much each matters in each context (`WeightAdapter`); not negative.
        """


@final
@dataclass(frozen=True)
class Separate(Combination):
    """Every reward its own part, so that each can be normalised by itself before they are summed.

    Attributes:
        weights: One per reward; None takes 1 for each. Weights of the context come before them.

    Raises:
        ValueError: If a weight is negative; when called, if there is not one per reward.

    Source:
        The order `normalize_then_sum` of TRL's GRPO trainer (GDPO), as for multi-objective GRPO.
    """

    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check(self.weights)

    def __call__(
        self,
        reward: Float[Tensor, "batch particle dimension"],
        context_weights: Float[Tensor, "batch dimension"] | None = None,
    ) -> Parts:
        """See `Combination`."""
        return Parts(reward, _weights(reward, self.weights, context_weights))


@final
@dataclass(frozen=True)
class WeightedSum(Combination):
    """One part: the sum of the rewards with fixed weights, or with those of the context.

    The reward with the largest spread decides, whatever the weights say of importance: bring
    rewards to one scale first, or keep them apart (`Separate`).

    Attributes:
        weights: One per reward; None takes 1 for each. Weights of the context come before them.

    Raises:
        ValueError: If a weight is negative; when called, if there is not one per reward.

    Source:
        TRL's `reward_weights`. Weights per context in the manner of the Preference Orchestrator.
    """

    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check(self.weights)

    def __call__(
        self,
        reward: Float[Tensor, "batch particle dimension"],
        context_weights: Float[Tensor, "batch dimension"] | None = None,
    ) -> Parts:
        """See `Combination`."""
        weight = _weights(reward, self.weights, context_weights)
        return _single((reward * weight[:, None]).sum(-1))


@final
@dataclass(frozen=True)
class WorstReward(Combination):
    """One part: the least of the rewards, such as those of groups on one scale (`GroupRewards`).

    The minimum is taken per response. That is a lower bound of what the worst-off group gets on
    average (`worst_group_value`), and where groups disagree the majority pays for it.

    Source:
        The policy step that Chakraborty et al., 2024, MaxMin-RLHF, arXiv:2402.08925, released.
    """

    def __call__(
        self,
        reward: Float[Tensor, "batch particle dimension"],
        context_weights: Float[Tensor, "batch dimension"] | None = None,
    ) -> Parts:
        """See `Combination`; weights of the context are not used."""
        del context_weights
        return _single(reward.amin(-1))


@final
@dataclass(frozen=True)
class LexicographicRank(Combination):
    """One part: the share of the other responses that a response beats by a ranking of rewards.

    The first reward that differs by more than its margin decides; the unit of a reward is of no
    consequence where its margin is in the same.

    Attributes:
        margins: One per reward, in the order of importance, which is that of the dimensions.

    Raises:
        ValueError: If a margin is negative; when called, if there is not one per reward.

    Source:
        Bukharin et al., 2023, HERON, arXiv:2309.02632, whose relation this ranks a group by.
    """

    margins: tuple[float, ...]

    def __post_init__(self) -> None:
        RankedWins(self.margins)

    def __call__(
        self,
        reward: Float[Tensor, "batch particle dimension"],
        context_weights: Float[Tensor, "batch dimension"] | None = None,
    ) -> Parts:
        """See `Combination`; weights of the context are not used."""
        del context_weights
        return _single(mean_win_share(RankedWins(self.margins)(reward, reward)))


class Gating(ABC):
    """SLOT: what a response gets that fails a safety gate; a variant is a frozen dataclass.

    Laws, held by `tests/personalize/rewards/test_combination.py` for every variant: in no part does
    a response that fails get more than one of its context that passes; responses that fail in a
    context all get the same.
    """

    @abstractmethod
    def __call__(
        self, value: Float[Tensor, "batch particle part"], gate: Bool[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle part"]:
        """The parts, gated."""


@final
@dataclass(frozen=True)
class LowestGate(Gating):
    """Who fails gets less than the worst of its context that passes; passing values stay.

    Where nobody passes all get the same, so that no preference is learnt among them.

    Attributes:
        margin: How much less, in units of the reward; 0 for no difference.

    Raises:
        ValueError: If the margin is negative.
    """

    margin: float = 1.0

    def __post_init__(self) -> None:
        if not self.margin >= 0:
            raise ValueError(f"margin must not be negative, got {self.margin:g}.")

    def __call__(
        self, value: Float[Tensor, "batch particle part"], gate: Bool[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle part"]:
        """See `Gating`."""
        there = gate[..., None]
        passing = torch.where(there, value, torch.inf).amin(1, keepdim=True)
        lowest = torch.minimum(passing, value.amax(1, keepdim=True))  # nobody passes: the finite
        return torch.where(there, value, lowest - self.margin)


@final
@dataclass(frozen=True)
class ZeroGate(Gating):
    """Who fails gets 0, and nobody less: the product of gates and score, for scores from 0 up.

    Source:
        The form of NAVSIM's PDM score, Dauner et al., 2024, arXiv:2406.15349. Scores below 0,
        which it does not have, count as 0: else failing would be better.
    """

    def __call__(
        self, value: Float[Tensor, "batch particle part"], gate: Bool[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle part"]:
        """See `Gating`."""
        return torch.where(gate[..., None], value.clamp_min(0), 0)


def _single(value: Float[Tensor, "batch particle"]) -> Parts:
    return Parts(value[..., None], torch.ones_like(value[:, :1]))


def _check(weights: Sequence[float] | None) -> None:
    if weights is not None and not all(weight >= 0 for weight in weights):
        raise ValueError(f"weights must not be negative, got {tuple(weights)}.")


def _weights(
    reward: Float[Tensor, "batch particle dimension"],
    fixed: Sequence[float] | None,
    context_weights: Float[Tensor, "batch dimension"] | None,
) -> Float[Tensor, "batch dimension"]:
    if context_weights is not None:
        return context_weights
    if fixed is None:
        return torch.ones_like(reward[:, 0])
    if len(fixed) != reward.shape[-1]:
        raise ValueError(
            f"weights must be one per reward, got {len(fixed)} for {reward.shape[-1]}."
        )
    row = reward.new_ones(
        len(reward)
    )  # filled one by one: a copy from a list would wait for the device
    return torch.stack([row * weight for weight in fixed], -1)
