"""Scenes of ScenarioNet: one pickle each, converted from nuScenes, Waymo, nuPlan and others.

Source:
    Li et al. (2023), ScenarioNet: Open-Source Platform for Large-Scale Traffic Scenario Simulation
    and Modeling, arXiv:2306.12241; the layout is MetaDrive's `ScenarioDescription`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_prep.errors import InputError
from data_prep.scenes.checked_values import mapping, numbers, text, word
from data_prep.scenes.found_files import found_files
from data_prep.scenes.raw_scene import RawScene, RejectedInput
from data_prep.scenes.restricted_pickle import load_restricted_pickle
from data_prep.scenes.scenarionet_map import read_map, with_signals
from data_prep.scenes.scenarionet_tracks import read_lights, read_tracks
from data_prep.scenes.source import SceneSource

_INDEX_FILES = frozenset({"dataset_summary.pkl", "dataset_mapping.pkl"})
_SHORTEST_STEP_S, _LONGEST_STEP_S = 0.005, 2.0


def _is_scene_file(file: Path) -> bool:
    return file.suffix == ".pkl" and file.name not in _INDEX_FILES


def _times(scene: Mapping, metadata: Mapping) -> Float[np.ndarray, " step"]:
    """Seconds since the scene began, one per step."""
    length = scene.get("length")
    if not isinstance(length, (int, np.integer)) or length < 2:
        raise InputError(f"its length is {text(length)[:40]}, not a count of at least 2 steps.")
    stated = metadata.get("ts", metadata.get("timestep"))
    if stated is None:
        step_s = metadata.get("sample_rate")
        step_s = float(step_s) if isinstance(step_s, (int, float)) and step_s > 0 else 0.1
        return np.arange(int(length)) * step_s
    time_s = numbers(stated, "its time stamps", dimensions=1)
    if len(time_s) != length or not np.isfinite(time_s).all() or (np.diff(time_s) <= 0).any():
        raise InputError(f"its time stamps are not {length} rising numbers.")
    step_s = float(np.median(np.diff(time_s)))
    if not _SHORTEST_STEP_S <= step_s <= _LONGEST_STEP_S:
        raise InputError(f"its time stamps are {step_s:g} apart, which are no seconds.")
    return time_s - time_s[0]


def _recording(metadata: Mapping, dataset: str, scene_key: str) -> str:
    """The log it was cut from; nuScenes names none, so a map on one day counts as one log."""
    for name in ("log_name", "log_token", "log_id", "log"):
        log = word(metadata, name)
        if log is not None:
            return f"{dataset}/{log}"
    place, date = word(metadata, "map"), word(metadata, "date")
    if place is not None and date is not None:
        return f"{dataset}/{place}/{date}"
    return f"{dataset}/{scene_key}"


def read_scenario(file: Path) -> tuple[RawScene, list[RejectedInput]]:
    """The scene in one file, and what of it was refused.

    Args:
        file: A pickle of ScenarioNet.

    Returns:
        The scene, in the frame of the file, and one entry per track, light or map feature (or kind
        of map feature) that cannot be used.

    Raises:
        InputError: If the file as a whole cannot be used, in one sentence.
    """
    scene = mapping(load_restricted_pickle(file), f"{file.name}: it")
    missing = [
        name for name in ("id", "length", "metadata", "tracks", "map_features") if name not in scene
    ]
    if missing:
        raise InputError(f"{file.name} has no {', '.join(missing)}; it is no scene of ScenarioNet.")
    try:
        return _scene(file, scene)
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from error


def _scene(file: Path, scene: Mapping) -> tuple[RawScene, list[RejectedInput]]:
    metadata = mapping(scene["metadata"], "metadata")
    dataset = word(metadata, "dataset") or "unknown"
    key = f"{dataset}/{word(metadata, 'scenario_id') or text(scene['id'])}"
    from_nuscenes = dataset == "nuscenes"
    sdc_id = metadata.get("sdc_id")
    ego_key = None if sdc_id is None else text(sdc_id)
    time_s = _times(scene, metadata)
    tracks = read_tracks(scene["tracks"], time_s, nuscenes_ego=ego_key if from_nuscenes else None)
    reading = read_map(scene["map_features"], from_nuscenes=from_nuscenes)
    lanes = frozenset(name for name, line in reading.lines.items() if line.kind == "lane_centre")
    lights, light_problems = read_lights(scene.get("dynamic_map_states"), time_s, lanes)
    problems = [*tracks.problems, *reading.problems, *light_problems]
    if ego_key not in {track.key for track in tracks.tracks}:
        if ego_key is not None:
            problems.append(f"its ego {ego_key} is not among the tracks that can be used.")
        ego_key = None
    raw_scene = RawScene(
        key=key,
        recording_key=_recording(metadata, dataset, text(scene["id"])),
        file=file.name,
        location=word(metadata, "map") or "unknown",
        map=with_signals(reading.lines, (light.line_key for light in lights), key),
        tracks=tuple(tracks.tracks),
        ego_key=ego_key,
        lights=tuple(lights),
        notes={"dataset": dataset, **tracks.notes, **reading.notes},
    )
    return raw_scene, [RejectedInput(file.name, f"scene {key}, {problem}") for problem in problems]


class ScenarioNetSource(SceneSource):
    """Scenes of ScenarioNet, from files or folders of them.

    Every `.pkl` below a folder is read, apart from the two index files of a database
    (`dataset_summary.pkl` and `dataset_mapping.pkl`); one that is no scene is refused by name.

    Args:
        paths: Files and folders.

    Source:
        Li et al. (2023), arXiv:2306.12241.
    """

    name = "scenarionet"

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(Path(path) for path in paths)

    def files(self) -> Sequence[Path]:
        """Every file that is read.

        Raises:
            InputError: If there is none.
        """
        return found_files(self._paths, _is_scene_file, "ScenarioNet pickles")[0]

    def scenes(self) -> Iterator[RawScene | RejectedInput]:
        """The scenes in the order of their files, each after what was refused in it."""
        files, outside = found_files(self._paths, _is_scene_file, "ScenarioNet pickles")
        for link in outside:
            yield RejectedInput(link.name, "it is a link that leads out of the given folder.")
        seen: dict[str, str] = {}
        for file in files:
            try:
                scene, problems = read_scenario(file)
            except InputError as error:
                yield RejectedInput(file.name, str(error))
                continue
            if scene.key in seen:
                reason = f"its scene {scene.key} was already read from {seen[scene.key]}."
                yield RejectedInput(file.name, reason)
                continue
            seen[scene.key] = file.name
            yield from problems
            yield scene
