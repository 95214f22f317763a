"""What every reader of driving logs hands over: one scene, in the frame and clock of its source.

A scene is a stretch of traffic on a map, seen from above. Units are SI, headings are radians
counter-clockwise from the x axis, positions are those of the centre of a box, all in one global
Cartesian frame. What a source does not know is None, never a made-up number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

AgentKind = Literal["vehicle", "pedestrian", "cyclist", "static", "other"]
LineKind = Literal[
    "lane_centre", "lane_boundary", "road_edge", "drivable_area", "crosswalk", "stop_line"
]
RoadClass = Literal["motorway", "urban", "rural", "parking", "unknown"]
Area = Literal["none", "intersection", "roundabout", "parking"]
Light = Literal["unknown", "green", "yellow", "red"]
Split = Literal["train", "validation", "test"]

AGENT_KINDS: tuple[AgentKind, ...] = get_args(AgentKind)
LINE_KINDS: tuple[LineKind, ...] = get_args(LineKind)
ROAD_CLASSES: tuple[RoadClass, ...] = get_args(RoadClass)
AREAS: tuple[Area, ...] = get_args(Area)
LIGHTS: tuple[Light, ...] = get_args(Light)


@dataclass(frozen=True)
class RawTrack:
    """One road user over time.

    Attributes:
        key: Its name in the source, unique within the scene.
        kind: What it is; `vehicle` is anything with an engine that drives on the road.
        length_m: Length of its box; constant.
        width_m: Width of its box.
        time_s: Seconds since the scene began, increasing.
        x_m: Centre of the box.
        y_m: Centre of the box.
        heading_rad: Where the front points.
        velocity_mps: Velocity along x and y of the frame; None where the source has none (it is
            then differentiated from the positions).
    """

    key: str
    kind: AgentKind
    length_m: float
    width_m: float
    time_s: Float[np.ndarray, " state"]
    x_m: Float[np.ndarray, " state"]
    y_m: Float[np.ndarray, " state"]
    heading_rad: Float[np.ndarray, " state"]
    velocity_mps: Float[np.ndarray, "state 2"] | None = None


@dataclass(frozen=True)
class RawLine:
    """One line or polygon of a map.

    Attributes:
        key: Its name in the source, unique within the map.
        kind: What it is. A lane centre runs in the direction of travel. `drivable_area` and
            `crosswalk` are closed polygons whose last point is not the first one again.
        points_m: At least two points (three for a polygon).
        speed_limit_mps: Of a lane centre; None where unknown.
        width_m: Of a lane centre; None where unknown.
        successors: Keys of the lane centres that follow.
        left: Key of the lane centre beside it, same direction; None where there is none.
        right: Likewise.
        road_class: What kind of road it belongs to.
        area: Where it lies.
        has_signal: A traffic light may stop traffic on this lane centre.
        is_hole: A `drivable_area` polygon that is cut out of the others.
    """

    key: str
    kind: LineKind
    points_m: Float[np.ndarray, "point 2"]
    speed_limit_mps: float | None = None
    width_m: float | None = None
    successors: tuple[str, ...] = ()
    left: str | None = None
    right: str | None = None
    road_class: RoadClass = "unknown"
    area: Area = "none"
    has_signal: bool = False
    is_hole: bool = False


@dataclass(frozen=True)
class RawMap:
    """The map of one or several scenes; equal keys within a source mean equal maps."""

    key: str
    lines: tuple[RawLine, ...]


@dataclass(frozen=True)
class RawLight:
    """What a traffic light shows to one lane over time.

    Attributes:
        line_key: The lane centre it controls.
        time_s: Seconds since the scene began, increasing; a state holds until the next one.
        states: What it shows, one per time.
    """

    line_key: str
    time_s: Float[np.ndarray, " state"]
    states: tuple[Light, ...]


@dataclass(frozen=True)
class RawDriverStyle:
    """The true style of a simulated driver.

    Attributes:
        preset: The nearest of `data_prep.scenes.style_dimensions.STYLE_LABELS`.
        values: -1 to 1 per dimension of `STYLE_DIMENSIONS`.
        parameters: What the simulator was told.
    """

    preset: str
    values: tuple[float, ...]
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class RawScene:
    """One stretch of traffic.

    Attributes:
        key: Its name, unique within the source.
        recording_key: What it was cut from. Scenes that share traffic share it, and are never
            split between training and testing.
        file: Name of the file it was read from, for messages.
        location: Where it is, in the source's words.
        map: The map below it.
        tracks: The road users.
        ego_key: The track the recording vehicle has; None where it was seen from outside.
        lights: Traffic lights.
        routes: Lane centres a track is meant to follow, by the track's key, where the source knows.
        tokens: Named moments of the scene in seconds, by which other files refer to it.
        driver_styles: True styles by the track's key; only of simulated traffic.
        simulated: Nothing in it was recorded.
        split: The part of the data it belongs to, where the source fixes it.
        notes: Facts about it that a reader wants to keep, plain JSON values.
    """

    key: str
    recording_key: str
    file: str
    location: str
    map: RawMap
    tracks: tuple[RawTrack, ...]
    ego_key: str | None = None
    lights: tuple[RawLight, ...] = ()
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    driver_styles: Mapping[str, RawDriverStyle] = field(default_factory=dict)
    simulated: bool = False
    split: Split | None = None
    notes: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class RejectedInput:
    """A piece of a driving log that was refused.

    Attributes:
        file: Name of the file.
        reason: Why, in one short sentence that names the scene or track.
        excerpt: The beginning of what was refused; may be empty.
    """

    file: str
    reason: str
    excerpt: str = ""
