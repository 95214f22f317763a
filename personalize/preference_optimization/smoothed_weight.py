"""How much a comparison should count, by what a reward model thinks of it."""

import torch
from jaxtyping import Float
from torch import Tensor


def smoothed_weight(
    better: Float[Tensor, "*comparison"],
    worse: Float[Tensor, "*comparison"],
    *,
    scale: float = 10.0,
) -> Float[Tensor, "*comparison"]:
    """The factor of the margin in any pairwise loss: `scale * tanh((better - worse) / 2)`.

    The paper's `2 alpha - gamma`, with `alpha / gamma` the logistic function of the difference, is
    this. It is 0 where the model sees no difference, so that such a pair has no gradient, and
    negative where it disagrees with the label, so that the loss pulls the other way. So the label
    has no part in it: turned round it turns weight and margin, and the loss stays. It depends on
    the size of the rewards: bring them to [0, 1] by `unit_range` first, where it stays within
    `0.462 * scale`.

    It is a weight inside the loss, `-log sigma(weight * margin)`; it does not bound the margin. A
    soft label does, see `soft_strength`.

    Args:
        better: Reward of the response that the label prefers.
        worse: Reward of the other.
        scale: The paper's gamma.

    Raises:
        ValueError: If the scale is not positive.

    Source:
        Lu et al., 2025, Smoothed Preference Optimization via ReNoise Inversion,
        arXiv:2506.02698. Each pair takes its own weight, where the released code takes the first
        of the batch for all. At weight 0 the loss is log 2, not 0 as the paper puts it: it is the
        gradient that vanishes. The inversion of noise is left out.

    Example:
        >>> smoothed_weight(torch.tensor([0.5, 1.0]), torch.tensor([0.5, 0.0]))
        tensor([0.0000, 4.6212])
    """
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale:g}.")
    return scale * torch.tanh((better - worse) / 2)


def soft_strength(
    better: Float[Tensor, "*comparison"], worse: Float[Tensor, "*comparison"]
) -> Float[Tensor, "*comparison"]:
    """The same belief as a label: `tanh((better - worse) / 2)`, negative where the model disagrees.

    As the strength of a comparison (after swapping the negative ones) it gives an ordinary
    cross-entropy whose best margin is `better - worse`, and is finite.
    """
    return torch.tanh((better - worse) / 2)


def unit_range(rewards: Float[Tensor, "*response"]) -> Float[Tensor, "*response"]:
    """Rewards from 0, the least of all, to 1, the most.

    Raises:
        ValueError: If all are equal or one is not finite.

    Example:
        >>> unit_range(torch.tensor([-3.0, 1.0, -1.0]))
        tensor([0.0000, 1.0000, 0.5000])
    """
    low, high = rewards.amin(), rewards.amax()
    if not (torch.isfinite(rewards).all() and high > low):
        raise ValueError("rewards must be finite and must not all be equal.")
    return (rewards - low) / (high - low)
