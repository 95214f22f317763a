"""One checked scene or map as rows of the tables, without the numbers only the whole set gives."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from data_prep.scenes.raw_scene import RawLine, RawMap, RawScene, RawTrack
from data_prep.scenes.resample import SteppedTrack, resampled
from data_prep.scenes.route import RULES, LaneGraph, continued_route, matched_route
from data_prep.scenes.tables import (
    DRIVER_STYLES,
    LIGHT_STATES,
    MAP_LINES,
    SCENE_TOKENS,
    STATES,
    TRACKS,
)
from data_prep.schema import TableSchema


@dataclass(frozen=True)
class PreparedMap:
    """A map that scenes refer to.

    Attributes:
        origin_m: What is taken off the source's positions.
        line_number: Row of a line, by its key.
        centres: Row of every lane centre, in the order of the lane graph.
        graph: Its lane centres.
    """

    origin_m: Float[np.ndarray, " 2"]
    line_number: Mapping[str, int]
    centres: tuple[int, ...]
    graph: LaneGraph


def map_origin(raw_map: RawMap, tracks_m: Float[np.ndarray, "state 2"]) -> Float[np.ndarray, " 2"]:
    """Whole metres near the middle of a map, or of the tracks where the map is empty."""
    points = [np.asarray(line.points_m, float) for line in raw_map.lines] or [tracks_m]
    everything = np.concatenate(points)
    return np.round((everything.min(axis=0) + everything.max(axis=0)) / 2)


def prepared_map(raw_map: RawMap, origin_m: Float[np.ndarray, " 2"]) -> PreparedMap:
    """A map made ready for the scenes on it."""
    number = {line.key: at for at, line in enumerate(raw_map.lines)}
    graph = LaneGraph(raw_map)
    return PreparedMap(origin_m, number, tuple(number[key] for key in graph.keys), graph)


def map_lines_frame(raw_map: RawMap, prepared: PreparedMap) -> pl.DataFrame:
    """Rows of `map_lines`, without `map_id`."""
    number = prepared.line_number
    rows = []
    for line in raw_map.lines:
        points = (_oriented(line) - prepared.origin_m).astype(np.float32)
        rows.append(
            {
                "line_id": number[line.key],
                "line_key": line.key,
                "kind": line.kind,
                "x_m": points[:, 0].tolist(),
                "y_m": points[:, 1].tolist(),
                "speed_limit_mps": line.speed_limit_mps,
                "width_m": line.width_m,
                "successor_ids": [number[key] for key in line.successors],
                "left_id": None if line.left is None else number[line.left],
                "right_id": None if line.right is None else number[line.right],
                "road_class": line.road_class,
                "area": line.area,
                "has_signal": line.has_signal,
                "is_hole": line.is_hole,
            }
        )
    return _frame(MAP_LINES, "map_id", rows)


def _oriented(line: RawLine) -> Float[np.ndarray, "point 2"]:
    """Points of a line; a drivable area counter-clockwise and open, a hole clockwise."""
    points = np.asarray(line.points_m, float)
    if line.kind not in ("drivable_area", "crosswalk"):
        return points
    if len(points) > 3 and np.array_equal(points[0], points[-1]):
        points = points[:-1]
    x, y = (points - points[0]).T
    area = float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    return points[::-1] if (area < 0) != line.is_hole else points


@dataclass(frozen=True)
class SceneFrames:
    """The rows of one scene, without `scene_id`.

    Attributes:
        tables: Frame by table name.
        step_count: Steps it lasts.
        ego_track_id: The recording vehicle's track.
        vehicle_states: States of vehicles.
        lost: Tracks none of whose states could be laid on a step.
        counts: Sums for the notes of the whole set.
    """

    tables: Mapping[str, pl.DataFrame]
    step_count: int
    ego_track_id: int | None
    vehicle_states: int
    lost: tuple[RawTrack, ...]
    counts: Mapping[str, int]


def scene_frames(scene: RawScene, prepared: PreparedMap, step_s: float) -> SceneFrames:
    """The rows of one checked scene; tracks with no state on any step are left out."""
    stepped = [(track, resampled(track, step_s=step_s)) for track in scene.tracks]
    kept = sorted(
        ((track, steps) for track, steps in stepped if steps.step.size), key=lambda one: one[0].key
    )
    number = {track.key: at for at, (track, _) in enumerate(kept)}
    step_count = max((int(steps.step[-1]) + 1 for _, steps in kept), default=0)
    tracks = []
    for track, steps in kept:
        route, source = _route(scene, track.key, track.kind, steps, prepared, step_s)
        tracks.append(
            {
                "track_id": number[track.key],
                "track_key": track.key,
                "kind": track.kind,
                "length_m": track.length_m,
                "width_m": track.width_m,
                "route_ids": [prepared.centres[lane] for lane in route],
                "route_source": source,
            }
        )
    vehicles = [steps for track, steps in kept if track.kind == "vehicle"]
    tables = {
        TRACKS.name: _frame(TRACKS, "scene_id", tracks),
        STATES.name: _states([steps for _, steps in kept], prepared.origin_m),
        LIGHT_STATES.name: _lights(scene, prepared, step_s, step_count),
        SCENE_TOKENS.name: _tokens(scene, step_s, step_count),
        DRIVER_STYLES.name: _styles(scene, number),
    }
    return SceneFrames(
        tables,
        step_count,
        number.get(scene.ego_key) if scene.ego_key is not None else None,
        sum(int(steps.step.size) for steps in vehicles),
        tuple(track for track, steps in stepped if not steps.step.size),
        {
            "tracks": len(kept),
            "states": sum(int(steps.step.size) for _, steps in kept),
            "vehicle_tracks": len(vehicles),
            "vehicle_tracks_of_5_s": sum(_lasts(steps, step_s, 5.0) for steps in vehicles),
            "vehicle_tracks_with_route": sum(1 for row in tracks if row["route_ids"]),
        },
    )


def _lasts(steps: SteppedTrack, step_s: float, seconds: float) -> bool:
    return bool((steps.step[-1] - steps.step[0]) * step_s >= seconds - step_s / 2)


def _route(
    scene: RawScene,
    key: str,
    kind: str,
    steps: SteppedTrack,
    prepared: PreparedMap,
    step_s: float,
) -> tuple[Sequence[int], str]:
    if kind != "vehicle" or not prepared.graph.keys:
        return (), "none"
    if given := scene.routes.get(key):
        route = continued_route(prepared.graph, given, steps.position_m[-1], RULES.ahead_m)
        return route, "given"
    if not _lasts(steps, step_s, RULES.shortest_s):
        return (), "none"
    route = matched_route(prepared.graph, steps.position_m, steps.heading_rad)
    return route, "matched" if route else "none"


def _states(tracks: Sequence[SteppedTrack], origin_m: Float[np.ndarray, " 2"]) -> pl.DataFrame:
    if not tracks:
        return _frame(STATES, "scene_id", [])
    counts = [steps.step.size for steps in tracks]
    position = (np.concatenate([steps.position_m for steps in tracks]) - origin_m).astype("f4")
    velocity = np.concatenate([steps.velocity_mps for steps in tracks]).astype("f4")
    heading = np.concatenate([steps.heading_rad for steps in tracks]).astype("f4")
    return pl.DataFrame(
        {
            "track_id": np.repeat(np.arange(len(tracks)), counts).astype("i4"),
            "step": np.concatenate([steps.step for steps in tracks]).astype("i4"),
            "x_m": position[:, 0],
            "y_m": position[:, 1],
            "heading_rad": np.clip(heading, np.float32(-3.1415925), np.float32(3.1415925)),
            "vx_mps": velocity[:, 0],
            "vy_mps": velocity[:, 1],
        }
    )


def _lights(scene: RawScene, prepared: PreparedMap, step_s: float, steps: int) -> pl.DataFrame:
    """Changes of light; what was shown before the scene holds at its first step."""
    rows: dict[tuple[int, int], str] = {}
    for light in scene.lights:
        line = prepared.line_number[light.line_key]
        for time_s, state in zip(light.time_s, light.states, strict=True):
            step = max(0, int(np.ceil(round(float(time_s) / step_s, 3))))
            if step < steps:
                rows[line, step] = state
    ordered = [
        {"line_id": line, "step": step, "state": state}
        for (line, step), state in sorted(rows.items())
    ]
    return _frame(LIGHT_STATES, "scene_id", ordered)


def _tokens(scene: RawScene, step_s: float, steps: int) -> pl.DataFrame:
    """Named moments at their nearest step; those outside the scene are left out."""
    named = sorted((round(time_s / step_s), token) for token, time_s in scene.tokens.items())
    rows = [{"step": step, "token": token} for step, token in named if 0 <= step < steps]
    return _frame(SCENE_TOKENS, "scene_id", rows)


def _styles(scene: RawScene, number: Mapping[str, int]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = [
        {
            "track_id": number[key],
            "preset": style.preset,
            "values": list(style.values),
            "parameters": json.dumps(dict(style.parameters), sort_keys=True),
        }
        for key, style in scene.driver_styles.items()
        if key in number
    ]
    return _frame(DRIVER_STYLES, "scene_id", sorted(rows, key=lambda row: row["track_id"]))


def _frame(schema: TableSchema, without: str, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    columns = {name: dtype for name, dtype in schema.polars.items() if name != without}
    return pl.DataFrame(rows, schema=columns, orient="row")
