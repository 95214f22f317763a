"""Small worlds worked out by hand: a straight road, a bend, a leader, a pedestrian, a red light.

The ego stands at the origin at the present, heads along x, and its log drives on at constant speed
along its route. Everything is on the right of a coordinate system as seen from above: x ahead, y
to the left. Compose what is needed and put worlds into one batch with `stack`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from driving.planner.planner import PlannerInput, StyleCondition
from driving.planner_input import planner_input
from driving.world import (
    AGENT_PEDESTRIAN,
    AGENT_VEHICLE,
    LIGHT_RED,
    LINE_EDGE,
    LINE_LANE,
    World,
)

STEP_S = 0.1
PAST = 20
FUTURE = 80
SPACING_M = 2.0
LANE_M = 3.5
EDGE_M = 2.5  # from the outermost lane centres
STYLES = 8


@dataclass(frozen=True)
class Mover:
    """Another road user that keeps its velocity; x and y are those of the present."""

    x_m: float
    y_m: float = 0.0
    heading_rad: float = 0.0
    speed_mps: float = 0.0
    kind: int = AGENT_VEHICLE
    length_m: float = 4.6
    width_m: float = 1.9


def arc_points(
    curvature_per_m: float, start_m: float, end_m: float, *, offset_m: float = 0.0
) -> Tensor:
    """Points every 2 m, straight up to the origin and on a circle from there, with headings."""
    along = torch.arange(start_m, end_m + 1e-6, SPACING_M)
    bent = along.clamp_min(0) * curvature_per_m
    if curvature_per_m:
        x = torch.where(along < 0, along, bent.sin() / curvature_per_m)
        y = torch.where(along < 0, 0 * along, (1 - bent.cos()) / curvature_per_m)
    else:
        x, y = along, 0 * along
    return torch.stack((x - offset_m * bent.sin(), y + offset_m * bent.cos(), bent), -1)


def road(
    *,
    speed_mps: float = 10.0,
    limit_mps: float | None = 13.9,
    curvature_per_m: float = 0.0,
    movers: Sequence[Mover] = (),
    lanes: int = 1,
    red_at_m: float | None = None,
    lateral_m: float = 0.0,
) -> World:
    """One ego on one road.

    Args:
        speed_mps: Constant speed of the ego in its log.
        limit_mps: Speed limit, or none known.
        curvature_per_m: Of the road from the origin on; positive turns left.
        movers: The others.
        lanes: Parallel lanes, each 3.5 m further to the left.
        red_at_m: Where along the route a lane begins whose light is red.
        lateral_m: How far to the left of the ego the route lies.
    """
    steps = PAST + 1 + FUTURE
    time_s = (torch.arange(steps) - PAST) * STEP_S
    route = arc_points(curvature_per_m, -10.0, 300.0, offset_m=lateral_m)
    ego_bend = (time_s * speed_mps).clamp_min(0) * curvature_per_m
    ego_along = time_s * speed_mps
    if curvature_per_m:
        ego_x = torch.where(ego_along < 0, ego_along, ego_bend.sin() / curvature_per_m)
        ego_y = torch.where(ego_along < 0, 0 * ego_along, (1 - ego_bend.cos()) / curvature_per_m)
    else:
        ego_x, ego_y = ego_along, 0 * ego_along
    lines, kinds = _lines(curvature_per_m, lanes, lateral_m)
    lights = torch.zeros(len(route), steps, dtype=torch.long)
    if red_at_m is not None:
        along = torch.arange(len(route)) * SPACING_M - 10.0
        lights[along >= red_at_m] = LIGHT_RED
    known = limit_mps is not None
    movers = sorted(movers, key=lambda mover: math.hypot(mover.x_m, mover.y_m))
    return World(
        step_s=STEP_S,
        now=PAST,
        sample_ids=torch.zeros(1, dtype=torch.long),
        start_poses=torch.zeros(1, 3, dtype=torch.float64),
        map_index=torch.zeros(1, dtype=torch.long),
        ego_poses=torch.stack((ego_x, ego_y, ego_bend), -1)[None],
        ego_speed_mps=torch.full((1, steps), speed_mps),
        ego_mask=torch.ones(1, steps, dtype=torch.bool),
        ego_size_m=torch.tensor([[4.8, 2.0]]),
        **_agents(movers, time_s),
        line_points=lines[None],
        line_mask=torch.ones(1, *lines.shape[:2], dtype=torch.bool),
        line_kinds=kinds[None],
        line_limits_mps=(kinds == LINE_LANE)[None] * (limit_mps or 0.0),
        line_limit_mask=(kinds == LINE_LANE)[None] & known,
        line_lights=torch.zeros(1, len(kinds), steps, dtype=torch.long),
        route_points=route[None, :, :2],
        route_mask=torch.ones(1, len(route), dtype=torch.bool),
        route_limits_mps=torch.full((1, len(route)), limit_mps or 0.0),
        route_limit_mask=torch.full((1, len(route)), known),
        route_lights=lights[None],
    )


def _lines(curvature_per_m: float, lanes: int, lateral_m: float) -> tuple[Tensor, Tensor]:
    offsets = [(lane * LANE_M, LINE_LANE) for lane in range(lanes)]
    offsets += [(-EDGE_M, LINE_EDGE), ((lanes - 1) * LANE_M + EDGE_M, LINE_EDGE)]
    pieces, kinds = [], []
    for offset_m, kind in offsets:
        whole = arc_points(curvature_per_m, -40.0, 160.0, offset_m=offset_m + lateral_m)[:100, :2]
        pieces.append(whole.reshape(5, 20, 2))
        kinds += [kind] * 5
    return torch.cat(pieces), torch.tensor(kinds)


def _agents(movers: Sequence[Mover], time_s: Tensor) -> dict[str, Tensor]:
    count, steps = len(movers), len(time_s)
    poses = torch.zeros(count, steps, 3)
    velocities = torch.zeros(count, steps, 2)
    for row, mover in enumerate(movers):
        velocity = torch.tensor([math.cos(mover.heading_rad), math.sin(mover.heading_rad)])
        velocity = velocity * mover.speed_mps
        poses[row, :, :2] = torch.tensor([mover.x_m, mover.y_m]) + time_s[:, None] * velocity
        poses[row, :, 2] = mover.heading_rad
        velocities[row] = velocity
    sizes = [[mover.length_m, mover.width_m] for mover in movers]
    return {
        "agent_poses": poses[None],
        "agent_velocities_mps": velocities[None],
        "agent_mask": torch.ones(1, count, steps, dtype=torch.bool),
        "agent_sizes_m": torch.tensor(sizes).reshape(1, count, 2),
        "agent_kinds": torch.tensor([mover.kind for mover in movers]).reshape(1, count).long(),
    }


def straight_road(**options) -> World:
    """Nobody else, straight on."""
    return road(**options)


def bend(*, radius_m: float = 40.0, **options) -> World:
    """A left bend (a right one with a negative radius) from the origin on."""
    return road(curvature_per_m=1 / radius_m, **options)


def behind_leader(*, gap_m: float = 20.0, leader_mps: float = 8.0, **options) -> World:
    """A vehicle ahead on the same lane; the gap runs from bumper to bumper."""
    return road(movers=[Mover(gap_m + 2.4 + 2.3, speed_mps=leader_mps)], **options)


def crossing_pedestrian(*, ahead_m: float = 30.0, wait_s: float = 3.0, **options) -> World:
    """A pedestrian who reaches the middle of the lane from the right after some seconds."""
    walker = Mover(ahead_m, -1.4 * wait_s, math.pi / 2, 1.4, AGENT_PEDESTRIAN, 0.6, 0.6)
    return road(movers=[walker], **options)


def red_light(*, ahead_m: float = 40.0, **options) -> World:
    """A red light; the lane behind it begins some metres ahead."""
    return road(red_at_m=ahead_m, **options)


def slow_leader_and_free_lane(
    *, leader_mps: float = 4.0, rear_gap_m: float | None = None, **options
) -> World:
    """Two lanes, somebody slow ahead, and the left lane free or with a fast one behind."""
    movers = [Mover(25.0, speed_mps=leader_mps)]
    if rear_gap_m is not None:
        movers.append(Mover(-rear_gap_m - 4.7, LANE_M, speed_mps=14.0))
    return road(movers=movers, lanes=2, **options)


def stack(worlds: Sequence[World]) -> World:
    """Several worlds as one batch; agents, lines and route points are padded with zeros."""
    values = {}
    for field in fields(World):
        parts = [getattr(world, field.name) for world in worlds]
        if not isinstance(parts[0], Tensor):
            values[field.name] = parts[0]
            continue
        shape = [max(part.shape[axis] for part in parts) for axis in range(parts[0].ndim)]
        values[field.name] = torch.cat([_padded(part, shape) for part in parts])
    return World(**values)


def _padded(value: Tensor, shape: Sequence[int]) -> Tensor:
    padded = value.new_zeros(len(value), *shape[1:])
    padded[tuple(slice(size) for size in value.shape)] = value
    return padded


def without_route(world: World) -> World:
    """The same world with no route known."""
    return replace(
        world,
        route_points=torch.zeros_like(world.route_points),
        route_mask=torch.zeros_like(world.route_mask),
        route_limits_mps=torch.zeros_like(world.route_limits_mps),
        route_limit_mask=torch.zeros_like(world.route_limit_mask),
        route_lights=torch.zeros_like(world.route_lights),
    )


def present_input(world: World) -> PlannerInput:
    """What a planner sees at the present, where the world's frame is the ego's."""
    return planner_input(world, world.now)


def condition(values: Sequence[float] | Tensor, batch: int = 1) -> StyleCondition:
    """The same style asked of every row."""
    row = torch.as_tensor(values, dtype=torch.float32).reshape(1, -1).expand(batch, -1)
    return StyleCondition(row.clone(), torch.ones_like(row, dtype=torch.bool))


def preset(name: str, batch: int = 1) -> StyleCondition:
    """Conservative, normal or aggressive as a point in style space."""
    signs = torch.tensor([1.0, -1, 1, 1, 1, 1, 1, -1])
    return condition({"conservative": -1, "normal": 0, "aggressive": 1}[name] * signs, batch)


def no_condition(batch: int = 1) -> StyleCondition:
    """Nothing asked."""
    return StyleCondition(torch.zeros(batch, STYLES), torch.zeros(batch, STYLES, dtype=torch.bool))
