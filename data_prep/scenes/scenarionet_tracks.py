"""Road users and traffic lights of ScenarioNet scenes.

Positions are centres of boxes, headings run counter-clockwise from the x axis, and velocities are
along the axes of the scene's frame. Where a scene was converted from nuScenes the ego is different
in three ways, all of them mended here: its position is that of the rear axle (measured: in turns
its sideways velocity is zero, that of other cars is not), its length and width are swapped, and
towards the end the position changes from one recording to another that lags behind, so that the
car steps backwards once; its track ends there.

Source:
    `get_tracks_from_frames` in ScenarioNet's converter for nuScenes (Li et al., 2023,
    arXiv:2306.12241). The distance from the rear axle to the centre of the Renault Zoe is the
    estimate of py123d (`get_nuscenes_renault_zoe_parameters`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float

from data_prep.errors import InputError
from data_prep.scenes.checked_values import FARTHEST_M, entries, mapping, numbers, text
from data_prep.scenes.raw_scene import AgentKind, Light, RawLight, RawTrack

ZOE_AXLE_TO_CENTRE_M = 1.385
_LARGEST_HEADING_RAD = 4 * np.pi + 0.1
_SEAM_STEPS = 20
_KINDS: Mapping[str, AgentKind] = {
    "VEHICLE": "vehicle",
    "PEDESTRIAN": "pedestrian",
    "CYCLIST": "cyclist",
    "TRAFFIC_CONE": "static",
    "TRAFFIC_BARRIER": "static",
    "TRAFFIC_OBJECT": "static",
}


@dataclass
class TrackReading:
    """What came out of a scene's tracks.

    Attributes:
        tracks: Road users.
        problems: One sentence per track that was refused.
        notes: Counts of unknown kinds and of what was mended.
    """

    tracks: list[RawTrack] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: dict[str, str | int | float | bool] = field(default_factory=dict)


def _kind(track: Mapping) -> AgentKind:
    """Its kind; a motorcycle has an engine, whatever ScenarioNet files it under."""
    metadata = track.get("metadata")
    detail = text(metadata.get("type")) if isinstance(metadata, dict) else ""
    if detail.startswith("vehicle.motorcycle"):
        return "vehicle"
    return _KINDS.get(text(track.get("type")), "other")


def _size_m(state: Mapping, name: str, valid: Bool[np.ndarray, " step"]) -> float:
    values = numbers(state.get(name), f"its {name}").reshape(-1)
    if len(values) == len(valid):
        values = values[valid]
    size_m = float(np.median(values)) if len(values) else np.nan
    if not size_m > 0 or not np.isfinite(size_m):
        raise InputError(f"its {name} is {size_m:g} m.")
    return size_m


def _per_step(state: Mapping, name: str, step_count: int) -> np.ndarray:
    values = numbers(state.get(name), f"its {name}")
    if values.ndim == 0 or len(values) != step_count or values.size == 0:
        raise InputError(f"its {name} has the shape {values.shape}, not {step_count} steps.")
    return values


def _plane(state: Mapping, name: str, step_count: int) -> Float[np.ndarray, "step 2"]:
    values = _per_step(state, name, step_count)
    if values.ndim != 2 or values.shape[1] < 2:
        raise InputError(f"its {name} has the shape {values.shape}, not x and y per step.")
    return values[:, :2]


def _velocity(state: Mapping, valid: Bool[np.ndarray, " step"]) -> np.ndarray | None:
    if state.get("velocity") is None:
        return None
    velocity = _plane(state, "velocity", len(valid))[valid]
    return velocity if (np.abs(velocity) <= FARTHEST_M).all() else None


def _track(key: str, track: Mapping, time_s: Float[np.ndarray, " step"]) -> RawTrack:
    state = mapping(track.get("state"), "its state")
    valid = _per_step(state, "valid", len(time_s)).reshape(len(time_s), -1)[:, 0] > 0.5
    if not valid.any():
        raise InputError("it is never valid.")
    position = _plane(state, "position", len(time_s))[valid]
    heading = _per_step(state, "heading", len(time_s)).reshape(len(time_s), -1)[valid, 0]
    for name, values in (("position", position), ("heading", heading)):
        if not (np.abs(values) <= FARTHEST_M).all():  # not so of a NaN either
            raise InputError(f"its {name} is not finite, or huge, at a step where it is valid.")
    if np.abs(heading).max() > _LARGEST_HEADING_RAD:
        raise InputError(
            f"its heading reaches {np.abs(heading).max():.1f}, which is degrees, not radians."
        )
    return RawTrack(
        key=key,
        kind=_kind(track),
        length_m=_size_m(state, "length", valid),
        width_m=_size_m(state, "width", valid),
        time_s=time_s[valid],
        x_m=position[:, 0],
        y_m=position[:, 1],
        heading_rad=np.pi - (np.pi - heading) % (2 * np.pi),
        velocity_mps=_velocity(state, valid),
    )


def _stops_dead(track: RawTrack, step_s: float) -> bool:
    """Whether its stated velocity is zero at the end of a run, though it was moving."""
    if track.velocity_mps is None or len(track.time_s) < 2:
        return False
    speed = np.linalg.norm(track.velocity_mps, axis=1)
    ends = np.r_[np.diff(track.time_s) > 1.5 * step_s, True]
    ends[0] = False
    last = np.flatnonzero(ends)
    return bool(((speed[last] == 0) & (speed[last - 1] > 1.0)).any())


def without_stale_velocities(
    tracks: Sequence[RawTrack], step_s: float
) -> tuple[list[RawTrack], bool]:
    """The tracks, without any velocity if some end in a zero that cannot be.

    Converters that take forward differences leave a zero at the last step before a gap. Positions
    are whole, so velocities are better differentiated anew for all of the scene.

    Args:
        tracks: Of one scene.
        step_s: Seconds from step to step.

    Returns:
        The tracks, and whether velocities were removed.
    """
    if not any(_stops_dead(track, step_s) for track in tracks):
        return list(tracks), False
    return [replace(track, velocity_mps=None) for track in tracks], True


def _backward_step(track: RawTrack) -> int | None:
    """The last state before the car, driving forwards, steps back within one step near the end."""
    moved = np.stack([np.diff(track.x_m), np.diff(track.y_m)], axis=1)
    heading = track.heading_rad[:-1]
    along_m = moved[:, 0] * np.cos(heading) + moved[:, 1] * np.sin(heading)
    speed = along_m / np.diff(track.time_s)
    back = np.flatnonzero((speed[1:] < -0.3) & (speed[:-1] > 1.0)) + 1
    back = back[back >= len(speed) - _SEAM_STEPS]
    return int(back[0]) if len(back) else None


def mended_nuscenes_ego(track: RawTrack) -> tuple[RawTrack, int]:
    """The ego of a scene from nuScenes: whole, the right way round, and where its centre is.

    Args:
        track: As the file has it: rear axle, sides swapped.

    Returns:
        The track of the centre, up to the step where two recordings are joined, and how many
        states were cut off.
    """
    last = _backward_step(track)
    kept = len(track.time_s) if last is None else last + 1
    heading = track.heading_rad[:kept]
    return (
        replace(
            track,
            length_m=max(track.length_m, track.width_m),
            width_m=min(track.length_m, track.width_m),
            time_s=track.time_s[:kept],
            x_m=track.x_m[:kept] + ZOE_AXLE_TO_CENTRE_M * np.cos(heading),
            y_m=track.y_m[:kept] + ZOE_AXLE_TO_CENTRE_M * np.sin(heading),
            heading_rad=heading,
            velocity_mps=None,
        ),
        len(track.time_s) - kept,
    )


def read_tracks(
    tracks: object, time_s: Float[np.ndarray, " step"], *, nuscenes_ego: str | None
) -> TrackReading:
    """The road users of one scene, and which were refused.

    Args:
        tracks: The scene's `tracks`.
        time_s: Seconds since the scene began, per step.
        nuscenes_ego: Key of the ego where the converter for nuScenes wrote the scene.

    Raises:
        InputError: If there is no table of tracks at all, or none can be used.
    """
    reading = TrackReading()
    for raw_key, raw_track in mapping(tracks, "tracks").items():
        key = text(raw_key)
        try:
            track = _track(key, mapping(raw_track, "it"), time_s)
        except InputError as error:
            reading.problems.append(f"track {key}: {error}")
            continue
        if key == nuscenes_ego:
            track, cut_count = mended_nuscenes_ego(track)
            reading.notes |= {"ego_moved_to_centre": True, "ego_states_cut_off": cut_count}
        reading.tracks.append(track)
    if not reading.tracks:
        raise InputError(f"none of its {len(mapping(tracks, 'tracks'))} tracks can be used.")
    step_s = float(np.median(np.diff(time_s)))
    reading.tracks, stale = without_stale_velocities(reading.tracks, step_s)
    other_count = sum(track.kind == "other" for track in reading.tracks)
    if stale:
        reading.notes["velocities_from_positions"] = True
    if other_count:
        reading.notes["other_kinds"] = other_count
    return reading


_LIGHT_ENDINGS: Mapping[str, Light] = {
    "STOP": "red",
    "RED": "red",
    "CAUTION": "yellow",
    "YELLOW": "yellow",
    "GO": "green",
    "GREEN": "green",
}


def _light(state: object) -> Light:
    """What a state's name says, such as `LANE_STATE_GO`; flashing is none of the three."""
    name = text(state).upper()
    return "unknown" if "FLASHING" in name else _LIGHT_ENDINGS.get(name.split("_")[-1], "unknown")


