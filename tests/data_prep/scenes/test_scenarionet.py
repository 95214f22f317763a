"""Scenes of ScenarioNet: small ones in the real layout, damaged ones, and the real ones."""

import contextlib
import copy
import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import shapely

from data_prep.errors import InputError
from data_prep.scenes.raw_scene import RawScene, RejectedInput
from data_prep.scenes.scenarionet import ScenarioNetSource, read_scenario
from data_prep.scenes.scenarionet_tracks import ZOE_AXLE_TO_CENTRE_M

STEPS = 12


def state(x, y, heading, velocity, *, length=4.5, width=1.9, valid=None) -> dict:
    """A state table as the converters write it: sizes in a column, flags as floats."""
    x, y, heading = (np.broadcast_to(np.asarray(v, dtype=float), STEPS) for v in (x, y, heading))
    return {
        "position": np.stack([x, y, np.zeros(STEPS)], axis=1),
        "heading": heading.copy(),
        "velocity": np.broadcast_to(np.asarray(velocity, dtype=float), (STEPS, 2)).copy(),
        "valid": np.ones(STEPS) if valid is None else np.asarray(valid, dtype=float),
        "length": np.full((STEPS, 1), length),
        "width": np.full((STEPS, 1), width),
        "height": np.full((STEPS, 1), 1.5),
    }


def track(kind: str, detail: str, table: dict) -> dict:
    return {"type": kind, "state": table, "metadata": {"type": detail, "track_length": STEPS}}


def lane(points, **more) -> dict:
    return {"type": "LANE_SURFACE_STREET", "polyline": np.asarray(points, dtype=float), **more}


TIMES = np.arange(STEPS) * 0.1


def waymo_scene() -> dict:
    """A scene with everything a converter for Waymo writes."""
    return {
        "id": "w1",
        "version": "waymo",
        "length": STEPS,
        "metadata": {"dataset": "waymo", "scenario_id": "w1", "sdc_id": "7", "ts": TIMES + 3},
        "tracks": {
            "7": track("VEHICLE", "VEHICLE", state(10 * TIMES, 5, 0, (10, 0))),
            "8": track("CYCLIST", "CYCLIST", state(3, 4 - 2 * TIMES, -np.pi / 2, (0, -2))),
            "9": track(
                "PEDESTRIAN", "PEDESTRIAN", state(1, 1, 2, (0, 0), valid=[0, 1] + [0] * 9 + [1])
            ),
        },
        "dynamic_map_states": {
            "1": {
                "type": "TRAFFIC_LIGHT",
                "lane": 1,
                "state": {
                    "object_state": ["LANE_STATE_STOP"] * 5
                    + ["LANE_STATE_GO"] * 4
                    + ["LANE_STATE_ARROW_CAUTION", "LANE_STATE_FLASHING_STOP", None]
                },
                "stop_point": np.zeros(3),
            }
        },
        "map_features": {
            1: lane(
                [[0, 0, 0], [10, 0, 0]],
                speed_limit_mph=25,
                speed_limit_kmh=40.0,
                exit_lanes=[2, 99],
                left_neighbor=[{"feature_id": 3, "self_start_index": 0}],
                right_neighbor=[],
                width=np.array([[1.5, 2.0], [0.0, 0.0]]),
            ),
            2: lane([[10, 0, 0], [20, 0, 0]], type="LANE_FREEWAY", speed_limit_mph=25),
            3: lane([[0, 4, 0], [10, 4, 0]], polygon=[[0, 2], [10, 2], [10, 6], [0, 6], [0, 2]]),
            4: {"type": "ROAD_LINE_BROKEN_SINGLE_WHITE", "polyline": [[0, 2], [10, 2]]},
            5: {"type": "ROAD_EDGE_BOUNDARY", "polyline": [[0, -2], [0, -2], [10, -2]]},
            6: {"type": "CROSSWALK", "polygon": [[8, -2], [9, -2], [9, 6], [8, 6]]},
            7: {"type": "STOP_SIGN", "position": [1, 2, 3], "lane": [1]},
            8: lane([[0, 9], [9, 9]], type="LANE_BIKE_LANE"),
        },
    }


