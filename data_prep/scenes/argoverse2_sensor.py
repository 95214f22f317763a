"""Sensor logs of Argoverse 2: annotated boxes, the ego's pose and a map, about 15 s at 10 Hz.

Boxes are given in the ego's frame at the moment of their sweep and are moved to the city's frame
with the ego's full rotation. That frame sits at the middle of the rear axle, 1.339 m behind the
centre of the car (measured on the samples: its sideways velocity in turns is zero). Boxes are
centres. There are no velocities.

Source:
    Wilson et al. (2021), Argoverse 2, arXiv:2301.00493. The ego's length and width are those of the
    `EGO_VEHICLE` boxes some releases carry (4.877 m by 2.0 m, a Ford Fusion Hybrid); the distance
    from its rear axle to its centre is the estimate of py123d
    (`get_av2_ford_fusion_hybrid_parameters`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from data_prep.errors import InputError
from data_prep.scenes.argoverse2_map import read_argoverse2_map
from data_prep.scenes.argoverse2_tables import read_columns
from data_prep.scenes.found_files import found_files
from data_prep.scenes.raw_scene import AgentKind, RawScene, RawTrack, RejectedInput
from data_prep.scenes.source import SceneSource

EGO_KEY = "EGO_VEHICLE"
EGO_LENGTH_M, EGO_WIDTH_M = 4.877, 2.0
EGO_AXLE_TO_CENTRE_M = 1.339
_POSES = "city_SE3_egovehicle.feather"
_ANNOTATIONS = ("annotations.feather", "annotations_with_ego.feather")
_POSE = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
_SIZE = ("length_m", "width_m")
_FARTHEST_POSE_NS = 5_000_000
_UNIT_TOLERANCE = 0.02

_VEHICLES = (
    "REGULAR_VEHICLE LARGE_VEHICLE BUS SCHOOL_BUS ARTICULATED_BUS BOX_TRUCK TRUCK TRUCK_CAB "
    "VEHICULAR_TRAILER MOTORCYCLE RAILED_VEHICLE EGO_VEHICLE"
)
_STATICS = (
    "BOLLARD CONSTRUCTION_CONE CONSTRUCTION_BARREL SIGN STOP_SIGN MESSAGE_BOARD_TRAILER "
    "MOBILE_PEDESTRIAN_CROSSING_SIGN TRAFFIC_LIGHT_TRAILER MOBILE_PEDESTRIAN_SIGN"
)
_OTHERS = "BICYCLE MOTORCYCLIST WHEELED_DEVICE STROLLER WHEELCHAIR DOG ANIMAL"
_KINDS: Mapping[str, AgentKind] = {
    **dict.fromkeys(_VEHICLES.split(), "vehicle"),
    **dict.fromkeys(("PEDESTRIAN", "OFFICIAL_SIGNALER"), "pedestrian"),
    **dict.fromkeys(("BICYCLIST", "WHEELED_RIDER"), "cyclist"),
    **dict.fromkeys(_STATICS.split(), "static"),
    **dict.fromkeys(_OTHERS.split(), "other"),
}
"""A bicycle or motorcyclist has a box of its own beside the rider's or the motorcycle's."""


def rotation_matrices(
    quaternions: Float[np.ndarray, "row 4"],
) -> Float[np.ndarray, "row 3 3"]:
    """Rotations from unit quaternions.

    Args:
        quaternions: The real part first: w, x, y, z. Their lengths are taken out.
    """
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1),
        ],
        axis=1,
    )


def _pose_table(file: Path, texts: Sequence[str], sizes: Sequence[str]) -> pl.DataFrame:
    table = read_columns(file, (*_POSE, *sizes), texts, ("timestamp_ns",))
    lengths = np.linalg.norm(table.select("qw", "qx", "qy", "qz").to_numpy(), axis=1)
    if (np.abs(lengths - 1) > _UNIT_TOLERANCE).any():
        raise InputError(f"{file.name} has rotations that are no unit quaternions.")
    return table.sort("timestamp_ns", maintain_order=True)


def _nearest(
    wanted_ns: Int[np.ndarray, " row"], stamps_ns: Int[np.ndarray, " pose"]
) -> Int[np.ndarray, " row"]:
    """Index of the pose nearest in time to each row."""
    after = np.clip(np.searchsorted(stamps_ns, wanted_ns), 1, max(len(stamps_ns) - 1, 1))
    after = np.minimum(after, len(stamps_ns) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(wanted_ns - stamps_ns[before] <= stamps_ns[after] - wanted_ns, before, after)
    far_ns = int(np.abs(stamps_ns[nearest] - wanted_ns).max())
    if far_ns > _FARTHEST_POSE_NS:
        raise InputError(
            f"{_POSES} has no pose within 5 ms of a sweep; the nearest is {far_ns} ns off."
        )
    return nearest


def _in_city(boxes: pl.DataFrame, poses: pl.DataFrame) -> pl.DataFrame:
    """The boxes with `x_m`, `y_m` and `heading_rad` in the city's frame."""
    rows = _nearest(boxes["timestamp_ns"].to_numpy(), poses["timestamp_ns"].to_numpy())
    rotation = rotation_matrices(poses.select("qw", "qx", "qy", "qz").to_numpy())[rows]
    origin = poses.select("tx_m", "ty_m", "tz_m").to_numpy()[rows]
    own = rotation_matrices(boxes.select("qw", "qx", "qy", "qz").to_numpy())
    centre = np.einsum("nij,nj->ni", rotation, boxes.select("tx_m", "ty_m", "tz_m").to_numpy())
    forward = np.einsum("nij,nj->ni", rotation, own[:, :, 0])
    return boxes.with_columns(
        pl.Series("x_m", centre[:, 0] + origin[:, 0]),
        pl.Series("y_m", centre[:, 1] + origin[:, 1]),
        pl.Series("heading_rad", np.arctan2(forward[:, 1], forward[:, 0])),
    )


