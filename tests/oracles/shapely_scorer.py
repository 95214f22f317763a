"""The scores of rides, one ride, step and road user after the other, with shapely in float64.

Nothing here is clever, and nothing is shared with `driving.metrics` but the tables of bounds.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import shapely
from scipy.signal import savgol_filter

from driving.metrics.comfort import NUPLAN_BOUNDS, STYLE_BOUNDS, ComfortBounds
from driving.simulation.state import Motion
from driving.world import (
    AGENT_CYCLIST,
    AGENT_PEDESTRIAN,
    AGENT_VEHICLE,
    LINE_BOUNDARY,
    LINE_LANE,
    World,
)

ROAD_USERS = (AGENT_VEHICLE, AGENT_PEDESTRIAN, AGENT_CYCLIST)
VERSIONS: dict[str, Any] = {
    "navsim": {"offsets": [0, 3, 6, 9], "fine": False},
    "released": {"offsets": [0, 3, 6, 9, 12], "fine": False},
    "fine": {"offsets": list(range(13)), "fine": True},
}


def filtered(*arguments: Any, **named: Any) -> np.ndarray:
    return np.asarray(savgol_filter(*arguments, **named))


def box(*numbers: float) -> np.ndarray:
    """Corners of x, y, heading, length, width: front left, rear left, rear right, front right."""
    x, y, heading, length, width = numbers
    ahead = np.array([np.cos(heading), np.sin(heading)])
    left = np.array([-np.sin(heading), np.cos(heading)])
    return np.array(
        [
            [x, y] + a * length / 2 * ahead + b * width / 2 * left
            for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))
        ]
    )


@dataclass
class Scene:
    """One scene, in shapely's terms."""

    step_s: float
    size: tuple[float, float]
    start: np.ndarray
    area: list[tuple[int, shapely.Polygon]]
    poses: np.ndarray
    velocities: np.ndarray
    mask: np.ndarray
    sizes: np.ndarray
    kinds: np.ndarray
    boundaries: shapely.STRtree
    lanes: list[tuple[np.ndarray, np.ndarray]]
    route: np.ndarray

    def __post_init__(self) -> None:
        self.trees = []
        for step in range(self.poses.shape[1]):
            agents = np.flatnonzero(self.mask[:, step])
            boxes = [
                shapely.Polygon(box(*self.poses[agent, step], *self.sizes[agent]))
                for agent in agents
            ]
            self.trees.append((agents, shapely.STRtree(boxes), boxes))


def scenes_of(
    world: World, polygons: Sequence[Sequence[np.ndarray]], *, extra_steps: int = 0
) -> list[Scene]:
    """Every sample of a world; road users drive on for some steps after the last."""
    scenes = []
    areas = []
    for map_polygons in polygons:
        rings = [shapely.Polygon(polygon) for polygon in map_polygons]
        for ring in rings:
            shapely.prepare(ring)
        areas.append([(1 if ring.exterior.is_ccw else -1, ring) for ring in rings])
    for row in range(len(world.sample_ids)):
        poses = world.agent_poses[row, :, world.now :].double().numpy()
        velocities = world.agent_velocities_mps[row, :, world.now :].double().numpy()
        mask = world.agent_mask[row, :, world.now :].numpy()
        for _ in range(extra_steps):
            following = poses[:, -1:].copy()
            following[..., :2] += velocities[:, -1:] * world.step_s
            poses = np.concatenate([poses, following], 1)
            velocities = np.concatenate([velocities, velocities[:, -1:]], 1)
            mask = np.concatenate([mask, mask[:, -1:]], 1)
        lines = world.line_points[row].double().numpy()
        boundaries, lanes = [], []
        for line in range(len(lines)):
            for point in range(lines.shape[1] - 1):
                if not world.line_mask[row, line, point : point + 2].all():
                    continue
                first, second = lines[line, point], lines[line, point + 1]
                if world.line_kinds[row, line] == LINE_BOUNDARY:
                    boundaries.append(shapely.LineString([first, second]))
                if world.line_kinds[row, line] == LINE_LANE:
                    lanes.append(((first + second) / 2, second - first))
        scenes.append(
            Scene(
                step_s=world.step_s,
                size=tuple(world.ego_size_m[row].tolist()),
                start=world.start_poses[row].numpy(),
                area=areas[int(world.map_index[row])],
                poses=poses,
                velocities=velocities,
                mask=mask,
                sizes=world.agent_sizes_m[row].double().numpy(),
                kinds=world.agent_kinds[row].numpy(),
                boundaries=shapely.STRtree(boundaries),
                lanes=lanes,
                route=world.route_points[row][world.route_mask[row]].double().numpy(),
            )
        )
    return scenes


