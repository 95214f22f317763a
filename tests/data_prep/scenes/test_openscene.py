"""OpenScene's logs as scenes."""

import pickle

import numpy as np
import pytest

from data_prep.scenes.nuplan import NuPlanSource
from data_prep.scenes.openscene import OpenSceneSource
from data_prep.scenes.raw_scene import RawScene, RejectedInput
from tests.data_prep.scenes.synthetic_nuplan import (
    LOG,
    REAR_AXLE_TO_CENTRE_M,
    frame_token,
    openscene_frames,
    track_key,
    write_database,
    write_filter,
    write_openscene_log,
)
from tests.data_prep.scenes.synthetic_nuplan_map import LOCATION, TURN_RAD, on_road, write_maps


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return write_maps(tmp_path_factory.mktemp("maps"))


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_openscene_log(tmp_path_factory.mktemp("logs") / "test" / f"{LOG}.pkl")


@pytest.fixture(scope="module")
def scene(maps, log):
    (only,) = OpenSceneSource([log.parent], maps).scenes()
    assert isinstance(only, RawScene)
    return only


def test_boxes_come_out_in_the_maps_frame(scene):
    tracks = {track.key: track for track in scene.tracks}
    ego, lead = tracks["ego"], tracks[track_key("a1")]
    assert on_road([[ego.x_m[10], ego.y_m[10]]])[0] == pytest.approx(
        [-70.0 + REAR_AXLE_TO_CENTRE_M, -1.75], abs=1e-6
    )
    assert on_road([[lead.x_m[10], lead.y_m[10]]])[0] == pytest.approx([-45.0, -1.75], abs=1e-4)
    assert lead.heading_rad == pytest.approx(np.full(40, TURN_RAD), abs=1e-6)
    assert (lead.length_m, lead.width_m) == pytest.approx((4.6, 1.9), abs=1e-6)
    forward = 10.0 * np.array([np.cos(TURN_RAD), np.sin(TURN_RAD)])
    assert lead.velocity_mps == pytest.approx(np.tile(forward, (40, 1)), abs=1e-5)
    assert ego.velocity_mps == pytest.approx(np.tile(forward, (40, 1)))
    assert ego.time_s == pytest.approx(np.arange(40) * 0.5)


def test_the_same_drive_reads_the_same_from_both_formats(scene, maps, tmp_path):
    database = write_database(tmp_path / f"{LOG}.db")
    (other,) = NuPlanSource([database], maps).scenes()
    assert isinstance(other, RawScene)
    assert scene.recording_key == other.recording_key
    assert scene.routes == other.routes
    assert [line.key for line in scene.map.lines] == [line.key for line in other.map.lines]
    assert [(light.line_key, light.states) for light in scene.lights] == [
        (light.line_key, light.states) for light in other.lights
    ]
    for mine, theirs in zip(scene.tracks, other.tracks, strict=True):
        assert (mine.key, mine.kind) == (theirs.key, theirs.kind)
        assert mine.time_s == pytest.approx(theirs.time_s[::10])
        assert mine.x_m == pytest.approx(theirs.x_m[::10], abs=1e-4)
        assert mine.y_m == pytest.approx(theirs.y_m[::10], abs=1e-4)
        assert theirs.velocity_mps is not None
        assert mine.velocity_mps == pytest.approx(theirs.velocity_mps[::10], abs=1e-5)


def test_every_frame_keeps_its_token_unless_a_filter_says_which(scene, maps, log, tmp_path):
    assert scene.tokens == {frame_token(10 * at): pytest.approx(at * 0.5) for at in range(40)}
    assert (scene.split, scene.location) == ("test", LOCATION)
    chosen = write_filter(tmp_path / "f.yaml", [frame_token(70)])
    (only,) = OpenSceneSource([log], maps, tokens=chosen).scenes()
    assert isinstance(only, RawScene)
    assert only.tokens == {frame_token(70): pytest.approx(3.5)}
    assert len(only.tracks[0].time_s) == 40
    other = write_filter(tmp_path / "g.yaml", [frame_token(70)], ["another"])
    assert list(OpenSceneSource([log], maps, tokens=other).scenes()) == []


