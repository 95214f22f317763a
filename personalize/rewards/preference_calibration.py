"""Whether stated probabilities of preference are what they say, and the temperature that helps."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def fitted_temperature(
    logit: Float[Tensor, " comparison"],
    win_share: Float[Tensor, " comparison"],
    *,
    steps: int = 60,
) -> Float[Tensor, ""]:
    """What logits should be divided by for the least log-loss on comparisons.

    The log-loss is convex in one over the temperature, so its slope changes sign once: bisection
    finds where, to a thousandth of a per mille. Logits that are always right want a temperature of
    0 and get 0.01; logits that are wrong more than right want a negative one and get 100.

    Args:
        logit: Of "the first is preferred"; not those that were trained on.
        win_share: How probably it is.
        steps: Halvings of the interval.

    Raises:
        ValueError: If there is no comparison.

    Source:
        Guo et al., 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599.
    """
    if not len(logit):
        raise ValueError("A temperature needs at least one comparison, got none.")
    told = logit.detach().double()
    low, high = torch.tensor(0.01).double(), torch.tensor(100.0).double()
    for _ in range(steps):
        middle = (low * high).sqrt()
        slope = ((told * middle).sigmoid() - win_share) @ told  # by the inverse temperature
        low, high = torch.where(slope <= 0, middle, low), torch.where(slope <= 0, high, middle)
    return (1 / (low * high).sqrt()).to(logit)


def preference_log_loss(
    logit: Float[Tensor, "*comparison"], win_share: Float[Tensor, "*comparison"]
) -> Float[Tensor, "*comparison"]:
    """Surprise at every comparison in nats; ln 2 for who says nothing.

    Example:
        >>> preference_log_loss(torch.tensor([0.0]), torch.tensor([1.0]))
        tensor([0.6931])
    """
    return functional.binary_cross_entropy_with_logits(logit, win_share, reduction="none")


def preference_accuracy(logit: Float[Tensor, "*comparison"]) -> Float[Tensor, "*comparison"]:
    """1 where the first is said to be preferred, as it is; 0 where not; 1/2 where nothing is said.

    Example:
        >>> preference_accuracy(torch.tensor([2.0, -1.0, 0.0]))
        tensor([1.0000, 0.0000, 0.5000])
    """
    return (logit > 0).to(logit) + 0.5 * (logit == 0).to(logit)


def expected_calibration_error(
    logit: Float[Tensor, " comparison"],
    win_share: Float[Tensor, " comparison"],
    *,
    bins: int = 10,
) -> float:
    """Mean distance between how sure one is and how often that is right.

    A comparison has no first and second but by who won, so it is looked at from its likelier side:
    sure of `max(p, 1 - p)`, and right where that side won. Bins hold as many comparisons each, in
    order of how sure one is.

    Args:
        logit: Of "the first is preferred".
        win_share: How probably it is.
        bins: Number of bins; fewer where there are fewer comparisons.

    Returns:
        0 to 1; above 0 by chance, the more the fewer comparisons a bin has.

    Raises:
        ValueError: If there is no comparison or no bin.

    Source:
        Naeini et al., 2015, Obtaining Well Calibrated Probabilities Using Bayesian Binning, with
        equally filled bins.
    """
    if not len(logit) or bins < 1:
        raise ValueError(
            f"there must be a comparison and a bin, got {len(logit)} and {bins} of them."
        )
    sure = logit.abs().sigmoid()
    right = torch.where(logit >= 0, win_share, 1 - win_share)
    order = sure.argsort(stable=True)
    parts = zip(sure[order].tensor_split(bins), right[order].tensor_split(bins), strict=True)
    gaps = [len(one) * (one.mean() - other.mean()).abs() for one, other in parts if len(one)]
    return float(torch.stack(gaps).sum() / len(logit))
