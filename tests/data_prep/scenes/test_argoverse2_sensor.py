"""Sensor logs of Argoverse 2: frames worked by hand, damaged logs, and the real ones."""

import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_prep.errors import InputError
from data_prep.scenes.argoverse2_sensor import (
    EGO_AXLE_TO_CENTRE_M,
    EGO_KEY,
    Argoverse2SensorSource,
    read_sensor_log,
    rotation_matrices,
)
from data_prep.scenes.raw_scene import RawScene, RejectedInput
from tests.data_prep.scenes.small_argoverse2 import (
    CITY_ORIGIN_M,
    CITY_TURN_RAD,
    SPEED_MPS,
    SWEEPS_NS,
    box,
    boxes,
    poses,
    write_log,
)

FORWARD = np.array([np.cos(CITY_TURN_RAD), np.sin(CITY_TURN_RAD)])
LEFT = np.array([-FORWARD[1], FORWARD[0]])


def city(x: float, y: float) -> np.ndarray:
    return np.array(CITY_ORIGIN_M) + x * FORWARD + y * LEFT


def test_boxes_come_into_the_frame_of_the_city(tmp_path):
    scene, problems = read_sensor_log(write_log(tmp_path / "log1", boxes()))
    assert problems == []
    assert (scene.key, scene.recording_key, scene.location) == ("log1", "log1", "PIT")
    assert scene.file == "log1/annotations.feather"
    tracks = {track.key: track for track in scene.tracks}
    parked = tracks["parked"]
    where = np.stack([parked.x_m, parked.y_m], axis=1)
    np.testing.assert_allclose(where, np.broadcast_to(city(20, -3), (5, 2)), atol=1e-6)
    np.testing.assert_allclose(parked.heading_rad, CITY_TURN_RAD + np.pi / 2)
    leader = tracks["leader"]
    moved = np.stack([np.diff(leader.x_m), np.diff(leader.y_m)], axis=1)
    np.testing.assert_allclose(moved, np.broadcast_to(SPEED_MPS * 0.1 * FORWARD, (4, 2)), atol=1e-6)
    assert leader.velocity_mps is None
    np.testing.assert_allclose(leader.time_s, np.arange(5) * 0.1, atol=1e-9)
    np.testing.assert_allclose(tracks["walker"].time_s, [0.1, 0.4], atol=1e-9)
    assert (leader.length_m, leader.width_m) == (4.4, 1.8)


def test_the_ego_is_where_its_centre_is(tmp_path):
    scene, _ = read_sensor_log(write_log(tmp_path / "log1", boxes()))
    ego = next(track for track in scene.tracks if track.key == scene.ego_key)
    assert (ego.x_m[0], ego.y_m[0]) == pytest.approx(tuple(city(EGO_AXLE_TO_CENTRE_M, 0)))
    assert (ego.x_m[4], ego.y_m[4]) == pytest.approx(tuple(city(0.4 * 8 + EGO_AXLE_TO_CENTRE_M, 0)))
    assert (ego.kind, ego.length_m, ego.width_m) == ("vehicle", 4.877, 2.0)
    assert ego.heading_rad == pytest.approx(CITY_TURN_RAD)


@pytest.mark.parametrize(("stated_m", "ahead_m"), [(0.0, EGO_AXLE_TO_CENTRE_M), (1.5, 1.5)])
def test_a_stated_ego_gives_its_size_and_only_a_real_position(tmp_path, stated_m, ahead_m):
    rows = [box("own", EGO_KEY, sweep, stated_m, 0, 0) for sweep in range(len(SWEEPS_NS))]
    table = pl.concat([boxes(), pl.DataFrame(rows)])
    scene, _ = read_sensor_log(write_log(tmp_path / "log1", table))
    ego = next(track for track in scene.tracks if track.key == scene.ego_key)
    assert (ego.x_m[0], ego.y_m[0]) == pytest.approx(tuple(city(ahead_m, 0)))
    assert (ego.length_m, ego.width_m) == (4.4, 1.8)
    assert "own" not in {track.key for track in scene.tracks}


