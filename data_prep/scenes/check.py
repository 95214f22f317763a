"""The laws a raw scene must keep; what breaks one is refused with a reason that names it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from data_prep.scenes.raw_scene import (
    AGENT_KINDS,
    AREAS,
    LIGHTS,
    LINE_KINDS,
    ROAD_CLASSES,
    RawLine,
    RawMap,
    RawScene,
    RawTrack,
    RejectedInput,
)

_POLYGONS = ("drivable_area", "crosswalk")


@dataclass(frozen=True)
class Laws:
    """What is still believed of a track.

    Attributes:
        top_speed_mps: Speed in metres per second between two states above which it has jumped.
        slack_m: Distance in metres by which a state may lie off where the states around it and
            the stated velocities put it.
        slack_mps2: Acceleration that adds `slack_mps2 * dt**2 / 2` to it, for coarse clocks.
        longest_gap_s: Seconds between states beyond which only the top speed is looked at.
        moving_mps: Speed in metres per second from which a heading must agree with the motion.
        wrong_way_rad: Angle in radians beyond which it does not.
        longest_m: Largest length of a box in metres.
        widest_m: Largest width of a box in metres.
        longest_s: Seconds after which no scene goes on.
    """

    top_speed_mps: float = 75.0
    slack_m: float = 1.5
    slack_mps2: float = 15.0
    longest_gap_s: float = 0.55
    moving_mps: float = 3.0
    wrong_way_rad: float = np.pi / 3
    longest_m: float = 60.0
    widest_m: float = 30.0
    longest_s: float = 86_400.0


LAWS = Laws()
_TURN = 2 * np.pi + 0.02  # a heading kept in one turn, with its rounding
_FEW_MOVING_STATES = 4
_FARTHEST_M = 1e8  # of any projection's origin


@dataclass(frozen=True)
class CheckedScene:
    """A scene without what was refused.

    Attributes:
        scene: What is left; None where the whole scene was refused.
        refused: What was refused, tracks and scenes.
        refused_tracks: How many tracks that were.
        read_tracks: How many there were.
        dropped_links: References to lines, tracks or moments that do not exist.
    """

    scene: RawScene | None
    refused: tuple[RejectedInput, ...]
    refused_tracks: int
    read_tracks: int
    dropped_links: int = 0


def checked_scene(
    scene: RawScene, laws: Laws = LAWS, *, map_is_known: bool = False
) -> CheckedScene:
    """A scene with its bad tracks and dangling references taken out.

    A bad track is refused alone; a bad map, or no track that is left, refuses the scene.

    Args:
        scene: The scene.
        laws: What is believed.
        map_is_known: Its map was found good before, with another scene.
    """
    read = len(scene.tracks)
    reason = _scene_fault(scene) or (None if map_is_known else map_fault(scene.map))
    if reason is not None:
        return _refused(scene, reason, (), read)
    refused, kept, seen = [], [], set()
    for track in scene.tracks:
        fault = "its key repeats" if track.key in seen else track_fault(track, laws)
        seen.add(track.key)
        if fault is None:
            kept.append(track)
        else:
            where = f"scene {scene.key}, track {track.key}"
            refused.append(RejectedInput(scene.file, f"{where}: {fault}", _begin(track)))
    if not kept:
        return _refused(scene, "no track is left", tuple(refused), read)
    linked, dropped = _without_dangling(scene, kept)
    return CheckedScene(linked, tuple(refused), len(refused), read, dropped)


def _refused(
    scene: RawScene, reason: str, tracks: tuple[RejectedInput, ...], read: int
) -> CheckedScene:
    row = RejectedInput(scene.file, f"scene {scene.key}: {reason}")
    return CheckedScene(None, (*tracks, row), max(read, 1), max(read, 1))


def _scene_fault(scene: RawScene) -> str | None:
    if not scene.key or not scene.recording_key:
        return "it names no key or no recording"
    if not scene.tracks:
        return "it has no tracks"
    return None


def _begin(track: RawTrack) -> str:
    """How a track begins, for the row that refuses it."""
    if not track.time_s.size or not track.x_m.size:
        return f"{track.kind}, no states"
    at = f"{track.time_s[0]:g} s at ({track.x_m[0]:.2f}, {track.y_m[0]:.2f})"
    return f"{track.kind}, {track.time_s.size} states from {at}"


def track_fault(track: RawTrack, laws: Laws = LAWS) -> str | None:
    """Why a track is refused, or None."""
    return (
        _shape_fault(track, laws)
        or _size_fault(track, laws)
        or _heading_fault(track, laws)
        or _jump_fault(track, laws)
    )


def _shape_fault(track: RawTrack, laws: Laws) -> str | None:
    columns = [track.x_m, track.y_m, track.heading_rad]
    count = track.time_s.shape[0]
    velocity = track.velocity_mps
    if not count:
        return "it has no states"
    if any(column.shape != (count,) for column in columns) or (
        velocity is not None and velocity.shape != (count, 2)
    ):
        return "its columns differ in length"
    columns += [track.time_s] if velocity is None else [track.time_s, velocity]
    if not all(np.isfinite(column).all() for column in columns):
        return "a time, position, heading or velocity is not finite"
    if max(np.abs(column).max() for column in columns) > _FARTHEST_M:
        return "a time, position, heading or velocity is beyond all measure"
    if (np.diff(track.time_s) <= 0).any():
        return "its time does not increase"
    if track.time_s[0] < -1e-6 or track.time_s[-1] > laws.longest_s:
        return f"it has states before the scene begins or after {laws.longest_s:,.0f} s"
    return None


def _size_fault(track: RawTrack, laws: Laws) -> str | None:
    if track.kind not in AGENT_KINDS:
        return f"its kind {track.kind} is unknown"
    length, width = track.length_m, track.width_m
    if not (0 < length <= laws.longest_m and 0 < width <= laws.widest_m):
        return f"its box of {length:g} m x {width:g} m is no road user's"
    return None


def _heading_fault(track: RawTrack, laws: Laws) -> str | None:
    beyond = np.abs(track.heading_rad) > _TURN
    if beyond.mean() > 0.1:
        largest = np.abs(track.heading_rad).max()
        return f"its headings reach {largest:.0f}, more than a turn in radians; are they degrees"
    if track.kind not in ("vehicle", "cyclist"):
        return None
    elapsed = np.diff(track.time_s)
    moved = np.stack([np.diff(track.x_m), np.diff(track.y_m)])
    moving = (np.hypot(*moved) > laws.moving_mps * elapsed) & (elapsed <= laws.longest_gap_s)
    if moving.sum() < _FEW_MOVING_STATES:
        return None
    off = _angle(np.arctan2(moved[1], moved[0]) - track.heading_rad[:-1])[moving]
    if (median := float(np.median(np.abs(off)))) > laws.wrong_way_rad:
        return f"its heading is off its motion by {np.degrees(median):.0f} degrees"
    return None


def _angle(
    angle_rad: Float[np.ndarray, " state"],
) -> Float[np.ndarray, " state"]:
    return (angle_rad + np.pi) % (2 * np.pi) - np.pi


def _jump_fault(track: RawTrack, laws: Laws) -> str | None:
    """A step too far for any vehicle, or far from where the motion around it leads."""
    elapsed = np.diff(track.time_s)
    moved = np.stack([np.diff(track.x_m), np.diff(track.y_m)], axis=1)
    speed = np.hypot(moved[:, 0], moved[:, 1]) / elapsed
    if speed.size and speed.max() > laws.top_speed_mps:
        at = int(speed.argmax())
        return f"it jumps at {track.time_s[at]:.2f} s ({speed[at]:.0f} m/s to its next state)"
    slack = laws.slack_m + laws.slack_mps2 * elapsed**2 / 2
    if track.velocity_mps is not None:
        middle = (track.velocity_mps[1:] + track.velocity_mps[:-1]) / 2
        off = np.linalg.norm(moved - middle * elapsed[:, None], axis=1)
        at_fault = (off > slack) & (elapsed <= laws.longest_gap_s)
        words = "from where its stated velocity leads"
    else:
        change = np.diff(moved / elapsed[:, None], axis=0)
        off = np.linalg.norm(change, axis=1) * np.minimum(elapsed[:-1], elapsed[1:])
        slack = np.maximum(slack[:-1], slack[1:])
        whole = np.maximum(elapsed[:-1], elapsed[1:]) <= laws.longest_gap_s
        at_fault = (off > slack) & whole
        words = "off the line of its motion"
    if at_fault.any():
        at = int(at_fault.argmax())
        return f"it jumps at {track.time_s[at]:.2f} s ({off[at]:.1f} m {words})"
    return None


def map_fault(raw_map: RawMap) -> str | None:
    """Why a map is refused, or None."""
    seen: set[str] = set()
    for line in raw_map.lines:
        fault = "its key repeats" if line.key in seen else _line_fault(line)
        if fault is not None:
            return f"map {raw_map.key}, line {line.key}: {fault}"
        seen.add(line.key)
    return None


def _line_fault(line: RawLine) -> str | None:
    if line.kind not in LINE_KINDS:
        return f"its kind {line.kind} is unknown"
    if line.road_class not in ROAD_CLASSES or line.area not in AREAS:
        return f"its road class {line.road_class} or area {line.area} is unknown"
    least = 3 if line.kind in _POLYGONS else 2
    points = line.points_m
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < least:
        return f"it has fewer than {least} points"
    if not np.isfinite(points).all():
        return "a point is not finite"
    if np.abs(points).max() > _FARTHEST_M:
        return "a point is beyond all measure"
    for name, value in (("speed limit", line.speed_limit_mps), ("width", line.width_m)):
        if value is not None and not 0 < value < 200:
            return f"its {name} of {value:g} is none"
    return None


def linked_map(raw_map: RawMap) -> tuple[RawMap, int]:
    """The map without references to lane centres it does not have, and how many those were."""
    centres = {line.key for line in raw_map.lines if line.kind == "lane_centre"}
    dropped = 0
    lines = []
    for line in raw_map.lines:
        successors = tuple(key for key in line.successors if key in centres)
        left, right = (key if key in centres else None for key in (line.left, line.right))
        lost = len(line.successors) - len(successors)
        lost += (line.left != left) + (line.right != right)
        dropped += lost
        lines.append(replace(line, successors=successors, left=left, right=right) if lost else line)
    return (RawMap(raw_map.key, tuple(lines)), dropped) if dropped else (raw_map, 0)


def _without_dangling(scene: RawScene, kept: Sequence[RawTrack]) -> tuple[RawScene, int]:
    """The scene with the tracks kept, and only references to what it has."""
    keys = {track.key for track in kept}
    centres = {line.key for line in scene.map.lines if line.kind == "lane_centre"}
    lights = tuple(
        light
        for light in scene.lights
        if light.line_key in centres and _is_light(light.time_s, light.states)
    )
    routes = {
        key: route
        for key, route in scene.routes.items()
        if key in keys and route and centres.issuperset(route)
    }
    styles = {key: style for key, style in scene.driver_styles.items() if key in keys}
    ego = scene.ego_key if scene.ego_key in keys else None
    dropped = len(scene.lights) - len(lights) + len(scene.routes) - len(routes)
    dropped += ego != scene.ego_key
    return (
        replace(
            scene,
            tracks=tuple(kept),
            lights=lights,
            routes=routes,
            driver_styles=styles,
            ego_key=ego,
        ),
        dropped,
    )


def _is_light(time_s: Float[np.ndarray, " state"], states: Sequence[str]) -> bool:
    return (
        0 < len(states) == len(time_s)
        and bool(np.isfinite(time_s).all())
        and not (np.diff(time_s) <= 0).any()
        and set(states) <= set(LIGHTS)
    )
