"""nuPlan's databases as scenes."""

import sqlite3

import numpy as np
import pytest

from data_prep.errors import InputError
from data_prep.scenes.log_files import folder_split, log_files
from data_prep.scenes.nuplan import NuPlanSource
from data_prep.scenes.nuplan_frames import (
    LogFrames,
    drive_of,
    heading_of,
    rotated,
    stretches,
    yaw_rates,
)
from data_prep.scenes.raw_scene import RawScene, RejectedInput
from tests.data_prep.scenes.synthetic_nuplan import (
    LOG,
    REAR_AXLE_TO_CENTRE_M,
    TAGGED_FRAME,
    frame_token,
    track_key,
    write_database,
    write_filter,
)
from tests.data_prep.scenes.synthetic_nuplan_map import LOCATION, TURN_RAD, on_road, write_maps


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return write_maps(tmp_path_factory.mktemp("maps"))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return write_database(tmp_path_factory.mktemp("logs") / "mini" / f"{LOG}.db")


@pytest.fixture(scope="module")
def scene(maps, database):
    (only,) = NuPlanSource([database], maps).scenes()
    assert isinstance(only, RawScene)
    return only


@pytest.fixture(scope="module")
def tracks(scene):
    return {track.key: track for track in scene.tracks}


def test_the_scene_names_its_drive_log_and_place(scene):
    assert scene.recording_key == "2021.06.03.12.02.06_veh-35"
    assert (scene.location, scene.file, scene.split) == (LOCATION, f"{LOG}.db", None)
    assert scene.notes == {"log": LOG, "scenario_tags": "following_lane_with_lead"}
    assert not scene.simulated


def test_the_ego_is_the_centre_of_its_box_not_the_rear_axle(scene, tracks):
    ego = tracks[scene.ego_key]
    assert (ego.length_m, ego.width_m) == pytest.approx((5.176, 2.297))
    assert len(ego.time_s) == 400
    at = on_road(np.stack([ego.x_m, ego.y_m], -1))
    assert at[0] == pytest.approx([-120.0 + REAR_AXLE_TO_CENTRE_M, -1.75], abs=1e-6)
    assert at[200] == pytest.approx([-20.0 + REAR_AXLE_TO_CENTRE_M, -1.75], abs=1e-6)
    assert ego.heading_rad == pytest.approx(np.full(400, TURN_RAD))
    forward = 10.0 * np.array([np.cos(TURN_RAD), np.sin(TURN_RAD)])
    assert ego.velocity_mps == pytest.approx(np.tile(forward, (400, 1)))


def test_the_clock_is_that_of_the_lidar_frames(tracks):
    assert tracks["ego"].time_s == pytest.approx(np.arange(400) * 0.05)
    assert tracks[track_key("a1")].time_s == pytest.approx(np.arange(400) * 0.05)


def test_others_keep_their_kind_size_place_and_velocity(tracks):
    lead = tracks[track_key("a1")]
    assert (lead.kind, lead.length_m, lead.width_m) == ("vehicle", 4.6, 1.9)
    assert on_road([[lead.x_m[100], lead.y_m[100]]])[0] == pytest.approx([-45.0, -1.75], abs=1e-6)
    assert np.hypot(*lead.velocity_mps[7]) == pytest.approx(10.0)
    kinds = {key[:2]: track.kind for key, track in tracks.items()}
    assert kinds == {
        "eg": "vehicle", "a1": "vehicle", "a2": "cyclist", "a3": "pedestrian", "a4": "static",
    }  # fmt: skip


def test_lights_are_changes_and_unknown_where_nothing_is_said(scene):
    left, right = scene.lights
    assert (left.line_key, left.states) == ("connector:3001", ("red", "unknown"))
    assert left.time_s == pytest.approx([0.0, 4.0])
    assert (right.line_key, right.states) == ("connector:3002", ("red", "green"))
    assert right.time_s == pytest.approx([0.0, 8.0])


def test_the_route_is_the_lanes_of_its_roadblocks(scene):
    assert scene.routes == {"ego": ("lane:1002", "connector:3002", "lane:1004")}
    assert set(scene.routes["ego"]) <= {line.key for line in scene.map.lines}


def test_frames_with_a_tag_keep_their_token(scene):
    assert scene.tokens == {frame_token(TAGGED_FRAME): pytest.approx(5.0)}


