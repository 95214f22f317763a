"""Guidance: predictions under several conditions, composed into one."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from personalize.generator import Predict


def guide(
    negative: Float[Tensor, "..."], *positives: tuple[Float[Tensor, "..."], float]
) -> Float[Tensor, "..."]:
    """`negative + sum of weight * (positive - negative)`, on logits or denoised trajectories.

    One positive of weight 1 is that positive to the last bit, and of weight 0 the negative. More
    than 1 exaggerates what the condition changes. Several compose preferences. Where the negative
    is the prediction under the opposite, or of a worse model, it is contrastive decoding.

    Logits may be left un-normalised for ranking: their totals then are those of a product of
    experts, `log p_negative + sum of weight * (log p_positive - log p_negative)` per item, up to a
    constant per prefix.

    Args:
        negative: The prediction to move away from: under no condition, or another one.
        positives: Predictions of the same shape and their weights.

    Returns:
        The composed prediction; without positives the negative.

    Source:
        Ho and Salimans, 2022, Classifier-Free Diffusion Guidance, arXiv:2207.12598 (their `w` is
        our weight less one); Li et al., 2023, Contrastive Decoding, arXiv:2210.15097; Liu et al.,
        2022, Compositional Visual Generation, arXiv:2206.01714.

    Example:
        >>> none, quiet = torch.tensor([0.0, 0.0]), torch.tensor([1.0, -1.0])
        >>> guide(none, (quiet, 2.0))
        tensor([ 2., -2.])
    """
    if len(positives) == 1:
        return torch.lerp(negative, *positives[0])  # exact at 0 and at 1
    composed = negative
    for positive, weight in positives:
        composed = composed + weight * (positive - negative)
    return composed


@dataclass(frozen=True)
class GuidedPredict:
    """A `Predict` that moves away from another one; a weight of 1 is the first alone.

    Attributes:
        positive: The generator's prediction under the condition that is asked.
        negative: What to move away from, such as the same under no condition (`Under`), or a
            worse generator's.
        weight: See `guide`.
    """

    positive: Predict
    negative: Predict
    weight: float

    def __call__(self, state, number: int, condition) -> Tensor:  # noqa: ANN001  (the vertical's)
        """The guided prediction."""
        if self.weight == 1.0:
            return self.positive(state, number, condition)
        away = self.negative(state, number, condition)
        return guide(away, (self.positive(state, number, condition), self.weight))


@dataclass(frozen=True)
class Under:
    """A `Predict` under one condition, whatever is asked.

    Attributes:
        predict: The prediction.
        condition: The condition it is made under, such as none.
    """

    predict: Predict
    condition: Any

    def __call__(self, state, number: int, condition) -> Tensor:  # noqa: ANN001  (the vertical's)
        """The prediction under the condition of its own."""
        return self.predict(state, number, self.condition)
