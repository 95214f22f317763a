"""From named rewards to one advantage per response: combine, gate, shape, compare, normalise."""

from dataclasses import dataclass, field
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
        combination: Of the rewards to parts.
        shaping: Of the parts.
        advantage: Of the shaped parts.
        self_play: Take each response's share of wins against the others for its reward; None takes
            the shaped parts themselves.
        gating: What is done to responses that fail a gate.
    """

    combination: Combination = field(default_factory=Separate)
    shaping: Shaping = field(default_factory=Unshaped)
    advantage: Advantage = field(default_factory=NormalizeThenSum)
    self_play: Comparator | None = None
    gating: Gating = field(default_factory=LowestGate)

    @property
    def uses_reference(self) -> bool:
        """Whether rewards of the reference's responses enter."""
        return self.shaping.uses_reference

    @torch.no_grad()
    def __call__(
        self,
        reward: Float[Tensor, "batch particle dimension"],
        gate: Bool[Tensor, "batch particle"],
        reference_reward: Float[Tensor, "batch drawn dimension"],
        context_weights: Float[Tensor, "batch dimension"] | None = None,
    ) -> Float[Tensor, "batch particle"]:
        """The advantage of every response, without a gradient.

        Args:
            reward: Named qualities; higher is better.
            gate: Whether every safety gate is passed.
            reference_reward: Of the reference's responses; may be empty where shaping needs none.
            context_weights: See `Combination`.

        Raises:
            ValueError: If shaping needs rewards of the reference and there are none.
        """
        if self.uses_reference and not reference_reward.shape[1]:
            raise ValueError("reference_reward must not be empty: the shaping compares with it.")
        count = reward.shape[1]
        # together, so that a rank within the group is one among the references as well
        combined = self.combination(torch.cat([reward, reference_reward], 1), context_weights)
        value = self.gating(combined.value[:, :count], gate)
        value = self.shaping(value, combined.value[:, count:])
        weight = combined.weight
        if self.self_play is not None:
            wins = gated_wins(self.self_play(value, value), gate)
            value = mean_win_share(wins)[..., None]
            weight = torch.ones_like(value[:, 0])
        advantage = self.advantage(Parts(value, weight))
        # those that fail are the lowest by now, up to rounding; where nobody passes nothing is told
        lowest = torch.where(gate.any(1, keepdim=True), advantage.amin(1, keepdim=True), 0)
        return torch.where(gate, advantage, lowest)