def _with_ego(boxes: pl.DataFrame) -> pl.DataFrame:
    """The boxes with exactly one of the ego per sweep, at its centre.

    Releases that carry the ego put its box at the origin, which is the rear axle; only a box that
    was put elsewhere is believed.
    """
    stated = boxes.filter(pl.col("category") == EGO_KEY)
    off = stated.filter(pl.col("tx_m").abs() > 0.1)
    ahead_m = float(off["tx_m"].mean()) if len(off) else EGO_AXLE_TO_CENTRE_M  # type: ignore[arg-type]
    length_m, width_m = (
        (float(stated["length_m"][0]), float(stated["width_m"][0]))
        if len(stated)
        else (EGO_LENGTH_M, EGO_WIDTH_M)
    )
    sweeps = boxes.select("timestamp_ns").unique().sort("timestamp_ns")
    ego = sweeps.with_columns(
        pl.lit(EGO_KEY).alias("track_uuid"),
        pl.lit(EGO_KEY).alias("category"),
        *(
            pl.lit(value).alias(name)
            for name, value in (("length_m", length_m), ("width_m", width_m))
        ),
        *(
            pl.lit(value).alias(name)
            for name, value in zip(_POSE, (1.0, 0.0, 0.0, 0.0, ahead_m, 0.0, 0.0), strict=True)
        ),
    )
    others = boxes.filter(pl.col("category") != EGO_KEY)
    return pl.concat([others, ego.select(others.columns)])


def _tracks(boxes: pl.DataFrame) -> tuple[list[RawTrack], list[str]]:
    start_ns = int(boxes["timestamp_ns"].min())  # type: ignore[arg-type]
    tracks, problems = [], []
    for track in boxes.sort("track_uuid", "timestamp_ns").partition_by("track_uuid"):
        key = str(track["track_uuid"][0])
        length_m, width_m = (float(np.median(track[name].to_numpy())) for name in _SIZE)
        if length_m <= 0 or width_m <= 0:
            problems.append(f"track {key}: its box is {length_m:g} m by {width_m:g} m.")
            continue
        if track["timestamp_ns"].n_unique() != len(track):
            problems.append(f"track {key}: it has two boxes in one sweep.")
            continue
        tracks.append(
            RawTrack(
                key=key,
                kind=_KINDS.get(str(track["category"][0]), "other"),
                length_m=length_m,
                width_m=width_m,
                time_s=(track["timestamp_ns"].to_numpy() - start_ns) / 1e9,
                x_m=track["x_m"].to_numpy(),
                y_m=track["y_m"].to_numpy(),
                heading_rad=track["heading_rad"].to_numpy(),
            )
        )
    return tracks, problems