def nuscenes_scene() -> dict:
    """A scene with the three oddities of the converter for nuScenes."""
    speed = np.full(STEPS, 10.0)
    x = 10 * TIMES.copy()
    x[8:] -= 2.0  # the second recording of the position lags behind
    velocity = np.stack([speed, np.zeros(STEPS)], axis=1)
    velocity[-1] = 0
    ego = state(3.0, x, np.pi / 2, (0, 0), length=1.73, width=4.08)
    other = state(10 * TIMES, 0, 0, (0, 0))
    other["velocity"] = velocity
    area = [[0, 0], [100, 0], [100, 50], [0, 50], [0, 0]]
    hole = [[40, 20], [60, 20], [60, 30], [40, 30], [40, 20]]
    return {
        "id": "scene-0001",
        "version": "nuscenesv1.0-mini",
        "length": STEPS,
        "metadata": {
            "dataset": "nuscenes",
            "map": "boston-seaport",
            "date": "2018-08-01",
            "scenario_id": "scene-0001",
            "sdc_id": "ego",
            "ts": TIMES,
        },
        "tracks": {
            "ego": track("VEHICLE", "vehicle.car", ego),
            "a": track("VEHICLE", "vehicle.car", other),
            "b": track("CYCLIST", "vehicle.motorcycle", state(50, 40, 0, (0, 0))),
            "c": track("TRAFFIC_CONE", "movable_object.trafficcone", state(2, 2, 0, (0, 0))),
        },
        "dynamic_map_states": {},
        "map_features": {
            "boundary_0": {"type": "ROAD_LINE_SOLID_SINGLE_WHITE", "polyline": np.array(area)},
            "boundary_1": {"type": "ROAD_LINE_SOLID_SINGLE_WHITE", "polyline": np.array(hole)},
            "d": {"type": "ROAD_LINE_SOLID_SINGLE_YELLOW", "polyline": [[0, 9], [50, 9]]},
            "l1": lane([[0, 5, 0], [20, 5, 0]], polygon=[[0, 3], [20, 3], [20, 7], [0, 7]]),
            "l2": lane([[0, 8.5, 0], [20, 8.5, 0]], polygon=[[0, 7], [20, 7], [20, 10], [0, 10]]),
            "c1": lane([[20.1, 5, 0], [30, 6, 0.1]], speed_limit_kmh=100),
        },
    }


def written(folder: Path, scene: object, name: str = "sd_waymo_v1_w1.pkl") -> Path:
    file = folder / name
    file.write_bytes(pickle.dumps(scene))
    return file


def read(folder: Path, scene: dict) -> RawScene:
    result, problems = read_scenario(written(folder, scene))
    assert problems == []
    return result


def test_a_scene_of_waymo(tmp_path):
    scene = read(tmp_path, waymo_scene())
    assert (scene.key, scene.recording_key, scene.ego_key) == ("waymo/w1", "waymo/w1", "7")
    assert scene.file == "sd_waymo_v1_w1.pkl"
    tracks = {each.key: each for each in scene.tracks}
    assert [tracks[key].kind for key in "789"] == ["vehicle", "cyclist", "pedestrian"]
    ego = tracks["7"]
    np.testing.assert_allclose(ego.time_s, TIMES, atol=1e-9)
    np.testing.assert_allclose(ego.x_m, 10 * TIMES)  # a centre already: not moved
    assert (ego.length_m, ego.width_m) == (4.5, 1.9)
    assert ego.velocity_mps is not None
    assert ego.velocity_mps[:, 0] == pytest.approx(10)
    np.testing.assert_allclose(tracks["9"].time_s, [0.1, 1.1])
    assert tracks["8"].heading_rad == pytest.approx(-np.pi / 2)


def test_the_map_of_waymo(tmp_path):
    lines = {line.key: line for line in read(tmp_path, waymo_scene()).map.lines}
    first = lines["1"]
    assert first.successors == ("2",)  # 99 lies outside the map
    assert (first.left, first.right) == ("3", None)
    assert first.speed_limit_mps == pytest.approx(40 / 3.6)
    assert lines["2"].speed_limit_mps == pytest.approx(11.176)
    assert first.width_m == pytest.approx(3.5)
    assert lines["3"].width_m == pytest.approx(4.0)
    assert (lines["2"].road_class, first.road_class) == ("motorway", "urban")
    assert (first.has_signal, lines["2"].has_signal) == (True, False)
    kinds = {key: line.kind for key, line in lines.items()}
    assert kinds["4"] == "lane_boundary"
    assert kinds["5"] == "road_edge"
    assert kinds["6"] == "crosswalk"
    assert kinds["3/area"] == "drivable_area"
    assert len(lines["5"].points_m) == 2  # the repeated point is gone
    assert len(lines["3/area"].points_m) == 4  # the ring is open
    assert "8" not in kinds