def test_a_filter_chooses_tokens_and_logs(maps, database, tmp_path):
    chosen = write_filter(tmp_path / "f.yaml", [frame_token(40), frame_token(60), "f" * 16])
    (only,) = NuPlanSource([database], maps, tokens=chosen).scenes()
    assert isinstance(only, RawScene)
    assert only.tokens == {frame_token(40): pytest.approx(2.0), frame_token(60): pytest.approx(3.0)}
    other = write_filter(tmp_path / "g.yaml", [frame_token(40)], ["another_log"])
    assert list(NuPlanSource([database], maps, tokens=other).scenes()) == []
    absent = write_filter(tmp_path / "h.yaml", ["f" * 16])
    assert list(NuPlanSource([database], maps, tokens=absent).scenes()) == []
    assert chosen in NuPlanSource([database], maps, tokens=chosen).files()


def test_a_filter_of_digits_stays_text_and_nonsense_is_named(maps, database, tmp_path):
    from data_prep.scenes.scene_filter import read_scene_filter

    digits = write_filter(tmp_path / "f.yaml", ["0012345670123456", "1234567890123456"])
    assert read_scene_filter(digits).tokens == {"0012345670123456", "1234567890123456"}
    (tmp_path / "null.yaml").write_text("tokens: null\nlog_names: ~\n")
    assert read_scene_filter(tmp_path / "null.yaml").tokens is None
    for content in ("a: 1\n", "tokens: word\n", "- a\n", "tokens: [\n"):
        (tmp_path / "bad.yaml").write_text(content)
        with pytest.raises(InputError, match=r"bad\.yaml"):
            list(NuPlanSource([database], maps, tokens=tmp_path / "bad.yaml").scenes())


def test_long_logs_are_cut_into_overlapping_scenes_of_at_most_a_minute(maps, tmp_path):
    database = write_database(tmp_path / f"{LOG}.db", duration_s=130.0)
    every = write_filter(tmp_path / "f.yaml", [frame_token(at) for at in range(0, 2600, 10)])
    read = list(NuPlanSource([database], maps, tokens=every).scenes())
    scenes = [scene for scene in read if isinstance(scene, RawScene)]
    assert len(read) == len(scenes) == 3
    ends = []
    for scene in scenes:
        assert scene.tracks[0].time_s[0] == 0.0
        ends.append(scene.tracks[0].time_s[-1])
    assert max(ends) <= 60.0
    assert len({scene.key for scene in scenes}) == 3
    assert len({scene.recording_key for scene in scenes}) == 1
    assert len({scene.map.key for scene in scenes}) == 1
    kept = [token for scene in scenes for token in scene.tokens]
    assert len(kept) == len(set(kept)) == 260
    for at, scene in enumerate(scenes):  # every token has its past and its future with it
        times = np.array(sorted(scene.tokens.values()))
        assert at == 0 or times[0] >= 1.5
        assert at == 2 or times[-1] + 5.0 <= ends[at]


@pytest.mark.parametrize(("duration_s", "count"), [(60.0, 1), (60.2, 2), (101.0, 3), (149.0, 3)])
def test_stretches_cover_every_frame_once(duration_s, count):
    time_s = np.arange(0.0, duration_s + 0.05, 0.1)
    parts = list(stretches("log", time_s))
    assert len(parts) == count
    owned = [at for part in parts for at in range(part.own_first, part.own_stop)]
    assert owned == list(range(len(time_s)))
    for part in parts:
        assert time_s[part.stop - 1] - time_s[part.first] <= 60.0


def test_stretches_end_where_frames_are_missing():
    time_s = np.r_[np.arange(0, 5, 0.5), np.arange(9.0, 12, 0.5)]
    parts = list(stretches("log", time_s))
    assert [(part.first, part.stop) for part in parts] == [(0, 10), (10, 16)]


def test_the_centre_of_a_turning_ego_moves_sideways():
    frames = LogFrames(
        time_s=np.zeros(1),
        tokens=[""],
        rear_axle=np.array([[3.0, 4.0, np.pi / 2]]),
        velocity_mps=np.array([[6.0, 0.0]]),
        yaw_rate_radps=np.array([0.5]),
        roadblocks=[[]],
        lights=[{}],
    )
    assert frames.centres_m()[0] == pytest.approx([3.0, 5.461])
    # Forward is along y; half a radian a second times 1.461 m to the left is along minus x.
    assert frames.centre_velocities_mps()[0] == pytest.approx([-0.7305, 6.0])