def in_area(scene: Scene, points: np.ndarray, area: list | None = None) -> np.ndarray:
    """Non-zero winding number over the drivable polygons, or over others."""
    x0, y0, heading = scene.start
    x = x0 + points[:, 0] * np.cos(heading) - points[:, 1] * np.sin(heading)
    y = y0 + points[:, 0] * np.sin(heading) + points[:, 1] * np.cos(heading)
    winding = np.zeros(len(points), dtype=int)
    for sign, ring in scene.area if area is None else area:
        winding += sign * shapely.contains_xy(ring, x, y)
    return winding != 0


def off_road(scene: Scene, poses: np.ndarray) -> np.ndarray:
    corners = np.concatenate([box(*pose, *scene.size) for pose in poses])
    return np.asarray(~in_area(scene, corners).reshape(-1, 4).all(1))


def straddles(scene: Scene, polygon: shapely.Polygon) -> bool:
    return len(scene.boundaries.query(polygon, predicate="intersects")) > 0


def bearing(pose: np.ndarray, length: float, place: np.ndarray) -> float:
    """Degrees between the ego's heading and a place, seen from its rear axle."""
    ahead = np.array([np.cos(pose[2]), np.sin(pose[2])])
    offset = place - (pose[:2] - ahead * length * 1.461 / 5.176)
    return float(np.degrees(np.arccos(np.clip(offset @ ahead / np.linalg.norm(offset), -1, 1))))


def no_collision(
    scene: Scene, poses: np.ndarray, speed: np.ndarray, outside: np.ndarray, *, fine: bool
) -> float:
    result, done = 1.0, set(touching_at_start(scene, poses) if fine else ())
    for step, pose in enumerate(poses):
        corners = box(*pose, *scene.size)
        polygon = shapely.Polygon(corners)
        agents, tree, boxes = scene.trees[step]
        for hit in tree.query(polygon, predicate="intersects"):
            agent = int(agents[hit])
            if agent in done:
                continue
            when = step if fine else int(np.flatnonzero(scene.mask[agent])[0])
            road_user = scene.kinds[agent] in ROAD_USERS
            stands = not road_user or np.linalg.norm(scene.velocities[agent, when]) <= 0.005
            if abs(speed[step]) <= 0.05:
                fault = False
            elif stands:
                fault = True
            elif bearing(pose, scene.size[0], scene.poses[agent, step, :2]) > 150:
                fault = False
            elif shapely.LineString([corners[0], corners[3]]).intersects(boxes[hit]):
                fault = True
            else:
                fault = bool(outside[step]) or straddles(scene, polygon)
            if fault:
                result = min(result, 0.0 if road_user else 0.5)
            else:
                done.add(agent)
    return result


def touching_at_start(scene: Scene, poses: np.ndarray) -> list[int]:
    agents, tree, _ = scene.trees[0]
    polygon = shapely.Polygon(box(*poses[0], *scene.size))
    return [int(agents[hit]) for hit in tree.query(polygon, predicate="intersects")]


