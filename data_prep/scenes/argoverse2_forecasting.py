"""Motion-forecasting scenarios of Argoverse 2: tracks of 11 s at 10 Hz, and a map.

Positions, headings and velocities are in the city's frame. Sizes are not in the file: each kind
gets the median of the boxes in four of the sensor logs (`DEFAULT_SIZES_M`), so gaps and overlaps
are only as good as that. The ego is the track `AV`; whether its position is its centre, as that of
the others, the publication does not say. Scenarios cut from the same slice of a drive share it.

Source:
    Wilson et al. (2021), Argoverse 2, arXiv:2301.00493.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from data_prep.errors import InputError
from data_prep.scenes.argoverse2_map import read_argoverse2_map
from data_prep.scenes.argoverse2_tables import read_columns
from data_prep.scenes.found_files import found_files
from data_prep.scenes.raw_scene import AgentKind, RawScene, RawTrack, RejectedInput
from data_prep.scenes.source import SceneSource

EGO_KEY = "AV"
STEP_S = 0.1
_KINDS: Mapping[str, AgentKind] = {
    "vehicle": "vehicle",
    "bus": "vehicle",
    "motorcyclist": "vehicle",
    "pedestrian": "pedestrian",
    "cyclist": "cyclist",
    "riderless_bicycle": "other",
    "static": "static",
    "background": "static",
    "construction": "static",
    "unknown": "other",
}
DEFAULT_SIZES_M: Mapping[str, tuple[float, float]] = {
    "vehicle": (4.0, 1.9),
    "bus": (11.6, 2.9),
    "motorcyclist": (1.8, 0.6),
    "pedestrian": (0.7, 0.7),
    "cyclist": (1.6, 0.6),
    "riderless_bicycle": (1.6, 0.6),
    "static": (0.4, 0.4),
    "background": (0.4, 0.4),
    "construction": (0.3, 0.3),
    "unknown": (1.0, 1.0),
}
"""Length and width in metres by object type: medians over the tracks of four sensor logs (300
regular vehicles, 3 buses, 5 motorcycles, 69 pedestrians, 15 bicycles, 55 bollards, 13 cones);
`unknown` is ours. The ego's is in `EGO_SIZE_M`."""
EGO_SIZE_M = (4.877, 2.0)
_NUMBERS = ("position_x", "position_y", "heading", "velocity_x", "velocity_y")
_TEXTS = ("track_id", "object_type", "scenario_id", "city")
_LARGEST_HEADING_RAD = 4 * np.pi + 0.1


def _track(key: str, rows: pl.DataFrame) -> RawTrack:
    kind = str(rows["object_type"][0])
    length_m, width_m = (
        EGO_SIZE_M if key == EGO_KEY else DEFAULT_SIZES_M.get(kind, DEFAULT_SIZES_M["unknown"])
    )
    steps = rows["timestep"].to_numpy()
    if len(np.unique(steps)) != len(steps):
        raise InputError("it has two states at one step.")
    heading = rows["heading"].to_numpy()
    if np.abs(heading).max() > _LARGEST_HEADING_RAD:
        raise InputError(
            f"its heading reaches {np.abs(heading).max():.1f}, which is degrees, not radians."
        )
    return RawTrack(
        key=key,
        kind=_KINDS.get(kind, "other"),
        length_m=length_m,
        width_m=width_m,
        time_s=steps * STEP_S,
        x_m=rows["position_x"].to_numpy(),
        y_m=rows["position_y"].to_numpy(),
        heading_rad=np.pi - (np.pi - heading) % (2 * np.pi),
        velocity_mps=rows.select("velocity_x", "velocity_y").to_numpy(),
    )


def _tracks(table: pl.DataFrame) -> tuple[list[RawTrack], list[str]]:
    tracks, problems = [], []
    for rows in table.sort("track_id", "timestep").partition_by("track_id"):
        key = str(rows["track_id"][0])
        try:
            tracks.append(_track(key, rows))
        except InputError as error:
            problems.append(f"track {key}: {error}")
    if not tracks:
        raise InputError("none of its tracks can be used.")
    return tracks, problems


