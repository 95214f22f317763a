"""Guidance: predictions under several conditions, composed into one."""

import torch
from jaxtyping import Float
from torch import Tensor


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
        positive, weight = positives[0]
        return (
            torch.lerp(negative, positive, weight)
            if weight not in (0.0, 1.0)
            else (positive if weight == 1.0 else negative)
        )
    composed = negative
    for positive, weight in positives:
        composed = composed + weight * (positive - negative)
    return composed
