"""CommonRoad scenarios (XML, formats 2018b and 2020a) as scenes.

Files of one place that hold the same vehicles were cut from one recording, whatever an index
beside them says: see `shared_recordings`.
"""

import csv
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from data_prep.errors import InputError
from data_prep.scenes.commonroad_map import lanelet_map, lights_over_time
from data_prep.scenes.raw_scene import AgentKind, RawScene, RawTrack, RejectedInput
from data_prep.scenes.safe_xml import UnsafeXml, safe_xml
from data_prep.scenes.source import SceneSource

VERSIONS = ("2018b", "2020a")
INDEX_NAME = "INDEX.csv"
SHARED_VEHICLES = 2

_KINDS: dict[str, AgentKind] = {
    "car": "vehicle",
    "truck": "vehicle",
    "bus": "vehicle",
    "taxi": "vehicle",
    "motorcycle": "vehicle",
    "priorityVehicle": "vehicle",
    "parkedVehicle": "vehicle",
    "bicycle": "cyclist",
    "pedestrian": "pedestrian",
    "constructionZone": "static",
    "roadBoundary": "static",
    "building": "static",
    "pillar": "static",
    "median_strip": "static",
}
_VALUES = ("orientation", "velocity", "acceleration", "yawRate", "slipAngle", "velocityY")
_MISSHAPEN = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError
)  # fmt: skip  # what commonroad-io raises on XML of the wrong shape

Box = tuple[str, str, str]  # number, length and width, as written


class CommonRoadSource(SceneSource):
    """Reads CommonRoad scenario files.

    Attributes:
        name: `commonroad`.
    """

    name = "commonroad"

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def files(self) -> Sequence[Path]:
        """Every XML file, and the index beside it where there is one.

        Raises:
            InputError: If there is no XML file.
        """
        scenarios = self._scenarios()
        indices = {path.parent / INDEX_NAME for path in scenarios}
        return sorted({*scenarios, *(path for path in indices if path.is_file())})

    def scenes(self) -> Iterator[RawScene | RejectedInput]:
        """One scene a file, in the order of the files' paths.

        Raises:
            InputError: If commonroad-io is not installed.
        """
        reader = _reader()
        paths = self._scenarios()
        roots: dict[Path, str] = {}
        boxes: dict[Path, frozenset[Box]] = {}
        for path in paths:
            found = _look(path)
            if not isinstance(found, RejectedInput):
                roots[path], boxes[path] = found
        recordings = shared_recordings(_recordings(roots), roots, boxes)
        for path in paths:
            yield _read(path, reader, recordings.get(path, ""))

    def _scenarios(self) -> list[Path]:
        found: set[Path] = set()
        for path in self._paths:
            if path.is_dir():
                found |= {one for one in path.rglob("*.xml") if one.is_file()}
            elif path.is_file():
                found.add(path)
            else:
                raise InputError(f"{path} is neither a file nor a folder; check the path.")
        if not found:
            shown = ", ".join(str(path) for path in self._paths)
            raise InputError(f"There is no CommonRoad file (*.xml) in {shown}; check the path.")
        return sorted(found)


def shared_recordings(
    recordings: Mapping[Path, str],
    benchmarks: Mapping[Path, str],
    boxes: Mapping[Path, frozenset[Box]],
) -> dict[Path, str]:
    """The recording of every file, after files that hold the same vehicles were put together.

    Converted recordings keep the numbers of the vehicles. Two files of one place (the benchmark
    name up to its map number) in which at least two vehicles have equal number, length and width
    show the same stretch of traffic, or the same drivers a little later: a model trained on one
    and tested on the other would have met its test drivers.

    Args:
        recordings: What is known before, such as the groups of an index.
        benchmarks: Benchmark name by file.
        boxes: Vehicles by file.

    Returns:
        Recording by file; joined recordings bear the first of their names.
    """
    parent = {recording: recording for recording in recordings.values()}

    def first(recording: str) -> str:
        while parent[recording] != recording:
            recording = parent[recording]
        return recording

    holders: dict[tuple[str, Box], list[Path]] = defaultdict(list)
    for path in sorted(boxes):
        for box in boxes[path]:
            holders[place(benchmarks[path]), box].append(path)
    shared: Counter[tuple[Path, Path]] = Counter()
    for paths in holders.values():
        shared.update(combinations(paths, 2))
    for (one, other), vehicles in sorted(shared.items()):
        if vehicles >= SHARED_VEHICLES:
            low, high = sorted((first(recordings[one]), first(recordings[other])))
            parent[high] = low
    return {path: first(recording) for path, recording in recordings.items()}


def place(benchmark: str) -> str:
    """The place a benchmark name starts with, such as `USA_US101` of `USA_US101-3_1_T-1`."""
    return benchmark.removeprefix("C-").split("-")[0]


def _reader() -> Any:  # noqa: ANN401  (commonroad-io is optional and untyped here)
    try:
        from commonroad.common.reader.file_reader_xml import XMLFileReader
    except ImportError as error:
        raise InputError(
            "Reading CommonRoad files needs commonroad-io; install the extra [commonroad]."
        ) from error
    return XMLFileReader


