"""A log of a small nuPlan, as a database and as OpenScene's pickle, with hand-known numbers.

An ego drives straight on through the crossing of `synthetic_nuplan_map`, ten metres a second.
"""

import pickle
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.data_prep.scenes.synthetic_nuplan_map import LOCATION, TURN_RAD, placed

LOG = "2021.06.03.12.02.06_veh-35_00100_00120"
START_US = 1_622_721_726_000_000
REAR_AXLE_TO_CENTRE_M = 1.461
EGO_START_M, EGO_MPS = -120.0, 10.0


@dataclass(frozen=True)
class Other:
    """Another road user that moves along the road at a constant speed."""

    key: str
    category: str
    length_m: float
    width_m: float
    x_m: float
    y_m: float
    speed_mps: float


OTHERS = (
    Other("a1", "vehicle", 4.6, 1.9, -95.0, -1.75, 10.0),
    Other("a2", "bicycle", 1.8, 0.6, -60.0, 1.75, 5.0),
    Other("a3", "pedestrian", 0.7, 0.6, -4.5, -6.0, 0.0),
    Other("a4", "traffic_cone", 0.4, 0.4, 60.0, -3.2, 0.0),
)
RED_UNTIL_S = 8.0
ROADBLOCKS = ("2001", "4001", "2002")
TAGGED_FRAME = 100


def frame_token(at: int) -> str:
    """Token of the lidar frame with a number."""
    return f"{0xABC0000000000000 + at:016x}"


def lights_at(time_s: float) -> dict[int, str]:
    """What the lights show; the left one is reported until 4 s only."""
    shown = {3002: "red" if time_s < RED_UNTIL_S else "green"}
    return {**shown, 3001: "red"} if time_s < 4.0 else shown