def _raw_light(
    key: str, light: Mapping, time_s: Float[np.ndarray, " step"], lane_keys: frozenset[str]
) -> RawLight:
    lane = text(light.get("lane", key))
    shown = mapping(light.get("state"), "its state").get("object_state")
    shown = entries(shown)
    if len(shown) != len(time_s):
        raise InputError(f"it does not show {len(time_s)} states, one a step.")
    if lane not in lane_keys:
        raise InputError(f"it controls the lane {lane}, which the map does not have.")
    named: list[Light] = [_light(state) for state in shown]
    changes = [step for step in range(len(named)) if step == 0 or named[step] != named[step - 1]]
    return RawLight(lane, time_s[changes], tuple(named[step] for step in changes))


def read_lights(
    states: object, time_s: Float[np.ndarray, " step"], lane_keys: frozenset[str]
) -> tuple[list[RawLight], list[str]]:
    """What traffic lights show, reduced to their changes, and which were refused.

    Args:
        states: The scene's `dynamic_map_states`; None for none.
        time_s: Seconds since the scene began, per step.
        lane_keys: Lane centres the map has.

    Returns:
        One light per lane, and a sentence per light that was refused.

    Raises:
        InputError: If it is no table.
    """
    lights: dict[str, RawLight] = {}
    problems: list[str] = []
    table = mapping({} if states is None else states, "dynamic_map_states")
    for raw_key, raw_light in table.items():
        try:
            light = _raw_light(text(raw_key), mapping(raw_light, "it"), time_s, lane_keys)
        except InputError as error:
            problems.append(f"traffic light {text(raw_key)}: {error}")
            continue
        lights[light.line_key] = light
    return list(lights.values()), problems