def _look(path: Path) -> tuple[str, frozenset[Box]] | RejectedInput:
    """Benchmark name and vehicles of a file, without building a scenario."""
    parsed = _parse(path)
    if isinstance(parsed, RejectedInput):
        return parsed
    root, _ = parsed
    boxes = set()
    for obstacle in [*root.iter("obstacle"), *root.iter("dynamicObstacle")]:
        if obstacle.find("trajectory") is not None:
            size = [
                obstacle.findtext(f"shape/rectangle/{side}", "") for side in ("length", "width")
            ]
            boxes.add((obstacle.get("id", ""), _rounded(size[0]), _rounded(size[1])))
    return root.get("benchmarkID", path.stem), frozenset(boxes)


def _rounded(text: str) -> str:
    try:
        return f"{float(text):.2f}"
    except ValueError:
        return text


def _parse(path: Path) -> tuple[ET.Element, bytes] | RejectedInput:
    """Root element and bytes of a file that is CommonRoad's and safe to parse."""
    try:
        raw = safe_xml(path)
        root = ET.fromstring(raw)
    except UnsafeXml as error:
        return RejectedInput(path.name, f"the file {error}")
    except ET.ParseError as error:
        return RejectedInput(path.name, f"the file is no whole XML document: {error}")
    except OSError as error:
        return RejectedInput(path.name, f"the file cannot be read: {error.strerror}")
    version = root.get("commonRoadVersion")
    if root.tag != "commonRoad" or version not in VERSIONS:
        known = " or ".join(VERSIONS)
        return RejectedInput(path.name, f"the file is no CommonRoad scenario of version {known}")
    if not root.get("benchmarkID"):
        return RejectedInput(path.name, "the file names no benchmarkID")
    return root, raw


def _recordings(benchmarks: Mapping[Path, str]) -> dict[Path, str]:
    """Recording by file: the index's group where there is one, else the map of the benchmark."""
    groups: dict[Path, dict[str, str]] = {}
    found = {}
    for path, benchmark in benchmarks.items():
        index = path.parent / INDEX_NAME
        if index not in groups:
            groups[index] = _groups(index)
        group = groups[index].get(path.name)
        by_name = benchmark.removeprefix("C-").split("_")
        found[path] = f"group {group}" if group else "_".join(by_name[:2])
    return found


def _groups(index: Path) -> dict[str, str]:
    if not index.is_file():
        return {}
    with index.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        if not {"file", "traffic_group"} <= set(rows.fieldnames or ()):
            return {}
        return {row["file"]: f"{int(row['traffic_group']):04d}" for row in rows}


@contextmanager
def _silenced() -> Iterator[None]:
    """Without the reader's warnings of deprecated tags."""
    logger = logging.getLogger("commonroad")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _read(path: Path, reader: Any, recording: str) -> RawScene | RejectedInput:  # noqa: ANN401
    parsed = _parse(path)
    if isinstance(parsed, RejectedInput):
        return parsed
    root, raw = parsed
    if (lacking := _valueless(root)) is not None:
        return RejectedInput(path.name, f"the file has a {lacking} without a value")
    try:
        with _silenced():
            scenario, _ = reader(raw).open()
        return _scene(path, root, scenario, recording)
    except _MISSHAPEN as error:
        shown = " ".join(str(error).split())[:120] or type(error).__name__
        return RejectedInput(path.name, f"the file is no readable scenario: {shown}")


def _valueless(root: ET.Element) -> str | None:
    """Name of a quantity that has neither an exact value nor an interval, if there is one."""
    for state in [*root.iter("state"), *root.iter("initialState")]:
        for name in (*_VALUES, "time"):
            value = state.find(name)
            if value is not None and not re.match(
                "exact|interval", value[0].tag if len(value) else ""
            ):
                return name
    return None


def _scene(
    path: Path,
    root: ET.Element,
    scenario: Any,  # noqa: ANN401
    recording: str,
) -> RawScene | RejectedInput:
    benchmark = root.get("benchmarkID", "")
    step_s = float(scenario.dt)
    offsets = _shape_offsets(root)
    moving = [
        _moving_track(one, step_s, offsets.get(one.obstacle_id))
        for one in sorted(scenario.dynamic_obstacles, key=lambda one: one.obstacle_id)
    ]
    steps = round(max((t.time_s[-1] for t in moving if t.time_s.size), default=0.0) / step_s) + 1
    standing = [
        _standing_track(one, step_s, steps)
        for one in sorted(scenario.static_obstacles, key=lambda one: one.obstacle_id)
    ]
    tags = sorted(str(tag.value) for tag in scenario.tags or ())
    origin = root.get("source") or ""
    notes: dict[str, str | int | float | bool] = {
        "format": str(root.get("commonRoadVersion")),
        "origin": origin,
        "tags": " ".join(tags),
    }
    if "criticality" in origin.lower():
        notes["optimized_towards_criticality"] = True
    return RawScene(
        key=benchmark,
        recording_key=recording,
        file=path.name,
        location=place(benchmark),
        map=lanelet_map(scenario.lanelet_network, tags),
        tracks=tuple(moving + standing),
        lights=lights_over_time(scenario.lanelet_network, step_s, steps),
        notes=notes,
    )


