"""Maps of ScenarioNet scenes: lane centres, lines, edges, crosswalks and the drivable area.

Three things are not what they seem in scenes converted from nuScenes. Features called
`boundary_0`, `boundary_1`, ... are typed as white lines but are the borders of the drivable area;
lane connectors carry a limit of 100 km/h that the converter made up; and no lane says which one
follows it or lies beside it, so that is found from the shapes.

Source:
    ScenarioNet (Li et al., 2023, arXiv:2306.12241) and its converter's `get_map_features`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from data_prep.errors import InputError
from data_prep.scenes.checked_values import entries, mapping, numbers, points, text
from data_prep.scenes.line_shapes import (
    following,
    lateral_neighbours,
    nesting_depths,
    open_ring,
    polyline_length,
    ring_area,
)
from data_prep.scenes.raw_scene import Area, LineKind, RawLine, RawMap, RoadClass

_LINES: Mapping[str, LineKind] = {
    "ROAD_LINE": "lane_boundary",
    "UNKNOWN_LINE": "lane_boundary",
    "ROAD_EDGE": "road_edge",
    "BOUNDARY": "road_edge",
    "GUARDRAIL": "road_edge",
}
_NOT_KEPT = ("LANE_BIKE_LANE", "STOP_SIGN", "SPEED_BUMP", "DRIVEWAY", "ROAD_EDGE_SIDEWALK")
_ROAD_CLASSES: Mapping[str, RoadClass] = {
    "LANE_FREEWAY": "motorway",
    "LANE_SURFACE_STREET": "urban",
    "LANE_SURFACE_UNSTRUCTURE": "urban",
}
_KMH, _MPH = 1 / 3.6, 0.44704
_HIGHEST_LIMIT_MPS = 60.0


@dataclass
class MapReading:
    """What came out of a scene's map features.

    Attributes:
        lines: Lines and polygons by key.
        problems: One sentence per feature, or kind of feature, that was refused.
        notes: Counts of what was left out, and what was found from the shapes.
    """

    lines: dict[str, RawLine] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: dict[str, str | int | float | bool] = field(default_factory=dict)


def _speed_limit_mps(feature: Mapping, *, made_up: bool) -> float | None:
    for name, factor in (("speed_limit_kmh", _KMH), ("speed_limit_mph", _MPH)):
        stated = feature.get(name)
        if stated is None:
            continue
        limit = numbers(stated, f"its {name}", dimensions=0).item() * factor
        if 0 < limit <= _HIGHEST_LIMIT_MPS:
            return None if made_up else limit
    return None


def _width_m(feature: Mapping, centre_m: np.ndarray) -> float | None:
    """Mean of the stated widths to both sides, else the polygon's area over the lane's length."""
    if feature.get("width") is not None:
        sides = numbers(feature["width"], "its width")
        known = sides[(sides > 0).all(axis=-1)] if sides.ndim == 2 else sides[sides > 0]
        if known.size:
            return float(known.sum(axis=-1).mean()) if known.ndim == 2 else float(known.mean())
    if feature.get("polygon") is not None:
        ring = open_ring(points(feature["polygon"], "its polygon", at_least=3))
        return ring_area(ring) / polyline_length(centre_m)
    return None


def _neighbour(feature: Mapping, name: str) -> str | None:
    """The first neighbour of a lane on one side, in any of the converters' two spellings."""
    for entry in entries(feature.get(name)):
        return text(entry.get("feature_id")) if isinstance(entry, dict) else text(entry)
    return None


def _following_keys(feature: Mapping) -> tuple[str, ...]:
    return tuple(text(entry) for entry in entries(feature.get("exit_lanes")))


def _lane(key: str, kind: str, feature: Mapping, *, from_nuscenes: bool) -> RawLine:
    centre = points(feature.get("polyline"), "its polyline", at_least=2)
    is_connector = from_nuscenes and feature.get("polygon") is None
    area: Area = "intersection" if is_connector or "UNSTRUCTURE" in kind else "none"
    return RawLine(
        key=key,
        kind="lane_centre",
        points_m=centre,
        speed_limit_mps=_speed_limit_mps(feature, made_up=from_nuscenes),
        width_m=_width_m(feature, centre),
        successors=_following_keys(feature),
        left=_neighbour(feature, "left_neighbor"),
        right=_neighbour(feature, "right_neighbor"),
        road_class=_ROAD_CLASSES.get(kind, "unknown"),
        area=area,
    )


def _polygon(key: str, kind: LineKind, value: object) -> RawLine:
    ring = open_ring(points(value, "its polygon", at_least=3))
    if len(ring) < 3:
        raise InputError("its polygon has fewer than 3 distinct points.")
    return RawLine(key, kind, ring)


def _line_kind(key: str, kind: str, *, from_nuscenes: bool) -> LineKind | None:
    if from_nuscenes and key.startswith("boundary_"):
        return "road_edge"
    return next((line for start, line in _LINES.items() if kind.startswith(start)), None)


