"""How far a plan is from what was driven: displacement, heading, misses."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

HORIZONS_S = (1.0, 2.0, 3.0, 4.0)
MISS_BOUNDS_M = (2.0, 4.0, 6.0, 7.0)
"""Largest displacement allowed up to each horizon: nuPlan's 6 m at 3 s and 8 m at 5 s, on straight
lines between and below."""


@dataclass(frozen=True)
class DisplacementErrors:
    """Errors of plans up to several horizons.

    Attributes:
        average_m: Mean distance over the seen steps up to the horizon.
        average_mask: Where any of them was seen.
        final_m: Distance at the horizon.
        final_mask: Where the step at the horizon was seen.
        heading_rad: Difference of headings at the horizon, 0 to pi.
        missed: A distance up to the horizon exceeds its bound.
        style_l2_m: StyleDrive's L2: the mean of the distances at 2, 3 and 4 s.
        style_l2_mask: Where all three were seen.
    """

    average_m: Float[Tensor, "*plan horizon"]
    average_mask: Bool[Tensor, "*plan horizon"]
    final_m: Float[Tensor, "*plan horizon"]
    final_mask: Bool[Tensor, "*plan horizon"]
    heading_rad: Float[Tensor, "*plan horizon"]
    missed: Bool[Tensor, "*plan horizon"]
    style_l2_m: Float[Tensor, "*plan"]
    style_l2_mask: Bool[Tensor, "*plan"]


def displacement_errors(
    plans: Float[Tensor, "*plan time 3"],
    driven: Float[Tensor, "*#plan time 3"],
    mask: Bool[Tensor, "*#plan time"],
    *,
    step_s: float = 0.5,
) -> DisplacementErrors:
    """Errors at 1, 2, 3 and 4 s.

    Args:
        plans: Poses at `step_s`, twice `step_s`, ... from now, to 4 s at least.
        driven: What was driven, in the same frame.
        mask: Where it was seen.
        step_s: Seconds from one pose to the next; divides a second.

    Returns:
        Where a mask is false the value is 0; `missed` looks at seen steps only.

    Raises:
        ValueError: If the plans end before 4 s or no pose lies on a full second.

    Source:
        StyleDrive's L2 is that of the authors' evaluation at poses 3, 5 and 7 of eight.

    Example:
        >>> still = torch.zeros(8, 3)
        >>> errors = displacement_errors(still + 1.0, still, torch.ones(8, dtype=torch.bool))
        >>> errors.final_m
        tensor([1.4142, 1.4142, 1.4142, 1.4142])
    """
    counts = [round(horizon / step_s) for horizon in HORIZONS_S]
    if abs(counts[0] * step_s - HORIZONS_S[0]) > 1e-6 or plans.shape[-2] < counts[-1]:
        raise ValueError(
            f"plans must have a pose at every second up to 4 s, got {plans.shape[-2]} poses "
            f"{step_s} s apart."
        )
    away = torch.linalg.vector_norm(plans[..., :2] - driven[..., :2], dim=-1)
    seen = mask.expand(away.shape)
    away = torch.where(seen, away, 0)
    number = seen.to(away.dtype).cumsum(-1)
    average = away.cumsum(-1) / number.clamp_min(1)
    worst = away.cummax(-1).values
    turn = (plans[..., 2] - driven[..., 2]).expand(away.shape)
    turn = torch.atan2(turn.sin(), turn.cos()).abs()
    at = torch.tensor(counts, device=plans.device) - 1
    final, final_mask = away[..., at], seen[..., at]
    style_mask = final_mask[..., 1:].all(-1)
    return DisplacementErrors(
        average_m=average[..., at],
        average_mask=number[..., at] > 0,
        final_m=final,
        final_mask=final_mask,
        heading_rad=torch.where(final_mask, turn[..., at], 0),
        missed=worst[..., at] > away.new_tensor(MISS_BOUNDS_M),
        style_l2_m=torch.where(style_mask, final[..., 1:].mean(-1), 0),
        style_l2_mask=style_mask,
    )