def write_database(path: Path, *, duration_s: float = 20.0, scenes: int = 5) -> Path:
    """A nuPlan log of an ego that drives straight on at constant speed on the right lane."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(duration_s * 20)
    with sqlite3.connect(path) as connection:
        connection.executescript(_LOG_TABLES)
        log, lidar = _token(1), _token(2)
        _insert(
            connection, "log", [(log, "35", "2021-06-03", START_US, LOG, "las_vegas", LOCATION)]
        )
        placement = (pickle.dumps([0.0, 0.0, 0.0]), pickle.dumps([1.0, 0.0, 0.0, 0.0]))
        _insert(connection, "lidar", [(lidar, log, "MergedPointCloud", "m", *placement)])
        kinds = sorted({other.category for other in OTHERS})
        _insert(connection, "category", [(_token(100 + i), k, "") for i, k in enumerate(kinds)])
        _insert(
            connection,
            "track",
            [
                (
                    _key(other.key),
                    _token(100 + kinds.index(other.category)),
                    other.width_m,
                    other.length_m,
                    1.5,
                )
                for other in OTHERS
            ],
        )
        _insert(
            connection,
            "scene",
            [
                (
                    _token(200 + at),
                    log,
                    f"scene-{at:03d}",
                    _token(1000 + count - 1),
                    " ".join(ROADBLOCKS),
                )
                for at in range(scenes)
            ],
        )
        times = [at * 0.05 for at in range(count)]
        _insert(connection, "ego_pose", [_pose_row(at, t, log) for at, t in enumerate(times)])
        _insert(
            connection,
            "lidar_pc",
            [
                (
                    bytes.fromhex(frame_token(at)),
                    _frame_or_none(at + 1, count),
                    _frame_or_none(at - 1, count),
                    _token(1000 + at),
                    lidar,
                    _token(200 + at * scenes // count),
                    "",
                    START_US + at * 50_000,
                )
                for at in range(count)
            ],
        )
        _insert(connection, "lidar_box", list(_box_rows(times)))
        _insert(
            connection,
            "traffic_light_status",
            [
                (
                    _token(10_000_000 + 10 * at + i),
                    bytes.fromhex(frame_token(at)),
                    connector,
                    status,
                )
                for at, t in enumerate(times)
                for i, (connector, status) in enumerate(lights_at(t).items())
            ],
        )
        tagged = bytes.fromhex(frame_token(TAGGED_FRAME))
        _insert(
            connection,
            "scenario_tag",
            [(_token(300), tagged, "following_lane_with_lead", _key("a1"))],
        )
    connection.close()
    return path


def _pose_row(at: int, time_s: float, log: bytes) -> tuple:
    x, y = placed((EGO_START_M + EGO_MPS * time_s, -1.75))
    turn = (np.cos(TURN_RAD / 2), 0.0, 0.0, np.sin(TURN_RAD / 2))
    rates = (0.0, 0.0, 0.0)
    late_us = 7_000  # poses have times of their own; the lidar's counts
    return (
        *(_token(1000 + at), START_US + at * 50_000 + late_us, x, y, 600.0, *turn),
        *(EGO_MPS, 0.0, 0.0, 0.0, 0.0, 0.0, *rates, 32611, log),
    )


def _box_rows(times: Sequence[float]) -> Iterable[tuple]:
    for at, time_s in enumerate(times):
        for i, other in enumerate(OTHERS):
            x, y = placed((other.x_m + other.speed_mps * time_s, other.y_m))
            forward = np.array([np.cos(TURN_RAD), np.sin(TURN_RAD)]) * other.speed_mps
            yield (
                *(_token(20_000_000 + 10 * at + i), bytes.fromhex(frame_token(at))),
                *(_key(other.key), None, None, x, y, 600.0),
                *(other.width_m, other.length_m, 1.5, *forward, 0.0, TURN_RAD, 0.9),
            )


def _frame_or_none(at: int, count: int) -> bytes | None:
    return bytes.fromhex(frame_token(at)) if 0 <= at < count else None


def _token(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _key(name: str) -> bytes:
    return bytes.fromhex(name.ljust(16, "0"))


def track_key(name: str) -> str:
    """Key of a track as it is read."""
    return name.ljust(16, "0")


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple]) -> None:
    marks = ", ".join("?" * len(rows[0]))
    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def openscene_frames(*, duration_s: float = 20.0) -> list[dict[str, Any]]:
    """The same drive as OpenScene stores it: every tenth frame, boxes in the rear axle's frame."""
    frames = []
    for at in range(0, round(duration_s * 20), 10):
        time_s = at * 0.05
        rear = np.array([EGO_START_M + EGO_MPS * time_s, -1.75])
        place = placed(rear)
        boxes = [
            (
                *(np.array([other.x_m + other.speed_mps * time_s, other.y_m]) - rear),
                *(0.3, other.length_m, other.width_m, 1.5, 0.0),
            )
            for other in OTHERS
        ]
        frames.append(
            {
                "token": frame_token(at),
                "timestamp": START_US + at * 50_000,
                "log_name": LOG,
                "scene_token": f"{200 + at // 80:016x}",
                "map_location": LOCATION,
                "ego2global_translation": np.array([*place, 600.0]),
                "ego2global_rotation": [np.cos(TURN_RAD / 2), 0.0, 0.0, np.sin(TURN_RAD / 2)],
                "ego_dynamic_state": [EGO_MPS, 0.0, 0.0, 0.0],
                "driving_command": np.array([0, 1, 0, 0]),
                "roadblock_ids": list(ROADBLOCKS),
                "traffic_lights": [(c, s == "red") for c, s in lights_at(time_s).items()],
                "cams": {"CAM_F0": {"data_path": "a.jpg", "cam_intrinsic": np.eye(3)}},
                "lidar_path": "a.pcd",
                "anns": {
                    "gt_boxes": np.array(boxes, dtype=np.float32),
                    "gt_names": np.array([other.category for other in OTHERS]),
                    "gt_velocity_3d": np.array(
                        [(other.speed_mps, 0.0, 0.0) for other in OTHERS], dtype=np.float32
                    ),
                    "instance_tokens": [f"{at}{other.key}" for other in OTHERS],
                    "track_tokens": [track_key(other.key) for other in OTHERS],
                },
            }
        )
    return frames