def _shape_offsets(root: ET.Element) -> dict[int, tuple[float, float, float]]:
    """Where a rectangle lies off its obstacle's position: x, y, angle; commonroad-io drops it."""
    found = {}
    for obstacle in [*root.iter("obstacle"), *root.iter("dynamicObstacle")]:
        rectangle = obstacle.find("shape/rectangle")
        if rectangle is None:
            continue
        shift = (
            float(rectangle.findtext("center/x", "0")),
            float(rectangle.findtext("center/y", "0")),
            float(rectangle.findtext("orientation", "0")),
        )
        if any(shift):
            found[int(obstacle.get("id", "0"))] = shift
    return found


def _moving_track(
    obstacle: Any,  # noqa: ANN401
    step_s: float,
    offset: tuple[float, float, float] | None,
) -> RawTrack:
    """A track of one obstacle; without a trajectory of exact states it has no states."""
    states = _exact_states(obstacle)
    length_m, width_m, shift = _size(obstacle.obstacle_shape)
    x_shift, y_shift, turn = offset or (shift, 0.0, 0.0)
    heading = np.array([float(state.orientation) for state in states]) + turn
    position = np.array([state.position[:2] for state in states], float).reshape(-1, 2)
    cos, sin = np.cos(heading - turn), np.sin(heading - turn)
    return RawTrack(
        key=str(obstacle.obstacle_id),
        kind=_KINDS.get(str(obstacle.obstacle_type.value), "other"),
        length_m=length_m,
        width_m=width_m,
        time_s=np.array([state.time_step for state in states], float) * step_s,
        x_m=position[:, 0] + cos * x_shift - sin * y_shift,
        y_m=position[:, 1] + sin * x_shift + cos * y_shift,
        heading_rad=heading,
        velocity_mps=_velocity(states),
    )


def _exact_states(obstacle: Any) -> list[Any]:  # noqa: ANN401
    """Initial and later states, or none of them where one is a set of possible values."""
    trajectory = getattr(obstacle.prediction, "trajectory", None)
    states = [obstacle.initial_state, *(trajectory.state_list if trajectory is not None else ())]
    exact = all(
        isinstance(state.time_step, int)
        and isinstance(state.position, np.ndarray)
        and isinstance(state.orientation, int | float)
        for state in states
    )
    return states if exact and trajectory is not None else []


def _velocity(states: Sequence[Any]) -> np.ndarray | None:
    """Velocity in the global frame, or None where a state states none.

    A point-mass state gives its components along x and y, any other state along and across its
    orientation.
    """
    rows = []
    for state in states:
        along, across = getattr(state, "velocity", None), getattr(state, "velocity_y", None)
        if not isinstance(along, int | float):
            return None
        across = float(across) if isinstance(across, int | float) else 0.0
        name = type(state).__name__
        if name == "ExtendedPMState":  # its velocity_y is computed, not read
            across = 0.0
        if name == "PMState":
            rows.append((float(along), across))
            continue
        cos, sin = np.cos(state.orientation), np.sin(state.orientation)
        rows.append((along * cos - across * sin, along * sin + across * cos))
    return np.array(rows, float).reshape(-1, 2)


def _size(shape: Any) -> tuple[float, float, float]:  # noqa: ANN401
    """Length, width, and how far along its axis the centre lies from the position."""
    shift = -float(getattr(shape, "origin_x_shift", 0.0))
    if hasattr(shape, "radius"):
        return 2 * float(shape.radius), 2 * float(shape.radius), shift
    if hasattr(shape, "truck_dims"):
        return float(shape.truck_dims.length), float(shape.truck_dims.width), shift
    if hasattr(shape, "length"):
        return float(shape.length), float(shape.width), shift
    if hasattr(shape, "vertices"):
        corners = np.array([tuple(one)[:2] for one in shape.vertices], float)
        low, high = corners.min(axis=0), corners.max(axis=0)
        return float(high[0] - low[0]), float(high[1] - low[1]), float((low[0] + high[0]) / 2)
    return 0.0, 0.0, 0.0  # unknown shape: refused for its size


def _standing_track(obstacle: Any, step_s: float, steps: int) -> RawTrack:  # noqa: ANN401
    """A static obstacle, seen at every step of the scene."""
    state = obstacle.initial_state
    length_m, width_m, shift = _size(obstacle.obstacle_shape)
    heading = float(state.orientation)
    seen = np.ones(steps)
    return RawTrack(
        key=str(obstacle.obstacle_id),
        kind=_KINDS.get(str(obstacle.obstacle_type.value), "static"),
        length_m=length_m,
        width_m=width_m,
        time_s=np.arange(steps) * step_s,
        x_m=seen * (state.position[0] + np.cos(heading) * shift),
        y_m=seen * (state.position[1] + np.sin(heading) * shift),
        heading_rad=seen * heading,
        velocity_mps=np.zeros((steps, 2)),
    )