def test_boxes_turn_with_the_ego():
    from pathlib import Path

    from data_prep.scenes.openscene import read_log

    frame = openscene_frames(duration_s=0.5)[0]
    frame["ego2global_translation"] = [100.0, 200.0, 0.0]
    frame["ego2global_rotation"] = [0.0, 0.0, 0.0, 1.0]  # half a turn
    frame["anns"] |= {
        "gt_boxes": [[10.0, 2.0, 0.0, 4.0, 2.0, 1.5, 0.25]],
        "gt_names": ["vehicle"],
        "gt_velocity_3d": [[3.0, 1.0, 0.0]],
        "track_tokens": ["t"],
    }
    _, boxes = read_log(Path("log.pkl"), [frame])
    assert boxes.poses[0] == pytest.approx([90.0, 198.0, 0.25 - np.pi])
    assert boxes.velocities_mps[0] == pytest.approx([-3.0, -1.0])
    assert boxes.sizes_m[0] == pytest.approx([4.0, 2.0])


def test_a_frame_without_boxes_or_route_is_read(maps, tmp_path):
    frames = openscene_frames(duration_s=2.0)
    for frame in frames:
        frame["roadblock_ids"] = []
        frame["traffic_lights"] = []
        frame["anns"] |= {
            "gt_boxes": np.zeros((0, 7)),
            "gt_names": np.array([]),
            "gt_velocity_3d": np.zeros((0, 3)),
            "track_tokens": [],
        }
    path = tmp_path / f"{LOG}.pkl"
    path.write_bytes(pickle.dumps(frames))
    (scene,) = OpenSceneSource([path], maps).scenes()
    assert isinstance(scene, RawScene)
    assert (len(scene.tracks), scene.routes, scene.lights) == (1, {}, ())


def _without(key):
    def change(frames):
        del frames[3][key]

    return change


def _with(key, value):
    def change(frames):
        frames[3][key] = value

    return change


def _fewer_names(frames):
    frames[3]["anns"]["gt_names"] = ["vehicle"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without("ego2global_rotation"), "lacks ego2global_rotation in frame 3"),
        (_with("anns", {}), "lacks gt_boxes in frame 3"),
        (_with("ego2global_translation", [np.nan, 0.0, 0.0]), "no finite ego pose at frame"),
        (_with("ego_dynamic_state", "fast"), "a value of a wrong form"),
        (_with("timestamp", None), "a value of a wrong form"),
        (_fewer_names, "a value of a wrong form"),
    ],
)
def test_a_bad_log_is_refused_and_the_next_one_read(maps, tmp_path, change, reason):
    frames = openscene_frames(duration_s=4.0)
    change(frames)
    (tmp_path / f"{LOG}.pkl").write_bytes(pickle.dumps(frames))
    write_openscene_log(tmp_path / "z_good.pkl", duration_s=4.0)
    refused, good = OpenSceneSource([tmp_path], maps).scenes()
    assert isinstance(refused, RejectedInput)
    assert refused.file == f"{LOG}.pkl"
    assert reason in refused.reason
    assert isinstance(good, RawScene)


class _Code:
    def __reduce__(self):
        return (print, ("a pickle ran code",))


@pytest.mark.parametrize("content", [{"a": 1}, [], [1], [_Code()]])
def test_a_pickle_of_something_else_is_refused_and_nothing_runs(maps, tmp_path, content, capsys):
    path = tmp_path / "log.pkl"
    path.write_bytes(pickle.dumps(content))
    (refused,) = OpenSceneSource([path], maps).scenes()
    assert isinstance(refused, RejectedInput)
    assert "a pickle ran code" not in capsys.readouterr().out


def test_files_are_logs_and_maps(maps, log):
    assert [path.name for path in OpenSceneSource([log], maps).files()] == [
        log.name,
        *["map.gpkg"] * 4,
    ]
