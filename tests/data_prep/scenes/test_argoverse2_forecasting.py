"""Forecasting scenarios of Argoverse 2: a small one, damaged ones, and the real one."""

import numpy as np
import polars as pl
import pytest

from data_prep.errors import InputError
from data_prep.scenes.argoverse2_forecasting import (
    Argoverse2ForecastingSource,
    read_forecasting_scenario,
)
from data_prep.scenes.raw_scene import RawScene, RejectedInput
from tests.data_prep.scenes.small_argoverse2 import scenario, write_scenario


def test_a_small_scenario(tmp_path):
    scene, problems = read_forecasting_scenario(write_scenario(tmp_path, scenario()))
    assert problems == []
    assert (scene.key, scene.recording_key, scene.location) == ("s1", "slice-9", "austin")
    assert scene.ego_key == "AV"
    tracks = {track.key: track for track in scene.tracks}
    assert [tracks[key].kind for key in ("AV", "b", "c")] == ["vehicle", "vehicle", "other"]
    np.testing.assert_allclose(tracks["b"].time_s, [0.2, 0.3, 0.4])
    np.testing.assert_allclose(tracks["AV"].y_m, 100 + 0.5 * np.arange(6))
    assert tracks["AV"].velocity_mps is not None
    np.testing.assert_allclose(tracks["AV"].velocity_mps, np.broadcast_to([0, 5.0], (6, 2)))
    assert tracks["AV"].length_m == 4.877
    assert (tracks["b"].length_m, tracks["b"].width_m) == (11.6, 2.9)
    assert scene.notes["sizes_are_defaults"] is True
    assert scene.notes["unknown_kinds"] == "hovercraft"
    assert scene.notes["unknown_kind_tracks"] == 1
    assert {line.key for line in scene.map.lines} >= {"1", "2", "3", "area/9"}


def test_a_scenario_without_slice_or_ego_is_its_own_recording(tmp_path):
    table = scenario().drop("slice_id").filter(pl.col("track_id") != "AV")
    scene, _ = read_forecasting_scenario(write_scenario(tmp_path, table))
    assert (scene.recording_key, scene.ego_key) == ("s1", None)


def changed(**columns: object) -> pl.DataFrame:
    return scenario().with_columns(**{name: pl.lit(value) for name, value in columns.items()})


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (scenario().drop("heading"), "scenario_s1.parquet has no column heading"),
        (
            changed(position_x=float("nan")),
            "15 values of position_x that are missing or not finite",
        ),
        (changed(velocity_y="fast"), "a column of another type"),
        (changed(heading=270.0), "none of its tracks can be used"),
        (changed(timestep=3), "none of its tracks can be used"),
        (scenario().with_columns(pl.col("timestep") - 4), "steps count from 0"),
        (scenario().with_columns(scenario_id=pl.col("track_id")), "is not one scenario"),
        (scenario().clear(), "has no rows"),
    ],
)
def test_a_scenario_that_cannot_be_used_is_one_sentence(tmp_path, table, reason):
    with pytest.raises(InputError, match=reason):
        read_forecasting_scenario(write_scenario(tmp_path, table))


def test_a_bad_track_leaves_the_others(tmp_path):
    turned = pl.when(pl.col("track_id") == "b").then(90.0).otherwise(pl.col("heading"))
    table = scenario().with_columns(heading=turned)
    scene, problems = read_forecasting_scenario(write_scenario(tmp_path, table))
    assert [track.key for track in scene.tracks] == ["AV", "c"]
    assert [problem.reason for problem in problems] == [
        "scenario s1, track b: its heading reaches 90.0, which is degrees, not radians."
    ]


def test_one_bad_scenario_is_not_the_end(tmp_path):
    cut = write_scenario(tmp_path / "a", scenario())
    cut.write_bytes(cut.read_bytes()[:300])
    unmapped = write_scenario(tmp_path / "b", scenario())
    (tmp_path / "b" / "log_map_archive_s1.json").unlink()
    write_scenario(tmp_path / "c", scenario())
    write_scenario(tmp_path / "d", scenario())
    assert unmapped.is_file()
    source = Argoverse2ForecastingSource([tmp_path])
    results = list(source.scenes())
    kinds = [type(result) for result in results]
    assert kinds == [RejectedInput, RejectedInput, RawScene, RejectedInput]
    reasons = [result.reason for result in results if isinstance(result, RejectedInput)]
    assert "scenario_s1.parquet is truncated, damaged" in reasons[0]
    assert "no map log_map_archive_s1.json beside it" in reasons[1]
    assert "already read" in reasons[2]
    assert len(source.files()) == 7
    with pytest.raises(InputError, match="There are no scenarios"):
        Argoverse2ForecastingSource([]).files()


def test_the_real_scenario(argoverse2_folder):
    results = list(Argoverse2ForecastingSource([argoverse2_folder]).scenes())
    (scene,) = results
    assert isinstance(scene, RawScene)
    assert len(scene.tracks) == 58
    assert sum(len(track.time_s) for track in scene.tracks) == 2434
    assert "unknown_kinds" not in scene.notes
    for track in scene.tracks:
        if track.kind == "vehicle" and len(track.time_s) == 110:
            assert track.velocity_mps is not None
            driven = 10.9 * track.velocity_mps.mean(axis=0)
            moved = [track.x_m[-1] - track.x_m[0], track.y_m[-1] - track.y_m[0]]
            assert np.linalg.norm(driven - moved) < 1.5 + 0.1 * np.linalg.norm(moved)
