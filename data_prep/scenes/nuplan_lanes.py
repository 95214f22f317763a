"""The lanes of one nuPlan map: centres, limits, neighbours, successors and roadblocks."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from data_prep.errors import InputError
from data_prep.scenes.geopackage import Layer, read_layer
from data_prep.scenes.raw_scene import RawLine

ReadLayer = Callable[[str], Layer]
_PLAIN_INTERSECTIONS = (0, 1, 2)  # default, traffic light, stop sign; not branches and merges


@dataclass(frozen=True)
class NuPlanLanes:
    """The lane centres of a map.

    Attributes:
        lines: By key, which is `lane:` or `connector:` and the number.
        roadblocks: Keys of the lanes of each lane group (left to right) and of each lane group
            connector, by the number that routes use.
    """

    lines: Mapping[str, RawLine]
    roadblocks: Mapping[str, tuple[str, ...]]


def lane_key(number: str) -> str:
    """Key of a lane."""
    return f"lane:{number}"


def connector_key(number: str) -> str:
    """Key of a lane connector, by which traffic lights are given."""
    return f"connector:{number}"


def number(value: Any) -> str | None:  # noqa: ANN401  (whatever SQLite stored)
    """A reference as text: 7, 7.0 and "7" are the same; None, NaN and "" are none.

    Example:
        >>> number(7.0), number("7"), number(float("nan"))
        ('7', '7', None)
    """
    if value is None or value == "" or value != value:
        return None
    return str(int(float(value)))


def read_lanes(path: Path, crs: str, carparks: tuple[BaseGeometry, ...]) -> NuPlanLanes:
    """The lanes and lane connectors of a map.

    A connector's `exit_lane_fid` is the lane that traffic comes from and `entry_lane_fid` the
    lane that it goes to. `lane_index` counts from the left. A width is the area of the lane's
    polygon divided by the length of its centre.

    Args:
        path: The map's GeoPackage.
        crs: The coordinate system to come out in.
        carparks: Polygons in which a lane counts as parking.

    Raises:
        InputError: If a layer is missing or damaged.
    """

    def read(name: str) -> Layer:
        return read_layer(path, name, crs=crs)

    centres = _centres(read)
    lanes, roadblocks = _lanes(read, centres)
    connectors, connector_blocks = _connectors(read, centres)
    lines = _joined(lanes, connectors)
    if not lines:
        raise InputError(f"{path} has no lane with a baseline path.")
    return NuPlanLanes(_parking(lines, carparks), {**roadblocks, **connector_blocks})


def _centres(read: ReadLayer) -> dict[str, np.ndarray]:
    layer = read("baseline_paths")
    found: dict[str, np.ndarray] = {}
    references = zip(layer.column("lane_fid"), layer.column("lane_connector_fid"), strict=True)
    for (lane, connector), geometry in zip(references, layer.geometries, strict=True):
        points = _points(geometry)
        if points is None:
            continue
        if (lane_number := number(lane)) is not None:
            found[lane_key(lane_number)] = points
        elif (connector_number := number(connector)) is not None:
            found[connector_key(connector_number)] = points
    return found


def _points(geometry: BaseGeometry | None) -> np.ndarray | None:
    if geometry is None or geometry.is_empty:
        return None
    points = shapely.get_coordinates(geometry)
    moved = np.r_[True, (np.diff(points, axis=0) != 0).any(-1)]
    return points[moved] if moved.sum() >= 2 else None


def _lanes(
    read: ReadLayer, centres: Mapping[str, np.ndarray]
) -> tuple[dict[str, RawLine], dict[str, tuple[str, ...]]]:
    layer = read("lanes_polygons")
    lines, groups = {}, defaultdict[str, list[tuple[int, str]]](list)
    for at, own in enumerate(_own_numbers(layer, "lane_fid")):
        key = lane_key(own)
        if key not in centres:
            continue
        lines[key] = _line(
            key, centres[key], layer.column("speed_limit_mps")[at], layer.geometries[at]
        )
        group, index = number(layer.column("lane_group_fid")[at]), layer.column("lane_index")[at]
        if group is not None:
            groups[group].append((int(number(index) or 0), key))
    ordered = {group: sorted(members) for group, members in groups.items()}
    for members in ordered.values():
        for (left_index, left), (right_index, right) in pairwise(members):
            if right_index == left_index + 1:
                lines[left] = replace(lines[left], right=right)
                lines[right] = replace(lines[right], left=left)
    return lines, {group: tuple(key for _, key in members) for group, members in ordered.items()}


def _connectors(
    read: ReadLayer, centres: Mapping[str, np.ndarray]
) -> tuple[dict[tuple[str | None, str, str | None], RawLine], dict[str, tuple[str, ...]]]:
    layer, polygons = read("lane_connectors"), _connector_polygons(read)
    crossing_groups = _crossing_groups(read)
    lines, blocks = {}, defaultdict[str, list[str]](list)
    for at, own in enumerate(layer.ids):
        key = connector_key(str(own))
        if key not in centres:
            continue
        group = number(layer.column("lane_group_connector_fid")[at])
        line = _line(key, centres[key], layer.column("speed_limit_mps")[at], polygons.get(str(own)))
        lights = str(layer.column("traffic_light_stop_line_fids")[at] or "").replace(",", " ")
        before = number(layer.column("exit_lane_fid")[at])
        after = number(layer.column("entry_lane_fid")[at])
        lines[before, key, after] = replace(
            line,
            has_signal=bool(lights.split()),
            area="intersection" if group in crossing_groups else "none",
        )
        if group is not None:
            blocks[group].append(key)
    return lines, {group: tuple(keys) for group, keys in blocks.items()}


def _joined(
    lanes: dict[str, RawLine], connectors: Mapping[tuple[str | None, str, str | None], RawLine]
) -> dict[str, RawLine]:
    after_lane = defaultdict[str, list[str]](list)
    lines = dict(lanes)
    for (before, key, after), line in connectors.items():
        if before is not None:
            after_lane[lane_key(before)].append(key)
        follows = () if after is None else (lane_key(after),)
        lines[key] = replace(line, successors=tuple(lane for lane in follows if lane in lanes))
    for lane, keys in after_lane.items():
        if lane in lines:
            lines[lane] = replace(lines[lane], successors=tuple(keys))
    return lines


def _parking(lines: dict[str, RawLine], carparks: tuple[BaseGeometry, ...]) -> dict[str, RawLine]:
    if not carparks:
        return lines
    tree = shapely.STRtree(list(carparks))
    middles = [line.points_m[len(line.points_m) // 2] for line in lines.values()]
    inside, _ = tree.query(shapely.points(np.array(middles)), predicate="within")
    parked = {list(lines)[at] for at in inside}
    return {
        key: replace(line, road_class="parking", area="parking") if key in parked else line
        for key, line in lines.items()
    }


def _line(
    key: str, points: np.ndarray, limit: float | None, polygon: BaseGeometry | None
) -> RawLine:
    known = limit is not None and float(limit) > 0  # NaN is not
    length_m = float(np.hypot(*np.diff(points, axis=0).T).sum())
    area_m2 = 0.0 if polygon is None else float(polygon.area)
    return RawLine(
        key=key,
        kind="lane_centre",
        points_m=points,
        speed_limit_mps=None if limit is None or not known else float(limit),
        width_m=area_m2 / length_m if area_m2 > 0 and length_m > 1.0 else None,
    )


def _own_numbers(layer: Layer, column: str) -> list[str]:
    stored = layer.column(column)
    return [number(value) or str(own) for value, own in zip(stored, layer.ids, strict=True)]


def _connector_polygons(read: ReadLayer) -> dict[str, BaseGeometry]:
    layer = read("gen_lane_connectors_scaled_width_polygons")
    numbers = map(number, layer.column("lane_connector_fid"))
    return {own: shape for own, shape in zip(numbers, layer.geometries, strict=True) if own}


def _crossing_groups(read: ReadLayer) -> set[str]:
    """Lane group connectors that lie in a place where roads cross."""
    layer = read("intersections")
    kinds = zip(layer.ids, layer.column("intersection_type_fid"), strict=True)
    crossings = {str(own) for own, kind in kinds if int(number(kind) or 0) in _PLAIN_INTERSECTIONS}
    groups = read("lane_group_connectors")
    places = zip(groups.ids, map(number, groups.column("intersection_fid")), strict=True)
    return {str(own) for own, place in places if place in crossings}
