"""What to expect of road users who slow down: that they go on slowing until they stand."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

HARDEST_EXPECTED_MPS2 = 6.0
"""Nobody is expected to brake harder, whatever noise in logs says."""


def lost_speed_mps2(
    before_mps: Float[Tensor, "*row"],
    now_mps: Float[Tensor, "*row"],
    seen: Bool[Tensor, "*row"],
    seconds: float,
) -> Float[Tensor, "*row"]:
    """How hard somebody has braked between two moments, 0 to 6 m/s2; 0 where not both were seen."""
    lost = (before_mps - now_mps) / seconds
    return torch.where(seen, lost, 0.0).clamp(0, HARDEST_EXPECTED_MPS2)


def slowing_on(
    speed_mps: Float[Tensor, "*#row"],
    braking_mps2: Float[Tensor, "*#row"],
    time_s: Float[Tensor, "*#row"],
) -> tuple[Float[Tensor, "*row"], Float[Tensor, "*row"], Float[Tensor, "*row"]]:
    """Constant braking until standstill, and constant speed where nobody brakes.

    Returns:
        Metres moved after `time_s`, the speed then, and the seconds of it in which they moved.

    Example:
        >>> [value.item() for value in slowing_on(*torch.tensor([[4.0], [2.0], [5.0]]))]
        [4.0, 0.0, 2.0]
    """
    until_s = torch.minimum(time_s, speed_mps.clamp_min(0) / braking_mps2.clamp_min(1e-3))
    until_s = torch.where(braking_mps2 > 0, until_s, time_s)
    after_mps = speed_mps - braking_mps2 * until_s
    return (speed_mps + after_mps) / 2 * until_s, after_mps, until_s