def write_openscene_log(path: Path, *, duration_s: float = 20.0) -> Path:
    """The drive as an OpenScene pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(openscene_frames(duration_s=duration_s)))
    return path


def write_filter(path: Path, tokens: Sequence[str], logs: Sequence[str] = (LOG,)) -> Path:
    """A scene filter as StyleDrive ships it."""
    lines = ["_convert_: all", "frame_interval: 1", "has_route: true", "log_names:"]
    lines += [f"- {log}" for log in logs]
    lines += ["max_scenes: null", "num_future_frames: 10", "num_history_frames: 4", "tokens:"]
    path.write_text("\n".join([*lines, *(f"- {token}" for token in tokens)]) + "\n")
    return path


_LOG_TABLES = """
CREATE TABLE log (token BLOB NOT NULL PRIMARY KEY, vehicle_name VARCHAR(64), date VARCHAR(64),
    timestamp INTEGER, logfile VARCHAR(64), location VARCHAR(64), map_version VARCHAR(64));
CREATE TABLE lidar (token BLOB NOT NULL PRIMARY KEY, log_token BLOB NOT NULL, channel VARCHAR(64),
    model VARCHAR(64), translation BLOB, rotation BLOB);
CREATE TABLE lidar_pc (token BLOB NOT NULL PRIMARY KEY, next_token BLOB, prev_token BLOB,
    ego_pose_token BLOB NOT NULL, lidar_token BLOB NOT NULL, scene_token BLOB,
    filename VARCHAR(128), timestamp INTEGER);
CREATE TABLE ego_pose (token BLOB NOT NULL PRIMARY KEY, timestamp INTEGER, x FLOAT, y FLOAT,
    z FLOAT, qw FLOAT, qx FLOAT, qy FLOAT, qz FLOAT, vx FLOAT, vy FLOAT, vz FLOAT,
    acceleration_x FLOAT, acceleration_y FLOAT, acceleration_z FLOAT, angular_rate_x FLOAT,
    angular_rate_y FLOAT, angular_rate_z FLOAT, epsg INTEGER, log_token BLOB NOT NULL);
CREATE TABLE scene (token BLOB NOT NULL PRIMARY KEY, log_token BLOB NOT NULL, name TEXT,
    goal_ego_pose_token BLOB, roadblock_ids TEXT);
CREATE TABLE traffic_light_status (token BLOB NOT NULL PRIMARY KEY, lidar_pc_token BLOB NOT NULL,
    lane_connector_id INTEGER, status VARCHAR(8));
CREATE TABLE lidar_box (token BLOB NOT NULL PRIMARY KEY, lidar_pc_token BLOB NOT NULL,
    track_token BLOB NOT NULL, next_token BLOB, prev_token BLOB, x FLOAT, y FLOAT, z FLOAT,
    width FLOAT, length FLOAT, height FLOAT, vx FLOAT, vy FLOAT, vz FLOAT, yaw FLOAT,
    confidence FLOAT);
CREATE TABLE category (token BLOB NOT NULL PRIMARY KEY, name VARCHAR(64), description TEXT);
CREATE TABLE scenario_tag (token BLOB NOT NULL PRIMARY KEY, lidar_pc_token BLOB NOT NULL,
    type TEXT, agent_track_token BLOB);
CREATE TABLE track (token BLOB NOT NULL PRIMARY KEY, category_token BLOB NOT NULL, width FLOAT,
    length FLOAT, height FLOAT);
CREATE TABLE image (token BLOB NOT NULL PRIMARY KEY, next_token BLOB, prev_token BLOB,
    ego_pose_token BLOB NOT NULL, camera_token BLOB NOT NULL, filename_jpg VARCHAR(128),
    timestamp INTEGER);
CREATE TABLE camera (token BLOB NOT NULL PRIMARY KEY, log_token BLOB NOT NULL, channel VARCHAR(64),
    model VARCHAR(64), translation BLOB, rotation BLOB, intrinsic BLOB, distortion BLOB,
    width FLOAT, height FLOAT);
CREATE INDEX ix_lidar_box_lidar_pc ON lidar_box (lidar_pc_token);
CREATE INDEX ix_traffic_light_status_lidar_pc ON traffic_light_status (lidar_pc_token);
"""