def test_lights_hold_until_they_change(tmp_path):
    scene = read(tmp_path, waymo_scene())
    (light,) = scene.lights
    assert light.line_key == "1"
    np.testing.assert_allclose(light.time_s, [0, 0.5, 0.9, 1.0])
    assert light.states == ("red", "green", "yellow", "unknown")
    assert scene.notes["left_out_stop_sign"] == 1
    assert scene.notes["left_out_lane_bike_lane"] == 1


def test_nuplans_names_of_lights(tmp_path):
    scene = waymo_scene()
    names = np.array(["TRAFFIC_LIGHT_GREEN"] * 6 + ["TRAFFIC_LIGHT_RED"] * 6)
    scene["dynamic_map_states"]["1"]["state"]["object_state"] = names
    (light,) = read(tmp_path, scene).lights
    assert light.states == ("green", "red")


def test_the_ego_of_nuscenes_is_mended(tmp_path):
    scene = read(tmp_path, nuscenes_scene())
    ego = next(each for each in scene.tracks if each.key == "ego")
    assert (ego.length_m, ego.width_m) == (4.08, 1.73)
    assert len(ego.time_s) == 8  # up to the step back
    assert scene.notes["ego_states_cut_off"] == 4
    np.testing.assert_allclose(ego.x_m, 3.0, atol=1e-9)  # it heads along y
    np.testing.assert_allclose(ego.y_m, 10 * TIMES[:8] + ZOE_AXLE_TO_CENTRE_M)


def test_velocities_that_end_in_a_false_zero_are_not_kept(tmp_path):
    scene = read(tmp_path, nuscenes_scene())
    assert scene.notes["velocities_from_positions"] is True
    assert all(each.velocity_mps is None for each in scene.tracks)


def test_a_motorcycle_has_an_engine_and_a_cone_stands(tmp_path):
    kinds = {each.key: each.kind for each in read(tmp_path, nuscenes_scene()).tracks}
    assert kinds == {"ego": "vehicle", "a": "vehicle", "b": "vehicle", "c": "static"}


def test_the_map_of_nuscenes(tmp_path):
    scene = read(tmp_path, nuscenes_scene())
    lines = {line.key: line for line in scene.map.lines}
    assert lines["boundary_0"].kind == lines["boundary_1"].kind == "road_edge"
    areas = {key: line.is_hole for key, line in lines.items() if line.kind == "drivable_area"}
    assert areas == {"boundary_0/area": False, "boundary_1/area": True}
    assert lines["c1"].speed_limit_mps is None  # the converter made it up
    assert (lines["c1"].area, lines["l1"].area) == ("intersection", "none")
    assert lines["l1"].successors == ("c1",)
    assert (lines["l1"].left, lines["l2"].right) == ("l2", "l1")
    assert (lines["l1"].right, lines["l2"].left) == (None, None)
    assert lines["l1"].width_m == pytest.approx(4.0)


def test_an_area_inside_a_hole_is_an_area_and_is_said(tmp_path):
    scene = nuscenes_scene()
    island = [[45, 22], [55, 22], [55, 28], [45, 28], [45, 22]]
    scene["map_features"]["boundary_2"] = {"type": "ROAD_LINE_X", "polyline": np.array(island)}
    result = read(tmp_path, scene)
    holes = {line.key: line.is_hole for line in result.map.lines if line.kind == "drivable_area"}
    assert [holes[f"boundary_{i}/area"] for i in range(3)] == [False, True, False]
    assert result.notes["areas_inside_holes"] == 1


def test_scenes_of_one_log_share_a_recording(tmp_path):
    first, second = nuscenes_scene(), nuscenes_scene()
    second["metadata"]["scenario_id"] = second["id"] = "scene-0002"
    third = copy.deepcopy(second)
    third["metadata"]["date"] = "2018-08-02"
    keys = [read(tmp_path, scene).recording_key for scene in (first, second, third)]
    assert keys[0] == keys[1] != keys[2]
    third["metadata"]["log_name"] = "log-7"
    assert read(tmp_path, third).recording_key == "nuscenes/log-7"


