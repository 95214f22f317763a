"""Vector maps of Argoverse 2: the JSON archives of its sensor and forecasting sets.

A lane's centre is the mean of its two boundaries at equal shares of their lengths, as in the
dataset's own library; forecasting maps state it. A lane beside another one may lead the other way;
such a neighbour is left out. A boundary without paint (`NONE`) is no line.

Source:
    Wilson et al. (2021), Argoverse 2, arXiv:2301.00493; the layout is `av2.map` of av2-api.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_prep.errors import InputError
from data_prep.scenes.checked_values import mapping, points, text
from data_prep.scenes.line_shapes import open_ring, polyline_length, resampled, ring_area
from data_prep.scenes.raw_scene import Area, RawLine, RawMap

_SIZE_LIMIT_BYTES = 256 << 20
_SPACING_M = 1.0
_DRIVEN = frozenset({"VEHICLE", "BUS"})
_UNPAINTED = frozenset({"NONE", "UNKNOWN"})


@dataclass
class Argoverse2Map:
    """What came out of a map archive.

    Attributes:
        map: The lines.
        problems: One sentence per element that was refused.
        notes: Counts of what was left out.
    """

    map: RawMap
    problems: list[str] = field(default_factory=list)
    notes: dict[str, str | int | float | bool] = field(default_factory=dict)


def _points(value: object, what: str, *, at_least: int) -> Float[np.ndarray, "point 2"]:
    """Points from a list of tables with x and y."""
    if not isinstance(value, list):
        raise InputError(f"{what} is missing.")
    rows = [
        (row.get("x"), row.get("y")) if isinstance(row, dict) else (None, None) for row in value
    ]
    return points(rows, what, at_least=at_least)


def _ring(points_m: Float[np.ndarray, "point 2"], what: str) -> Float[np.ndarray, "open 2"]:
    ring = open_ring(points_m)
    if len(ring) < 3:
        raise InputError(f"{what} has fewer than 3 distinct points.")
    return ring


def centre_line(
    left_m: Float[np.ndarray, "left 2"],
    right_m: Float[np.ndarray, "right 2"],
    *,
    spacing_m: float = _SPACING_M,
) -> Float[np.ndarray, "point 2"]:
    """The middle between two boundaries that run in the same direction.

    Args:
        left_m: The left boundary.
        right_m: The right boundary.
        spacing_m: About how far apart its points are, in metres.

    Returns:
        At least two points: means of the boundaries at equal shares of their lengths.
    """
    longer_m = max(polyline_length(left_m), polyline_length(right_m))
    count = max(2, int(np.ceil(longer_m / spacing_m)) + 1)
    return (resampled(left_m, count) + resampled(right_m, count)) / 2


def _paint(lane: Mapping, key: str, side: str, boundary: np.ndarray) -> RawLine | None:
    mark = text(lane.get(f"{side}_lane_mark_type", "NONE")).upper()
    return None if mark in _UNPAINTED else RawLine(f"{key}/{side}", "lane_boundary", boundary)


def _key(value: object) -> str | None:
    return None if value is None else text(value)


def _lane_lines(key: str, lane: Mapping) -> list[RawLine]:
    """A lane's painted boundaries and, where vehicles may drive, its centre."""
    left = _points(lane.get("left_lane_boundary"), "its left boundary", at_least=2)
    right = _points(lane.get("right_lane_boundary"), "its right boundary", at_least=2)
    painted = (_paint(lane, key, "left", left), _paint(lane, key, "right", right))
    lines = [line for line in painted if line is not None]
    if text(lane.get("lane_type", "VEHICLE")).upper() not in _DRIVEN:
        return lines
    stated = lane.get("centerline")
    centre = (
        centre_line(left, right)
        if stated is None
        else _points(stated, "its centre line", at_least=2)
    )
    successors = lane.get("successors")
    area: Area = "intersection" if lane.get("is_intersection") is True else "none"
    lines.append(
        RawLine(
            key=key,
            kind="lane_centre",
            points_m=centre,
            width_m=ring_area(np.concatenate([left, right[::-1]])) / polyline_length(centre),
            successors=tuple(map(text, successors)) if isinstance(successors, list) else (),
            left=_key(lane.get("left_neighbor_id")),
            right=_key(lane.get("right_neighbor_id")),
            road_class="urban",
            area=area,
        )
    )
    return lines


