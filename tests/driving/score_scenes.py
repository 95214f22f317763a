"""Small worlds and rides for the scores: by hand, or at random and lopsided."""

import numpy as np
import torch

from driving.simulation.state import Motion
from driving.world import LINE_BOUNDARY, LINE_LANE, World

STEPS = 41


def straight(
    speed: float = 10.0,
    *,
    start: tuple[float, float] = (0.0, 0.0),
    heading: float = 0.0,
    acceleration: float = 0.0,
    steps: int = STEPS,
) -> Motion:
    """One ride straight on, [1, 1, step], in float64."""
    time = 0.1 * torch.arange(steps, dtype=torch.float64)
    along = speed * time + 0.5 * acceleration * time**2
    turn = torch.tensor(heading, dtype=torch.float64)
    poses = torch.stack(
        [start[0] + along * turn.cos(), start[1] + along * turn.sin(), turn.expand(steps)], -1
    )[None, None]
    zero = torch.zeros(1, 1, steps, dtype=torch.float64)
    return Motion(poses, (speed + acceleration * time)[None, None], zero + acceleration, zero, zero)


def joined(*rides: Motion) -> Motion:
    """Several rides as candidates of one scene."""
    return Motion(
        *(
            torch.cat([getattr(ride, name) for ride in rides], 1)
            for name in (
                "poses", "speed_mps", "acceleration_mps2", "steering_rad", "steering_rate_radps",
            )
        )
    )  # fmt: skip


def only(motion: Motion, candidate: int) -> Motion:
    """One candidate, [batch, step]."""
    return Motion(
        motion.poses[:, candidate],
        motion.speed_mps[:, candidate],
        motion.acceleration_mps2[:, candidate],
        motion.steering_rad[:, candidate],
        motion.steering_rate_radps[:, candidate],
    )


def world_of(
    agent_poses: torch.Tensor,
    *,
    kinds: list[int],
    mask: torch.Tensor | None = None,
    velocities: torch.Tensor | None = None,
    sizes: tuple[float, float] = (4.0, 2.0),
    lines: list[tuple[int, list[tuple[float, float]]]] = (),  # type: ignore[assignment]
    route: list[tuple[float, float]] = ((-20.0, 0.0), (200.0, 0.0)),  # type: ignore[assignment]
) -> World:
    """One scene with these road users from the present on, [agent, step, 3]; the ego is 4 x 2 m."""
    agents, steps = agent_poses.shape[:2]
    poses = agent_poses.double()[None]
    if velocities is None:
        moved = poses[..., :2].diff(dim=2) / 0.1
        velocities = torch.cat([moved, moved[:, :, -1:]], 2)
    else:
        velocities = velocities.double()[None]
    mask = torch.ones(agents, steps, dtype=torch.bool) if mask is None else mask
    points = max([len(line) for _, line in lines], default=2)
    line_points = torch.zeros(1, len(lines), points, 2, dtype=torch.float64)
    line_mask = torch.zeros(1, len(lines), points, dtype=torch.bool)
    for number, (_, line) in enumerate(lines):
        line_points[0, number, : len(line)] = torch.tensor(line, dtype=torch.float64)
        line_mask[0, number, : len(line)] = True
    return _world(
        agents=(poses, velocities, mask[None], torch.tensor([kinds], dtype=torch.long)),
        agent_sizes=torch.tensor([[sizes] * agents], dtype=torch.float64).reshape(1, agents, 2),
        lines=(line_points, line_mask, torch.tensor([[kind for kind, _ in lines]]).long()),
        route=torch.tensor(route, dtype=torch.float64).reshape(1, -1, 2),
        start=torch.zeros(1, 3, dtype=torch.float64),
        ego_size=torch.tensor([[4.0, 2.0]], dtype=torch.float64),
    )


