"""What a sweep of preference directions shows: order, front and angle of what was achieved."""

import torch
from jaxtyping import Float
from torch import Tensor


def kendall_tau(first: Float[Tensor, " point"], second: Float[Tensor, " point"]) -> float:
    """Share of pairs in the same order less those in opposite order; ties count for neither.

    Raises:
        ValueError: If there are fewer than two points.

    Source:
        Kendall, 1938, tau-a, doi:10.1093/biomet/30.1-2.81.

    Example:
        >>> round(kendall_tau(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0])), 3)
        0.333
    """
    count = len(first)
    if count < 2:
        raise ValueError(f"an order needs at least two points, got {count}.")
    agree = (first[:, None] - first).sign() * (second[:, None] - second).sign()
    return float(agree.sum()) / (count * (count - 1))


def dominated_area(
    points: Float[Tensor, "point 2"], reference: Float[Tensor, " 2"]
) -> Float[Tensor, ""]:
    """Area that a set of points dominates above a reference: the hypervolume in two dimensions.

    Larger is better on both axes. Points that do not exceed the reference on both add nothing.

    Source:
        Zitzler and Thiele, 1998, doi:10.1007/BFb0056872.

    Example:
        >>> dominated_area(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), torch.zeros(2))
        tensor(3.)
    """
    sides = (points - reference).clamp_min(0)
    sides = sides[sides[:, 0].argsort(descending=True)]
    highest = sides[:, 1].cummax(0).values
    gained = torch.diff(highest, prepend=highest.new_zeros(1))
    return (sides[:, 0] * gained).sum()


def angle_errors(
    gains: Float[Tensor, "angle 2"], angles_rad: Float[Tensor, " angle"]
) -> Float[Tensor, " angle"]:
    """How far the direction of what was gained is from the one that was asked for, in radians.

    Args:
        gains: What the task and the other axis gained over a policy that was asked for nothing.
        angles_rad: What was asked for; 0 is the task alone.

    Returns:
        From 0 to pi. A gain of nothing counts as the angle 0.
    """
    error = torch.atan2(gains[:, 1], gains[:, 0]) - angles_rad
    return torch.atan2(error.sin(), error.cos()).abs()
