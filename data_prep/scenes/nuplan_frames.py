"""Frames of a nuPlan or OpenScene log, cut into stretches and turned into scenes.

Both formats say where the rear axle of the same car is, name the same maps and follow the same
routes; they differ in how they are stored.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from data_prep.scenes.nuplan_route import joined_routes, route_lanes
from data_prep.scenes.raw_scene import (
    AgentKind,
    Light,
    RawLight,
    RawMap,
    RawScene,
    RawTrack,
    Split,
)

if TYPE_CHECKING:
    from data_prep.scenes.nuplan_lanes import NuPlanLanes

EGO_KEY = "ego"
EGO_LENGTH_M, EGO_WIDTH_M = 4.049 + 1.127, 1.1485 * 2.0
REAR_AXLE_TO_CENTRE_M = EGO_LENGTH_M / 2 - 1.127
"""The Chrysler Pacifica that recorded all of nuPlan, as nuplan-devkit describes it."""

KINDS: Mapping[str, AgentKind] = {
    "vehicle": "vehicle",
    "bicycle": "cyclist",
    "pedestrian": "pedestrian",
    "traffic_cone": "static",
    "barrier": "static",
    "czone_sign": "static",
    "generic_object": "other",
}

LONGEST_S, OWN_S, BEFORE_S, AFTER_S = 60.0, 50.0, 2.0, 6.0
"""A scene's length at most; what of it is its own, and the context that it shares around it."""


@dataclass(frozen=True)
class LogFrames:
    """The ego and what concerns it, frame by frame.

    Attributes:
        time_s: Seconds on any clock, increasing.
        tokens: Name of each frame.
        rear_axle: x, y and heading in the map's frame.
        velocity_mps: Of the rear axle, forward and to the left.
        yaw_rate_radps: Change of heading.
        roadblocks: The route as of each frame.
        lights: What the lights show at each frame, by the number of the lane connector.
    """

    time_s: Float[np.ndarray, " frame"]
    tokens: Sequence[str]
    rear_axle: Float[np.ndarray, "frame 3"]
    velocity_mps: Float[np.ndarray, "frame 2"]
    yaw_rate_radps: Float[np.ndarray, " frame"]
    roadblocks: Sequence[Sequence[str]]
    lights: Sequence[Mapping[str, Light]]

    def centres_m(self) -> Float[np.ndarray, "frame 2"]:
        """Where the centre of the ego's box is."""
        heading = self.rear_axle[:, 2]
        forward = np.stack([np.cos(heading), np.sin(heading)], -1)
        return self.rear_axle[:, :2] + REAR_AXLE_TO_CENTRE_M * forward

    def centre_velocities_mps(self) -> Float[np.ndarray, "frame 2"]:
        """Velocity of that centre along x and y of the map's frame."""
        sideways = self.velocity_mps[:, 1] + self.yaw_rate_radps * REAR_AXLE_TO_CENTRE_M
        return rotated(np.stack([self.velocity_mps[:, 0], sideways], -1), self.rear_axle[:, 2])


@dataclass(frozen=True)
class LogBoxes:
    """Boxes of other road users, in the order of time.

    Attributes:
        time_s: On the clock of the frames.
        track_keys: Whose box it is.
        categories: nuPlan's name of what it is.
        poses: Centre and heading in the map's frame.
        sizes_m: Length and width.
        velocities_mps: Along x and y of the map's frame; NaN where unknown.
    """

    time_s: Float[np.ndarray, " box"]
    track_keys: Sequence[str]
    categories: Sequence[str]
    poses: Float[np.ndarray, "box 3"]
    sizes_m: Float[np.ndarray, "box 2"]
    velocities_mps: Float[np.ndarray, "box 2"]


@dataclass(frozen=True)
class Stretch:
    """A part of a log that becomes one scene.

    Attributes:
        key: Name of the scene.
        first: Its first frame.
        stop: The frame after its last one.
        own_first: Frames before this one also belong to the stretch before.
        own_stop: Frames from this one on also belong to the stretch after.
    """

    key: str
    first: int
    stop: int
    own_first: int
    own_stop: int


