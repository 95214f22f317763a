"""The maps of a small nuPlan, with hand-known numbers.

The road runs along its own x axis, which is turned by half a radian in the map's frame, so that
swapped axes show. Two lanes lead from x = -200 to a crossing at 0 to 20 and on to 200; a lane
turns off to the south, and a carpark lies to the south of the road at 50 to 80.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from data_prep.scenes.geopackage import geometry_blob

LOCATIONS: Mapping[str, tuple[str, int]] = {
    "sg-one-north": ("9.17.1964", 32648),
    "us-ma-boston": ("9.12.1817", 32619),
    "us-nv-las-vegas-strip": ("9.15.1915", 32611),
    "us-pa-pittsburgh-hazelwood": ("9.17.1937", 32617),
}
LOCATION = "us-nv-las-vegas-strip"
ORIGIN_M = np.array([664000.0, 3998000.0])
TURN_RAD = 0.5
LEFT_LIMIT_MPS, RIGHT_LIMIT_MPS = 13.4, 11.2
LANE_WIDTH_M = 3.5


def placed(points: Any) -> np.ndarray:
    """Points of the road in the map's frame."""
    cosine, sine = np.cos(TURN_RAD), np.sin(TURN_RAD)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.asarray(points, dtype=np.float64) @ turn.T + ORIGIN_M


def on_road(points: Any) -> np.ndarray:
    """Points of the map's frame on the road."""
    cosine, sine = np.cos(TURN_RAD), np.sin(TURN_RAD)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return (np.asarray(points, dtype=np.float64) - ORIGIN_M) @ turn


def _line(*points: tuple[float, float]) -> shapely.Geometry:
    dense = shapely.segmentize(shapely.LineString(points), 5.0)
    return shapely.transform(dense, placed)


def _box(left: float, bottom: float, right: float, top: float) -> shapely.Geometry:
    return shapely.transform(shapely.box(left, bottom, right, top), placed)


_STRIPS = {  # number: from x, to x, centre y
    1001: (-200.0, 0.0, 1.75),
    1002: (-200.0, 0.0, -1.75),
    1003: (20.0, 200.0, 1.75),
    1004: (20.0, 200.0, -1.75),
    3001: (0.0, 20.0, 1.75),
    3002: (0.0, 20.0, -1.75),
    1006: (55.0, 75.0, -12.0),
}
_CENTRES = {
    **{own: ((first, y), (last, y)) for own, (first, last, y) in _STRIPS.items()},
    3003: ((0.0, -1.75), (6.0, -4.0), (10.0, -15.0)),
    1005: ((10.0, -15.0), (10.0, -100.0)),
}
_GROUPS = {1001: 2001, 1002: 2001, 1003: 2002, 1004: 2002, 1005: 2003, 1006: 2004}
_INDICES = {1001: 0, 1002: 1, 1003: 0, 1004: 1, 1005: 0, 1006: 0}
_CONNECTORS = {3001: (1001, 1003, 4001), 3002: (1002, 1004, 4001), 3003: (1002, 1005, 4002)}


def _lane_shape(own: int) -> shapely.Geometry:
    plain = shapely.LineString(_CENTRES[own]).buffer(LANE_WIDTH_M / 2, cap_style="flat")
    return shapely.transform(plain, placed)


def _boundary(own: int, side: int) -> shapely.Geometry:
    offset = shapely.LineString(_CENTRES[own]).offset_curve(side * LANE_WIDTH_M / 2)
    return shapely.transform(shapely.segmentize(offset, 5.0), placed)


def map_layers() -> dict[str, tuple[Sequence[str], list[tuple]]]:
    """Columns and rows (number, geometry, values) of every layer."""
    lanes = [
        (
            own,
            _lane_shape(own),
            own,
            _GROUPS[own],
            _INDICES[own],
            10 * own,
            10 * own + 1,
            {0: LEFT_LIMIT_MPS, 1: RIGHT_LIMIT_MPS}[_INDICES[own]] if own < 1005 else None,
        )
        for own in _GROUPS
    ]
    connectors = [
        (
            own,
            _line(*_CENTRES[own]),
            before,
            after,
            group,
            RIGHT_LIMIT_MPS if own == 3002 else float("nan"),
            "6001, 6002" if own != 3003 else "",
        )
        for own, (before, after, group) in _CONNECTORS.items()
    ]
    paths = [
        (
            own + 90000,
            _line(*points),
            own if own in _GROUPS else None,
            own if own in _CONNECTORS else None,
        )
        for own, points in _CENTRES.items()
    ]
    boundaries = [
        (10 * own + at, _boundary(own, side), 2)
        for own in _CENTRES
        for at, side in enumerate((1, -1))
    ]
    return {
        "lanes_polygons": (
            (
                *("lane_fid", "lane_group_fid", "lane_index"),
                *("left_boundary_fid", "right_boundary_fid", "speed_limit_mps"),
            ),
            lanes,
        ),
        "lane_connectors": (
            (
                *("exit_lane_fid", "entry_lane_fid", "lane_group_connector_fid"),
                *("speed_limit_mps", "traffic_light_stop_line_fids"),
            ),
            connectors,
        ),
        "gen_lane_connectors_scaled_width_polygons": (
            ("lane_connector_fid", "left_boundary_fid", "right_boundary_fid"),
            [(own + 50000, _lane_shape(own), own, 10 * own, 10 * own + 1) for own in _CONNECTORS],
        ),
        "baseline_paths": (("lane_fid", "lane_connector_fid"), paths),
        "boundaries": (("boundary_type_fid",), boundaries),
        "lane_groups_polygons": (
            ("creator_id",),
            [
                (2001, _box(-200, -3.5, 0, 3.5), 1),
                (2002, _box(20, -3.5, 200, 3.5), 1),
                (2003, _lane_shape(1005), 1),
                (2004, _lane_shape(1006), 1),
            ],
        ),
        "lane_group_connectors": (
            ("from_lane_group_fid", "to_lane_group_fid", "intersection_fid"),
            [
                (4001, _box(0, -3.5, 20, 3.5), 2001, 2002, 5001),
                (4002, _lane_shape(3003), 2001, 2003, 5001),
            ],
        ),
        "intersections": (("intersection_type_fid",), [(5001, _box(0, -15, 20, 15), 1)]),
        "stop_polygons": (
            ("stop_polygon_type_fid",),
            [(6001, _box(-2, -3.5, -1, 3.5), 2), (6002, _box(-2, 50, -1, 57), 2)],
        ),
        "crosswalks": (("creator_id",), [(7001, _box(-6, -3.5, -3, 3.5), 1)]),
        "walkways": (("creator_id",), [(7501, _box(-200, 3.5, 0, 6), 1)]),
        "carpark_areas": (("heading",), [(8001, _box(50, -20, 80, -5), 0.0)]),
        "generic_drivable_areas": (("creator_id",), [(8501, _box(50, -5, 80, -3.5), 1)]),
        "road_segments": (
            ("creator_id",),
            [
                (9001, _box(-200, -3.5, 0, 3.5), 1),
                (9002, _box(20, -3.5, 200, 3.5), 1),
                (9003, _box(8, -100, 12, -15), 1),
            ],
        ),
    }


