"""nuPlan's logs: SQLite files of 20 frames a second, with maps in GeoPackages."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.errors import InputError
from data_prep.scenes.log_files import folder_split, log_files
from data_prep.scenes.nuplan_frames import (
    LogBoxes,
    LogFacts,
    LogFrames,
    drive_of,
    frames_between,
    heading_of,
    scene_of,
    stretches,
    yaw_rates,
)
from data_prep.scenes.raw_scene import Light, RawScene, RejectedInput
from data_prep.scenes.read_only_sqlite import read_only_sqlite, require_tables
from data_prep.scenes.scene_filter import read_scene_filter
from data_prep.scenes.source import SceneSource

if TYPE_CHECKING:
    from data_prep.scenes.nuplan_map import NuPlanMaps

_TABLES = (
    *("log", "lidar", "lidar_pc", "ego_pose", "scene"),
    *("lidar_box", "track", "category", "scenario_tag", "traffic_light_status"),
)
_US_PER_S = 1e6
_LIGHTS: Mapping[str, Light] = {"green": "green", "yellow": "yellow", "red": "red"}

_FRAMES = """
SELECT lp.token, lp.timestamp, ep.x, ep.y, ep.qw, ep.qx, ep.qy, ep.qz, ep.vx, ep.vy,
       ep.angular_rate_z, s.roadblock_ids