def _map_file(scenario: Path) -> Path:
    name = scenario.stem.removeprefix("scenario_")
    file = scenario.parent / f"log_map_archive_{name}.json"
    if not (file.is_file() and file.resolve().is_relative_to(scenario.parent.resolve())):
        raise InputError(f"{scenario.name} has no map {file.name} beside it.")
    return file


def _slice_id(file: Path, table: pl.DataFrame) -> str | None:
    """The slice of a drive it was cut from; older files have no such column."""
    if "slice_id" not in pl.read_parquet_schema(file):
        return None
    values = pl.read_parquet(file, columns=["slice_id"], n_rows=min(len(table), 1))["slice_id"]
    return str(values[0]) if values[0] is not None else None


def read_forecasting_scenario(file: Path) -> tuple[RawScene, list[RejectedInput]]:
    """The scene in one scenario, and what of it was refused.

    Args:
        file: A `scenario_*.parquet` with its `log_map_archive_*.json` beside it.

    Returns:
        The scene in the city's frame.

    Raises:
        InputError: If the scenario as a whole cannot be used, in one sentence.
    """
    map_file = _map_file(file)
    table = read_columns(file, _NUMBERS, _TEXTS, ("timestep",))
    key, first_step = str(table["scenario_id"][0]), table["timestep"].min()
    if table["scenario_id"].n_unique() != 1 or not isinstance(first_step, int) or first_step < 0:
        raise InputError(f"{file.name} is not one scenario whose steps count from 0.")
    tracks, track_problems = _tracks(table)
    archive = read_argoverse2_map(map_file, key)
    unknown = sorted(set(table["object_type"].unique()) - set(_KINDS))
    notes = {**archive.notes, "sizes_are_defaults": True}
    if unknown:
        notes["unknown_kinds"] = ", ".join(unknown)
        odd = table.filter(pl.col("object_type").is_in(unknown))
        notes["unknown_kind_tracks"] = odd["track_id"].n_unique()
    scene = RawScene(
        key=key,
        recording_key=_slice_id(file, table) or key,
        file=file.name,
        location=str(table["city"][0]),
        map=archive.map,
        tracks=tuple(tracks),
        ego_key=EGO_KEY if any(track.key == EGO_KEY for track in tracks) else None,
        notes=notes,
    )
    problems = (*track_problems, *archive.problems)
    return scene, [RejectedInput(file.name, f"scenario {key}, {problem}") for problem in problems]


class Argoverse2ForecastingSource(SceneSource):
    """Motion-forecasting scenarios of Argoverse 2, from files or folders of them.

    Args:
        paths: `scenario_*.parquet` files, or folders with such files below them.

    Source:
        Wilson et al. (2021), arXiv:2301.00493.
    """

    name = "argoverse2-forecasting"

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(Path(path) for path in paths)

    def _found(self) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        return found_files(
            self._paths,
            lambda file: file.suffix == ".parquet" and file.name.startswith("scenario_"),
            "scenarios of Argoverse 2 (scenario_*.parquet)",
        )

    def files(self) -> Sequence[Path]:
        """Every file that is read: the scenarios and their maps.

        Raises:
            InputError: If there is none.
        """
        files: list[Path] = []
        for scenario in self._found()[0]:
            files.append(scenario)
            try:
                files.append(_map_file(scenario))
            except InputError:
                continue  # `scenes` says so in its place
        return files

    def scenes(self) -> Iterator[RawScene | RejectedInput]:
        """The scenes in the order of their files, each after what was refused in it."""
        files, outside = self._found()
        for link in outside:
            yield RejectedInput(link.name, "it is a link that leads out of the given folder.")
        seen: set[str] = set()
        for file in files:
            try:
                scene, problems = read_forecasting_scenario(file)
            except InputError as error:
                yield RejectedInput(file.name, str(error))
                continue
            if scene.key in seen:
                yield RejectedInput(file.name, f"the scenario {scene.key} was already read.")
                continue
            seen.add(scene.key)
            yield from problems
            yield scene
