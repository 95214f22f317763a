"""Worlds from dense scenes: what is near an ego, turned into the frame in which it stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from driving.map_store import MapStore, line_distances
from driving.world import LINE_LANE, World

BEHIND_M = 10.0
ABSENT_M = 1e4


@dataclass(frozen=True)
class WorldSize:
    """How much of the surroundings a world holds.

    Attributes:
        agents: Road users, nearest first.
        lines: Pieces of map lines, nearest first.
        radius_m: Nothing that stays farther away at all times is held.
        places: Points of a route.
        place_step_m: Distance between them.
    """

    agents: int = 32
    lines: int = 96
    radius_m: float = 100.0
    places: int = 96
    place_step_m: float = 2.5


@dataclass(frozen=True)
class SceneTraffic:
    """One scene in dense arrays, in the scene frame.

    Attributes:
        map: Its map.
        map_index: Row of the map in the drivable area.
        states: x, y, heading, velocity along x and y; 0 where masked.
        mask: Where a track was seen.
        sizes_m: Length and width.
        kinds: One of `driving.world.AGENT_...`.
        routes: Lanes every track follows.
        lights: One of `driving.world.LIGHT_...` per step, by controlled lane.
    """

    map: MapStore
    map_index: int
    states: Float[np.ndarray, "track step 5"]
    mask: Bool[np.ndarray, "track step"]
    sizes_m: Float[np.ndarray, "track 2"]
    kinds: Int[np.ndarray, " track"]
    routes: Sequence[Sequence[int]]
    lights: Mapping[int, Int[np.ndarray, " step"]]


def world_rows(
    traffic: SceneTraffic,
    track_id: int,
    step: int,
    span: tuple[int, int],
    size: WorldSize,
) -> dict[str, np.ndarray]:
    """One sample's row of every tensor of a `World`.

    Args:
        traffic: The scene.
        track_id: The ego.
        step: The present.
        span: Steps of history and of future.
        size: How much is held.
    """
    steps = np.arange(step - span[0], step + span[1] + 1)
    inside = (steps >= 0) & (steps < traffic.mask.shape[1])
    held = np.clip(steps, 0, traffic.mask.shape[1] - 1)
    start = traffic.states[track_id, step, :3]
    return (
        {"start_poses": start.copy(), "map_index": np.asarray(traffic.map_index)}
        | _ego(traffic, track_id, held, inside, start)
        | _agents(traffic, track_id, held, inside, step, size)
        | _lines(traffic, held, start, size)
        | _route(traffic, track_id, held, start, size)
    )


def stack_worlds(
    rows: Sequence[Mapping[str, np.ndarray]],
    *,
    step_s: float,
    now: int,
    sample_ids: Int[torch.Tensor, " batch"],
) -> World:
    """A world of several samples; floats become float32, but for the poses of the frames."""
    tensors = {}
    for name in rows[0]:
        values = np.stack([row[name] for row in rows])
        if values.dtype == np.float64 and name != "start_poses":
            values = values.astype(np.float32)
        tensors[name] = torch.from_numpy(values)
    return World(step_s=step_s, now=now, sample_ids=sample_ids, **tensors)


def to_frame(
    points_m: Float[np.ndarray, "*many 2"], frame: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "*many 2"]:
    """Points in the frame of a pose."""
    return turn(points_m - frame[:2], -float(frame[2]))


def turn(vectors: Float[np.ndarray, "*many 2"], angle_rad: float) -> Float[np.ndarray, "*many 2"]:
    """Vectors turned counter-clockwise."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return vectors @ np.array([[cos, sin], [-sin, cos]])


def _poses(
    states: Float[np.ndarray, "*many step 5"],
    mask: Bool[np.ndarray, "*many step"],
    start: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "*many step 3"]:
    """Poses in the ego's frame with headings that never jump by a turn."""
    heading = np.where(mask, states[..., 2] - start[2], 0.0)
    wrapped = (heading + np.pi) % (2 * np.pi) - np.pi
    poses = np.concatenate([to_frame(states[..., :2], start), wrapped[..., None]], -1)
    return np.where(mask[..., None], poses, 0.0)