FROM lidar_pc AS lp
JOIN lidar AS l ON l.token = lp.lidar_token AND l.channel = 'MergedPointCloud'
JOIN ego_pose AS ep ON ep.token = lp.ego_pose_token
LEFT JOIN scene AS s ON s.token = lp.scene_token
ORDER BY lp.timestamp
"""
_BOXES = """
SELECT lp.timestamp, lb.track_token, c.name, lb.x, lb.y, lb.yaw, lb.length, lb.width, lb.vx, lb.vy
FROM lidar_pc AS lp
JOIN lidar AS l ON l.token = lp.lidar_token AND l.channel = 'MergedPointCloud'
JOIN lidar_box AS lb ON lb.lidar_pc_token = lp.token
JOIN track AS t ON t.token = lb.track_token
JOIN category AS c ON c.token = t.category_token
WHERE lp.timestamp BETWEEN ? AND ?
ORDER BY lp.timestamp, lb.track_token
"""
_SIGNALS = "SELECT lidar_pc_token, lane_connector_id, status FROM traffic_light_status"
_TAGS = "SELECT lidar_pc_token, type FROM scenario_tag ORDER BY type"


class NuPlanSource(SceneSource):
    """Reads nuPlan's databases.

    A log becomes scenes of at most a minute (`data_prep.scenes.nuplan_frames.stretches`), all cut
    from one drive. The pose in `ego_pose` is that of the rear axle and counts at the time of the
    lidar frame that refers to it; velocities of others are a network's estimates. The map is the
    one that `log.map_version` names, or else `log.location`. Tokens are those of lidar frames, by
    which NAVSIM and StyleDrive name moments too.
    """

    name = "nuplan"

    def __init__(
        self,
        logs: Sequence[Path],
        maps: Path,
        *,
        tokens: Path | None = None,
        radius_m: float = 200.0,
    ) -> None:
        """Choose what to read.

        Args:
            logs: Databases, or folders with databases.
            maps: Folder of the maps.
            tokens: Scene filter of NAVSIM or StyleDrive. With one, only stretches are read in
                which a token lies, and only those tokens are kept; without one everything is read
                and the frames with a scenario tag keep their token.
            radius_m: How far around the ego's path the map reaches.
        """
        self._logs, self._maps_folder, self._tokens = tuple(logs), maps, tokens
        self._radius_m = radius_m

    def files(self) -> Sequence[Path]:
        """Every database, every map and the filter."""
        filters = () if self._tokens is None else (self._tokens,)
        return (*log_files(self._logs, ".db"), *open_maps(self._maps_folder).files(), *filters)

    def scenes(self) -> Iterator[RawScene | RejectedInput]:
        """Scenes of one database after another."""
        self._filter = read_scene_filter(self._tokens)
        maps = open_maps(self._maps_folder)
        for path in log_files(self._logs, ".db"):
            if not self._filter.wants_log(path.stem):
                continue
            try:
                yield from self._scenes_of(path, maps)
            except InputError as error:
                yield RejectedInput(file=path.name, reason=str(error))

    def _scenes_of(self, path: Path, maps: "NuPlanMaps") -> Iterator[RawScene | RejectedInput]:
        log = path.stem
        with read_only_sqlite(path) as connection:
            require_tables(path, connection, _TABLES)
            row = connection.execute("SELECT map_version, location FROM log").fetchone()
            if row is None:
                raise InputError(f"{path} has an empty table log.")
            whole_map = maps.location(row["map_version"], row["location"])
            frames, start_us = read_frames(path, connection)
            tags = dict(_tags(connection))
            kept = self._kept(list(frames.tokens), tags)
            facts = LogFacts(
                log=log,
                file=path.name,
                location=whole_map.location,
                map=whole_map.around(
                    frames.centres_m(), key=f"{whole_map.location}/{log}", radius_m=self._radius_m
                ),
                split=folder_split(path, drive_of(log)),
            )
            for stretch in stretches(log, frames.time_s):
                own = frames.tokens[stretch.own_first : stretch.own_stop]
                if self._filter.tokens is not None and kept.isdisjoint(own):
                    continue
                if stretch.stop - stretch.first < 2:
                    yield RejectedInput(path.name, f"scene {stretch.key} has a single frame.")
                    continue
                here = frames_between(frames, stretch)
                yield scene_of(
                    facts,
                    stretch,
                    here,
                    read_boxes(connection, here, start_us),
                    lanes=whole_map.lanes,
                    tokens=kept,
                    tags={token: tags[token] for token in here.tokens if token in tags},
                )

    def _kept(self, tokens: list[str], tags: Mapping[str, str]) -> frozenset[str]:
        if self._filter.tokens is None:
            return frozenset(token for token in tokens if token in tags)
        return self._filter.wanted(tokens)


def open_maps(folder: Path) -> "NuPlanMaps":
    """The folder of maps.

    Raises:
        InputError: If the extra [nuplan] is missing.
    """
    try:
        from data_prep.scenes.nuplan_map import NuPlanMaps
    except ImportError as error:
        raise InputError("nuPlan's maps need shapely; install the extra [nuplan].") from error
    return NuPlanMaps(folder)


def read_frames(path: Path, connection: sqlite3.Connection) -> tuple[LogFrames, int]:
    """Every frame of a log in seconds since the first one, and that one's time in microseconds.

    Args:
        path: The database, for messages.
        connection: To it.

    Raises:
        InputError: If there is no frame, or a pose of the ego is missing.
    """
    rows = connection.execute(_FRAMES).fetchall()
    if not rows:
        raise InputError(f"{path} has no frame of the lidar MergedPointCloud with an ego pose.")
    numbers = np.array([tuple(row)[2:11] for row in rows], dtype=np.float64)
    if not np.isfinite(numbers[:, :6]).all():
        at = int(np.flatnonzero(~np.isfinite(numbers[:, :6]).all(-1))[0])
        raise InputError(f"{path} has no finite ego pose at frame {rows[at]['token'].hex()}.")
    start_us = rows[0]["timestamp"]
    time_s = np.array([row["timestamp"] - start_us for row in rows]) / _US_PER_S
    heading = heading_of(numbers[:, 2:6])
    measured = numbers[:, 8]
    lights = dict[bytes, dict[str, Light]]()
    for token, connector, status in connection.execute(_SIGNALS):
        lights.setdefault(token, {})[str(connector)] = _LIGHTS.get(status, "unknown")
    frames = LogFrames(
        time_s=time_s,
        tokens=[row["token"].hex() for row in rows],
        rear_axle=np.c_[numbers[:, :2], heading],
        velocity_mps=numbers[:, 6:8],
        yaw_rate_radps=np.where(np.isfinite(measured), measured, yaw_rates(heading, time_s)),
        roadblocks=[(row["roadblock_ids"] or "").split() for row in rows],
        lights=[lights.get(row["token"], {}) for row in rows],
    )
    return frames, start_us


def read_boxes(connection: sqlite3.Connection, frames: LogFrames, start_us: int) -> LogBoxes:
    """The boxes of the others from the first to the last of some frames."""
    first, last = (start_us + round(float(time) * _US_PER_S) for time in frames.time_s[[0, -1]])
    rows = connection.execute(_BOXES, (first, last)).fetchall()
    numbers = np.array([tuple(row)[3:] for row in rows], dtype=np.float64).reshape(len(rows), 7)
    return LogBoxes(
        time_s=np.array([row["timestamp"] - start_us for row in rows]) / _US_PER_S,
        track_keys=[row["track_token"].hex() for row in rows],
        categories=[row["name"] for row in rows],
        poses=numbers[:, :3],
        sizes_m=numbers[:, 3:5],
        velocities_mps=numbers[:, 5:7],
    )


def _tags(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    for token, kind in connection.execute(_TAGS):
        yield token.hex(), kind
