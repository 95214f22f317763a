"""Which of a few named kinds a plan is of: what it does with its speed."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from driving.planner.planner import PLAN_STEP_S

KINDS = ("stops", "slows down", "keeps its speed", "speeds up")
STANDING_MPS, SAME_MPS = 0.5, 1.0


def speed_kind(
    poses: Float[Tensor, "batch candidate time 3"], present_mps: Float[Tensor, " batch"]
) -> Int[Tensor, "batch candidate"]:
    """What plans do with the present speed, as a place in `KINDS`.

    The speed of the last half second is looked at: below 0.5 m/s the plan stops, or goes on
    standing; within 1 m/s of the present one it keeps its speed.

    Args:
        poses: Plans in the frame of the ego, 0.5 s apart.
        present_mps: Speed at present.
    """
    end_mps = (poses[..., -1, :2] - poses[..., -2, :2]).norm(dim=-1) / PLAN_STEP_S
    change = end_mps - present_mps[:, None]
    kind = 2 + (change > SAME_MPS).long() - (change < -SAME_MPS).long()
    return torch.where(end_mps < STANDING_MPS, 0, kind)