def first_hit(
    scene: Scene,
    poses: np.ndarray,
    speed: np.ndarray,
    outside: np.ndarray,
    *,
    offsets: list[int],
    fine: bool,
    intersections: list | None = None,
) -> float:
    """Steps to the nearest projected contact that counts."""
    result, done = np.inf, set(touching_at_start(scene, poses) if fine else ())
    for step, pose in enumerate(poses):
        for offset in offsets:
            if step + offset >= len(scene.trees):
                continue
            travel = speed[step] if fine else abs(speed[step])
            ahead = np.array([np.cos(pose[2]), np.sin(pose[2])])
            x, y = pose[:2] + ahead * travel * offset * scene.step_s
            polygon = shapely.Polygon(box(x, y, pose[2], *scene.size))
            agents, tree, _ = scene.trees[step + offset]
            for hit in tree.query(polygon, predicate="intersects"):
                agent = int(agents[hit])
                if agent in done or abs(speed[step]) < 0.005:
                    continue
                angle = bearing(pose, scene.size[0], scene.poses[agent, step + offset, :2])
                here = shapely.Polygon(box(*pose, *scene.size))
                shared = bool(outside[step]) or straddles(scene, here)
                if intersections is not None:
                    axle = pose[:2] - ahead * scene.size[0] * 1.461 / 5.176
                    shared = shared or bool(in_area(scene, axle[None], intersections)[0])
                if angle < 20 or (shared and angle <= 150):
                    result = min(result, offset)
                else:
                    done.add(agent)
    return result


def comfort_checks(
    motion: np.ndarray, bounds: ComfortBounds, step_s: float, *, lateral: bool
) -> list[bool]:
    """From rows of heading, speed and acceleration."""
    heading, speed, ahead = motion
    heading = np.unwrap(heading)
    yaw_rate = filtered(heading, 5, 2, deriv=1, delta=step_s)
    yaw_acceleration = filtered(heading, 5, 3, deriv=2, delta=step_s)
    aside = speed * yaw_rate if lateral else np.zeros_like(speed)
    size = np.hypot(ahead, aside)
    count = len(speed)
    jerk, across, forwards, backwards, turn_change, long_jerk, turn = astuple(bounds)

    def jerk_of(values: np.ndarray) -> np.ndarray:
        return filtered(filtered(values, 8, 2), count, 2, deriv=1, delta=step_s)

    smooth = filtered(ahead, count, 2)
    return [
        bool((smooth > -backwards).all() and (smooth < forwards).all()),
        bool((np.abs(filtered(aside, count, 2)) < across).all()),
        bool((np.abs(jerk_of(size)) < jerk).all()),
        bool((np.abs(jerk_of(ahead)) < long_jerk).all()),
        bool((np.abs(yaw_acceleration) < turn_change).all()),
        bool((np.abs(yaw_rate) < turn).all()),
    ]


def progress(scene: Scene, poses: np.ndarray) -> float:
    if len(scene.route) < 2:
        return float(np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1).sum())
    route = shapely.LineString(scene.route)
    first, last = (route.project(shapely.Point(*poses[at, :2])) for at in (0, -1))
    return max(last - first, 0.0)


def driving_direction(scene: Scene, poses: np.ndarray) -> float:
    wrong = []
    for step, pose in enumerate(poses):
        moved = np.linalg.norm(pose[:2] - poses[step - 1, :2]) if step else 0.0
        on_route = len(scene.route) and (
            np.linalg.norm(scene.route - pose[:2], axis=1).min() <= 2.0
        )
        against = False
        if not on_route and scene.lanes:
            middle, direction = min(
                scene.lanes, key=lambda lane: float(np.linalg.norm(lane[0] - pose[:2]))
            )
            if np.linalg.norm(middle - pose[:2]) <= 3.0:
                against = direction @ np.array([np.cos(pose[2]), np.sin(pose[2])]) < 0
        wrong.append(moved if against else 0.0)
    most = max(sum(wrong[max(0, step - 10) : step + 1]) for step in range(len(poses)))
    return 1.0 if most < 2 else 0.5 if most < 6 else 0.0


