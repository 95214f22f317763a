"""OpenScene's and NAVSIM's logs: pickled lists of frames, two a second, on nuPlan's maps."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.errors import InputError
from data_prep.scenes.log_files import folder_split, log_files
from data_prep.scenes.nuplan import open_maps
from data_prep.scenes.nuplan_frames import (
    LogBoxes,
    LogFacts,
    LogFrames,
    boxes_between,
    drive_of,
    frames_between,
    heading_of,
    rotated,
    scene_of,
    stretches,
    yaw_rates,
)
from data_prep.scenes.raw_scene import Light, RawScene, RejectedInput
from data_prep.scenes.restricted_pickle import load_restricted_pickle
from data_prep.scenes.scene_filter import read_scene_filter
from data_prep.scenes.source import SceneSource

if TYPE_CHECKING:
    from data_prep.scenes.nuplan_map import NuPlanMaps

_US_PER_S = 1e6
_FRAME_KEYS = (
    *("token", "timestamp", "map_location", "ego2global_translation", "ego2global_rotation"),
    *("ego_dynamic_state", "roadblock_ids", "traffic_lights", "anns"),
)
_BOX_KEYS = ("gt_boxes", "gt_names", "gt_velocity_3d", "track_tokens")


class OpenSceneSource(SceneSource):
    """Reads OpenScene's logs, which NAVSIM and StyleDrive are made of.

    `ego2global` is the pose of the rear axle. Boxes (x, y, z, length, width, height, heading) and
    velocities are given in that frame, turned by the heading alone, as NAVSIM reads them. A log
    becomes scenes of at most a minute (`data_prep.scenes.nuplan_frames.stretches`), each with the
    1.5 s before and the 5 s after every token that StyleDrive looks at. In a folder called `test`,
    `val`, `train` or `trainval` the split is fixed.
    """

    name = "openscene"

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
            logs: Pickles, or folders with pickles.
            maps: Folder of nuPlan's maps.
            tokens: Scene filter of NAVSIM or StyleDrive. With one, only stretches are read in
                which a token lies, and only those tokens are kept; without one everything.
            radius_m: How far around the ego's path the map reaches.
        """
        self._logs, self._maps_folder, self._tokens = tuple(logs), maps, tokens
        self._radius_m = radius_m

    def files(self) -> Sequence[Path]:
        """Every log, every map and the filter."""
        filters = () if self._tokens is None else (self._tokens,)
        return (*log_files(self._logs, ".pkl"), *open_maps(self._maps_folder).files(), *filters)

    def scenes(self) -> Iterator[RawScene | RejectedInput]:
        """Scenes of one log after another."""
        self._filter = read_scene_filter(self._tokens)
        maps = open_maps(self._maps_folder)
        for path in log_files(self._logs, ".pkl"):
            if not self._filter.wants_log(path.stem):
                continue
            try:
                yield from self._scenes_of(path, maps)
            except InputError as error:
                yield RejectedInput(file=path.name, reason=str(error))

    def _scenes_of(self, path: Path, maps: "NuPlanMaps") -> Iterator[RawScene | RejectedInput]:
        log = path.stem
        content = checked_frames(path, load_restricted_pickle(path))
        whole_map = maps.location(content[0]["map_location"])
        frames, boxes = read_log(path, content)
        kept = self._filter.wanted(list(frames.tokens))
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
            around = boxes_between(boxes, here)
            yield scene_of(facts, stretch, here, around, lanes=whole_map.lanes, tokens=kept)