def _feature_lines(key: str, feature: Mapping, *, from_nuscenes: bool) -> Iterable[RawLine] | None:
    """The lines of one feature; None for a kind nobody knows."""
    kind = text(feature.get("type"))
    if kind in _NOT_KEPT:
        return ()
    if kind.startswith("LANE_"):
        lane = _lane(key, kind, feature, from_nuscenes=from_nuscenes)
        if feature.get("polygon") is None:
            return (lane,)
        return (lane, _polygon(f"{key}/area", "drivable_area", feature["polygon"]))
    if kind == "CROSSWALK":
        return (_polygon(key, "crosswalk", feature.get("polygon", feature.get("polyline"))),)
    line = _line_kind(key, kind, from_nuscenes=from_nuscenes)
    if line is None:
        return None
    return (RawLine(key, line, points(feature.get("polyline"), "its polyline", at_least=2)),)


def _use_borders(reading: MapReading) -> None:
    """Replaces the lanes' own areas by the drivable area whose borders the map has."""
    borders = [
        line
        for key, line in reading.lines.items()
        if key.startswith("boundary_") and len(line.points_m) > 3
        and (line.points_m[0] == line.points_m[-1]).all()
    ]  # fmt: skip
    if not borders:
        return
    for key in [key for key in reading.lines if key.endswith("/area")]:
        del reading.lines[key]
    rings = [open_ring(line.points_m) for line in borders]
    depths = nesting_depths(rings)
    islands = sum(depth > 0 and depth % 2 == 0 for depth in depths)
    if islands:  # lost where holes are cut out of all the areas at once
        reading.notes["areas_inside_holes"] = islands
    for line, ring, depth in zip(borders, rings, depths, strict=True):
        key = f"{line.key}/area"
        reading.lines[key] = RawLine(key, "drivable_area", ring, is_hole=depth % 2 == 1)


def _link_lanes(reading: MapReading) -> None:
    """Keeps links to lanes that are there; finds them from the shapes where no lane has any."""
    lanes = [line for line in reading.lines.values() if line.kind == "lane_centre"]
    keys = [lane.key for lane in lanes]
    if not lanes:
        return
    if not any(lane.successors for lane in lanes):
        follows = following([lane.points_m for lane in lanes])
        lanes = [
            replace(lane, successors=tuple(keys[other] for other in np.flatnonzero(row)))
            for lane, row in zip(lanes, follows, strict=True)
        ]
        reading.notes["successors_from_shapes"] = True
    if not any(lane.left or lane.right for lane in lanes):
        plain = [index for index, lane in enumerate(lanes) if lane.area == "none"]
        left, right = lateral_neighbours([lanes[index].points_m for index in plain])
        for index, left_one, right_one in zip(plain, left, right, strict=True):
            lanes[index] = replace(
                lanes[index],
                left=None if left_one is None else keys[plain[left_one]],
                right=None if right_one is None else keys[plain[right_one]],
            )
        reading.notes["neighbours_from_shapes"] = True
    known = set(keys)
    for lane in lanes:
        reading.lines[lane.key] = replace(
            lane,
            successors=tuple(key for key in lane.successors if key in known),
            left=lane.left if lane.left in known else None,
            right=lane.right if lane.right in known else None,
        )


def read_map(features: object, *, from_nuscenes: bool) -> MapReading:
    """The map of one scene, and what of it was refused or left out.

    Args:
        features: The scene's `map_features`.
        from_nuscenes: Whether the converter for nuScenes wrote it; see the module's text.

    Raises:
        InputError: If there is no table of features at all.
    """
    reading = MapReading()
    unknown: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for raw_key, raw_feature in mapping(features, "map_features").items():
        key = text(raw_key)
        try:
            feature = mapping(raw_feature, "it")
            lines = _feature_lines(key, feature, from_nuscenes=from_nuscenes)
        except InputError as error:
            reading.problems.append(f"map feature {key}: {error}")
            continue
        kind = text(feature.get("type"))
        unknown[kind] += lines is None
        left_out[kind] += lines == ()
        for line in lines or ():
            reading.lines[line.key] = line
    if from_nuscenes:
        _use_borders(reading)
    _link_lanes(reading)
    reading.problems += [
        f"{count} map features of the unknown kind {kind} are left out."
        for kind, count in sorted(unknown.items())
        if count
    ]
    reading.notes |= {
        f"left_out_{kind.lower()}": count for kind, count in sorted(left_out.items()) if count
    }
    return reading


def with_signals(lines: Mapping[str, RawLine], signalled: Iterable[str], map_key: str) -> RawMap:
    """The map, with the lanes marked that a traffic light controls.

    Args:
        lines: Lines by key.
        signalled: Keys of those lanes.
        map_key: The map's name.
    """
    controlled = set(signalled)
    return RawMap(
        map_key,
        tuple(replace(line, has_signal=key in controlled) for key, line in lines.items()),
    )
