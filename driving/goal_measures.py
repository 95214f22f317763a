"""What is measured of rides as goals: speed, gaps, forces, progress and room, with what is around.

A ride is measured in a world: in the real one, where the others do what they did, or in one that is
foreseen from a planner's input. The formulas are the same.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.metrics.boxes import clearance
from driving.metrics.progress import progress_along_route
from driving.planner.planner import PlannerInput
from driving.simulation.kinematics import STEP_S
from driving.simulation.state import Motion
from driving.style.kinematic_measures import lateral_acceleration, peak_and_mean_acceleration
from driving.style.leader import SLOWEST_FOLLOWING_MPS, leader
from driving.style.smoothing import smoothed, unwrapped
from driving.world import AGENT_STATIC, World

RIDE_STEPS = 40
STRIDE = 4
"""The others are looked at every 0.4 s."""
LARGEST_TIME_GAP_S = 6.0
LARGEST_CLEARANCE_M = 15.0
SETTLED_LOOK = 5
"""The time gap counts from 2 s on: the ego begins with the one that it has."""
RIDES_AT_ONCE = 128
"""What is between a few rides and all others fits a cache."""


@dataclass(frozen=True)
class Measured:
    """Goal values of rides, a column per entry of `GOALS`.

    Attributes:
        raw: In their units; the largest time gap where there was nobody to follow.
        mask: Which could be measured.
    """

    raw: Float[Tensor, "batch candidate goal"]
    mask: Bool[Tensor, "batch candidate goal"]


@dataclass(frozen=True)
class Goal:
    """One thing that can be wanted of a ride of four seconds.

    Attributes:
        name: Its name.
        unit: Its unit.
        meaning: What a larger value is.
    """

    name: str
    unit: str
    meaning: str


GOALS: tuple[Goal, ...] = (
    Goal("mean_speed", "m/s", "faster in the mean"),
    Goal("time_gap", "s", "a larger smallest time gap to the leader from 2 s on, at most 6 s"),
    Goal("peak_acceleration", "m/s2", "a higher highest acceleration along the heading, or 0"),
    Goal("peak_jerk", "m/s3", "a higher highest change of acceleration, either way"),
    Goal("peak_lateral_acceleration", "m/s2", "a higher highest speed times yaw rate, either way"),
    Goal("progress", "m", "further along the route than the present speed would take it"),
    Goal("clearance", "m", "a larger smallest distance to anybody, box to box, at most 15 m"),
)
GOAL_NAMES: tuple[str, ...] = tuple(goal.name for goal in GOALS)


def measured(rides: Motion, around: World) -> Measured:
    """Goal values of rides of four seconds.

    Speed, acceleration, jerk and lateral acceleration are smoothed as `driving.style.features`
    smooths them, and equal what it measures of the same ride.

    Args:
        rides: [batch, candidate, step] from the present on, in the frame of the world.
        around: What `looked_at` or `foreseen` makes of a world or of a planner's input.

    Raises:
        ValueError: If the rides do not last four seconds.
    """
    if rides.speed_mps.shape[-1] != RIDE_STEPS + 1:
        raise ValueError(
            f"rides must have {RIDE_STEPS + 1} steps, got {rides.speed_mps.shape[-1]}."
        )
    raw_mps, heading_rad = rides.speed_mps.flatten(0, 1), rides.poses[..., 2].flatten(0, 1)
    speed = smoothed(raw_mps, step_s=STEP_S)
    jerk = smoothed(raw_mps, step_s=STEP_S, derivative=2)
    acceleration = smoothed(raw_mps, step_s=STEP_S, derivative=1)
    turning = smoothed(unwrapped(heading_rad), step_s=STEP_S, derivative=1)
    gap_s, follows = _time_gap(rides, around)
    now_mps = around.ego_speed_mps[:, around.now, None]
    columns = {
        "mean_speed": speed.mean(-1),
        "time_gap": gap_s,
        "peak_acceleration": peak_and_mean_acceleration(acceleration)[0],
        "peak_jerk": jerk.abs().amax(-1),
        "peak_lateral_acceleration": lateral_acceleration(speed, turning).abs().amax(-1),
        "progress": progress_along_route(rides, around) - RIDE_STEPS * STEP_S * now_mps,
        "clearance": _clearance(rides, around),
    }
    shape = rides.speed_mps.shape[:2]
    raw = torch.stack([columns[name].reshape(shape) for name in GOAL_NAMES], -1)
    mask = torch.ones_like(raw, dtype=torch.bool)
    mask[..., GOAL_NAMES.index("time_gap")] = follows
    return Measured(raw, mask)


def looked_at(world: World) -> World:
    """The four seconds of a world from its present on, every 0.4 s, without its lines."""
    none = slice(0, 0)
    steps = slice(world.now, world.now + RIDE_STEPS + 1, STRIDE)
    return replace(
        world,
        step_s=world.step_s * STRIDE,
        now=0,
        ego_poses=world.ego_poses[:, steps],
        ego_speed_mps=world.ego_speed_mps[:, steps],
        ego_mask=world.ego_mask[:, steps],
        agent_poses=world.agent_poses[:, :, steps],
        agent_velocities_mps=world.agent_velocities_mps[:, :, steps],
        agent_mask=world.agent_mask[:, :, steps],
        line_points=world.line_points[:, none],
        line_mask=world.line_mask[:, none],
        line_kinds=world.line_kinds[:, none],
        line_limits_mps=world.line_limits_mps[:, none],
        line_limit_mask=world.line_limit_mask[:, none],
        line_lights=world.line_lights[:, none, steps],
        route_lights=world.route_lights[..., steps],
    )


def foreseen(scene: PlannerInput) -> World:
    """What a planner can expect: everybody keeps velocity and heading; every 0.4 s.

    There are no lines in it. The ego stays where it is: rides say where it goes.
    """
    looks = RIDE_STEPS // STRIDE + 1
    rows, device = len(scene.ego_size_m), scene.ego_size_m.device
    time_s = STRIDE * STEP_S * torch.arange(looks, device=device, dtype=scene.agents.dtype)
    now = scene.agents[:, :, -1]
    moves = (scene.agent_kinds != AGENT_STATIC)[..., None]
    velocity = (now[..., 3:] * moves)[:, :, None].expand(-1, -1, looks, -1)
    poses = now[:, :, None, :3].expand(-1, -1, looks, -1)
    places = poses[..., :2] + velocity * time_s[:, None]
    no_line = scene.agent_kinds.new_zeros(rows, 0)
    return World(
        step_s=STRIDE * STEP_S,
        now=0,
        sample_ids=torch.arange(rows, device=device),
        start_poses=torch.zeros(rows, 3, dtype=torch.float64, device=device),
        map_index=torch.zeros(rows, dtype=torch.long, device=device),
        ego_poses=scene.ego_history[:, -1:, :3].expand(-1, looks, -1),
        ego_speed_mps=scene.ego_history[:, -1:, 3].expand(-1, looks),
        ego_mask=scene.ego_history_mask[:, -1:].expand(-1, looks),
        ego_size_m=scene.ego_size_m,
        agent_poses=torch.cat([places, poses[..., 2:]], -1),
        agent_velocities_mps=velocity,
        agent_mask=scene.agent_mask[:, :, -1:].expand(-1, -1, looks),
        agent_sizes_m=scene.agent_sizes_m,
        agent_kinds=scene.agent_kinds,
        line_points=scene.lines[:, :0],
        line_mask=scene.line_mask[:, :0],
        line_kinds=no_line,
        line_limits_mps=scene.line_limits_mps[:, :0],
        line_limit_mask=scene.line_limit_mask[:, :0],
        line_lights=no_line[..., None].expand(-1, -1, looks),
        route_points=scene.route,
        route_mask=scene.route_mask,
        route_limits_mps=scene.route_limits_mps,
        route_limit_mask=scene.route_limit_mask,
        route_lights=scene.route_lights[..., None].expand(-1, -1, looks),
    )


def _time_gap(
    rides: Motion, around: World
) -> tuple[Float[Tensor, "batch candidate"], Bool[Tensor, "batch candidate"]]:
    """The smallest one from 2 s on, and whether there is any."""
    shape, device = rides.speed_mps.shape[:2], rides.poses.device
    if not around.agent_mask.shape[1]:
        none = torch.full(shape, LARGEST_TIME_GAP_S, device=device, dtype=rides.poses.dtype)
        return none, torch.zeros(shape, dtype=torch.bool, device=device)
    poses = rides.poses[:, :, ::STRIDE].flatten(0, 1)
    speed = rides.speed_mps[:, :, ::STRIDE].flatten(0, 1)
    row = torch.arange(shape[0], device=device).repeat_interleave(shape[1])
    gaps, counts = [], []
    for first in range(0, len(row), RIDES_AT_ONCE):
        part = slice(first, first + RIDES_AT_ONCE)
        ahead = leader(around.rows(row[part]), poses[part], first=0)
        moving = speed[part] > SLOWEST_FOLLOWING_MPS
        counts.append((ahead.mask & moving)[:, SETTLED_LOOK:])
        gaps.append((ahead.gap_m / speed[part].clamp_min(SLOWEST_FOLLOWING_MPS))[:, SETTLED_LOOK:])
    counted = torch.cat(counts)
    smallest = torch.where(counted, torch.cat(gaps), torch.inf).amin(-1)
    return (
        smallest.clamp_max(LARGEST_TIME_GAP_S).reshape(shape),
        counted.any(-1).reshape(shape),
    )


def _clearance(rides: Motion, around: World) -> Float[Tensor, "batch candidate"]:
    """The smallest from 0.4 s on; 0 for boxes that touch."""
    poses = rides.poses[:, :, STRIDE::STRIDE]
    away = torch.full(poses.shape[:2], LARGEST_CLEARANCE_M, dtype=poses.dtype, device=poses.device)
    size, others = around.ego_size_m[:, None, None], around.agent_poses[:, :, 1:]
    for agent in range(others.shape[1]):
        gap = clearance(
            poses,
            size.expand(*poses.shape[:3], 2),
            others[:, None, agent].expand_as(poses),
            around.agent_sizes_m[:, None, None, agent].expand(*poses.shape[:3], 2),
        )
        there = around.agent_mask[:, None, agent, 1:]
        gap = torch.where(there, gap, torch.inf).amin(-1)
        away = torch.minimum(away, gap.clamp_min(0.0))
    return away
