"""From named rewards to one advantage per response: combine, gate, shape, compare, normalise."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from personalize.rewards.advantage import Advantage, NormalizeThenSum
from personalize.rewards.combination import Combination, Gating, LowestGate, Parts, Separate
from personalize.rewards.self_play import Comparator, gated_wins, mean_win_share
from personalize.rewards.shaping import Shaping, Unshaped


@final
@dataclass(frozen=True)
class RewardPipeline:
    """What a response's rewards say for it among the responses to its context.

    Whatever the parts are, a response that fails a safety gate never has a larger advantage than
    one of its context that passes.

    Attributes:
        combination: Of the rewards to parts; None takes `Separate`.
        shaping: Of the parts; None takes `Unshaped`.
        advantage: Of the shaped parts; None takes `NormalizeThenSum`.
        self_play: Take each response's share of wins against the others for its reward; None takes
            the shaped parts themselves.
        gating: What is done to responses that fail a gate; None takes `LowestGate`.
        kl_weight: Of each response's log-ratio to the reference, which is taken off its advantage:
            the divergence as part of the reward, as in PPO and P3O. In the mean its gradient is
            that of `KL(policy || reference)`, in units of the scaled advantage.
        failure_weight: Of failing a gate, which is taken off the advantage as the divergence is:
            a cost beside the reward, whose gradient is that of the expected share of failures.
            Without it a group of which one fails teaches no more than one of which none does, as
            scales make every group count alike; where failures are rare a policy then learns
            what is liked by the many groups that hold none, and drifts into them.

    Raises:
        ValueError: If a weight is negative.

    Source:
        A cost apart from the reward, with a multiplier, is that of Safe RLHF (Dai et al., 2023,
        arXiv:2310.12773); there the multiplier is learnt, here it is fixed.
    """

    combination: Combination | None = None
    shaping: Shaping | None = None
    advantage: Advantage | None = None
    self_play: Comparator | None = None
    gating: Gating | None = None
    kl_weight: float = 0.0
    failure_weight: float = 0.0

    def __post_init__(self) -> None:
        for name in ("kl_weight", "failure_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name):g}.")

    @property
    def judges_reference(self) -> bool:
        """Whether rewards of the reference's responses enter."""
        return self.shaping is not None and self.shaping.uses_reference

    @torch.no_grad()
    def __call__(
        self,
        reward: Float[Tensor, "batch particle dimension"],
        gate: Bool[Tensor, "batch particle"],
        reference_reward: Float[Tensor, "batch drawn dimension"],
        context_weights: Float[Tensor, "batch dimension"] | None = None,
        log_ratio: Float[Tensor, "batch particle"] | None = None,
    ) -> Float[Tensor, "batch particle"]:
        """The advantage of every response, without a gradient.

        Args:
            reward: Named qualities; higher is better.
            gate: Whether every safety gate is passed.
            reference_reward: Of the reference's responses; may be empty where shaping needs none.
            context_weights: See `Combination`.
            log_ratio: Of the policy that drew to the reference, for `kl_weight`.

        Raises:
            ValueError: If shaping needs rewards of the reference and there are none, or
                `kl_weight` needs log-ratios.
        """
        if self.judges_reference and not reference_reward.shape[1]:
            raise ValueError("reference_reward must not be empty: the shaping compares with it.")
        count = reward.shape[1]
        combine, gated = self.combination or Separate(), self.gating or LowestGate()
        shaped, advantage_of = self.shaping or Unshaped(), self.advantage or NormalizeThenSum()
        # together, so that a rank within the group is one among the references as well
        combined = combine(torch.cat([reward, reference_reward], 1), context_weights)
        value = gated(combined.value[:, :count], gate)
        value = shaped(value, combined.value[:, count:])
        weight = combined.weight
        if self.self_play is not None:
            wins = gated_wins(self.self_play(value, value), gate)
            value = mean_win_share(wins)[..., None]
            weight = torch.ones_like(value[:, 0])
        advantage = advantage_of(Parts(value, weight))
        if self.kl_weight:
            if log_ratio is None:
                raise ValueError("log_ratio must be given: kl_weight is not 0.")
            advantage = advantage - self.kl_weight * (log_ratio - log_ratio.mean(1, keepdim=True))
        failed = (~gate).to(advantage)
        advantage = advantage - self.failure_weight * (failed - failed.mean(1, keepdim=True))
        # those that fail are the lowest by now, up to rounding; where nobody passes nothing is told
        lowest = torch.where(gate.any(1, keepdim=True), advantage.amin(1, keepdim=True), 0)
        return torch.where(gate, advantage, lowest)