def _world(  # noqa: PLR0913  (what a world is made of)
    *,
    agents: tuple[torch.Tensor, ...],
    agent_sizes: torch.Tensor,
    lines: tuple[torch.Tensor, ...],
    route: torch.Tensor,
    start: torch.Tensor,
    ego_size: torch.Tensor,
    route_mask: torch.Tensor | None = None,
    now: int = 0,
) -> World:
    poses, velocities, mask, kinds = agents
    batch, steps = len(poses), poses.shape[2]
    line_points, line_mask, line_kinds = lines
    dtype = poses.dtype
    places = route.shape[1]
    if route_mask is None:
        route_mask = torch.ones(batch, places, dtype=torch.bool)
    return World(
        step_s=0.1,
        now=now,
        sample_ids=torch.arange(batch),
        start_poses=start.double(),
        map_index=torch.arange(batch),
        ego_poses=torch.zeros(batch, steps, 3, dtype=dtype),
        ego_speed_mps=torch.zeros(batch, steps, dtype=dtype),
        ego_mask=torch.ones(batch, steps, dtype=torch.bool),
        ego_size_m=ego_size,
        agent_poses=poses,
        agent_velocities_mps=velocities,
        agent_mask=mask,
        agent_sizes_m=agent_sizes,
        agent_kinds=kinds,
        line_points=line_points,
        line_mask=line_mask,
        line_kinds=line_kinds,
        line_limits_mps=torch.zeros(line_kinds.shape, dtype=dtype),
        line_limit_mask=torch.zeros(line_kinds.shape, dtype=torch.bool),
        line_lights=torch.zeros(*line_kinds.shape, steps, dtype=torch.long),
        route_points=route,
        route_mask=route_mask,
        route_limits_mps=torch.zeros(batch, places, dtype=dtype),
        route_limit_mask=torch.zeros(batch, places, dtype=torch.bool),
        route_lights=torch.zeros(batch, places, steps, dtype=torch.long),
    )


def random_rides(
    random: np.random.Generator, batch: int, candidates: int, *, gentle: float = 1.0
) -> Motion:
    """Rides from the origin with random speed and turning, some of them in reverse."""
    shape = (batch, candidates, 1)
    time = 0.1 * np.arange(STEPS)
    first = random.uniform(0, 14, (batch, 1, 1)) * random.choice(
        [1, 1, 1, 0.0, -0.3], (batch, 1, 1)
    )
    acceleration = (
        gentle * random.normal(0, 1.5, shape) * np.cos(random.uniform(0, 2, shape) * time)
    )
    speed = first + np.cumsum(acceleration, -1) * 0.1
    wild = random.choice([1.0, 1.0, 5.0], shape)
    acceleration = acceleration + 0.2 * wild * random.normal(0, 1, (batch, candidates, STEPS))
    turning = (
        gentle * wild * random.normal(0, 0.15, shape) * np.sin(random.uniform(0, 2, shape) * time)
    )
    heading = random.normal(0, 0.1, (batch, 1, 1)) + np.cumsum(turning, -1) * 0.1
    x = np.cumsum(speed * np.cos(heading), -1) * 0.1
    y = np.cumsum(speed * np.sin(heading), -1) * 0.1
    poses = np.stack([x - x[..., :1], y - y[..., :1], heading], -1)
    zero = torch.zeros(batch, candidates, STEPS, dtype=torch.float64)
    return Motion(
        torch.from_numpy(poses), torch.from_numpy(speed), torch.from_numpy(acceleration), zero, zero
    )