def damaged(**changes) -> dict:
    scene = waymo_scene()
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = scene
        for parent in parents:
            target = target[parent]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return scene


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        ([1, 2], "no table of names but a list"),
        (damaged(tracks=None, map_features=None), "has no tracks, map_features"),
        (damaged(tracks={}), "none of its 0 tracks"),
        (damaged(tracks=[1]), "tracks is no table"),
        (damaged(map_features=[1]), "map_features is no table"),
        (damaged(metadata="x"), "metadata is no table"),
        (damaged(length="x"), "its length is x"),
        (damaged(length=5), "not 5 rising numbers"),
        (damaged(metadata__ts=TIMES[::-1]), "not 12 rising numbers"),
        (damaged(metadata__ts=np.arange(STEPS) * 100_000.0), "which are no seconds"),
        (damaged(metadata__ts=["a"] * STEPS), "not made of numbers"),
        (damaged(metadata__ts=1j * TIMES), "made of complex numbers"),
        (damaged(dynamic_map_states=3), "dynamic_map_states is no table"),
    ],
)
def test_a_scene_that_cannot_be_used_is_one_sentence(tmp_path, scene, reason):
    with pytest.raises(InputError, match=reason) as caught:
        read_scenario(written(tmp_path, scene))
    assert str(caught.value).startswith("sd_waymo_v1_w1.pkl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("position", np.full((STEPS, 3), np.nan), "position is not finite, or huge"),
        ("position", np.zeros((STEPS + 1, 3)), "not 12 steps"),
        ("position", np.zeros(STEPS), "not x and y per step"),
        ("heading", np.linspace(0, 270, STEPS), "degrees, not radians"),
        ("heading", None, "its heading is missing"),
        ("valid", np.zeros(STEPS), "never valid"),
        ("length", np.zeros((STEPS, 1)), "its length is 0 m"),
        ("width", np.full(STEPS, np.inf), "its width is inf m"),
        ("heading", [[1], [1, 2]], "not made of numbers"),
    ],
)
def test_a_track_that_cannot_be_used_leaves_the_others(tmp_path, column, value, reason):
    scene = waymo_scene()
    scene["tracks"]["8"]["state"][column] = value
    result, problems = read_scenario(written(tmp_path, scene))
    assert [each.key for each in result.tracks] == ["7", "9"]
    (problem,) = problems
    assert problem.file == "sd_waymo_v1_w1.pkl"
    assert problem.reason.startswith("scene waymo/w1, track 8: ")
    assert reason in problem.reason


def test_a_state_that_is_not_valid_may_hold_anything(tmp_path):
    scene = waymo_scene()
    scene["tracks"]["9"]["state"]["position"][0] = np.nan
    assert len(read(tmp_path, scene).tracks) == 3


def test_a_lost_ego_is_said(tmp_path):
    scene = waymo_scene()
    scene["tracks"]["7"]["state"]["position"][3] = np.nan
    result, problems = read_scenario(written(tmp_path, scene))
    assert result.ego_key is None
    assert any("its ego 7 is not among the tracks" in problem.reason for problem in problems)


def test_odd_kinds_features_and_lights_are_said(tmp_path):
    scene = waymo_scene()
    scene["tracks"]["8"]["type"] = "HOVERCRAFT"
    scene["map_features"] |= {
        20: {"type": "TELEPORTER", "polyline": [[0, 0], [1, 1]]},
        21: lane([[0, 0], [np.nan, 1]]),
        22: lane([[0, 0], [0, 0]]),
        23: {"type": "CROSSWALK"},
    }
    light = scene["dynamic_map_states"]["1"]
    scene["dynamic_map_states"] |= {"40": light | {"lane": 40}, "41": light | {"state": {}}}
    result, problems = read_scenario(written(tmp_path, scene))
    assert result.notes["other_kinds"] == 1
    reasons = [problem.reason.removeprefix("scene waymo/w1, ") for problem in problems]
    assert reasons == [
        "map feature 21: its polyline has a point that is not finite or 100,000 km away.",
        "map feature 22: its polyline has 1 distinct points, fewer than 2.",
        "map feature 23: its polygon is missing.",
        "1 map features of the unknown kind TELEPORTER are left out.",
        "traffic light 40: it controls the lane 40, which the map does not have.",
        "traffic light 41: it does not show 12 states, one a step.",
    ]


ODD_VALUES = (
    *(None, -1.5, "x", [], {}, 10**400, float("nan"), b"x", [[1, 2], [3]], [None], True),
    *(np.zeros(0), np.zeros((STEPS, 0)), np.array(["a", "b"]), np.full((STEPS, 3), 1e300)),
)


def places(value: object, *, of: tuple = ()) -> list[tuple]:
    """Every place in nested dicts, by its keys."""
    if not isinstance(value, dict):
        return []
    inner = [place for key, part in value.items() for place in places(part, of=(*of, key))]
    return [*((*of, key) for key in value), *inner]


@pytest.mark.parametrize("make", [waymo_scene, nuscenes_scene])
def test_no_odd_value_anywhere_raises_anything_but_a_refusal(tmp_path, make):
    odd_values = itertools.cycle(ODD_VALUES)
    for place in places(make()):
        scene = make()
        target = scene
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = next(odd_values)
        with contextlib.suppress(InputError):
            read_scenario(written(tmp_path, scene))