def test_kinds_and_what_nobody_knows(tmp_path):
    scene, _ = read_sensor_log(write_log(tmp_path / "log1", boxes()))
    kinds = {track.key: track.kind for track in scene.tracks}
    assert (kinds["leader"], kinds["walker"]) == ("vehicle", "pedestrian")
    assert (kinds["saucer"], kinds["bike"]) == ("other", "other")
    assert scene.notes["unknown_kinds"] == "FLYING_SAUCER"
    assert scene.notes["unknown_kind_tracks"] == 1


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_rotations_are_scipys_with_the_real_part_first(quaternion):
    w, x, y, z = quaternion
    expected = Rotation.from_quat([x, y, z, w]).as_matrix()
    np.testing.assert_allclose(rotation_matrices(np.array([quaternion]))[0], expected, atol=1e-9)


def test_the_tilt_of_the_ego_counts(tmp_path):
    """On a slope a box 20 m ahead in the ego's frame is nearer in the plane."""
    slope = Rotation.from_euler("ZYX", [CITY_TURN_RAD, -0.2, 0]).as_quat()
    table = poses().with_columns(
        *(pl.lit(v).alias(name) for name, v in zip(("qx", "qy", "qz", "qw"), slope, strict=True))
    )
    one = pl.DataFrame([box("a", "REGULAR_VEHICLE", 0, 20, 0, 0) | {"tz_m": 0.0}])
    scene, _ = read_sensor_log(write_log(tmp_path / "log1", one, pose_table=table))
    track = next(track for track in scene.tracks if track.key == "a")
    assert (track.x_m[0], track.y_m[0]) == pytest.approx(tuple(city(20 * np.cos(0.2), 0)))
    assert track.heading_rad[0] == pytest.approx(CITY_TURN_RAD)


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_every_compression_of_feather_is_read(tmp_path, compression):
    folder = write_log(tmp_path / "log1", boxes(), compression=compression, map_folder="map")
    assert len(read_sensor_log(folder)[0].tracks) == 6


def without(table: pl.DataFrame, column: str) -> pl.DataFrame:
    return table.drop(column)


@pytest.mark.parametrize(
    ("annotations", "pose_table", "reason"),
    [
        (without(boxes(), "qz"), None, "annotations.feather has no column qz"),
        (boxes(), without(poses(), "tx_m"), "city_SE3_egovehicle.feather has no column tx_m"),
        (
            boxes().with_columns(tx_m=pl.lit(float("nan"))),
            None,
            "has 14 values of tx_m that are missing or not finite",
        ),
        (
            boxes().with_columns(track_uuid=pl.lit(None, pl.String)),
            None,
            "14 values of track_uuid that are missing",
        ),
        (boxes().with_columns(qw=pl.lit(3.0)), None, "no unit quaternions"),
        (boxes().with_columns(length_m=pl.lit("long")), None, "a column of another type"),
        (boxes().clear(), None, "annotations.feather has no rows"),
        (
            boxes().with_columns(pl.col("timestamp_ns") + 20_000_000_000),
            None,
            "no pose within 5 ms of a sweep",
        ),
    ],
)
def test_a_log_that_cannot_be_used_is_one_sentence(tmp_path, annotations, pose_table, reason):
    folder = write_log(tmp_path / "log1", annotations, pose_table=pose_table)
    with pytest.raises(InputError, match=reason) as caught:
        read_sensor_log(folder)
    assert "\n" not in str(caught.value)


def test_a_bad_track_leaves_the_others(tmp_path):
    rows = [box("twice", "BUS", 0, 1.0, 1.0, 0), box("twice", "BUS", 0, 2.0, 2.0, 0)]
    rows.append(box("flat", "BUS", 0, 1.0, 1.0, 0) | {"width_m": 0.0})
    table = pl.concat([boxes(), pl.DataFrame(rows)])
    scene, problems = read_sensor_log(write_log(tmp_path / "log1", table))
    assert len(scene.tracks) == 6
    assert [problem.reason for problem in problems] == [
        "log log1, track flat: its box is 4.4 m by 0 m.",
        "log log1, track twice: it has two boxes in one sweep.",
    ]


