"""Where a vehicle is across its lane: the nearest lane centre that runs its way, step by step."""

import math
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
    # the same way: less than 45 degrees apart, told by the cosine of the difference
    lane_way = along / along.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    way = torch.stack([poses[..., 2].cos(), poses[..., 2].sin()], -1)
    usable = there[:, None] & (way @ lane_way.mT > math.cos(MOST_ANGLE_RAD))
    distance, nearest = nearest_segment(poses[..., :2], start, end, usable)
    mask = distance <= FARTHEST_M

    heading = direction.gather(1, nearest)
    offset = poses[..., :2] - foot_on(poses[..., :2], start, end, nearest)
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


def nearest_segment(
    points_m: Float[Tensor, "batch point 2"],
    start_m: Float[Tensor, "batch segment 2"],
    end_m: Float[Tensor, "batch segment 2"],
    usable: Bool[Tensor, "batch _ segment"],
) -> tuple[Float[Tensor, "batch point"], Int[Tensor, "batch point"]]:
    """Distance of every point to the nearest usable segment, and which one that is.

    Where none is usable the distance is inf and the segment any. No tensor has a last axis of two:
    the many small sums would cost more than everything else.
    """
    x, y = points_m[..., 0, None], points_m[..., 1, None]
    start_x, start_y = start_m[:, None, :, 0], start_m[:, None, :, 1]
    along_x, along_y = end_m[:, None, :, 0] - start_x, end_m[:, None, :, 1] - start_y
    length2 = (along_x.square() + along_y.square()).clamp_min(1e-12)
    from_x, from_y = x - start_x, y - start_y
    share = ((from_x * along_x + from_y * along_y) / length2).clamp_(0.0, 1.0)
    away2 = (from_x - share * along_x).square_() + (from_y - share * along_y).square_()
    nearest2, nearest = away2.masked_fill_(~usable, torch.inf).min(-1)
    return nearest2.sqrt(), nearest


def foot_on(
    points_m: Float[Tensor, "batch point 2"],
    start_m: Float[Tensor, "batch segment 2"],
    end_m: Float[Tensor, "batch segment 2"],
    chosen: Int[Tensor, "batch point"],
) -> Float[Tensor, "batch point 2"]:
    """The place on the chosen segment that is nearest to each point."""
    index = chosen[..., None].expand(-1, -1, 2)
    start = start_m.gather(1, index)
    along = end_m.gather(1, index) - start
    share = ((points_m - start) * along).sum(-1) / along.square().sum(-1).clamp_min(1e-12)
    return start + share.clamp(0.0, 1.0)[..., None] * along
