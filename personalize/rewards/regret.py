"""Preferences by regret: how far a segment falls short of the best from where it began."""

from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from personalize.preference_optimization.contrast import Contrast
from personalize.rewards.feature_comparisons import FeatureComparisons
from personalize.rewards.heads import scored_as
from personalize.rewards.preference_model import Encoded, PreferenceHead, Sizes


def segment_regret(
    gained: Float[Tensor, "*segment"],
    start_value: Float[Tensor, "*segment"],
    end_value: Float[Tensor, "*segment"],
) -> Float[Tensor, "*segment"]:
    """What the best from the start would have gained, less what was gained and is left to gain.

    Args:
        gained: Sum of rewards along the segment.
        start_value: Value of the best policy where it starts.
        end_value: The same where it ends; 0 where nothing can follow.

    Returns:
        0 for the best behaviour in a deterministic world, more for any other.

    Source:
        Knox et al., 2022, Models of human preference for learning reward functions,
        arXiv:2206.02231, for deterministic transitions.

    Example:
        >>> segment_regret(torch.tensor([1.0]), torch.tensor([5.0]), torch.tensor([2.0]))
        tensor([2.])
    """
    return start_value - (gained + end_value)


def candidate_regret(
    reward: Float[Tensor, "*batch particle"], present: Bool[Tensor, "*batch particle"]
) -> Float[Tensor, "*batch particle"]:
    """Regret where nothing follows and the best is the best of the candidates.

    Between two candidates of one context the maximum cancels, so their preference is that of the
    rewards. It matters only where candidates of different contexts are compared.
    """
    best = reward.masked_fill(~present, -torch.inf).amax(-1, keepdim=True)
    return best - reward


def successor_features(
    transition: Float[Tensor, "*policy state next"],
    feature: Float[Tensor, "*policy state feature"],
    *,
    discount: float = 1.0,
) -> Float[Tensor, "*policy state feature"]:
    """Expected discounted sum of features from every state under every policy.

    Args:
        transition: Probabilities of the next state; a row that sums to less than 1 ends there.
        feature: Features that are collected when a state is left.
        discount: What a feature one step later counts.

    Returns:
        `(I - discount * transition)^-1 feature`. Without a discount every state must reach an end.
    """
    identity = torch.eye(transition.shape[-1]).to(transition)
    return torch.linalg.solve(identity - discount * transition, feature)


def regret_features(
    collected: Float[Tensor, "*segment feature"],
    start: Float[Tensor, "*segment policy feature"],
    end: Float[Tensor, "*segment policy feature"],
) -> Float[Tensor, "*segment width"]:
    """Features of a segment as `RegretHead` reads them.

    Args:
        collected: Sum of features along the segment.
        start: Successor features of its start under some policies; or the features of all
            candidates there, with zeros for `end`.
        end: The same of its end. With a discount, `collected` is discounted from the start and
            this times `discount ** steps`.
    """
    return torch.cat([collected, start.flatten(-2), end.flatten(-2)], -1)


@final
class RegretHead(PreferenceHead):
    """A linear reward whose score is minus the regret of `regret_features`.

    The value of a state is the soft maximum, over the policies whose successor features are given,
    of what each would gain. Partial return, which leaves both values out, cannot tell a reward from
    the same reward plus a constant per step.

    Source:
        Knox et al., 2022, arXiv:2206.02231; values from successor features as in the code of Knox
        et al., 2024, Learning optimal advantage from preferences, arXiv:2310.02456.
    """

    names = ("reward",)

    def __init__(
        self,
        sizes: Sizes,
        hidden_width: int,
        *,
        policies: int | None = None,
        softness: float = 1e-3,
        regret: bool = True,
    ) -> None:
        """Begin with no reward.

        Args:
            sizes: Of the data; responses are `regret_features`.
            hidden_width: Not read: the reward is linear in the features themselves.
            policies: Whose successor features are given, or how many candidates. Default: as many
                as the data has.
            softness: Temperature of the maximum, in units of the value.
            regret: Whether to judge by regret; otherwise by partial return.

        Raises:
            ValueError: If the width is not that of so many policies, or the data has another
                number of them, or none and it was not said.
        """
        super().__init__()
        told = (sizes.response_parts - 1) // 2
        if policies is None:
            policies = told
        elif told not in (0, policies):
            raise ValueError(f"policies must be {told} as in the data, got {policies}.")
        parts = 1 + 2 * policies
        if policies < 1 or sizes.response_width % parts:
            raise ValueError(
                f"response_width must be a multiple of {parts} for {policies} policies, got "
                f"{sizes.response_width}."
            )
        self.policies, self.softness, self.regret = policies, softness, regret
        self.weight = nn.Parameter(torch.zeros(sizes.response_width // parts))

    def score(self, encoded: Encoded) -> Float[Tensor, "*row 1"]:
        """Minus the regret."""
        parts = encoded.response.unflatten(-1, (1 + 2 * self.policies, -1)) @ self.weight
        gained, values = parts[..., 0], parts[..., 1:].unflatten(-1, (2, self.policies))
        if not self.regret:
            return gained[..., None]
        # Begun without a reward, a soft maximum of equals is their mean.
        best = ((values / self.softness).softmax(-1) * values).sum(-1)
        return -segment_regret(gained, best[..., 0], best[..., 1])[..., None]

    def compare(
        self, first: Encoded, second: Encoded, annotator: Int[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row"]:
        """The regret of the second less that of the first."""
        return (self.score(first) - self.score(second))[..., 0]

    def loss(
        self, encoded: Encoded, comparisons: FeatureComparisons, contrast: Contrast
    ) -> Float[Tensor, " comparison"]:
        """The contrast of minus the regrets."""
        return contrast(scored_as(self.score(encoded)[..., 0], comparisons))