def random_world(
    random: np.random.Generator, batch: int, agents: int, *, future: int = 51, spread: float = 15.0
) -> tuple[World, list[list[np.ndarray]]]:
    """Scenes with road users around the way ahead, some vanishing, and a road of polygons."""
    now, steps = 3, 3 + future
    time = 0.1 * (np.arange(steps) - now)
    shape = (batch, agents, 1)
    place = np.stack(
        [random.uniform(-8, 60, shape), random.normal(0, spread / 3, shape)], -1
    ) * np.ones((1, 1, steps, 1))
    moves = random.choice([0.0, 0.002, 1.0, 1.0, 1.0], shape)
    speed = random.uniform(0, 12, shape) * moves
    heading = random.choice([0.0, 0.0, np.pi, np.pi / 2], shape) + random.normal(0, 0.2, shape)
    velocity = np.stack([speed * np.cos(heading), speed * np.sin(heading)], -1) * np.ones(
        (1, 1, steps, 1)
    )
    poses = np.concatenate(
        [place + velocity * time[:, None], heading[..., None] * np.ones((1, 1, steps, 1))], -1
    )
    begins, ends = np.sort(random.integers(-30, steps + 30, (2, batch, agents)), 0)
    at = np.arange(steps)
    mask = (at >= begins[..., None]) & (at < ends[..., None])
    mask[:, -1] = False
    poses, velocity = poses * mask[..., None], velocity * mask[..., None]
    start = np.concatenate(
        [random.uniform(-3e5, 3e5, (batch, 2)), random.uniform(-9, 9, (batch, 1))], 1
    )
    lines, maps = _roads(random, batch, start)
    world = _world(
        agents=(
            torch.from_numpy(poses),
            torch.from_numpy(velocity),
            torch.from_numpy(mask),
            torch.from_numpy(random.integers(0, 5, (batch, agents))),
        ),
        agent_sizes=torch.from_numpy(random.uniform([0.4, 0.4], [9, 3], (batch, agents, 2))),
        lines=lines,
        route=torch.from_numpy(
            np.stack([np.linspace(-6, 90, 49), np.zeros(49)], -1) * np.ones((batch, 1, 1))
        ),
        start=torch.from_numpy(start),
        ego_size=torch.from_numpy(random.uniform([3.5, 1.6], [6, 2.4], (batch, 2))),
        route_mask=torch.from_numpy(np.arange(49) < random.integers(0, 80, (batch, 1))),
        now=now,
    )
    return world, maps


def _roads(
    random: np.random.Generator, batch: int, start: np.ndarray
) -> tuple[tuple[torch.Tensor, ...], list[list[np.ndarray]]]:
    """Three lanes (the left one runs the other way), their lines and polygons."""
    x = np.linspace(-20, 100, 25)
    offsets = [(LINE_LANE, 0.0, 1), (LINE_LANE, -3.5, 1), (LINE_LANE, 3.5, -1)]
    offsets += [(LINE_BOUNDARY, side, 1) for side in (-1.75, 1.75, 5.25)]
    points = np.stack(
        [np.stack([x[::way], np.full_like(x, y)], -1) for _, y, way in offsets]
    ) * np.ones((batch, 1, 1, 1))
    line_mask = random.random((batch, len(offsets), len(x))) < 0.9
    kinds = torch.tensor([[kind for kind, _, _ in offsets]] * batch)
    maps = []
    for row in range(batch):
        cos, sin = np.cos(start[row, 2]), np.sin(start[row, 2])
        polygons = []
        for left in np.arange(-25, 100, 25.0):
            for low, high in ((-5.25, -1.0), (-1.75, 1.75), (1.75, 5.25)):
                wide = random.uniform(0, 6)
                polygons.append(
                    np.array(
                        [
                            [left, low - wide],
                            [left + 26, low - wide],
                            [left + 26, high],
                            [left, high],
                        ]
                    )
                )
        x_hole = random.uniform(20, 60)
        hole = np.array([[0.0, 5.0], [0.0, 8.0], [5.0, 8.0], [5.0, 5.0]])
        polygons += [
            hole + np.array([x_hole, 0.0]),
            random.uniform(-1, 1) + np.array([[10.0, 5], [30, 5], [30, 9], [10, 9]]),
        ]
        turned = np.array([[cos, sin], [-sin, cos]])
        maps.append([polygon @ turned + start[row, :2] for polygon in polygons])
    masked = points * line_mask[..., None]
    return (torch.from_numpy(masked), torch.from_numpy(line_mask), kinds), maps