def stretches(log: str, time_s: Float[np.ndarray, " frame"]) -> Iterator[Stretch]:
    """A log in scenes of at most a minute, cut where frames are missing.

    A part that is longer is cut into equal parts, and each gets two seconds of the one before and
    six of the one after, so that every moment has its past and its future in one scene.

    Args:
        log: Name of the log, with which the keys begin.
        time_s: Times of its frames.
    """
    steps = np.diff(time_s)
    longest_s = max(1.0, 3.0 * float(np.median(steps))) if len(steps) else 1.0
    gaps = (np.flatnonzero(steps > longest_s) + 1).tolist()
    for first, stop in zip([0, *gaps], [*gaps, len(time_s)], strict=True):
        start_s, end_s = float(time_s[first]), float(time_s[stop - 1])
        duration_s = end_s - start_s
        count = 1 if duration_s <= LONGEST_S else int(np.ceil(duration_s / OWN_S))
        edges = start_s + duration_s * np.arange(count + 1) / count
        for at in range(count):
            cuts = [edges[at], edges[at + 1], edges[at] - BEFORE_S, edges[at + 1] + AFTER_S]
            own_first, own_stop, low, high = (
                int(np.clip(np.searchsorted(time_s, cut), first, stop)) for cut in cuts
            )
            own_stop = stop if at == count - 1 else own_stop
            yield Stretch(
                key=f"{log}/{time_s[low] - time_s[0]:07.1f}",
                first=low if at else first,
                stop=high if at < count - 1 else stop,
                own_first=own_first,
                own_stop=own_stop,
            )


@dataclass(frozen=True)
class LogFacts:
    """What is the same for all scenes of a log.

    Attributes:
        log: Name of the log.
        file: Name of its file.
        location: Name of its map.
        map: The map around where it drove.
        split: The part of the data it belongs to, if that is fixed.
    """

    log: str
    file: str
    location: str
    map: RawMap
    split: Split | None


def scene_of(
    facts: LogFacts,
    stretch: Stretch,
    frames: LogFrames,
    boxes: LogBoxes,
    *,
    lanes: "NuPlanLanes",
    tokens: frozenset[str],
    tags: Mapping[str, str] | None = None,
) -> RawScene:
    """One stretch as a scene whose clock begins at its first frame.

    Args:
        facts: Of the log.
        stretch: Which frames.
        frames: Those of the stretch only.
        boxes: Those of the stretch only.
        lanes: The whole map's `NuPlanLanes`, for the route.
        tokens: Names of frames that are kept.
        tags: What nuPlan calls the scenario at a frame, by token; goes to the notes.
    """
    start_s = float(frames.time_s[0])
    centres = frames.centres_m()
    ego = RawTrack(
        key=EGO_KEY,
        kind="vehicle",
        length_m=EGO_LENGTH_M,
        width_m=EGO_WIDTH_M,
        time_s=frames.time_s - start_s,
        x_m=centres[:, 0],
        y_m=centres[:, 1],
        heading_rad=frames.rear_axle[:, 2],
        velocity_mps=frames.centre_velocities_mps(),
    )
    own = range(stretch.own_first - stretch.first, stretch.own_stop - stretch.first)
    line_keys = {line.key for line in facts.map.lines}
    route = route_lanes(lanes, joined_routes(frames.roadblocks), centres)
    route = tuple(key for key in route if key in line_keys)
    kinds = sorted(set((tags or {}).values()))
    return RawScene(
        key=stretch.key,
        recording_key=drive_of(facts.log),
        file=facts.file,
        location=facts.location,
        map=facts.map,
        tracks=(ego, *tracks_of(boxes, start_s)),
        ego_key=EGO_KEY,
        lights=tuple(
            light
            for light in lights_of(frames.lights, frames.time_s - start_s)
            if light.line_key in line_keys
        ),
        routes={EGO_KEY: route} if route else {},
        tokens={
            frames.tokens[at]: float(frames.time_s[at]) - start_s
            for at in own
            if frames.tokens[at] in tokens
        },
        split=facts.split,
        notes={"log": facts.log, **({"scenario_tags": " ".join(kinds)} if kinds else {})},
    )