def write_geopackage(
    path: Path, layers: Mapping[str, tuple[Sequence[str], list[tuple]]], stored: int, metric: int
) -> None:
    """A GeoPackage with the given layers and nuPlan's layer `meta`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {0x47504B47}")
        connection.execute("PRAGMA user_version = 10200")
        connection.executescript(_GPKG_TABLES)
        connection.executemany(
            "INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, 'EPSG', ?, ?, NULL)",
            [(f"EPSG:{n}", n, n, _definition(n)) for n in sorted({stored, metric, 4326})],
        )
        connection.execute("CREATE TABLE meta (fid INTEGER PRIMARY KEY, key TEXT, value TEXT)")
        connection.execute(
            "INSERT INTO meta VALUES (1, 'projectedCoordSystem', ?)", (f"epsg:{metric}",)
        )
        connection.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id) "
            "VALUES ('meta', 'attributes', 'meta', 0)"
        )
        for name, (columns, rows) in layers.items():
            _write_layer(connection, name, columns, _stored(rows, stored, metric), stored)
    connection.close()


def _stored(rows: Iterable[tuple], stored: int, metric: int) -> list[tuple]:
    if stored == metric:
        return list(rows)
    import pyproj

    back = pyproj.Transformer.from_crs(metric, stored, always_xy=True)
    return [
        (
            own,
            shapely.transform(
                shape, lambda points: np.stack(back.transform(points[:, 0], points[:, 1]), -1)
            ),
            *values,
        )
        for own, shape, *values in rows
    ]


def _write_layer(
    connection: sqlite3.Connection,
    name: str,
    columns: Sequence[str],
    rows: list[tuple],
    stored: int,
) -> None:
    kind = rows[0][1].geom_type.upper()
    names = ", ".join(columns)
    connection.execute(
        f"CREATE TABLE {name} (fid INTEGER PRIMARY KEY NOT NULL, geom {kind}, {names})"
    )
    connection.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id) "
        "VALUES (?, 'features', ?, ?)",
        (name, name, stored),
    )
    connection.execute(
        "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', ?, ?, 0, 0)", (name, kind, stored)
    )
    marks = ", ".join("?" * (2 + len(columns)))
    connection.executemany(
        f"INSERT INTO {name} VALUES ({marks})",
        [
            (own, geometry_blob(shapely.to_wkb(shape), stored), *values)
            for own, shape, *values in rows
        ],
    )


def _definition(number: int) -> str:
    import pyproj

    return pyproj.CRS.from_epsg(number).to_wkt("WKT1_GDAL")


_GPKG_TABLES = """
CREATE TABLE gpkg_spatial_ref_sys (
    srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT NOT NULL,
    organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
INSERT INTO gpkg_spatial_ref_sys VALUES ('undefined', 0, 'NONE', 0, 'undefined', NULL);
INSERT INTO gpkg_spatial_ref_sys VALUES ('undefined', -1, 'NONE', -1, 'undefined', NULL);
CREATE TABLE gpkg_contents (
    table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
    description TEXT DEFAULT '',
    last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER);
CREATE TABLE gpkg_geometry_columns (
    table_name TEXT NOT NULL, column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL,
    srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
    PRIMARY KEY (table_name, column_name));
"""


def write_maps(root: Path, *, stored: int | None = None, version: str = "nuplan-maps-v1.0") -> Path:
    """The folder of maps with all four locations, which all look alike.

    Args:
        root: The folder.
        stored: EPSG number of the geometries; None takes the location's own metres.
        version: Name of the listing.
    """
    root.mkdir(parents=True, exist_ok=True)
    listing = {
        location: {"version": number, "layers": {"drivable_area": {}}}
        for location, (number, _) in LOCATIONS.items()
    }
    (root / f"{version}.json").write_text(json.dumps(listing))
    layers = map_layers()
    for location, (number, metric) in LOCATIONS.items():
        path = root / location / number / "map.gpkg"
        write_geopackage(path, layers, stored or metric, metric)
    return root
