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


def to_map_frame(
    points_m: Float[Tensor, "batch *place 2"], start_poses: Float[Tensor, "batch 3"]
) -> Float[Tensor, "batch *place 2"]:
    """Points of the world frame in the frame of the map, in float64."""
    start = start_poses.reshape(len(points_m), *([1] * (points_m.ndim - 2)), 3)
    cos, sin = start[..., 2].cos(), start[..., 2].sin()
    x, y = points_m.double().unbind(-1)
    return torch.stack([start[..., 0] + x * cos - y * sin, start[..., 1] + x * sin + y * cos], -1)


def off_road(
    motion: Motion, world: World, area: DrivableArea
) -> Bool[Tensor, "batch candidate step"]:
    """Whether a corner of the ego box lies outside the drivable area."""
    corners = box_corners(motion.poses, world.ego_size_m[:, None, None])
    return ~area.contains(to_map_frame(corners, world.start_poses), world.map_index).all(-1)


def on_several_lanes(
    poses: Float[Tensor, "box 3"], sample: Int[Tensor, " box"], world: World
) -> Bool[Tensor, " box"]:
    """Whether ego boxes straddle a lane boundary of their sample.

    NAVSIM asks for corners in several lane polygons while no lane holds all four; a world has
    lines, not polygons, so it is a boundary that passes under the box.
    """
    straddles = torch.zeros(len(poses), dtype=torch.bool, device=poses.device)
    sizes = world.ego_size_m.index_select(0, sample)
    reach = 0.5 * torch.linalg.vector_norm(sizes, dim=-1)
    box, line = _near_lines(poses[:, :2], reach, sample, world, LINE_BOUNDARY)
    if not len(box):
        return straddles
    which = sample[box]
    points, known = world.line_points[which, line], world.line_mask[which, line]
    boxes = poses[box][:, None].expand(-1, points.shape[1] - 1, -1)
    meets = segment_meets_box(
        points[:, :-1], points[:, 1:], boxes, sizes[box][:, None].expand(*boxes.shape[:2], 2)
    )
    straddling = (meets & known[:, :-1] & known[:, 1:]).any(-1)
    straddles[box[straddling.nonzero().squeeze(1)]] = True
    return straddles


def against_traffic(motion: Motion, world: World) -> Bool[Tensor, "batch candidate step"]:
    """Whether the centre of the ego is in a lane that runs the other way.

    Within 2 m of the route it never is. Elsewhere the nearest piece of a lane's centre within 3 m
    decides: it runs the other way if it points more than a right angle from the ego's heading.
    NAVSIM instead calls every place outside the polygons of the route's lanes oncoming.
    """
    poses = motion.poses
    centres = poses[..., :2].flatten(1, 2)
    against = torch.zeros(centres.shape[:2], dtype=torch.bool, device=poses.device)
    sample, place = (_squared_distance_to_route(centres, world) > ON_ROUTE_M**2).nonzero().unbind(1)
    if not len(sample):
        return against.reshape(poses.shape[:3])
    middles = centres[sample, place]
    point, line = _near_lines(
        middles, torch.full_like(middles[:, 0], LANE_NEAR_M), sample, world, LINE_LANE
    )
    lines, known = world.line_points[sample[point], line], world.line_mask[sample[point], line]
    pieces = 0.5 * (lines[:, 1:] + lines[:, :-1])
    away = torch.linalg.vector_norm(pieces - middles[point][:, None], dim=-1)
    away = torch.where(known[:, 1:] & known[:, :-1], away, torch.inf)
    nearest, piece = away.min(-1)
    direction = lines.diff(dim=1)[torch.arange(len(piece), device=piece.device), piece]
    turn = poses[..., 2].flatten(1)[sample[point], place[point]]
    opposed = direction[:, 0] * turn.cos() + direction[:, 1] * turn.sin() < 0
    least = torch.full_like(middles[:, 0], LANE_NEAR_M).scatter_reduce(0, point, nearest, "amin")
    decides = (opposed & (nearest <= least[point])).nonzero().squeeze(1)
    against[sample[point[decides]], place[point[decides]]] = True
    return against.reshape(poses.shape[:3])


def _squared_distance_to_route(
    points_m: Float[Tensor, "batch point 2"], world: World
) -> Float[Tensor, "batch point"]:
    """Square of the distance to the nearest point of the route; infinite where it has none.

    By |p|^2 - 2 pr + |r|^2, which is one product of matrices; exact to millimetres in float32.
    """
    if not world.route_points.shape[1]:
        return torch.full_like(points_m[..., 0], torch.inf)
    route = world.route_points
    squares = route.square().sum(-1).masked_fill(~world.route_mask, torch.inf)
    rest = torch.baddbmm(squares[:, None], points_m, route.transpose(1, 2), alpha=-2)
    return rest.amin(-1) + points_m.square().sum(-1)


def _near_lines(
    points_m: Float[Tensor, "point 2"],
    reach_m: Float[Tensor, " point"],
    sample: Int[Tensor, " point"],
    world: World,
    kind: int,
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Pairs of a point and a line of its sample whose bounds come within reach of it."""
    there = world.line_mask & (world.line_kinds == kind)[..., None]
    signed = torch.cat([world.line_points, -world.line_points], -1)
    bounds = signed.masked_fill(~there[..., None], torch.inf).amin(2).transpose(1, 2)
    reaches = torch.cat([points_m, -points_m], -1) + reach_m[:, None]
    low_x, low_y, high_x, high_y = (reaches[:, :, None] >= bounds.index_select(0, sample)).unbind(1)
    pair, line = (low_x & low_y & high_x & high_y).nonzero().unbind(1)
    return pair, line
