"""The other road users in closed loop: vehicles that react along their logged paths, or none."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.simulation.car_following import CarFollowing
from driving.simulation.kinematics import STEP_S
from driving.simulation.path import Path, path_through
from driving.world import AGENT_VEHICLE, World

VERTEX_STEPS = 5
PATH_POINTS = 64
SPACING_M = 2.0
REACH_MPS = 24.0
"""Paths of long rollouts reach as far as somebody drives who keeps this speed."""
MOVING_MPS = 1.0
STOOD_MPS = 0.5
SLOWEST_VERTEX_MPS = 0.3
CORRIDOR_MARGIN_M = 0.1
TIME_GAP_S, STANDSTILL_GAP_M, ACCELERATION_MPS2, BRAKING_MPS2 = 1.5, 1.0, 1.0, 2.0
"""Of nuPlan's reactive agents."""


@dataclass(frozen=True)
class Traffic:
    """Vehicles that react, on their way.

    Attributes:
        path: Where each drove in the log from the present on, continued straight.
        end_m: Where those stop that stood when they were last seen; `inf` for the others.
        desired_mps: The fastest that each was seen from the present on.
        reacts: Vehicles that are seen at present and move in what follows; all others are
            replayed, among them parked vehicles, pedestrians and cyclists.
        along_m: Arc length driven since the present.
        speed_mps: Along the path.
    """

    path: Path
    end_m: Float[Tensor, "batch agent"]
    desired_mps: Float[Tensor, "batch agent"]
    reacts: Bool[Tensor, "batch agent"]
    along_m: Float[Tensor, "batch agent"]
    speed_mps: Float[Tensor, "batch agent"]


def traffic_of(world: World) -> Traffic:
    """The vehicles of a world at its present.

    They know no traffic lights: who stood at the end of its log stops there again, who waited and
    drove on in the log does not wait.
    """
    later = slice(world.now, None)
    mask = world.agent_mask[:, :, later]
    speed = world.agent_velocities_mps[:, :, later].norm(dim=-1)
    fastest = torch.where(mask, speed, 0.0).amax(-1)
    index = torch.arange(mask.shape[-1], device=mask.device).expand(mask.shape)
    last = torch.where(mask, index, 0).amax(-1, keepdim=True)
    stood = speed.gather(-1, last)[..., 0] < STOOD_MPS
    vertices = world.agent_poses[:, :, later, :2][:, :, ::VERTEX_STEPS]
    moving = (mask & (speed > SLOWEST_VERTEX_MPS))[:, :, ::VERTEX_STEPS]
    moving = torch.cat((mask[:, :, :1], moving[:, :, 1:]), -1)
    path = path_through(
        vertices,
        moving,
        count=max(PATH_POINTS, math.ceil(mask.shape[-1] * STEP_S * REACH_MPS / SPACING_M)),
        spacing_m=SPACING_M,
        first_heading_rad=world.agent_poses[:, :, world.now, 2],
    )
    driven = world.agent_poses[:, :, later, :2].gather(2, last[..., None].expand(*last.shape, 2))
    end_m = path.beside(driven).along_m[..., 0]
    return Traffic(
        path=path,
        end_m=torch.where(stood, end_m, torch.inf),
        desired_mps=fastest.clamp_min(MOVING_MPS),
        reacts=mask[:, :, 0] & (fastest > MOVING_MPS) & (world.agent_kinds == AGENT_VEHICLE),
        along_m=torch.zeros_like(fastest),
        speed_mps=speed[:, :, 0],
    )