def _ego(
    traffic: SceneTraffic,
    track_id: int,
    held: Int[np.ndarray, " step"],
    inside: Bool[np.ndarray, " step"],
    start: Float[np.ndarray, "3"],
) -> dict[str, np.ndarray]:
    states, mask = traffic.states[track_id, held], traffic.mask[track_id, held] & inside
    direction = np.stack([np.cos(states[:, 2]), np.sin(states[:, 2])], -1)
    speed = (states[:, 3:5] * direction).sum(-1)
    poses = _poses(states, mask, start)
    poses[:, 2] = np.where(mask, np.unwrap(poses[:, 2]), 0.0)
    return {
        "ego_poses": poses,
        "ego_speed_mps": np.where(mask, speed, 0.0),
        "ego_mask": mask,
        "ego_size_m": traffic.sizes_m[track_id],
    }


def _agents(
    traffic: SceneTraffic,
    track_id: int,
    held: Int[np.ndarray, " step"],
    inside: Bool[np.ndarray, " step"],
    step: int,
    size: WorldSize,
) -> dict[str, np.ndarray]:
    start = traffic.states[track_id, step, :3]
    mask = traffic.mask[:, held] & inside
    distance = np.hypot(*(traffic.states[:, held, :2] - start[:2]).transpose(2, 0, 1))
    nearest = np.where(mask, distance, np.inf).min(1)
    now = traffic.mask[:, step]
    present = np.where(now, np.hypot(*(traffic.states[:, step, :2] - start[:2]).T), 0.0)
    rank = np.where(now, present, ABSENT_M + np.minimum(nearest, ABSENT_M))
    rank[(nearest > size.radius_m) | ~mask.any(1)] = np.inf
    rank[track_id] = np.inf
    order = np.argsort(rank, kind="stable")[: size.agents]
    order = order[np.isfinite(rank[order])]
    states, seen = traffic.states[order][:, held], mask[order]
    velocity = np.where(seen[..., None], turn(states[..., 3:5], -float(start[2])), 0.0)
    return {
        "agent_poses": _padded(_poses(states, seen, start), size.agents),
        "agent_velocities_mps": _padded(velocity, size.agents),
        "agent_mask": _padded(seen, size.agents),
        "agent_sizes_m": _padded(traffic.sizes_m[order], size.agents),
        "agent_kinds": _padded(traffic.kinds[order], size.agents),
    }


def _lines(
    traffic: SceneTraffic,
    held: Int[np.ndarray, " step"],
    start: Float[np.ndarray, "3"],
    size: WorldSize,
) -> dict[str, np.ndarray]:
    pieces = traffic.map.pieces
    order = nearest_pieces(traffic.map, start, size)
    points = np.where(pieces.mask[order][..., None], to_frame(pieces.points_m[order], start), 0.0)
    limits = pieces.limits_mps[order]
    known = np.isfinite(limits)
    shown = _shown(traffic, pieces.line_ids[order], pieces.kinds[order] == LINE_LANE, held)
    return {
        "line_points": _padded(points, size.lines),
        "line_mask": _padded(pieces.mask[order], size.lines),
        "line_kinds": _padded(pieces.kinds[order], size.lines),
        "line_limits_mps": _padded(np.where(known, limits, 0.0), size.lines),
        "line_limit_mask": _padded(known, size.lines),
        "line_lights": _padded(shown, size.lines),
    }


def nearest_pieces(
    map_: MapStore, start: Float[np.ndarray, "3"], size: WorldSize
) -> Int[np.ndarray, " line"]:
    """Rows of the pieces a world holds, nearest first."""
    pieces = map_.pieces
    if not len(pieces.mask):
        return np.zeros(0, np.int64)
    distance = np.hypot(*(pieces.points_m - start[:2]).transpose(2, 0, 1))
    distance = np.where(pieces.mask, distance, np.inf).min(1)
    order = np.argsort(distance, kind="stable")[: size.lines]
    return order[distance[order] <= size.radius_m]


