"""Where a vehicle is across its lane: the nearest lane centre that runs its way, step by step."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.world import LINE_LANE, World

FARTHEST_M = 4.0
MOST_ANGLE_RAD = torch.pi / 4


@dataclass(frozen=True)
class LaneFrame:
    """The lane under a vehicle at every step.

    Attributes:
        offset_m: Distance of the vehicle from the lane's centre, positive to the left of it.
        heading_rad: Where the lane points.
        limit_mps: Its speed limit; 0 where `limit_mask` is false.
        limit_mask: Where a limit is known.
        mask: Where there is a lane at all.
        line: Which piece of the world's lines it is; any where there is none.
    """

    offset_m: Float[Tensor, "batch step"]
    heading_rad: Float[Tensor, "batch step"]
    limit_mps: Float[Tensor, "batch step"]
    limit_mask: Bool[Tensor, "batch step"]
    mask: Bool[Tensor, "batch step"]
    line: Int[Tensor, "batch step"]


def lane_frame(world: World, poses: Float[Tensor, "batch step 3"]) -> LaneFrame:
    """The nearest lane centre that points within 45 degrees of the vehicle, at most 4 m away."""
    start, end = world.line_points[:, :, :-1], world.line_points[:, :, 1:]
    there = world.line_mask[:, :, :-1] & world.line_mask[:, :, 1:]
    there = there & (world.line_kinds == LINE_LANE)[:, :, None]
    there = there & ((end - start).norm(dim=-1) > 1e-3)
    limits = world.line_limits_mps[:, :, None].expand_as(there)
    limit_known = world.line_limit_mask[:, :, None].expand_as(there)
    start, end = start.flatten(1, 2), end.flatten(1, 2)
    there, limits, limit_known = there.flatten(1), limits.flatten(1), limit_known.flatten(1)

    along = end - start
    direction = torch.atan2(along[..., 1], along[..., 0])
    away, foot = point_to_segment(poses[..., :2], start, end)
    turned = wrapped(poses[:, :, None, 2] - direction[:, None]).abs()
    usable = there[:, None] & (turned < MOST_ANGLE_RAD)
    distance, nearest = torch.where(usable, away, torch.inf).min(-1)
    mask = distance <= FARTHEST_M

    heading = direction.gather(1, nearest)
    chosen_foot = foot.gather(2, nearest[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
    offset = poses[..., :2] - chosen_foot
    across = heading.cos() * offset[..., 1] - heading.sin() * offset[..., 0]
    known = limit_known.gather(1, nearest) & mask
    return LaneFrame(
        torch.where(mask, across, 0.0),
        torch.where(mask, heading, 0.0),
        torch.where(known, limits.gather(1, nearest), 0.0),
        known,
        mask,
        torch.div(nearest, world.line_points.shape[2] - 1, rounding_mode="floor"),
    )


def wrapped(angle_rad: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The same angle between minus and plus half a turn."""
    return torch.remainder(angle_rad + torch.pi, 2 * torch.pi) - torch.pi


def point_to_segment(
    points_m: Float[Tensor, "batch step 2"],
    start_m: Float[Tensor, "batch segment 2"],
    end_m: Float[Tensor, "batch segment 2"],
) -> tuple[Float[Tensor, "batch step segment"], Float[Tensor, "batch step segment 2"]]:
    """Distance of every point to every segment, and the nearest place on it."""
    start_x, start_y = start_m[:, None, :, 0], start_m[:, None, :, 1]
    along_x, along_y = (end_m - start_m)[:, None].unbind(-1)
    x, y = points_m[:, :, None, 0], points_m[:, :, None, 1]
    length2 = (along_x.square() + along_y.square()).clamp_min(1e-12)
    share = ((x - start_x) * along_x + (y - start_y) * along_y) / length2
    share = share.clamp_(0.0, 1.0)
    foot_x, foot_y = start_x + share * along_x, start_y + share * along_y
    distance = torch.hypot(x - foot_x, y - foot_y)
    return distance, torch.stack([foot_x, foot_y], -1)
