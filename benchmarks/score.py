"""Rides scored per second, ours in batches beside a loop over rides with shapely.

Both score the same rides in the same run. On a CPU time is the processor time of this process, on
one thread, so that a busy machine does not blur it; on a GPU it is the wall clock. The best of
several turns counts.

The scenes are made up but of the size of real ones: a grid of streets with a polygon per lane and
crossing, parked and moving road users around an ego that follows a street. With --argoverse the
maps are real: drivable areas of Argoverse 2 logs, with the same road users.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from driving.metrics.drivable_area import DrivableArea
from driving.metrics.score import Scores, pdm_score, style_pdm_score
from driving.simulation.state import Motion
from driving.world import (
    AGENT_PEDESTRIAN,
    AGENT_STATIC,
    AGENT_VEHICLE,
    LINE_BOUNDARY,
    LINE_LANE,
    World,
)

AIM = 100.0
BLOCK_M, LANE_M, STEPS, FUTURE = 120.0, 3.5, 41, 54
SAME = ("no_collision", "drivable_area", "driving_direction", "time_to_collision", "comfort")


def main() -> None:
    """Measure, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, nargs="+", default=[1, 16, 128], help="at once")
    parser.add_argument("--candidates", type=int, default=20, help="rides per scene")
    parser.add_argument("--agents", type=int, default=30, help="road users per scene")
    parser.add_argument("--turns", type=int, default=5, help="turns per cell; the best one counts")
    parser.add_argument(
        "--loop-scenes",
        type=int,
        default=2,
        help="scenes the loop scores; 0 for no loop (and no shapely)",
    )
    parser.add_argument("--argoverse", type=Path, help="folder with log_map_archive_*.json files")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    maps = argoverse_maps(options.argoverse) if options.argoverse else [town()]
    begun = time.perf_counter()
    area = DrivableArea.from_polygons(maps)
    build_s = time.perf_counter() - begun
    print(
        f"{len(maps)} maps, {sum(map(len, maps))} polygons; {len(area.windings)} cells, "
        f"{len(area.edges_m)} edges in cells, at most {area.most_edges_per_cell}; {build_s:.1f} s"
    )
    loop, same = measure_loop(maps, area, options)
    rows = []
    print("same as the loop: " + ", ".join(f"{name} {share:.1%}" for name, share in same.items()))
    print("score     device  scenes  rides/s  us per ride  loop rides/s  times  aim")
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for version in ("navsim", "released", "fine"):
            for count in options.scenes:
                row = measure(maps, area.to(device), version, device, (count, options))
                slow = loop.get(version, 0.0)
                row |= {"loop_rides_per_s": slow, "aim": AIM}
                row["times"] = row["rides_per_s"] / slow if slow else 0.0
                rows.append(row)
                print(
                    f"{version:9} {device:6}  {count:6}  {row['rides_per_s']:7.0f}  "
                    f"{1e6 / row['rides_per_s']:11.1f}  {slow:12.1f}  "
                    f"{row['times']:5.0f}  {AIM:3.0f}"
                )
    agreement = devices_agree(maps, area, options) if torch.cuda.is_available() else {}
    if agreement:
        shares = (f"{name} {share:.2%}" for name, share in agreement.items())
        print("same on both devices: " + ", ".join(shares))
    if options.json:
        print(
            json.dumps(
                {"rows": rows, "same": same, "same_on_devices": agreement, "build_s": build_s}
            )
        )


def measure(
    maps: list[list[np.ndarray]], area: DrivableArea, version: str, device: str, how: tuple
) -> dict[str, Any]:
    """Rides per second of ours."""
    count, options = how
    world, rides = scenes(maps, count, options.candidates, options.agents)
    world, rides = world.to(device), moved(rides, device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def action() -> None:
        score(world, rides, area, version)
        wait()

    spent = best_time(
        action, options.turns, time.perf_counter if device == "cuda" else time.process_time
    )
    return {
        "version": version, "device": device, "scenes": count,
        "rides_per_s": count * options.candidates / spent,
    }  # fmt: skip


def measure_loop(
    maps: list[list[np.ndarray]], area: DrivableArea, options: argparse.Namespace
) -> tuple[dict[str, float], dict[str, float]]:
    """Rides per second of the loop, and the share of equal scores in float32."""
    if not options.loop_scenes:
        return {}, {}
    import tests.oracles.shapely_scorer  # noqa: F401  (not to be timed)

    world, rides = scenes(maps, options.loop_scenes, options.candidates, options.agents)
    speeds, equal = {}, {name: [] for name in SAME}
    for version in ("navsim", "released", "fine"):
        begun = time.process_time()
        expected = slow_score(world, rides, maps, version)
        spent = time.process_time() - begun
        speeds[version] = options.loop_scenes * options.candidates / spent
        found = score(world, rides, area, version)
        for name in SAME:
            equal[name].append(float((getattr(found, name).numpy() == expected[name]).mean()))
    return speeds, {name: float(np.mean(shares)) for name, shares in equal.items()}


def devices_agree(
    maps: list[list[np.ndarray]], area: DrivableArea, options: argparse.Namespace
) -> dict[str, float]:
    """Share of equal scores on the CPU and the GPU."""
    world, rides = scenes(maps, max(options.scenes), options.candidates, options.agents)
    shares = {}
    for version in ("navsim", "released", "fine"):
        here = score(world, rides, area, version)
        there = score(world.to("cuda"), moved(rides, "cuda"), area.to("cuda"), version)
        for name in SAME:
            equal = getattr(here, name) == getattr(there, name).cpu()
            shares[f"{version} {name}"] = float(equal.double().mean())
    return shares


def score(world: World, rides: Motion, area: DrivableArea, version: str) -> Scores:
    """One call of ours."""
    if version == "navsim":
        return pdm_score(world, rides, area)
    return style_pdm_score(
        world, rides, area, styles_of(world), first(rides),
        version="fine" if version == "fine" else "released",
    )  # fmt: skip


def slow_score(
    world: World, rides: Motion, maps: list[list[np.ndarray]], version: str
) -> dict[str, np.ndarray]:
    """The same with the loop."""
    from tests.oracles.shapely_scorer import score_rides

    if version == "navsim":
        return score_rides(world, rides, maps, version)
    styles = styles_of(world).numpy()
    return score_rides(world, rides, maps, version, styles=styles, human=first(rides))


def styles_of(world: World) -> torch.Tensor:
    """Styles in turn."""
    return world.sample_ids % 3


def first(rides: Motion) -> Motion:
    """The first candidate, as the human."""
    return Motion(**{field.name: getattr(rides, field.name)[:, 0] for field in fields(rides)})


def moved(rides: Motion, device: str) -> Motion:
    """Rides on a device."""
    return Motion(**{field.name: getattr(rides, field.name).to(device) for field in fields(rides)})


def best_time(action: Callable[[], None], turns: int, clock: Callable[[], float]) -> float:
    """Seconds of one call: the best of several, after one to warm up."""
    action()
    times = []
    for _ in range(turns):
        begun = clock()
        action()
        times.append(clock() - begun)
    return min(times)


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


if __name__ == "__main__":
    main()