def _shown(
    traffic: SceneTraffic,
    line_ids: Int[np.ndarray, " line"],
    is_lane: Bool[np.ndarray, " line"],
    held: Int[np.ndarray, " step"],
) -> Int[np.ndarray, "line step"]:
    shown = np.zeros((len(line_ids), len(held)), np.int64)
    for row in np.flatnonzero(is_lane):
        states = traffic.lights.get(int(line_ids[row]))
        if states is not None:
            shown[row] = states[held]
    return shown


@dataclass(frozen=True)
class RoutePlaces:
    """Points at equal distances along a route, from behind the ego onwards.

    Attributes:
        points_m: In the scene frame.
        lane_ids: The lane each lies on.
        mask: Which are there; a prefix.
    """

    points_m: Float[np.ndarray, "place 2"]
    lane_ids: Int[np.ndarray, " place"]
    mask: Bool[np.ndarray, " place"]


def route_places(
    map_: MapStore,
    route_ids: Sequence[int],
    start: Float[np.ndarray, "3"],
    size: WorldSize,
) -> RoutePlaces:
    """Where a route leads from a pose in the scene frame."""
    path = map_.path(route_ids, start[:2], float(start[2]))
    if not path:
        nowhere = np.zeros(size.places)
        return RoutePlaces(np.zeros((size.places, 2)), nowhere.astype(np.int64) - 1, nowhere > 0)
    vertices = [map_.lanes[line_id].points_m for line_id in path]
    line = np.concatenate(vertices)
    owners = np.concatenate([np.full(len(v), n) for n, v in zip(path, vertices, strict=True)])
    along = line_distances(line)
    first = along_of(line, start[:2]) - BEHIND_M
    first += np.ceil(max(-first, 0.0) / size.place_step_m) * size.place_step_m
    places = first + size.place_step_m * np.arange(size.places)
    held = np.clip(places, 0, along[-1])
    points = np.column_stack([np.interp(held, along, line[:, axis]) for axis in (0, 1)])
    owner = owners[np.clip(np.searchsorted(along, held), 0, len(line) - 1)]
    return RoutePlaces(points, owner.astype(np.int64), places <= along[-1])


def _route(
    traffic: SceneTraffic,
    track_id: int,
    held: Int[np.ndarray, " step"],
    start: Float[np.ndarray, "3"],
    size: WorldSize,
) -> dict[str, np.ndarray]:
    found = route_places(traffic.map, traffic.routes[track_id], start, size)
    lanes = [traffic.map.lanes.get(int(line_id)) for line_id in found.lane_ids]
    limits = np.asarray([np.nan if lane is None else lane.limit_mps for lane in lanes])
    known = np.isfinite(limits) & found.mask
    return {
        "route_points": np.where(found.mask[:, None], to_frame(found.points_m, start), 0.0),
        "route_mask": found.mask,
        "route_limits_mps": np.where(known, limits, 0.0),
        "route_limit_mask": known,
        "route_lights": _shown(traffic, found.lane_ids, found.mask, held),
    }


def along_of(line_m: Float[np.ndarray, "point 2"], place_m: Float[np.ndarray, "2"]) -> float:
    """Metres from the beginning of a line to its point nearest to a place."""
    vectors = np.diff(line_m, axis=0)
    lengths = np.hypot(*vectors.T)
    share = ((place_m - line_m[:-1]) * vectors).sum(-1) / np.maximum(lengths**2, 1e-12)
    share = np.clip(share, 0, 1)
    distance = np.hypot(*(line_m[:-1] + share[:, None] * vectors - place_m).T)
    best = int(distance.argmin())
    return float(line_distances(line_m)[best] + share[best] * lengths[best])


def _padded(values: np.ndarray, count: int) -> np.ndarray:
    """The first axis filled up with zeros."""
    missing = count - len(values)
    return np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
