"""Conflicts: where the ego's way crosses somebody else's, and how much time lies between them."""

import torch
from jaxtyping import Float
from torch import Tensor

from driving.style.measures import Column
from driving.world import AGENT_CYCLIST, AGENT_PEDESTRIAN, AGENT_VEHICLE, World

SMALLEST_SINE = 0.5
LONGEST_S = 5.0


def post_encroachment(
    world: World, poses: Float[Tensor, "batch step 3"], *, first: int
) -> tuple[Column, Column]:
    """Time from the first one's leaving to the second one's reaching the point both pass.

    The point is where the ways of the two centres cross at an angle between 30 and 150 degrees, so
    followers, oncoming traffic and those who merge side by side have none. The ego passes it
    within the window, the other one at any step of the world. From the time between the two
    centres, the time is taken off that the first needs to clear the point with its rear and the
    second to reach it with its front, each at its speed there. Of several, the closest counts; one
    with more than 5 s between is none.

    Args:
        world: Who else is there, over all its steps.
        poses: The ego over the window.
        first: Step of the world at which the window begins.

    Returns:
        Seconds (0 where they overlap), and 1 where the ego went first, 0 where it gave way.

    Source:
        Post-encroachment time as of Allen, Shin and Cooper, 1978, Transportation Research Record
        667; here boxes are reduced to their lengths along their ways.
    """
    ego, other = poses[..., :2], world.agent_poses[..., :2]
    ego_move = ego.diff(dim=1)[:, None, :, None]
    other_move = other.diff(dim=2)[:, :, None]
    between = other[:, :, None, :-1] - ego[:, None, :-1, None]
    turned = _cross(ego_move, other_move)
    lengths = ego_move.norm(dim=-1) * other_move.norm(dim=-1)
    safe = torch.where(turned.abs() > 1e-9, turned, 1.0)
    ego_share = _cross(between, other_move) / safe
    other_share = _cross(between, ego_move) / safe
    seen = world.agent_mask[:, :, :-1] & world.agent_mask[:, :, 1:]
    kinds = world.agent_kinds
    moves = (kinds == AGENT_VEHICLE) | (kinds == AGENT_CYCLIST) | (kinds == AGENT_PEDESTRIAN)
    meets = (ego_share >= 0) & (ego_share < 1) & (other_share >= 0) & (other_share < 1)
    meets = meets & (turned.abs() > SMALLEST_SINE * lengths) & (lengths > 1e-6)
    meets = meets & (seen & moves[..., None])[:, :, None]

    steps = torch.arange(other.shape[2] - 1, device=poses.device, dtype=poses.dtype)
    ego_time = steps[: ego.shape[1] - 1, None] + first + ego_share
    other_time = steps + other_share
    delay_s = (other_time - ego_time) * world.step_s
    ego_speed = (ego_move.norm(dim=-1) / world.step_s).clamp_min(0.1)
    other_speed = (other_move.norm(dim=-1) / world.step_s).clamp_min(0.1)
    cleared_s = world.ego_size_m[:, None, None, None, 0] / 2 / ego_speed
    cleared_s = cleared_s + world.agent_sizes_m[:, :, None, None, 0] / 2 / other_speed
    margin = torch.where(meets, (delay_s.abs() - cleared_s).clamp_min(0.0), torch.inf)
    margin, closest = margin.flatten(1).min(-1)
    went_first = delay_s.flatten(1).gather(1, closest[:, None])[:, 0] > 0
    known = margin <= LONGEST_S
    return (
        (torch.where(known, margin, 0.0), known),
        ((went_first & known).to(poses.dtype), known),
    )


def _cross(a: Float[Tensor, "*left 2"], b: Float[Tensor, "*right 2"]) -> Tensor:
    """The cross product of vectors in the plane."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