def tracks_of(boxes: LogBoxes, start_s: float) -> Iterator[RawTrack]:
    """The boxes sorted into tracks, in the order of their keys; each has its median size."""
    keys = np.array(boxes.track_keys, dtype=object)
    order = np.lexsort([boxes.time_s, keys.astype(str)])
    _, begins = np.unique(keys[order].astype(str), return_index=True)
    for rows in np.split(order, begins[1:]) if len(order) else []:
        velocities = boxes.velocities_mps[rows]
        length_m, width_m = np.median(boxes.sizes_m[rows], axis=0)
        yield RawTrack(
            key=str(keys[rows[0]]),
            kind=KINDS.get(boxes.categories[int(rows[0])], "other"),
            length_m=float(length_m),
            width_m=float(width_m),
            time_s=boxes.time_s[rows] - start_s,
            x_m=boxes.poses[rows, 0],
            y_m=boxes.poses[rows, 1],
            heading_rad=boxes.poses[rows, 2],
            velocity_mps=velocities if np.isfinite(velocities).all() else None,
        )


def lights_of(
    frames: Sequence[Mapping[str, Light]], time_s: Float[np.ndarray, " frame"]
) -> Iterator[RawLight]:
    """Changes of each light; a lane connector that a frame does not mention is unknown there."""
    for number in sorted({number for lights in frames for number in lights}):
        shown: list[tuple[float, Light]] = []
        for lights, time in zip(frames, time_s, strict=True):
            state = lights.get(number, "unknown")
            if not shown or shown[-1][1] != state:
                shown.append((float(time), state))
        times = np.array([time for time, _ in shown])
        yield RawLight(f"connector:{number}", times, tuple(state for _, state in shown))


def drive_of(log: str) -> str:
    """The drive that a log is a part of: the name without the seconds at its end.

    Example:
        >>> drive_of("2021.06.03.12.02.06_veh-35_01100_01227")
        '2021.06.03.12.02.06_veh-35'
    """
    return re.sub(r"_\d+_\d+$", "", log)


def rotated(
    vectors: Float[np.ndarray, "row 2"], angle_rad: Float[np.ndarray, " row"]
) -> Float[np.ndarray, "row 2"]:
    """Vectors turned counter-clockwise."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    x, y = vectors.T
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], -1)


def heading_of(quaternions: Float[np.ndarray, "row 4"]) -> Float[np.ndarray, " row"]:
    """Direction of a body's x axis seen from above, from (w, x, y, z).

    Quaternions need not have unit length. Of a body that rolls and pitches this is where its
    nose points on the map.

    Example:
        >>> import numpy as np
        >>> heading_of(np.array([[1.0, 0.0, 0.0, 1.0]])).round(4).tolist()
        [1.5708]
    """
    w, x, y, z = quaternions.T
    return np.arctan2(2.0 * (x * y + w * z), w**2 + x**2 - y**2 - z**2)


def yaw_rates(
    heading_rad: Float[np.ndarray, " frame"], time_s: Float[np.ndarray, " frame"]
) -> Float[np.ndarray, " frame"]:
    """Change of heading by central differences; zero for a single frame."""
    if len(time_s) < 2:
        return np.zeros_like(time_s)
    return np.gradient(np.unwrap(heading_rad), time_s)


def frames_between(frames: LogFrames, stretch: Stretch) -> LogFrames:
    """The frames of a stretch."""
    here = slice(stretch.first, stretch.stop)
    return LogFrames(
        time_s=frames.time_s[here],
        tokens=frames.tokens[here],
        rear_axle=frames.rear_axle[here],
        velocity_mps=frames.velocity_mps[here],
        yaw_rate_radps=frames.yaw_rate_radps[here],
        roadblocks=frames.roadblocks[here],
        lights=frames.lights[here],
    )


def boxes_between(boxes: LogBoxes, frames: LogFrames) -> LogBoxes:
    """The boxes from the first to the last of some frames."""
    first, last = np.searchsorted(boxes.time_s, frames.time_s[[0, -1]] + np.array([0.0, 1e-9]))
    here = slice(int(first), int(last))
    return LogBoxes(
        time_s=boxes.time_s[here],
        track_keys=boxes.track_keys[here],
        categories=boxes.categories[here],
        poses=boxes.poses[here],
        sizes_m=boxes.sizes_m[here],
        velocities_mps=boxes.velocities_mps[here],
    )
