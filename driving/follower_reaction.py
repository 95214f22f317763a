"""How whoever drives behind reacts to a ride: the follow-up that tells what it was worth."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.simulation.agents import (
    ACCELERATION_MPS2,
    BRAKING_MPS2,
    MOVING_MPS,
    STANDSTILL_GAP_M,
    TIME_GAP_S,
)
from driving.simulation.car_following import CarFollowing
from driving.simulation.state import Motion
from driving.world import AGENT_VEHICLE, World

REACTION_S = 3.0
HARD_BRAKING_MPS2 = 2.0
SOFTNESS_MPS2 = 0.5
FARTHEST_BEHIND_M = 60.0
MOST_TURNED_COSINE = 0.5
"""Who points within 60 degrees of the ego drives its way."""


def follower_braking(
    world: World, rides: Motion, *, seconds: float = REACTION_S
) -> tuple[Float[Tensor, "batch candidate"], Bool[Tensor, " batch"]]:
    """How hard the vehicle behind brakes at the most, and whether there is one.

    It is the nearest moving vehicle within 60 m straight behind the ego at present, and drives by
    the Intelligent Driver Model with the numbers of reactive traffic, at its present speed where
    nobody is ahead. It keeps behind the ego although that may change its lane, and nobody else
    reacts.

    Args:
        world: Whose present is looked at; nothing of its future is.
        rides: [batch, candidate, step] in steps of the world, from the present on.
        seconds: For how long.

    Returns:
        Metres per second squared, from 0 to 8; 0 where nobody follows. And where somebody does.
    """
    gap, speed, there = _follower(world)
    gap, speed = (
        value[:, None].expand(rides.speed_mps.shape[:2]).to(rides.speed_mps)
        for value in (gap, speed)
    )
    desired = speed.clamp_min(MOVING_MPS)
    follow = CarFollowing(
        *(
            torch.full_like(speed, value)
            for value in (TIME_GAP_S, STANDSTILL_GAP_M, ACCELERATION_MPS2, BRAKING_MPS2)
        )
    )
    hardest = torch.zeros_like(speed)
    step_s, steps = world.step_s, round(seconds / world.step_s)
    for number in range(min(steps, rides.speed_mps.shape[2] - 1)):
        ego_mps = rides.speed_mps[:, :, number]
        wanted = follow.acceleration(speed, desired, gap, ego_mps)
        hardest = torch.maximum(hardest, -wanted)
        after = (speed + wanted * step_s).clamp_min(0)
        moved = (ego_mps + rides.speed_mps[:, :, number + 1]) / 2 - (speed + after) / 2
        gap, speed = gap + moved * step_s, after
    return torch.where(there[:, None], hardest, 0.0), there


def calm_follower(world: World, rides: Motion) -> Float[Tensor, "batch candidate"]:
    """Log-odds that whoever is behind does not brake hard, of a logistic model around 2 m/s2.

    4 where nobody brakes or follows, 0 at 2 m/s2.

    Source:
        In the manner of follow-up likelihood as reward (FLR): the log-probability of what should
        follow less that of what should not. The model of the reaction is ours.
    """
    return (HARD_BRAKING_MPS2 - follower_braking(world, rides)[0]) / SOFTNESS_MPS2


def _follower(
    world: World,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Gap in metres, speed, and whether there is one; an infinite gap where there is none."""
    rows, agents = world.agent_mask.shape[:2]
    if not agents:
        nothing = world.ego_speed_mps[:, world.now]
        return nothing + torch.inf, torch.zeros_like(nothing), torch.zeros_like(nothing).bool()
    pose = world.ego_poses[:, world.now]
    ahead = torch.stack([pose[:, 2].cos(), pose[:, 2].sin()], -1)
    left = torch.stack([-ahead[:, 1], ahead[:, 0]], -1)
    others = world.agent_poses[:, :, world.now]
    offset = others[..., :2] - pose[:, None, :2]
    behind = -(offset * ahead[:, None]).sum(-1)
    aside = (offset * left[:, None]).sum(-1).abs()
    half_lengths = (world.ego_size_m[:, None, 0] + world.agent_sizes_m[..., 0]) / 2
    half_widths = (world.ego_size_m[:, None, 1] + world.agent_sizes_m[..., 1]) / 2
    speed = (world.agent_velocities_mps[:, :, world.now] * ahead[:, None]).sum(-1)
    follows = world.agent_mask[:, :, world.now] & (world.agent_kinds == AGENT_VEHICLE)
    follows &= (behind > 0) & (behind < FARTHEST_BEHIND_M) & (aside < half_widths)
    follows &= (others[..., 2] - pose[:, None, 2]).cos() > MOST_TURNED_COSINE
    follows &= speed > MOVING_MPS
    gap, who = torch.where(follows, behind - half_lengths, torch.inf).min(1)
    row = torch.arange(rows, device=who.device)
    there = gap.isfinite()
    return gap, torch.where(there, speed[row, who], 0.0), there
