"""Conflicts: where the ego's way crosses somebody else's, and how much time lies between them."""

import torch
from jaxtyping import Bool, Float, Int
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
    row, agent = _candidates(world, poses)
    ego, other = poses[row, :, :2], world.agent_poses[row, agent, :, :2]
    seen = world.agent_mask[row, agent]
    ego_x, ego_y = ego[:, :-1, None].unbind(-1)
    ego_dx, ego_dy = ego.diff(dim=1)[:, :, None].unbind(-1)
    x, y = other[:, None, :-1].unbind(-1)
    dx, dy = other.diff(dim=1)[:, None].unbind(-1)
    turned = ego_dx * dy - ego_dy * dx
    ego_length, length = torch.hypot(ego_dx, ego_dy), torch.hypot(dx, dy)
    safe = torch.where(turned.abs() > 1e-9, turned, 1.0)
    from_x, from_y = x - ego_x, y - ego_y
    ego_share = (from_x * dy - from_y * dx) / safe
    other_share = (from_x * ego_dy - from_y * ego_dx) / safe
    meets = (ego_share >= 0) & (ego_share < 1) & (other_share >= 0) & (other_share < 1)
    lengths = ego_length * length
    meets = meets & (turned.abs() > SMALLEST_SINE * lengths) & (lengths > 1e-6)
    meets = meets & (seen[:, :-1] & seen[:, 1:])[:, None]

    steps = torch.arange(other.shape[1] - 1, device=poses.device, dtype=poses.dtype)
    ego_time = steps[: ego.shape[1] - 1, None] + first + ego_share
    delay_s = (steps + other_share - ego_time) * world.step_s
    cleared_s = (
        world.ego_size_m[row, 0][:, None, None] / 2 / (ego_length / world.step_s).clamp_min(0.1)
    )
    cleared_s = cleared_s + (
        world.agent_sizes_m[row, agent, 0][:, None, None]
        / 2
        / (length / world.step_s).clamp_min(0.1)
    )
    margin = torch.where(meets, (delay_s.abs() - cleared_s).clamp_min(0.0), torch.inf)
    margin, closest = margin.flatten(1).min(-1)
    ego_first = delay_s.flatten(1).gather(1, closest[:, None])[:, 0] > 0
    return _closest_of_each(len(poses), row, margin, ego_first)


def _candidates(
    world: World, poses: Float[Tensor, "batch step 3"]
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Sample and road user of every pair whose ways could cross: the boxes around them overlap."""
    kinds = world.agent_kinds
    moves = (kinds == AGENT_VEHICLE) | (kinds == AGENT_CYCLIST) | (kinds == AGENT_PEDESTRIAN)
    seen = world.agent_mask[..., None]
    places = world.agent_poses[..., :2]
    low = torch.where(seen, places, torch.inf).amin(2)
    high = torch.where(seen, places, -torch.inf).amax(2)
    ego_low, ego_high = poses[:, None, :, :2].amin(2), poses[:, None, :, :2].amax(2)
    overlap = ((low <= ego_high) & (high >= ego_low)).all(-1)
    row, agent = (overlap & moves).nonzero(as_tuple=True)
    return row, agent


def _closest_of_each(
    batch: int,
    row: Int[Tensor, " pair"],
    margin_s: Float[Tensor, " pair"],
    ego_first: Bool[Tensor, " pair"],
) -> tuple[Column, Column]:
    """The smallest margin of every sample, and who went first there."""
    smallest = margin_s.new_full((batch,), torch.inf)
    smallest = smallest.scatter_reduce(0, row, margin_s, "amin")
    known = smallest <= LONGEST_S
    first_of = (margin_s == smallest[row]) & ego_first
    went_first = torch.zeros(batch, device=row.device).scatter_reduce(
        0, row, first_of.to(margin_s.dtype), "amax"
    )
    return (
        (torch.where(known, smallest, 0.0), known),
        (torch.where(known, went_first, 0.0).to(margin_s.dtype), known),
    )
