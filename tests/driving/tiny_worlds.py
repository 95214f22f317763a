"""Worlds of one sample with a straight road, for measures that are worked out by hand."""

from collections.abc import Sequence

import torch

from driving.world import AGENT_VEHICLE, LINE_LANE, World

STEP_S = 0.1
STEPS = 51
NOW = 10


def straight(speed_mps: float, *, x_m: float = 0.0, y_m: float = 0.0) -> torch.Tensor:
    """Poses that run along x at a constant speed; the given place is where the present is."""
    time_s = (torch.arange(STEPS) - NOW) * STEP_S
    x = x_m + speed_mps * time_s
    return torch.stack([x, torch.full_like(x, y_m), torch.zeros_like(x)], -1)


def lane_line(y_m: float, *, points: int = 41) -> torch.Tensor:
    """A lane centre along x from -100 m to 300 m."""
    x = torch.linspace(-100.0, 300.0, points)
    return torch.stack([x, torch.full_like(x, y_m)], -1)


def tiny_world(
    ego: torch.Tensor,
    agents: Sequence[torch.Tensor] = (),
    *,
    speed_mps: torch.Tensor | None = None,
    lanes: Sequence[float] = (0.0,),
    limit_mps: float = 15.0,
    kinds: Sequence[int] | None = None,
    route: bool = True,
) -> World:
    """One sample: the ego's poses, others' poses and straight lanes.

    The ego is 4 m long and 2 m wide, others are 5 m long and 1.8 m wide.
    """
    if speed_mps is None:
        moved = ego[:, :2].diff(dim=0).norm(dim=-1) / STEP_S
        speed_mps = torch.cat([moved[:1], moved])
    count = len(agents)
    poses = torch.stack(list(agents)) if count else torch.zeros(0, STEPS, 3)
    velocities = torch.zeros(count, STEPS, 2)
    if count:
        moved = poses[..., :2].diff(dim=1) / STEP_S
        velocities = torch.cat([moved[:, :1], moved], 1)
    lines = torch.stack([lane_line(y) for y in lanes])
    places = lane_line(lanes[0], points=101)
    return World(
        step_s=STEP_S,
        now=NOW,
        sample_ids=torch.tensor([0]),
        start_poses=torch.zeros(1, 3, dtype=torch.float64),
        map_index=torch.tensor([0]),
        ego_poses=ego[None],
        ego_speed_mps=speed_mps[None],
        ego_mask=torch.ones(1, STEPS, dtype=torch.bool),
        ego_size_m=torch.tensor([[4.0, 2.0]]),
        agent_poses=poses[None],
        agent_velocities_mps=velocities[None],
        agent_mask=torch.ones(1, count, STEPS, dtype=torch.bool),
        agent_sizes_m=torch.tensor([[5.0, 1.8]]).expand(count, 2)[None],
        agent_kinds=torch.tensor(kinds or [AGENT_VEHICLE] * count, dtype=torch.int64)[None],
        line_points=lines[None],
        line_mask=torch.ones(1, *lines.shape[:2], dtype=torch.bool),
        line_kinds=torch.full((1, len(lanes)), LINE_LANE),
        line_limits_mps=torch.full((1, len(lanes)), limit_mps),
        line_limit_mask=torch.ones(1, len(lanes), dtype=torch.bool),
        line_lights=torch.zeros(1, len(lanes), STEPS, dtype=torch.int64),
        route_points=places[None],
        route_mask=torch.full((1, len(places)), route, dtype=torch.bool),
        route_limits_mps=torch.full((1, len(places)), limit_mps),
        route_limit_mask=torch.full((1, len(places)), route, dtype=torch.bool),
        route_lights=torch.zeros(1, len(places), STEPS, dtype=torch.int64),
    )