def test_headings_are_where_the_nose_points():
    # Yaw 2 rad, then pitch 0.3, then roll -0.4, as a product of three quaternions.
    def turn(angle, axis):
        return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * np.eye(3)[axis])])

    def product(a, b):
        scalar = a[0] * b[0] - a[1:] @ b[1:]
        return np.array([scalar, *(a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:]))])

    whole = product(product(turn(2.0, 2), turn(0.3, 1)), turn(-0.4, 0))
    assert heading_of(np.stack([whole, -3.0 * whole])) == pytest.approx([2.0, 2.0])
    assert rotated(np.array([[1.0, 2.0]]), np.array([np.pi / 2]))[0] == pytest.approx([-2.0, 1.0])


def test_yaw_rates_do_not_jump_at_a_half_turn():
    heading = np.array([3.1, -3.1, -3.0])
    step = 2 * np.pi - 6.2
    expected = [step / 0.5, (step + 0.1) / 1.0, 0.1 / 0.5]
    assert yaw_rates(heading, np.array([0.0, 0.5, 1.0])) == pytest.approx(expected)
    assert yaw_rates(heading[:1], np.zeros(1)).tolist() == [0.0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE log SET map_version = '9.15', location = 'vegas'", "no map in"),
        ("UPDATE ego_pose SET x = NULL WHERE rowid = 5", "no finite ego pose at frame"),
        ("UPDATE lidar SET channel = 'other'", "no frame of the lidar MergedPointCloud"),
        ("DROP TABLE scenario_tag", "has no table scenario_tag"),
        ("DELETE FROM log", "empty table log"),
    ],
)
def test_a_bad_database_is_refused_and_the_next_one_read(maps, tmp_path, change, reason):
    bad = write_database(tmp_path / f"{LOG}.db", duration_s=2.0)
    write_database(tmp_path / "z_good.db", duration_s=2.0)
    with sqlite3.connect(bad) as connection:
        connection.execute(change)
    refused, good = NuPlanSource([tmp_path], maps).scenes()
    assert isinstance(refused, RejectedInput)
    assert refused.file == bad.name
    assert reason in refused.reason
    assert isinstance(good, RawScene)


def test_a_truncated_database_is_refused(maps, database, tmp_path):
    half = tmp_path / "half.db"
    half.write_bytes(database.read_bytes()[:200_000])
    (refused,) = NuPlanSource([half], maps).scenes()
    assert isinstance(refused, RejectedInput)


def test_an_unknown_speed_is_left_to_the_positions(maps, tmp_path):
    database = write_database(tmp_path / f"{LOG}.db", duration_s=2.0)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE lidar_box SET vx = NULL")
    (scene,) = NuPlanSource([database], maps).scenes()
    assert isinstance(scene, RawScene)
    assert scene.tracks[1].velocity_mps is None


def test_the_location_serves_where_the_version_is_no_map(maps, tmp_path):
    database = write_database(tmp_path / f"{LOG}.db", duration_s=2.0)
    with sqlite3.connect(database) as connection:
        connection.execute(f"UPDATE log SET map_version = '1.1', location = '{LOCATION}'")
    (scene,) = NuPlanSource([database], maps).scenes()
    assert isinstance(scene, RawScene)


def test_files_are_found_in_folders_and_splits_in_their_names(tmp_path):
    for name in ("b/two.db", "a/one.db", "a/other.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in log_files([tmp_path], ".db")] == ["one.db", "two.db"]
    with pytest.raises(InputError, match=r"no .pkl file"):
        log_files([tmp_path], ".pkl")
    with pytest.raises(InputError, match="is not there"):
        log_files([tmp_path / "c"], ".pkl")
    drives = [f"drive-{at}" for at in range(1000)]
    assert folder_split(tmp_path / "test" / "x.db", "d") == "test"
    assert folder_split(tmp_path / "val" / "x.db", "d") == "validation"
    assert folder_split(tmp_path / "mini" / "x.db", "d") is None
    splits = [folder_split(tmp_path / "trainval" / "x.db", drive) for drive in drives]
    assert set(splits) == {"train", "validation"}
    assert 60 < splits.count("validation") < 140
    assert drive_of("log_without_seconds") == "log_without_seconds"
