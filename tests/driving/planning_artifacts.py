"""Small artifacts to train planners on: scenes whose cars keep their speed, styles that tell it."""

from pathlib import Path

import numpy as np
import polars as pl

from data_prep.artifact import create_artifact
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from data_prep.scenes.tables import LIGHT_STATES, MAP_LINES, MAPS, SCENES, STATES, TRACKS
from data_prep.schema import PREFERENCES
from driving.planner.batch import SUB_SCORES
from driving.style.driver_preferences import Reading, driver_preferences
from driving.style.measure_table import MEASURE_TABLE
from driving.style.measures import MEASURE_NAMES
from driving.style.tables import SAMPLES, STYLES
from tests.driving.small_scenes import LINES, driven

SPLITS = ("train", "train", "validation", "test")
STEPS = 81
STARTS = tuple(range(10, 41, 2))
CARS = 3


def write_planning_artifacts(folder: Path, *, seed: int = 0) -> dict[str, Path]:
    """Artifacts `scenes`, `styles`, `style_vectors` and `teacher` of four scenes of three cars."""
    generator = np.random.default_rng(seed)
    speeds = generator.uniform(2.0, 12.0, (len(SPLITS), CARS))
    samples = [
        (scene, track, step)
        for scene in range(len(SPLITS))
        for track in range(CARS)
        for step in STARTS
    ]
    values = np.zeros((len(samples), 8), np.float32)
    values[:, 0] = [(speeds[scene, track] - 7.0) / 5.0 for scene, track, _ in samples]
    mask = np.zeros((len(samples), 8), np.bool_)
    mask[:, 0] = True
    return {
        "scenes": _scenes(folder / "scenes", speeds),
        "styles": _styles(folder / "styles", samples, speeds, (values, mask)),
        "style_vectors": _vectors(folder / "style_vectors", values, mask),
        "teacher": _teacher(folder / "teacher", len(samples)),
    }


def _create(folder: Path, kind: str):
    return create_artifact(folder, kind=kind, command="test", configuration={}, inputs={})


def _scenes(folder: Path, speeds: np.ndarray) -> Path:
    scene_rows = [
        {"scene_id": number, "scene_key": f"s{number}", "source": "test",
         "recording_key": f"s{number}", "split": split, "location": "nowhere", "map_id": 0,
         "step_s": 0.1, "step_count": STEPS, "ego_track_id": 0, "simulated": True, "notes": "{}"}
        for number, split in enumerate(SPLITS)
    ]  # fmt: skip
    track_rows = [
        {"scene_id": number, "track_id": track, "track_key": str(track), "kind": "vehicle",
         "length_m": 4.5, "width_m": 1.8, "route_ids": [0, 2], "route_source": "given"}
        for number in range(len(SPLITS)) for track in range(CARS)
    ]  # fmt: skip
    states = [
        driven(track, 3.5 * (track % 2), 5.0 + 25.0 * track, speeds[number, track], range(STEPS))
        .with_columns(scene_id=pl.lit(number, pl.Int32))
        for number in range(len(SPLITS)) for track in range(CARS)
    ]  # fmt: skip
    with _create(folder, "scenes") as new:
        new.write_table(SCENES, pl.DataFrame(scene_rows, schema=SCENES.polars))
        maps = [{"map_id": 0, "map_key": "test", "origin_x_m": 0.0, "origin_y_m": 0.0}]
        new.write_table(MAPS, pl.DataFrame(maps, schema=MAPS.polars))
        new.write_table(MAP_LINES, pl.DataFrame(LINES, schema=MAP_LINES.polars))
        new.write_table(TRACKS, pl.DataFrame(track_rows, schema=TRACKS.polars))
        new.write_table(STATES, pl.concat(states))
        new.write_table(LIGHT_STATES, LIGHT_STATES.empty())
    return folder


def _styles(
    folder: Path,
    samples: list[tuple[int, int, int]],
    speeds: np.ndarray,
    style: tuple[np.ndarray, np.ndarray],
) -> Path:
    """The fastest drive aggressively, the slowest with care; all are on one road."""
    rows = [
        {"sample_id": number, "scene_id": scene, "track_id": track, "step": step,
         "driver_id": scene * CARS + track, "split": SPLITS[scene], "token": None}
        for number, (scene, track, step) in enumerate(samples)
    ]  # fmt: skip
    about, measures = [], []
    for number, (scene, track, _) in enumerate(samples):
        speed = float(speeds[scene, track])
        label = "aggressive" if speed > 10 else "conservative" if speed < 4 else "normal"
        about.append(
            {"sample_id": number, "scenario_type": "lane_following", "label": label,
             "rule": "test", "heuristic_label": label, "reader_label": None, "needs_check": False}
        )  # fmt: skip
        known = {"mean_speed_mps": speed, "peak_speed_mps": speed}
        names = dict.fromkeys(MEASURE_NAMES) | known
        measures.append({"sample_id": number, "leader": track == 0, "road_class": "urban", **names})
    frame = pl.DataFrame(rows, schema=SAMPLES.polars)
    with _create(folder, "styles") as new:
        new.write_table(SAMPLES, frame)
        new.write_table(STYLES, pl.DataFrame(about, schema=STYLES.polars))
        new.write_table(MEASURE_TABLE, pl.DataFrame(measures, schema=MEASURE_TABLE.polars))
        reading = Reading(*style, "heuristic", "1")
        new.write_table(PREFERENCES, driver_preferences(frame, (reading,), window_steps=20))
        new.write_arrays("styles", {"values": style[0], "mask": style[1]})
        new.write_json("style_dimensions", list(STYLE_DIMENSIONS))
    return folder


def _vectors(folder: Path, values: np.ndarray, mask: np.ndarray) -> Path:
    arrays = {"own_values": values, "own_mask": mask,
              "before_values": -values, "before_mask": mask}  # fmt: skip
    with _create(folder, "style_vectors") as new:
        new.write_arrays("style_vectors", arrays)
    return folder


def _teacher(folder: Path, count: int) -> Path:
    """Every sample driven at 4, 8 and 12 m/s, with every sub-score of the three known."""
    seconds = 0.5 * np.arange(1, 9)
    poses = np.zeros((count, 3, 8, 3), np.float32)
    poses[..., 0] = np.array([4.0, 8.0, 12.0])[:, None] * seconds
    values = np.zeros((count, 3, 8), np.float32)
    values[..., 0] = [-0.6, 0.2, 1.0]
    scores = np.full((count, 3, len(SUB_SCORES)), 0.5, np.float32)
    with _create(folder, "teacher") as new:
        new.write_arrays(
            "teacher",
            {"poses": poses, "mask": np.ones((count, 3), np.bool_), "style_values": values,
             "style_mask": np.repeat(values[..., :1] != 0, 8, -1),
             "displacement": np.zeros((count, 3, 3), np.float32), "proposals": poses,
             "sub_scores": scores, "sub_score_mask": np.ones_like(scores, dtype=np.bool_)},
        )  # fmt: skip
    return folder
