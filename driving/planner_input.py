"""What a planner may see of a world: the present and the past, in the frame of the ego as it is.

The ego and the agents may have been logged or rolled out; nothing after the step is looked at.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from driving.planner.planner import PlannerInput
from driving.world import LINE_BOUNDARY, LINE_EDGE, World

BOUNDARY_PENALTY_M = 8.0
BEHIND_M = 10.0
HISTORY_STEPS = 11


def planner_input(
    world: World,
    step: int,
    *,
    agents: int = 16,
    lines: int = 32,
    places: int = 80,
) -> PlannerInput:
    """The scene as the ego sees it at one step.

    Args:
        world: The surroundings, whose ego and agents up to `step` count.
        step: The present of the input: an index of the world's steps, at least one history long.
        agents: Road users kept: those seen at `step`, nearest first.
        lines: Pieces of map lines kept, nearest first; lane centres are preferred to the
            boundaries beside them.
        places: Points of the route kept, from 10 m behind the ego.

    Raises:
        ValueError: If there is less history before `step` than a planner sees.
    """
    first = step - HISTORY_STEPS + 1
    if first < 0:
        raise ValueError(
            f"step {step} has less than {HISTORY_STEPS - 1} steps before it; worlds need more "
            "history."
        )
    frame = world.ego_poses[:, step]
    return PlannerInput(
        **_ego(world, frame, slice(first, step + 1)),
        **_agents(world, frame, slice(first, step + 1), agents),
        **_lines(world, frame, step, lines),
        **_route(world, frame, step, places),
    )


def into_frame(
    points: Float[Tensor, "batch *many 2"], frame: Float[Tensor, "batch 3"]
) -> Float[Tensor, "batch *many 2"]:
    """Points in the frame of a pose, row by row."""
    lead = (len(frame), *[1] * (points.ndim - 2))
    offset = points - frame[:, :2].reshape(*lead, 2)
    return turned(offset, -frame[:, 2].reshape(lead))


def out_of_frame(
    points: Float[Tensor, "batch *many 2"], frame: Float[Tensor, "batch 3"]
) -> Float[Tensor, "batch *many 2"]:
    """Points that are given in the frame of a pose, in the frame of that pose itself."""
    lead = (len(frame), *[1] * (points.ndim - 2))
    return turned(points, frame[:, 2].reshape(lead)) + frame[:, :2].reshape(*lead, 2)


def turned(
    vectors: Float[Tensor, "*many 2"], angle_rad: Float[Tensor, "*angles"]
) -> Float[Tensor, "*many 2"]:
    """Vectors turned counter-clockwise."""
    cos, sin = angle_rad.cos(), angle_rad.sin()
    x, y = vectors[..., 0], vectors[..., 1]
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _ego(world: World, frame: Float[Tensor, "batch 3"], past: slice) -> dict[str, Tensor]:
    poses, mask = world.ego_poses[:, past], world.ego_mask[:, past]
    heading = (poses[..., 2] - frame[:, None, 2])[..., None]
    speed = world.ego_speed_mps[:, past, None]
    history = torch.cat([into_frame(poses[..., :2], frame), heading, speed], -1)
    return {
        "ego_history": torch.where(mask[..., None], history, 0.0),
        "ego_history_mask": mask,
        "ego_size_m": world.ego_size_m,
    }


def _agents(
    world: World, frame: Float[Tensor, "batch 3"], past: slice, count: int
) -> dict[str, Tensor]:
    now = past.stop - 1
    offset = world.agent_poses[:, :, now, :2] - frame[:, None, :2]
    distance = offset.square().sum(-1).masked_fill(~world.agent_mask[:, :, now], torch.inf)
    order = _nearest(distance, count)
    seen = _rows(world.agent_mask[:, :, past], order) & _rows(distance.isfinite(), order)[..., None]
    poses = _rows(world.agent_poses[:, :, past], order)
    velocity = _rows(world.agent_velocities_mps[:, :, past], order)
    heading = poses[..., 2] - frame[:, None, None, 2]
    heading = torch.atan2(heading.sin(), heading.cos())[..., None]
    turn_back = -frame[:, None, None, 2]
    history = torch.cat(
        [into_frame(poses[..., :2], frame), heading, turned(velocity, turn_back)], -1
    )
    present = seen[..., -1]
    return {
        "agents": torch.where(seen[..., None], history, 0.0),
        "agent_mask": seen,
        "agent_sizes_m": _rows(world.agent_sizes_m, order) * present[..., None],
        "agent_kinds": _rows(world.agent_kinds, order) * present,
    }


def _lines(
    world: World, frame: Float[Tensor, "batch 3"], step: int, count: int
) -> dict[str, Tensor]:
    points = into_frame(world.line_points, frame)
    distance = points.square().sum(-1).masked_fill(~world.line_mask, torch.inf).amin(-1).sqrt()
    boundary = (world.line_kinds == LINE_BOUNDARY) | (world.line_kinds == LINE_EDGE)
    order = _nearest(distance + BOUNDARY_PENALTY_M * boundary, count)
    mask = _rows(world.line_mask, order)
    there = mask.any(-1)
    return {
        "lines": torch.where(mask[..., None], _rows(points, order), 0.0),
        "line_mask": mask,
        "line_kinds": _rows(world.line_kinds, order) * there,
        "line_limits_mps": _rows(world.line_limits_mps, order),
        "line_limit_mask": _rows(world.line_limit_mask, order),
        "line_lights": _rows(world.line_lights[..., step], order) * there,
    }


def _route(
    world: World, frame: Float[Tensor, "batch 3"], step: int, count: int
) -> dict[str, Tensor]:
    """The route from 10 m behind the ego; where the world's route ends, so does this one."""
    points = into_frame(world.route_points, frame)
    behind = points.square().sum(-1).masked_fill(~world.route_mask, torch.inf)
    nearest = behind.argmin(-1, keepdim=True)
    spacing = (world.route_points[:, 1] - world.route_points[:, 0]).norm(dim=-1).clamp_min(1e-3)
    back = (BEHIND_M / spacing).round().clamp_max(world.route_mask.shape[1]).long()[:, None]
    order = (nearest - back).clamp_min(0) + torch.arange(count, device=points.device)
    inside = order < world.route_mask.shape[1]
    order = order.clamp_max(world.route_mask.shape[1] - 1)
    mask = _rows(world.route_mask, order) & inside
    known = _rows(world.route_limit_mask, order) & mask
    return {
        "route": torch.where(mask[..., None], _rows(points, order), 0.0),
        "route_mask": mask,
        "route_limits_mps": torch.where(known, _rows(world.route_limits_mps, order), 0.0),
        "route_limit_mask": known,
        "route_lights": _rows(world.route_lights[..., step], order) * mask,
    }


def _nearest(distance: Float[Tensor, "batch row"], count: int) -> Int[Tensor, "batch chosen"]:
    order = torch.sort(distance, dim=-1, stable=True).indices
    return order[:, : min(count, order.shape[1])]


def _rows(values: Tensor, order: Int[Tensor, "batch chosen"]) -> Tensor:
    """Chosen rows of the second axis."""
    index = order.reshape(*order.shape, *[1] * (values.ndim - 2))
    return values.gather(1, index.expand(*order.shape, *values.shape[2:]))
