"""Small logs, scenarios and maps in the layout of Argoverse 2."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

CITY_TURN_RAD = 0.6
CITY_ORIGIN_M = (1000.0, 2000.0)
SWEEPS_NS = 315_966_253_660_357_000 + np.arange(5) * 100_000_000
SPEED_MPS = 8.0


def points(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"x": x, "y": y, "z": 1.0} for x, y in pairs]


def lane(key: int, left: list, right: list, **more: object) -> dict:
    return {
        "id": key,
        "is_intersection": False,
        "lane_type": "VEHICLE",
        "left_lane_boundary": left,
        "left_lane_mark_type": "SOLID_YELLOW",
        "right_lane_boundary": right,
        "right_lane_mark_type": "NONE",
        "successors": [],
        "predecessors": [],
        "right_neighbor_id": None,
        "left_neighbor_id": None,
    } | more


def small_map() -> dict:
    """Two lanes side by side, one oncoming, one that follows, one for bicycles."""
    middle = points((0, 4), (20, 4))
    return {
        "lane_segments": {
            "1": lane(
                1,
                middle,
                points((0, 0), (20, 0)),
                successors=[3, 77],
                left_neighbor_id=2,
                left_lane_mark_type="DASHED_WHITE",
            ),
            "2": lane(
                2,
                points((0, 8), (8, 8), (20, 8)),
                middle[::-1][::-1],
                right_neighbor_id=1,
                left_neighbor_id=4,
                right_lane_mark_type="DASHED_WHITE",
            ),
            "3": lane(3, points((20, 4), (30, 6)), points((20, 0), (30, 0)), is_intersection=True),
            "4": lane(4, points((20, 8), (0, 8)), points((20, 12), (0, 12)), left_neighbor_id=2),
            "5": lane(5, points((0, 0), (20, 0)), points((0, -1), (20, -1)), lane_type="BIKE"),
        },
        "drivable_areas": {
            "9": {"area_boundary": points((0, 0), (30, 0), (30, 12), (0, 12), (0, 0)), "id": 9}
        },
        "pedestrian_crossings": {
            "6": {"id": 6, "edge1": points((5, 0), (5, 8)), "edge2": points((8, 0), (8, 8))},
            "7": {"id": 7, "edge1": points((5, 0), (5, 8)), "edge2": points((8, 8), (8, 0))},
        },
    }


def write_map(folder: Path, archive: object, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"log_map_archive_{name}.json"
    file.write_text(archive if isinstance(archive, str) else json.dumps(archive))
    return file


def quaternion(yaw_rad: float) -> tuple[float, float, float, float]:
    return (float(np.cos(yaw_rad / 2)), 0.0, 0.0, float(np.sin(yaw_rad / 2)))


def poses() -> pl.DataFrame:
    """The ego drives straight ahead in a direction of its own, with extra poses between sweeps."""
    stamps = np.sort(np.concatenate([SWEEPS_NS, SWEEPS_NS + 37_000_000]))
    along = SPEED_MPS * (stamps - SWEEPS_NS[0]) / 1e9
    turn = quaternion(CITY_TURN_RAD)
    return pl.DataFrame(
        {
            "timestamp_ns": stamps,
            **{
                name: np.full(len(stamps), turn[i])
                for i, name in enumerate(("qw", "qx", "qy", "qz"))
            },
            "tx_m": CITY_ORIGIN_M[0] + along * np.cos(CITY_TURN_RAD),
            "ty_m": CITY_ORIGIN_M[1] + along * np.sin(CITY_TURN_RAD),
            "tz_m": np.full(len(stamps), 20.0),
        }
    )


def box(track: str, category: str, sweep: int, x: float, y: float, yaw_rad: float) -> dict:
    qw, qx, qy, qz = quaternion(yaw_rad)
    return {
        "timestamp_ns": int(SWEEPS_NS[sweep]),
        "track_uuid": track,
        "category": category,
        "length_m": 4.4,
        "width_m": 1.8,
        "height_m": 1.5,
        "qw": qw,
        "qx": qx,
        "qy": qy,
        "qz": qz,
        "tx_m": float(x),
        "ty_m": float(y),
        "tz_m": 0.5,
        "num_interior_pts": 9,
    }


def boxes() -> pl.DataFrame:
    """A parked car, a bus ahead at a steady distance, a pedestrian seen twice, two odd things."""
    rows = [
        row
        for sweep in range(len(SWEEPS_NS))
        for row in (
            box("parked", "REGULAR_VEHICLE", sweep, 20 - SPEED_MPS * 0.1 * sweep, -3, np.pi / 2),
            box("leader", "BUS", sweep, 15, 0, 0),
        )
    ]
    rows += [box("walker", "PEDESTRIAN", sweep, 5, 5, 1) for sweep in (1, 4)]
    rows += [box("saucer", "FLYING_SAUCER", 0, 9, 9, 0), box("bike", "BICYCLE", 0, 9, 9, 0)]
    return pl.DataFrame(rows)


def write_log(
    folder: Path,
    annotations: pl.DataFrame,
    *,
    pose_table: pl.DataFrame | None = None,
    compression: Literal["uncompressed", "lz4", "zstd"] = "uncompressed",
    map_folder: str = "",
) -> Path:
    folder.mkdir(parents=True)
    table = poses() if pose_table is None else pose_table
    table.write_ipc(folder / "city_SE3_egovehicle.feather", compression=compression)
    annotations.write_ipc(folder / "annotations.feather", compression=compression)
    write_map(folder / map_folder, small_map(), f"{folder.name}____PIT_city_57819")
    return folder


def scenario() -> pl.DataFrame:
    """Three tracks of a forecasting scenario, one of them seen for three steps only."""
    rows = []
    for track, kind, steps, speed in (
        ("AV", "vehicle", range(6), 5.0),
        ("b", "bus", range(2, 5), 0.0),
        ("c", "hovercraft", range(6), 1.0),
    ):
        rows += [
            {
                "observed": step < 5,
                "track_id": track,
                "object_type": kind,
                "object_category": 0,
                "timestep": step,
                "position_x": 3.0,
                "position_y": 100 + speed * 0.1 * step,
                "heading": np.pi / 2,
                "velocity_x": 0.0,
                "velocity_y": speed,
                "scenario_id": "s1",
                "num_timestamps": 6,
                "focal_track_id": "b",
                "city": "austin",
                "map_id": 3,
                "slice_id": "slice-9",
            }
            for step in steps
        ]
    return pl.DataFrame(rows)


def write_scenario(folder: Path, table: pl.DataFrame, *, name: str = "s1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"scenario_{name}.parquet"
    table.write_parquet(file)
    write_map(folder, small_map(), name)
    return file