def checked_frames(path: Path, content: object) -> list[Mapping[str, Any]]:
    """The frames of a log in the order of time.

    Args:
        path: The file, for messages.
        content: What was in it.

    Raises:
        InputError: If it is no list of frames, or one lacks a key.
    """
    if not isinstance(content, list) or not content:
        raise InputError(f"{path} is no OpenScene log: it holds no list of frames.")
    for at, frame in enumerate(content):
        if not isinstance(frame, dict):
            raise InputError(f"{path} is no OpenScene log: frame {at} is no dict.")
        missing = [key for key in _FRAME_KEYS if key not in frame]
        missing += [key for key in _BOX_KEYS if not missing and key not in (frame["anns"] or {})]
        if missing:
            raise InputError(f"{path} lacks {missing[0]} in frame {at}; is it an OpenScene log?")
        if not isinstance(frame["timestamp"], (int, np.integer)):
            raise InputError(f"{path} has a value of a wrong form: the timestamp of frame {at}.")
    return sorted(content, key=lambda frame: int(frame["timestamp"]))


def read_log(path: Path, content: Sequence[Mapping[str, Any]]) -> tuple[LogFrames, LogBoxes]:
    """A whole log in the map's frame, in seconds since its first frame.

    Args:
        path: The file, for messages.
        content: Its frames.

    Raises:
        InputError: If a number is missing or is none.
    """
    try:
        start_us = int(content[0]["timestamp"])
        time_s = np.array([int(frame["timestamp"]) - start_us for frame in content]) / _US_PER_S
        places = np.array([frame["ego2global_translation"] for frame in content], dtype=np.float64)
        turns = np.array([frame["ego2global_rotation"] for frame in content], dtype=np.float64)
        dynamics = np.array([frame["ego_dynamic_state"] for frame in content], dtype=np.float64)
        rear_axle = np.c_[places[:, :2], heading_of(turns)]
        boxes = [_boxes(frame, pose) for frame, pose in zip(content, rear_axle, strict=True)]
        lights: list[dict[str, Light]] = [
            {
                str(connector): "red" if red else "green"
                for connector, red in frame["traffic_lights"]
            }
            for frame in content
        ]
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} has a value of a wrong form: {error}.") from error
    if not np.isfinite(rear_axle).all():
        at = int(np.flatnonzero(~np.isfinite(rear_axle).all(-1))[0])
        raise InputError(f"{path} has no finite ego pose at frame {content[at]['token']}.")
    frames = LogFrames(
        time_s=time_s,
        tokens=[str(frame["token"]) for frame in content],
        rear_axle=rear_axle,
        velocity_mps=dynamics[:, :2],
        yaw_rate_radps=yaw_rates(rear_axle[:, 2], time_s),
        roadblocks=[[str(block) for block in frame["roadblock_ids"]] for frame in content],
        lights=lights,
    )
    return frames, _gathered(content, boxes, time_s)


def _boxes(frame: Mapping[str, Any], pose: np.ndarray) -> np.ndarray:
    """x, y, heading, length, width and velocity of each box in the map's frame."""
    boxes = np.asarray(frame["anns"]["gt_boxes"], dtype=np.float64).reshape(-1, 7)
    moves = np.asarray(frame["anns"]["gt_velocity_3d"], dtype=np.float64).reshape(-1, 3)
    counts = [len(frame["anns"][key]) for key in ("gt_names", "gt_velocity_3d", "track_tokens")]
    if any(count != len(boxes) for count in counts):
        raise ValueError(f"frame {frame['token']} has not one name and velocity for each box")
    turn = np.full(len(boxes), pose[2])
    return np.c_[
        rotated(boxes[:, :2], turn) + pose[:2],
        np.angle(np.exp(1j * (boxes[:, 6] + pose[2]))),
        boxes[:, 3:5],
        rotated(moves[:, :2], turn),
    ]


def _gathered(
    content: Sequence[Mapping[str, Any]], boxes: Sequence[np.ndarray], time_s: np.ndarray
) -> LogBoxes:
    rows = np.concatenate([*boxes, np.zeros((0, 7))])
    counts = [len(part) for part in boxes]
    return LogBoxes(
        time_s=np.repeat(time_s, counts),
        track_keys=[str(key) for frame in content for key in frame["anns"]["track_tokens"]],
        categories=[str(name) for frame in content for name in frame["anns"]["gt_names"]],
        poses=rows[:, :3],
        sizes_m=rows[:, 3:5],
        velocities_mps=rows[:, 5:7],
    )