def _crossing(key: str, crossing: Mapping) -> list[RawLine]:
    """The area between a crossing's two edges, whichever way each of them runs."""
    first = _points(crossing.get("edge1"), "its first edge", at_least=2)
    second = _points(crossing.get("edge2"), "its second edge", at_least=2)
    if np.linalg.norm(first[-1] - second[-1]) < np.linalg.norm(first[-1] - second[0]):
        second = second[::-1]
    return [RawLine(key, "crosswalk", _ring(np.concatenate([first, second]), "it"))]


def _area(key: str, area: Mapping) -> list[RawLine]:
    border = _points(area.get("area_boundary"), "its border", at_least=3)
    return [RawLine(key, "drivable_area", _ring(border, "its border"))]


_SECTIONS = (
    ("lane_segments", "lane", "", _lane_lines),
    ("drivable_areas", "drivable area", "area/", _area),
    ("pedestrian_crossings", "crossing", "crossing/", _crossing),
)


def _elements(archive: Mapping, problems: list[str]) -> Iterator[RawLine]:
    for section, word, prefix, read in _SECTIONS:
        for raw_key, element in mapping(archive.get(section), section).items():
            key = f"{prefix}{text(raw_key)}"
            try:
                yield from read(key, mapping(element, "it"))
            except InputError as error:
                problems.append(f"{word} {text(raw_key)} of the map: {error}")


def _same_way(lane: RawLine, other_key: str | None, lanes: Mapping[str, RawLine]) -> str | None:
    other = lanes.get(other_key) if other_key is not None else None
    if other is None:
        return None
    ways = [line.points_m[-1] - line.points_m[0] for line in (lane, other)]
    return other.key if float(ways[0] @ ways[1]) > 0 else None


def _without_twins(lines: Mapping[str, RawLine]) -> Iterator[RawLine]:
    """Each boundary once: what is left of one lane is right of the next."""
    seen: set[bytes] = set()
    for line in lines.values():
        if line.kind == "lane_boundary":
            if line.points_m.tobytes() in seen:
                continue
            seen |= {line.points_m.tobytes(), np.ascontiguousarray(line.points_m[::-1]).tobytes()}
        yield line


def _archive(file: Path) -> Mapping:
    if file.stat().st_size > _SIZE_LIMIT_BYTES:
        raise InputError(
            f"{file.name} has more than {_SIZE_LIMIT_BYTES:,} bytes; it is not opened."
        )
    try:
        archive = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file.name} is truncated or no JSON.") from error
    archive = mapping(archive, f"{file.name}: it")
    missing = [section for section, *_ in _SECTIONS if section not in archive]
    if missing:
        raise InputError(f"{file.name} has no {', '.join(missing)}; it is no map of Argoverse 2.")
    return archive


def read_argoverse2_map(file: Path, map_key: str) -> Argoverse2Map:
    """The map in one archive, in the frame of its city.

    Bicycle lanes have no centre in the result, so that no vehicle is routed over them; their
    painted boundaries stay. Speed limits are unknown.

    Args:
        file: A `log_map_archive_*.json`.
        map_key: The map's name.

    Raises:
        InputError: If the file as a whole cannot be used, in one sentence.
    """
    archive = _archive(file)
    problems: list[str] = []
    lines = {line.key: line for line in _elements(archive, problems)}
    lanes = {key: line for key, line in lines.items() if line.kind == "lane_centre"}
    for key, lane in lanes.items():
        lines[key] = replace(
            lane,
            successors=tuple(other for other in lane.successors if other in lanes),
            left=_same_way(lane, lane.left, lanes),
            right=_same_way(lane, lane.right, lanes),
        )
    kinds = Counter(
        text(lane.get("lane_type", "VEHICLE")).lower()
        for lane in archive["lane_segments"].values()
        if isinstance(lane, dict)
    )
    notes: dict[str, str | int | float | bool] = {
        f"left_out_{kind}_lanes": count
        for kind, count in sorted(kinds.items())
        if kind.upper() not in _DRIVEN
    }
    return Argoverse2Map(RawMap(map_key, tuple(_without_twins(lines))), problems, notes)