def test_one_bad_file_is_not_the_end(tmp_path):
    folder = tmp_path / "part" / "deep"
    folder.mkdir(parents=True)
    good = pickle.dumps(waymo_scene())
    (folder / "sd_b.pkl").write_bytes(good[: len(good) // 2])
    (folder / "sd_a.pkl").write_bytes(pickle.dumps(nuscenes_scene()))
    (folder / "unusual_name.pkl").write_bytes(good)
    (folder / "sd_z_again.pkl").write_bytes(pickle.dumps(nuscenes_scene()))
    (tmp_path / "dataset_summary.pkl").write_bytes(b"x")
    (tmp_path / "dataset_mapping.pkl").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    outside = tmp_path.parent / f"{tmp_path.name}_outside.pkl"
    outside.write_bytes(good)
    (folder / "sd_link.pkl").symlink_to(outside)
    source = ScenarioNetSource([tmp_path, folder / "sd_a.pkl"])
    names = ["sd_a.pkl", "sd_b.pkl", "sd_z_again.pkl", "unusual_name.pkl"]
    assert [file.name for file in source.files()] == names
    results = list(source.scenes())
    assert [type(result) for result in results] == [
        RejectedInput,
        RawScene,
        RejectedInput,
        RejectedInput,
        RawScene,
    ]
    reasons = [result.reason for result in results if isinstance(result, RejectedInput)]
    assert "leads out of the given folder" in reasons[0]
    assert "truncated" in reasons[1]
    assert "already read from sd_a.pkl" in reasons[2]


def test_no_files_is_an_error(tmp_path):
    with pytest.raises(InputError, match="There are no ScenarioNet pickles in"):
        ScenarioNetSource([tmp_path]).files()
    with pytest.raises(InputError, match="does not exist"):
        list(ScenarioNetSource([tmp_path / "none"]).scenes())


@pytest.fixture(scope="module")
def real_scenes(scenarionet_folder):
    results = list(ScenarioNetSource([scenarionet_folder]).scenes())
    assert all(isinstance(result, RawScene) for result in results)
    return [result for result in results if isinstance(result, RawScene)]


def test_the_real_scenes_are_all_read(real_scenes):
    assert len(real_scenes) == 10
    assert sum(len(scene.tracks) for scene in real_scenes) == 915
    assert len({scene.recording_key for scene in real_scenes}) == 8
    assert all(scene.ego_key == "ego" for scene in real_scenes)


def test_the_real_ego_drives_on_the_drivable_area(real_scenes):
    for scene in real_scenes:
        areas = [line for line in scene.map.lines if line.kind == "drivable_area"]
        whole = shapely.union_all([shapely.Polygon(a.points_m) for a in areas if not a.is_hole])
        holes = shapely.union_all([shapely.Polygon(a.points_m) for a in areas if a.is_hole])
        ego = next(track for track in scene.tracks if track.key == scene.ego_key)
        assert shapely.contains_xy(whole.difference(holes), ego.x_m, ego.y_m).all()


def test_real_vehicles_head_where_they_move(real_scenes):
    off = []
    for scene in real_scenes:
        for track in scene.tracks:
            moved = np.stack([np.diff(track.x_m), np.diff(track.y_m)], axis=1)
            fast = np.linalg.norm(moved, axis=1) > 0.2
            angle = np.arctan2(moved[:, 1], moved[:, 0]) - track.heading_rad[:-1]
            if track.kind == "vehicle":
                off.append(np.abs((angle[fast] + np.pi) % (2 * np.pi) - np.pi))
    assert np.median(np.concatenate(off)) < 0.03
    assert np.mean(np.concatenate(off) > 0.5) < 0.002


def test_the_real_ego_turns_about_a_point_behind_its_centre(real_scenes):
    """In a turn the rear axle does not slip sideways, so the centre does, by the known distance."""
    slip, turn = [], []
    for scene in real_scenes:
        ego = next(track for track in scene.tracks if track.key == scene.ego_key)
        velocity = np.gradient(np.stack([ego.x_m, ego.y_m]), ego.time_s, axis=1)
        rate = np.gradient(np.unwrap(ego.heading_rad), ego.time_s)
        aside = np.cos(ego.heading_rad) * velocity[1] - np.sin(ego.heading_rad) * velocity[0]
        turning = np.abs(rate) > 0.1
        slip.append(aside[turning])
        turn.append(rate[turning])
    slip, turn = np.concatenate(slip), np.concatenate(turn)
    assert (slip @ turn) / (turn @ turn) == pytest.approx(ZOE_AXLE_TO_CENTRE_M, abs=0.2)