def score_rides(  # noqa: PLR0913  (an oracle of two scores)
    world: World,
    motions: Motion,
    polygons: Sequence[Sequence[np.ndarray]],
    version: str,
    *,
    styles: np.ndarray | None = None,
    human: Motion | None = None,
    reference: np.ndarray | None = None,
    intersections: Sequence[Sequence[np.ndarray]] | None = None,
) -> dict[str, np.ndarray]:
    """Everything, [batch, candidate]; `styles` and `human` for the two versions of StyleDrive."""
    rule = VERSIONS[version]
    fine = bool(rule["fine"])
    scenes = scenes_of(world, polygons, extra_steps=12 if fine else 0)
    crossings = None if intersections is None else scenes_of(world, intersections)
    rows = []
    for number, scene in enumerate(scenes):
        rides = []
        for candidate in range(motions.poses.shape[1]):
            poses = motions.poses[number, candidate].double().numpy()
            speed = motions.speed_mps[number, candidate].double().numpy()
            acceleration = motions.acceleration_mps2[number, candidate].double().numpy()
            outside = off_road(scene, poses)
            bounds = NUPLAN_BOUNDS if styles is None else STYLE_BOUNDS[styles[number]]
            checks = comfort_checks(
                np.stack([poses[:, 2], speed, acceleration]), bounds, scene.step_s, lateral=fine
            )
            hit = first_hit(
                scene, poses, speed, outside, offsets=list(rule["offsets"]), fine=fine,
                intersections=None if crossings is None else crossings[number].area,
            )  # fmt: skip
            style = 1 if styles is None else styles[number]
            threshold = {"navsim": 1.0}.get(version, (1.2, 1.0, 0.8)[style])
            rides.append(
                {
                    "no_collision": no_collision(scene, poses, speed, outside, fine=fine),
                    "drivable_area": float(not outside.any()),
                    "driving_direction": driving_direction(scene, poses),
                    "progress_m": progress(scene, poses),
                    "first_hit": hit,
                    "time_to_collision": float(hit >= round(threshold / 0.1)),
                    "comfort_checks": checks,
                }
            )
        human_m = None if human is None else progress(scene, human.poses[number].double().numpy())
        given = None if reference is None else float(reference[number])
        add_progress(rides, human_m, given)
        for ride in rides:
            gate = ride["no_collision"] * ride["drivable_area"]
            comfortable = float(all(ride["comfort_checks"]))
            ride["comfort"] = comfortable
            ride["score"] = (
                gate * (5 * ride["progress"] + 5 * ride["time_to_collision"] + 2 * comfortable) / 12
            )
        rows.append(rides)
    names = rows[0][0].keys()
    return {name: np.array([[ride[name] for ride in rides] for rides in rows]) for name in names}


def add_progress(rides: list[dict], human_m: float | None, reference: float | None) -> None:
    """NAVSIM's ego progress, or StyleDrive's where there is a human."""
    gates = [ride["no_collision"] * ride["drivable_area"] for ride in rides]
    if human_m is None:
        gated = [ride["progress_m"] * gate for ride, gate in zip(rides, gates, strict=True)]
        best_of_all = max(gated) if reference is None else reference
        for ride, gate, metres in zip(rides, gates, gated, strict=True):
            best = max(metres, best_of_all)
            ride["progress"] = metres / best if best > 5 else float(gate > 0)
        return
    tolerance = 3 if human_m < 10 else 5 if human_m < 24 else 6 if human_m < 40 else 7
    for ride in rides:
        best = max(ride["progress_m"], human_m, human_m if reference is None else reference)
        deviation = (ride["progress_m"] - human_m) / tolerance
        ride["progress"] = max(1 - 1.2 * deviation**2, 0) if best > 3 else 1.0