def _map_file(folder: Path) -> Path:
    """The map beside the poses or in the folder `map`, as the two releases have it."""
    files = sorted(
        (*folder.glob("log_map_archive_*.json"), *folder.glob("map/log_map_archive_*.json"))
    )
    inside = [file for file in files if file.resolve().is_relative_to(folder.resolve())]
    if len(inside) != 1:
        raise InputError(f"it has {len(inside)} map archives (log_map_archive_*.json), not one.")
    return inside[0]


def _annotations_file(folder: Path) -> Path:
    for name in _ANNOTATIONS:
        file = folder / name
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            return file
    raise InputError(f"it has no {_ANNOTATIONS[0]}; logs without boxes cannot be used.")


def _city(map_file: Path) -> str:
    """The city from the archive's name, such as PIT in `..____PIT_city_57819.json`."""
    _, separator, place = map_file.stem.partition("____")
    return place.split("_")[0] if separator else "unknown"


def read_sensor_log(folder: Path) -> tuple[RawScene, list[RejectedInput]]:
    """The scene in one log, and what of it was refused.

    Args:
        folder: The log's folder: poses, annotations, and the map in it or in its folder `map`.

    Returns:
        The scene in the city's frame; time 0 is the first sweep with a box.

    Raises:
        InputError: If the log as a whole cannot be used, in one sentence.
    """
    annotations, map_file = _annotations_file(folder), _map_file(folder)
    key = folder.resolve().name
    poses = _pose_table(folder / _POSES, (), ()).unique(
        "timestamp_ns", keep="first", maintain_order=True
    )
    boxes = _pose_table(annotations, ("track_uuid", "category"), _SIZE)
    unknown = sorted(set(boxes["category"].unique()) - set(_KINDS))
    tracks, track_problems = _tracks(_in_city(_with_ego(boxes), poses))
    archive = read_argoverse2_map(map_file, key)
    notes = dict(archive.notes)
    if unknown:
        known = boxes.filter(pl.col("category").is_in(unknown))
        notes |= {
            "unknown_kinds": ", ".join(unknown),
            "unknown_kind_tracks": known["track_uuid"].n_unique(),
        }
    scene = RawScene(
        key=key,
        recording_key=key,
        file=f"{key}/{annotations.name}",
        location=_city(map_file),
        map=archive.map,
        tracks=tuple(tracks),
        ego_key=EGO_KEY,
        notes=notes,
    )
    problems = (*track_problems, *archive.problems)
    return scene, [RejectedInput(scene.file, f"log {key}, {problem}") for problem in problems]


class Argoverse2SensorSource(SceneSource):
    """Sensor logs of Argoverse 2, from their folders or folders of them.

    Args:
        paths: Folders (or a log's pose file itself).

    Source:
        Wilson et al. (2021), arXiv:2301.00493.
    """

    name = "argoverse2-sensor"

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(Path(path) for path in paths)

    def _found(self) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        what = f"sensor logs of Argoverse 2 ({_POSES})"
        return found_files(self._paths, lambda file: file.name == _POSES, what)

    def files(self) -> Sequence[Path]:
        """Every file that is read: of each log the poses, the boxes and the map.

        Raises:
            InputError: If there is no log.
        """
        files: list[Path] = []
        for poses in self._found()[0]:
            files.append(poses)
            for find in (_annotations_file, _map_file):
                try:
                    files.append(find(poses.parent))
                except InputError:
                    continue  # `scenes` says so in its place
        return files

    def scenes(self) -> Iterator[RawScene | RejectedInput]:
        """The scenes in the order of their folders, each after what was refused in it."""
        logs, outside = self._found()
        for link in outside:
            yield RejectedInput(link.name, "it is a link that leads out of the given folder.")
        seen: set[str] = set()
        for poses in logs:
            file = f"{poses.parent.resolve().name}/{poses.name}"
            try:
                scene, problems = read_sensor_log(poses.parent)
            except InputError as error:
                yield RejectedInput(file, str(error))
                continue
            if scene.key in seen:
                yield RejectedInput(file, f"the log {scene.key} was already read.")
                continue
            seen.add(scene.key)
            yield from problems
            yield scene
