"""Where on the road an ego box is: off it, on several lanes at once, against the traffic."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.metrics.boxes import box_corners, segment_meets_box
from driving.metrics.drivable_area import DrivableArea
from driving.simulation.state import Motion
from driving.world import LINE_BOUNDARY, LINE_LANE, World

ON_ROUTE_M = 2.0
LANE_NEAR_M = 3.0
_ROWS = 4096


def to_map_frame(
    points_m: Float[Tensor, "batch *place 2"], world: World
) -> Float[Tensor, "batch *place 2"]:
    """Points of the world frame in the frame of the map, in float64."""
    start = world.start_poses.reshape(len(points_m), *([1] * (points_m.ndim - 2)), 3)
    cos, sin = start[..., 2].cos(), start[..., 2].sin()
    x, y = points_m.double().unbind(-1)
    return torch.stack([start[..., 0] + x * cos - y * sin, start[..., 1] + x * sin + y * cos], -1)


def off_road(
    motion: Motion, world: World, area: DrivableArea
) -> Bool[Tensor, "batch candidate step"]:
    """Whether a corner of the ego box lies outside the drivable area."""
    corners = box_corners(motion.poses, world.ego_size_m[:, None, None])
    return ~area.contains(to_map_frame(corners, world), world.map_index).all(-1)


def on_several_lanes(
    poses: Float[Tensor, "box 3"], sample: Int[Tensor, " box"], world: World
) -> Bool[Tensor, " box"]:
    """Whether ego boxes straddle a lane boundary of their sample.

    NAVSIM asks for corners in several lane polygons while no lane holds all four; a world has
    lines, not polygons, so it is a boundary that passes under the box.
    """
    is_boundary = (world.line_kinds == LINE_BOUNDARY)[..., None]
    known = (world.line_mask[..., 1:] & world.line_mask[..., :-1] & is_boundary).flatten(1)
    starts = world.line_points[:, :, :-1].flatten(1, 2)
    ends = world.line_points[:, :, 1:].flatten(1, 2)
    found = []
    for rows, samples in zip(poses.split(_ROWS), sample.split(_ROWS), strict=True):
        boxes = rows[:, None].expand(-1, starts.shape[1], -1)
        sizes = world.ego_size_m[samples][:, None].expand(-1, starts.shape[1], -1)
        meets = segment_meets_box(starts[samples], ends[samples], boxes, sizes)
        found.append((meets & known[samples]).any(-1))
    return torch.cat(found) if found else sample.bool()


def against_traffic(motion: Motion, world: World) -> Bool[Tensor, "batch candidate step"]:
    """Whether the centre of the ego is in a lane that runs the other way.

    Within 2 m of the route it never is. Elsewhere the nearest piece of a lane's centre within 3 m
    decides: it runs the other way if it points more than a right angle from the ego's heading.
    NAVSIM instead calls every place outside the polygons of the route's lanes oncoming.
    """
    poses = motion.poses
    centres = poses[..., :2].flatten(1, 2)
    if world.route_points.shape[1]:
        away = torch.cdist(centres, world.route_points)
        nearest = torch.where(world.route_mask[:, None], away, torch.inf).amin(-1)
        sample, place = (nearest > ON_ROUTE_M).nonzero().unbind(1)
    else:
        sample, place = torch.ones_like(centres[..., 0], dtype=torch.bool).nonzero().unbind(1)
    against = torch.zeros(centres.shape[:2], dtype=torch.bool, device=poses.device)
    is_lane = (world.line_kinds == LINE_LANE)[..., None]
    known = (world.line_mask[..., 1:] & world.line_mask[..., :-1] & is_lane).flatten(1)
    if not len(sample) or not known.shape[1]:
        return against.reshape(poses.shape[:3])
    middles = (0.5 * (world.line_points[:, :, 1:] + world.line_points[:, :, :-1])).flatten(1, 2)
    directions = world.line_points.diff(dim=2).flatten(1, 2)
    heading = poses[..., 2].flatten(1)
    found = []
    for samples, places in zip(sample.split(_ROWS), place.split(_ROWS), strict=True):
        away = torch.linalg.vector_norm(
            middles[samples] - centres[samples, places][:, None], dim=-1
        )
        nearest, which = torch.where(known[samples], away, torch.inf).min(-1)
        direction = directions[samples, which]
        turn = heading[samples, places]
        along = direction[:, 0] * turn.cos() + direction[:, 1] * turn.sin()
        found.append((nearest <= LANE_NEAR_M) & (along < 0))
    against[sample, place] = torch.cat(found)
    return against.reshape(poses.shape[:3])
