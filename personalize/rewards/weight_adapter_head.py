"""A head that weighs named rewards by what a context says of their importance."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.conditioning.weight_adapter import WeightAdapter
from personalize.preference_optimization.contrast import Contrast
from personalize.rewards.feature_comparisons import FeatureComparisons
from personalize.rewards.heads import scored_as
from personalize.rewards.preference_model import Encoded, PreferenceHead, Sizes

ORCHESTRATED = "orchestrated"


@final
class WeightAdapterHead(PreferenceHead):
    """Scores by `sharpness * sum over rewards of weight(context) * reward / deviation`.

    The features of a response are named rewards (`JudgedFeaturesSource`). Weights are not negative
    and add up to 1; at the start all are equal. They refer to rewards in units of the deviation
    each has among the responses to one context that are compared, which is kept with the model, so
    that a weight does not depend on the unit a reward came in. With a logistic contrast two
    responses make a conditional logit of a choice of two.

    A reward that knows the outcome, such as a hit, explains all choices: leave it out.

    Attributes:
        reward_names: Names of the rewards, in order.
        scale: Deviation of each.

    Source:
        In the manner of the Preference Orchestrator, which we know from descriptions alone; the
        likelihood is that of `ChoiceLikelihood`.
    """

    names = (ORCHESTRATED,)
    scale: Tensor

    def __init__(
        self,
        sizes: Sizes,
        hidden_width: int,
        *,
        hidden: int = 64,
        per_context: bool = True,
        sharpness_rate: float = 10.0,
    ) -> None:
        """Build the adapter.

        Args:
            sizes: Of the data; the features of a response have names.
            hidden_width: Not read: weights depend on the context alone.
            hidden: Width of the adapter's layer.
            per_context: Read the context; without, one set of weights serves all: the control.
            sharpness_rate: How much faster the sharpness learns than the weights. While it is too
                small, the likeliest weights are all on one reward.

        Raises:
            ValueError: If the features of responses have no names, or the rate is not positive.
        """
        super().__init__()
        if not sizes.response_names or len(sizes.response_scale) != len(sizes.response_names):
            raise ValueError(
                "A weight adapter weighs named rewards, and responses have none for features; put "
                "JudgedFeaturesSource around the half."
            )
        if not sharpness_rate > 0:
            raise ValueError(f"sharpness_rate must be positive, got {sharpness_rate:g}.")
        self.reward_names = sizes.response_names
        self.per_context, self.sharpness_rate = per_context, sharpness_rate
        self.register_buffer("scale", torch.tensor(sizes.response_scale))
        self.adapter = WeightAdapter(sizes.context_width, len(self.reward_names), hidden=hidden)

    def weights(
        self, context: Float[Tensor, "*row context_width"]
    ) -> Float[Tensor, "*row dimension"]:
        """How much each reward matters in each context: not negative, adding up to 1."""
        read = context if self.per_context else torch.zeros_like(context)
        return self.adapter(read.flatten(0, -2)).unflatten(0, context.shape[:-1])

    def score(self, encoded: Encoded) -> Float[Tensor, "*row 1"]:
        """See `PreferenceHead`."""
        sharpness = (self.sharpness_rate * self.adapter.log_sharpness).exp()
        weighed = self.weights(encoded.context) * (encoded.response / self.scale)
        return sharpness * weighed.sum(-1, keepdim=True)

    def compare(
        self, first: Encoded, second: Encoded, annotator: Int[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row"]:
        """The difference of scores."""
        return (self.score(first) - self.score(second))[..., 0]

    def loss(
        self, encoded: Encoded, comparisons: FeatureComparisons, contrast: Contrast
    ) -> Float[Tensor, " comparison"]:
        """The contrast of the scores."""
        return contrast(scored_as(self.score(encoded)[..., 0], comparisons))
