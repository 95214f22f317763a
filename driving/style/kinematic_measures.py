"""Measures of the ego's own motion: pure functions of its speed, heading and place over time."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.style.measures import Column

STANDING_MPS = 0.3
MOVING_MPS = 2.0
STOP_DISTANCE_M = 3.0


def peak_and_mean_acceleration(
    acceleration_mps2: Float[Tensor, "batch step"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Highest acceleration and mean of its positive part, both 0 for a vehicle that only brakes.

    Example:
        >>> peak, mean = peak_and_mean_acceleration(torch.tensor([[1.0, 2.0, -3.0]]))
        >>> peak.item(), mean.item()
        (2.0, 1.0)
    """
    positive = acceleration_mps2.clamp_min(0.0)
    return positive.amax(-1), positive.mean(-1)


def peak_braking(acceleration_mps2: Float[Tensor, "batch step"]) -> Float[Tensor, " batch"]:
    """Highest deceleration as a positive number; 0 for a vehicle that never slows.

    Example:
        >>> peak_braking(torch.tensor([[1.0, -3.0], [0.5, 1.0]])).tolist()
        [3.0, 0.0]
    """
    return (-acceleration_mps2).amax(-1).clamp_min(0.0)


def lateral_acceleration(
    speed_mps: Float[Tensor, "batch step"], yaw_rate_radps: Float[Tensor, "batch step"]
) -> Float[Tensor, "batch step"]:
    """Speed times yaw rate: what a body on a curved path feels; positive to the left."""
    return speed_mps * yaw_rate_radps


def distance_travelled(
    positions_m: Float[Tensor, "batch step 2"],
) -> Float[Tensor, "batch step"]:
    """Metres driven since the first step.

    Example:
        >>> distance_travelled(torch.tensor([[[0.0, 0.0], [3.0, 4.0], [3.0, 6.0]]])).tolist()
        [[0.0, 5.0, 7.0]]
    """
    pieces = positions_m.diff(dim=1).norm(dim=-1)
    return torch.cat([torch.zeros_like(pieces[:, :1]), pieces.cumsum(-1)], -1)


def mean_where(values: Float[Tensor, "batch step"], chosen: Bool[Tensor, "batch step"]) -> Column:
    """Mean over some steps; not measured where none is chosen.

    Example:
        >>> mean_where(torch.tensor([[1.0, 5.0]]), torch.tensor([[False, True]]))[0].item()
        5.0
    """
    count = chosen.sum(-1)
    return torch.where(chosen, values, 0.0).sum(-1) / count.clamp_min(1), count > 0


def speed_to_limit(
    speed_mps: Float[Tensor, "batch step"],
    limit_mps: Float[Tensor, "batch step"],
    known: Bool[Tensor, "batch step"],
) -> Column:
    """Mean ratio of speed and limit over the steps at which a limit is known.

    Example:
        >>> half = torch.tensor([[5.0, 9.0]]), torch.tensor([[10.0, 0.0]])
        >>> speed_to_limit(*half, torch.tensor([[True, False]]))[0].item()
        0.5
    """
    known = known & (limit_mps > 0)
    return mean_where(speed_mps / limit_mps.clamp_min(1.0), known)


def stop_deceleration(
    speed_mps: Float[Tensor, "batch step"],
    acceleration_mps2: Float[Tensor, "batch step"],
    travelled_m: Float[Tensor, "batch step"],
    *,
    within_m: float = STOP_DISTANCE_M,
) -> Column:
    """Mean deceleration over the last metres before the first standstill.

    A stop counts where the vehicle was faster than 2 m/s before and then slower than 0.3 m/s.
    Drivers who ease off at the end have a small value, those who stop with a jolt a large one.

    Args:
        speed_mps: Speed along the heading.
        acceleration_mps2: Its change.
        travelled_m: Metres driven since the first step.
        within_m: How many metres before the standstill count.
    """
    standing = speed_mps < STANDING_MPS
    moved_before = (speed_mps > MOVING_MPS).cumsum(-1) > 0
    stop = standing & moved_before
    stopped = stop.any(-1)
    first = stop.to(torch.int64).argmax(-1, keepdim=True)
    step = torch.arange(speed_mps.shape[-1], device=speed_mps.device)
    to_go = travelled_m.gather(-1, first) - travelled_m
    counted = (step < first) & (to_go <= within_m)
    number = counted.sum(-1)
    mean = torch.where(counted, -acceleration_mps2, 0.0).sum(-1) / number.clamp_min(1)
    return mean, stopped & (number > 0)