def advance(traffic: Traffic, world: World, step: int, steps: int) -> tuple[Traffic, World]:
    """Traffic some steps later, and the world with it written in.

    Who leads whom is decided once for these steps, of which there should be few; leaders are
    looked for among all road users and the ego, and keep their velocity meanwhile.

    Args:
        traffic: At `step`.
        world: With everybody up to `step`.
        step: Index of the step that is done.
        steps: How many to drive.
    """
    rear_m, leader_mps = _leaders(traffic, world, step)
    length_m = world.agent_sizes_m[..., 0]
    follow = CarFollowing(
        *(
            torch.full_like(length_m, value)
            for value in (TIME_GAP_S, STANDSTILL_GAP_M, ACCELERATION_MPS2, BRAKING_MPS2)
        )
    )
    along, speed = traffic.along_m, traffic.speed_mps
    end_m = traffic.end_m + STANDSTILL_GAP_M
    driven = []
    for number in range(steps):
        gap = rear_m + leader_mps * (number * STEP_S) - along - length_m / 2
        stop = end_m - along
        wanted = follow.acceleration(
            speed,
            traffic.desired_mps,
            torch.minimum(gap, stop),
            torch.where(gap < stop, leader_mps, 0.0),
        )
        after = (speed + wanted * STEP_S).clamp_min(0)
        along = along + (speed + after) / 2 * STEP_S
        speed = after
        driven.append((along, speed))
    alongs, speeds = (torch.stack(values, -1) for values in zip(*driven, strict=True))
    poses = traffic.path.at(alongs)
    heading = poses[..., 2]
    velocities = speeds[..., None] * torch.stack((heading.cos(), heading.sin()), -1)
    span = slice(step + 1, step + 1 + steps)
    after_world = replace(
        world,
        agent_poses=_written(world.agent_poses, span, poses, traffic.reacts),
        agent_velocities_mps=_written(world.agent_velocities_mps, span, velocities, traffic.reacts),
        agent_mask=_written(
            world.agent_mask, span, traffic.reacts[..., None].expand(alongs.shape), traffic.reacts
        ),
    )
    return replace(traffic, along_m=along, speed_mps=speed), after_world


def _written(values: Tensor, span: slice, new: Tensor, rows: Bool[Tensor, "batch agent"]) -> Tensor:
    """Values with some steps of some agents replaced."""
    chosen = rows.reshape(*rows.shape, *(1,) * (values.ndim - 2))
    result = values.clone()
    result[:, :, span] = torch.where(chosen, new, values[:, :, span])
    return result


def _leaders(
    traffic: Traffic, world: World, step: int
) -> tuple[Float[Tensor, "batch agent"], Float[Tensor, "batch agent"]]:
    """Rear end (arc length) and speed of the nearest road user ahead on each one's path."""
    ego_pose = world.ego_poses[:, None, step]
    ego_mps = world.ego_speed_mps[:, step, None, None]
    ego_velocity = ego_mps * torch.cat((ego_pose[..., 2:].cos(), ego_pose[..., 2:].sin()), -1)
    poses = torch.cat((world.agent_poses[:, :, step], ego_pose), 1)
    velocities = torch.cat((world.agent_velocities_mps[:, :, step], ego_velocity), 1)
    sizes = torch.cat((world.agent_sizes_m, world.ego_size_m[:, None]), 1)
    mask = torch.cat((world.agent_mask[:, :, step], world.ego_mask[:, step, None]), 1)
    count = traffic.along_m.shape[1]
    everybody = poses[:, None, :, :2].expand(-1, count, -1, -1)
    beside = traffic.path.beside(everybody)
    turned = poses[:, None, :, 2] - beside.heading_rad
    across, ahead = turned.sin().abs(), turned.cos().abs()
    half_length = (sizes[:, None, :, 0] * ahead + sizes[:, None, :, 1] * across) / 2
    half_width = (sizes[:, None, :, 0] * across + sizes[:, None, :, 1] * ahead) / 2
    reach = half_width + world.agent_sizes_m[:, :, None, 1] / 2 + CORRIDOR_MARGIN_M
    leads = mask[:, None] & (beside.left_m.abs() < reach)
    leads = leads & (beside.along_m > traffic.along_m[..., None])
    own = torch.eye(count, count + 1, dtype=torch.bool, device=leads.device)
    rear, leader = torch.where(leads & ~own, beside.along_m - half_length, torch.inf).min(-1)
    along = velocities[:, None, :, 0] * beside.heading_rad.cos()
    along = along + velocities[:, None, :, 1] * beside.heading_rad.sin()
    speed = along.gather(-1, leader[..., None])[..., 0]
    return rear, torch.where(rear.isfinite(), speed, 0.0)
