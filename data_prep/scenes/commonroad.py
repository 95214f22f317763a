"""CommonRoad scenarios (XML, formats 2018b and 2020a) as scenes.

Files of one place that hold the same vehicles were cut from one recording, whatever an index
beside them says: see `shared_recordings`.
"""

import csv
import logging
import warnings
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
from data_prep.scenes.commonroad_tracks import moving_track, shape_offsets, standing_track
from data_prep.scenes.raw_scene import RawScene, RejectedInput
from data_prep.scenes.safe_xml import UnsafeXml, safe_xml
from data_prep.scenes.source import SceneSource

VERSIONS = ("2018b", "2020a")
INDEX_NAME = "INDEX.csv"
SHARED_VEHICLES = 2
_MOST_STEPS = 100_000

_STATES = ("initialState", "state", "goalState", "occupancy", "initialSignalState", "signalState")
_NUMBERS = {
    "time", "orientation", "velocity", "velocityY", "acceleration", "yawRate", "slipAngle"
}  # fmt: skip
_REGIONS = {"point", "circle", "rectangle", "polygon"}
_MISSHAPEN = (
    ValueError, TypeError, KeyError, IndexError, AssertionError, ArithmeticError
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
    and tested on the other would have met its test drivers. A chance agreement joins too much,
    which only costs a finer split.

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
    """Group by file name; none where there is no index or it has other columns."""
    if not index.is_file():
        return {}
    try:
        with index.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{index} is no CSV table in UTF-8; mend or remove it.") from error
    found = {row.get("file") or "": (row.get("traffic_group") or "").strip() for row in rows}
    return {file: group.zfill(4) for file, group in found.items() if file and group}


@contextmanager
def _silenced() -> Iterator[None]:
    """Without the reader's warnings, such as those of deprecated tags."""
    logger = logging.getLogger("commonroad")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
        with _silenced(), np.errstate(all="ignore"):  # wild numbers are refused later
            scenario, _ = reader(raw).open()
            return _scene(path, root, scenario, recording)
    except AttributeError:  # of the None that stands for an element
        reason = "an element that the format needs is missing"
        return RejectedInput(path.name, f"the file is no readable scenario: {reason}")
    except _MISSHAPEN as error:
        shown = " ".join(str(error).split())[:120] or type(error).__name__
        return RejectedInput(path.name, f"the file is no readable scenario: {shown}")


def _valueless(root: ET.Element) -> str | None:
    """Name of a quantity of a state that has no value of any form, if there is one."""
    for parent in _STATES:
        for state in root.iter(parent):
            for value in state:
                forms = {part.tag for part in value}
                if value.tag in _NUMBERS:
                    known = "exact" in forms or {"intervalStart", "intervalEnd"} <= forms
                elif value.tag == "position":
                    known = bool(forms & _REGIONS) or ("lanelet" in forms and parent == "goalState")
                else:
                    known = True
                if not known:
                    return value.tag
    return None


def _scene(
    path: Path,
    root: ET.Element,
    scenario: Any,  # noqa: ANN401
    recording: str,
) -> RawScene | RejectedInput:
    benchmark = root.get("benchmarkID", "")
    step_s = float(scenario.dt)
    offsets = shape_offsets(root)
    moving = [
        moving_track(one, step_s, offsets.get(one.obstacle_id))
        for one in sorted(scenario.dynamic_obstacles, key=lambda one: one.obstacle_id)
    ]
    steps = round(max((t.time_s[-1] for t in moving if t.time_s.size), default=0.0) / step_s) + 1
    if steps > _MOST_STEPS:
        return RejectedInput(path.name, f"the file lasts {steps:,} steps")
    standing = [
        standing_track(one, step_s, steps)
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
