"""Lane changes: when a line is crossed, how abruptly, and how close the next one behind is."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.simulation.frames import wrapped
from driving.style.lane_frame import LaneFrame
from driving.style.measures import Column
from driving.style.smoothing import smoothed
from driving.world import AGENT_CYCLIST, AGENT_VEHICLE, World

SMALLEST_JUMP_M = 2.0
SMALLEST_SHIFT_M = 1.0
FARTHEST_BEHIND_M = 60.0
LANE_HALF_WIDTH_M = 1.75


@dataclass(frozen=True)
class LaneChange:
    """The first lane change of every window.

    Attributes:
        step: The first step in the new lane.
        changed: Whether there is a lane change.
        peak_speed_mps: Highest speed across the lane over the window.
        peak_acceleration_mps2: Highest acceleration across the lane over the window.
    """

    step: Int[Tensor, " batch"]
    changed: Bool[Tensor, " batch"]
    peak_speed_mps: Float[Tensor, " batch"]
    peak_acceleration_mps2: Float[Tensor, " batch"]


def lane_change(
    lane: LaneFrame,
    speed_mps: Float[Tensor, "batch step"],
    heading_rad: Float[Tensor, "batch step"],
    *,
    step_s: float,
) -> LaneChange:
    """The first lane change, and how abruptly the vehicle moves across its lane.

    Crossing a line to the left makes the nearest lane centre jump to the left, so that the offset
    from it falls by a lane's width (at least 2 m) while the vehicle moves left. A jump against the
    movement, or one without a shift of at least 1 m over the window, is a fork of the map and no
    lane change. The speed across the lane is the speed times the sine of the angle to the lane, so
    that a curve of the road does not count.

    Args:
        lane: The lane under the vehicle.
        speed_mps: Speed along the heading.
        heading_rad: Heading of the vehicle.
        step_s: Seconds from one step to the next.
    """
    angle = wrapped(heading_rad - lane.heading_rad)
    across = torch.where(lane.mask, speed_mps * angle.sin(), 0.0)
    across = smoothed(across, step_s=step_s)
    shift = across.sum(-1, keepdim=True) * step_s
    jump = lane.offset_m.diff(dim=-1)
    seen = lane.mask[:, 1:] & lane.mask[:, :-1]
    crossing = seen & (jump.abs() >= SMALLEST_JUMP_M) & (jump * shift < 0)
    crossing = crossing & (shift.abs() >= SMALLEST_SHIFT_M)
    acceleration = smoothed(across, step_s=step_s, derivative=1)
    return LaneChange(
        crossing.to(torch.int64).argmax(-1) + 1,
        crossing.any(-1),
        across.abs().amax(-1),
        acceleration.abs().amax(-1),
    )


def rear_gap(
    world: World,
    poses: Float[Tensor, "batch step 3"],
    lane: LaneFrame,
    change: LaneChange,
    *,
    first: int,
) -> Column:
    """Gap to the next vehicle behind in the new lane, at the first step in it; bumper to bumper.

    Args:
        world: Who else is there.
        poses: The ego over the window.
        lane: The lane under the ego over the window.
        change: When it changes lane.
        first: Step of the world at which the window begins.

    Returns:
        Metres, 0 where they overlap; not measured where nobody is within 60 m behind.
    """
    row = torch.arange(len(poses), device=poses.device)
    ego = poses[row, change.step]
    heading, offset = lane.heading_rad[row, change.step], lane.offset_m[row, change.step]
    others = world.agent_poses[row, :, first + change.step, :2] - ego[:, None, :2]
    cosine, sine = heading.cos()[:, None], heading.sin()[:, None]
    along = cosine * others[..., 0] + sine * others[..., 1]
    across = cosine * others[..., 1] - sine * others[..., 0] + offset[:, None]
    there = world.agent_mask[row, :, first + change.step]
    drives = (world.agent_kinds == AGENT_VEHICLE) | (world.agent_kinds == AGENT_CYCLIST)
    behind = there & drives & (along < 0) & (along > -FARTHEST_BEHIND_M)
    behind = behind & (across.abs() <= LANE_HALF_WIDTH_M) & change.changed[:, None]
    half_lengths = (world.ego_size_m[:, None, 0] + world.agent_sizes_m[..., 0]) / 2
    gap = torch.where(behind, (-along - half_lengths).clamp_min(0.0), torch.inf).amin(-1)
    return torch.where(gap.isfinite(), gap, 0.0), behind.any(-1)
