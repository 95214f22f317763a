"""Scenes for the benchmark of scores: made up, or on real maps, with rides that fan out."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

from driving.simulation.state import Motion
from driving.world import (
    AGENT_PEDESTRIAN,
    AGENT_STATIC,
    AGENT_VEHICLE,
    LINE_BOUNDARY,
    LINE_LANE,
    World,
)

BLOCK_M, LANE_M, STEPS, FUTURE = 120.0, 3.5, 41, 54


def rows_of(motion: Motion, chosen: torch.Tensor | slice) -> Motion:
    """Rides of some scenes."""
    return Motion(**{field.name: getattr(motion, field.name)[chosen] for field in fields(motion)})


def moved(motion: Motion, device: str) -> Motion:
    """Rides on a device."""
    return Motion(
        **{field.name: getattr(motion, field.name).to(device) for field in fields(motion)}
    )


def in_double(world: World) -> World:
    """A world in float64."""
    values = {field.name: getattr(world, field.name) for field in fields(world)}
    return replace(
        world,
        **{
            name: value.double()
            for name, value in values.items()
            if isinstance(value, torch.Tensor) and value.is_floating_point()
        },
    )


def town(blocks: int = 6) -> list[np.ndarray]:
    """Streets of four lanes in both directions of a grid, a polygon per lane and per crossing."""
    polygons = []
    half = 2 * LANE_M
    for line in range(blocks):
        for block in range(blocks - 1):
            low, high = block * BLOCK_M + half, (block + 1) * BLOCK_M - half
            for lane in range(4):
                left = line * BLOCK_M - half + lane * LANE_M
                along = np.linspace(low, high, 20)
                lower = np.stack([along, np.full(20, left)], 1)
                strip = np.concatenate([lower, lower[::-1] + np.array([0.0, LANE_M])])
                polygons += [strip, strip[:, ::-1][::-1]]
        for other in range(blocks):
            square = half * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
            polygons.append(square + BLOCK_M * np.array([line, other]))
    return polygons


def argoverse_maps(folder: Path) -> list[list[np.ndarray]]:
    """Drivable areas of Argoverse 2 logs."""
    maps = []
    for path in sorted(folder.rglob("log_map_archive_*.json")):
        areas = json.loads(path.read_text())["drivable_areas"].values()
        rings = [
            np.array([[point["x"], point["y"]] for point in area["area_boundary"]])
            for area in areas
        ]
        maps.append([ring if signed_area(ring) > 0 else ring[::-1] for ring in rings])
    return maps


def signed_area(ring: np.ndarray) -> float:
    """Positive if counter-clockwise."""
    x, y = ring.T
    return float(0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def scenes(
    maps: list[list[np.ndarray]], count: int, candidates: int, agents: int
) -> tuple[World, Motion]:
    """Scenes on the maps with rides that fan out from an ego at 4 to 14 m/s, in float32."""
    random = np.random.default_rng(0)
    index = np.arange(count) % len(maps)
    start = np.stack([start_of(maps[number], random) for number in index])
    rides = fan(random, count, candidates)
    parked = random.random((count, agents, 1)) < 0.6
    lane = np.where(
        parked,
        random.choice([-2.2, 2.2], parked.shape),
        random.choice([-1, 0, 0, 1, 2], parked.shape),
    )
    speed = np.where(parked, 0.0, random.uniform(2, 14, (count, agents, 1)))
    heading = np.where(lane > 0, np.pi, 0.0)
    seconds = 0.1 * np.arange(FUTURE)
    x = random.uniform(-60, 90, (count, agents, 1)) + speed * np.cos(heading) * seconds
    y = lane * LANE_M + random.normal(0, 0.3, (count, agents, 1)) + 0 * seconds
    poses = np.stack([x, y, heading + 0 * seconds], -1)
    velocities = np.stack([speed * np.cos(heading) + 0 * seconds, 0 * x], -1)
    kinds = random.choice([AGENT_VEHICLE, AGENT_PEDESTRIAN, AGENT_STATIC], (count, agents))
    sizes = np.where((kinds == AGENT_VEHICLE)[..., None], [4.7, 1.9], [0.7, 0.7])
    mask = np.ones((count, agents, FUTURE), bool)
    lanes = (
        np.stack([np.linspace(-40, 90, 20), np.zeros(20)], -1)
        + LANE_M * np.stack([np.zeros(24), np.arange(24) - 12.0], -1)[:, None]
    )
    route = np.stack([np.arange(-10.0, 120), np.zeros(130)], -1)
    world = World(
        step_s=0.1, now=0, sample_ids=torch.arange(count),
        start_poses=torch.from_numpy(start), map_index=torch.from_numpy(index),
        ego_poses=torch.zeros(count, FUTURE, 3), ego_speed_mps=torch.zeros(count, FUTURE),
        ego_mask=torch.ones(count, FUTURE, dtype=torch.bool),
        ego_size_m=torch.tensor([[4.6, 1.9]]).repeat(count, 1),
        agent_poses=single(poses), agent_velocities_mps=single(velocities),
        agent_mask=torch.from_numpy(mask), agent_sizes_m=single(sizes),
        agent_kinds=torch.from_numpy(kinds),
        line_points=single(lanes)[None].repeat(count, 1, 1, 1),
        line_mask=torch.ones(count, 24, 20, dtype=torch.bool),
        line_kinds=torch.tensor([LINE_LANE, LINE_BOUNDARY] * 12).repeat(count, 1),
        line_limits_mps=torch.zeros(count, 24),
        line_limit_mask=torch.zeros(count, 24, dtype=torch.bool),
        line_lights=torch.zeros(count, 24, FUTURE, dtype=torch.long),
        route_points=single(route)[None].repeat(count, 1, 1),
        route_mask=torch.ones(count, 130, dtype=torch.bool),
        route_limits_mps=torch.zeros(count, 130),
        route_limit_mask=torch.zeros(count, 130, dtype=torch.bool),
        route_lights=torch.zeros(count, 130, FUTURE, dtype=torch.long),
    )  # fmt: skip
    return world, rides


def single(values: np.ndarray) -> torch.Tensor:
    """In float32."""
    return torch.from_numpy(values).float()


def start_of(polygons: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """A pose inside a polygon of the map, along its longest edge."""
    ring = polygons[int(random.integers(len(polygons)))]
    edges = np.roll(ring, -1, 0) - ring
    edge = edges[np.linalg.norm(edges, axis=1).argmax()]
    return np.array([*ring.mean(0), np.arctan2(edge[1], edge[0])])


def fan(random: np.random.Generator, count: int, candidates: int) -> Motion:
    """Rides that keep, brake, speed up and turn."""
    shape = (count, candidates, 1)
    seconds = 0.1 * np.arange(STEPS)
    acceleration = random.uniform(-3, 2, shape) + 0 * seconds
    speed = np.maximum(random.uniform(4, 14, (count, 1, 1)) + acceleration * seconds, 0)
    heading = random.normal(0, 0.05, shape) * seconds
    x = np.cumsum(speed * np.cos(heading), -1) * 0.1
    y = np.cumsum(speed * np.sin(heading), -1) * 0.1
    poses = np.stack([x - x[..., :1], y - y[..., :1], heading], -1)
    none = torch.zeros(count, candidates, STEPS)
    return Motion(single(poses), single(speed), single(acceleration), none, none)