def test_one_bad_log_is_not_the_end(tmp_path):
    good = write_log(tmp_path / "train" / "b", boxes())
    cut = write_log(tmp_path / "train" / "a", boxes()) / "annotations.feather"
    cut.write_bytes(cut.read_bytes()[:700])
    bare = write_log(tmp_path / "train" / "c", boxes())
    (bare / "annotations.feather").unlink()
    unmapped = write_log(tmp_path / "train" / "d", boxes())
    next(unmapped.glob("*.json")).unlink()
    source = Argoverse2SensorSource([tmp_path])
    results = list(source.scenes())
    kinds = [type(result) for result in results]
    assert kinds == [RejectedInput, RawScene, RejectedInput, RejectedInput]
    reasons = [result.reason for result in results if isinstance(result, RejectedInput)]
    assert "annotations.feather is truncated, damaged" in reasons[0]
    assert "has no annotations.feather" in reasons[1]
    assert "has 0 map archives" in reasons[2]
    assert len(source.files()) == 3 + 3 + 2 + 2
    alone = list(Argoverse2SensorSource([good]).scenes())
    assert [result.key for result in alone if isinstance(result, RawScene)] == ["b"]
    with pytest.raises(InputError, match="There are no sensor logs"):
        Argoverse2SensorSource([]).files()


@pytest.fixture(scope="module")
def real_scenes(argoverse2_folder):
    results = list(Argoverse2SensorSource([argoverse2_folder]).scenes())
    assert all(isinstance(result, RawScene) for result in results)
    return [result for result in results if isinstance(result, RawScene)]


def test_the_real_logs_are_all_read(real_scenes):
    assert [scene.location for scene in real_scenes] == ["MIA", "PIT", "PIT", "PIT"]
    states = sum(len(track.time_s) for scene in real_scenes for track in scene.tracks)
    assert sum(len(scene.tracks) for scene in real_scenes) == 496 + 2  # two logs lack the ego
    assert states == 49_604 + 156 + 156


def test_the_real_ego_and_moving_cars_are_on_the_drivable_area(real_scenes):
    for scene in real_scenes:
        areas = [line for line in scene.map.lines if line.kind == "drivable_area"]
        whole = shapely.union_all([shapely.Polygon(area.points_m) for area in areas])
        inside, count = 0, 0
        for track in scene.tracks:
            on = shapely.contains_xy(whole, track.x_m, track.y_m)
            if track.key == EGO_KEY:
                assert on.all()
            elif track.kind == "vehicle" and len(track.time_s) > 1:
                speed = np.hypot(np.gradient(track.x_m), np.gradient(track.y_m)) / 0.1
                inside, count = inside + on[speed > 2].sum(), count + (speed > 2).sum()
        assert inside / count > 0.94


def test_the_real_ego_keeps_to_a_lane(real_scenes):
    for scene in real_scenes:
        lanes = [line for line in scene.map.lines if line.kind == "lane_centre"]
        centres = shapely.union_all([shapely.LineString(line.points_m) for line in lanes])
        ego = next(track for track in scene.tracks if track.key == EGO_KEY)
        distance = shapely.distance(centres, shapely.points(ego.x_m, ego.y_m))
        assert np.median(distance) < 0.4


def test_the_real_ego_turns_about_a_point_behind_its_centre(real_scenes):
    slip, turn = [], []
    for scene in real_scenes:
        ego = next(track for track in scene.tracks if track.key == EGO_KEY)
        velocity = np.gradient(np.stack([ego.x_m, ego.y_m]), ego.time_s, axis=1)
        rate = np.gradient(np.unwrap(ego.heading_rad), ego.time_s)
        aside = np.cos(ego.heading_rad) * velocity[1] - np.sin(ego.heading_rad) * velocity[0]
        slip.append(aside[np.abs(rate) > 0.1])
        turn.append(rate[np.abs(rate) > 0.1])
    slip, turn = np.concatenate(slip), np.concatenate(turn)
    assert (slip @ turn) / (turn @ turn) == pytest.approx(EGO_AXLE_TO_CENTRE_M, abs=0.25)


def test_real_cars_stand_still_in_the_city_while_the_ego_passes(real_scenes):
    """Parked cars are the check of the whole chain of frames: they do not move."""
    spread = [
        np.hypot(np.ptp(track.x_m), np.ptp(track.y_m))
        for scene in real_scenes
        for track in scene.tracks
        if track.kind == "static" and len(track.time_s) > 50
    ]
    assert len(spread) > 20
    assert np.median(spread) < 0.5
