"""CommonRoad files: what a hand-written one holds comes out, and nothing unsafe is parsed."""

import math
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import InputError
from data_prep.scenes.check import track_fault
from data_prep.scenes.commonroad import CommonRoadSource, place, shared_recordings
from data_prep.scenes.raw_scene import RawScene, RejectedInput
from tests.conftest import SHARED_DATA
from tests.data_prep.scenes import commonroad_files as files

pytest.importorskip("commonroad", reason="the extra [commonroad] is not installed")

LIGHTS = """<trafficSign id="70"><trafficSignElement><trafficSignID>274</trafficSignID>
<additionalValue>13.9</additionalValue></trafficSignElement></trafficSign>
<trafficLight id="80"><cycle><cycleElement><duration>3</duration><color>green</color>
</cycleElement><cycleElement><duration>4</duration><color>red</color></cycleElement>
<timeOffset>0</timeOffset></cycle></trafficLight>"""


def scenes(*paths):
    return list(CommonRoadSource(paths).scenes())


def raw_scenes(*paths) -> list[RawScene]:
    found = scenes(*paths)
    good = [one for one in found if isinstance(one, RawScene)]
    assert good == found
    return good


def only_scene(*paths) -> RawScene:
    (found,) = raw_scenes(*paths)
    return found


@pytest.mark.parametrize("version", ["2018b", "2020a"])
def test_tracks_of_both_versions(tmp_path, version):
    rows = files.states(3.0, 1.0, speed=8.0, steps=12)
    path = files.write(
        tmp_path / "a.xml", [files.obstacle(7, rows, version=version)], version=version
    )
    scene = only_scene(path)
    (track,) = scene.tracks
    assert (scene.key, scene.location, scene.ego_key) == ("ZAM_Test-1_1_T-1", "ZAM_Test", None)
    assert (track.key, track.kind, track.length_m, track.width_m) == ("7", "vehicle", 4.5, 1.8)
    np.testing.assert_allclose(track.time_s, np.arange(12) * 0.1)
    np.testing.assert_allclose(track.x_m, 3.0 + 0.8 * np.arange(12))
    np.testing.assert_allclose(track.y_m, 1.0)
    assert track.velocity_mps is not None
    np.testing.assert_allclose(track.velocity_mps, [[8.0, 0.0]] * 12, atol=1e-12)
    assert scene.notes["format"] == version
    assert {line.road_class for line in scene.map.lines if line.kind == "lane_centre"} == {
        "motorway"
    }


def test_velocity_points_where_the_heading_does(tmp_path):
    rows = [
        {"x": 0, "y": k * 0.5, "heading": math.pi / 2, "step": k, "speed": 5.0} for k in range(4)
    ]
    (track,) = only_scene(files.write(tmp_path / "a.xml", [files.obstacle(7, rows)])).tracks
    assert track.velocity_mps is not None
    np.testing.assert_allclose(track.velocity_mps, [[0.0, 5.0]] * 4, atol=1e-12)


@pytest.mark.parametrize(("heading", "x", "y"), [(math.pi / 2, 9.5, 22.0), (0.0, 12.0, 20.5)])
def test_box_off_its_position_is_centred(tmp_path, heading, x, y):
    shape = "<center><x>2.0</x><y>0.5</y></center>"
    rows = [{"x": 10, "y": 20, "heading": heading, "step": k, "speed": 0.0} for k in range(3)]
    path = files.write(tmp_path / "a.xml", [files.obstacle(7, rows, shape=shape)])
    (track,) = only_scene(path).tracks
    # Two metres ahead and half a metre to the left: facing up, that is +y and -x.
    np.testing.assert_allclose(track.x_m, x)
    np.testing.assert_allclose(track.y_m, y)


def test_origin_of_a_rear_axle_is_centred(tmp_path):
    path = files.write(
        tmp_path / "a.xml",
        [files.obstacle(7, files.states(0.0), shape="<originXShift>-1.5</originXShift>")],
    )
    (track,) = only_scene(path).tracks
    assert track.x_m[0] == pytest.approx(1.5)


def test_lanes_bounds_limits_and_lights(tmp_path):
    links = (
        '<successor ref="2"/><adjacentLeft ref="3" drivingDir="same"/>'
        "<stopLine><lineMarking>solid</lineMarking></stopLine>"
        '<trafficSignRef ref="70"/><trafficLightRef ref="80"/>'
    )
    road = (
        files.lanelet(1, [(0, 2), (50, 2)], [(0, -2), (50, -2)], links),
        files.lanelet(2, [(50, 3), (90, 3)], [(50, -2), (90, -2)], '<predecessor ref="1"/>'),
        files.ROAD[2],
        files.lanelet(
            4, [(60, 9), (60, -9)], [(56, 9), (56, -9)], "<laneletType>crosswalk</laneletType>"
        ),
    )
    path = files.write(
        tmp_path / "a.xml",
        [files.obstacle(7, files.states(0.0, steps=10))],
        road=road,
        extra=LIGHTS,
        benchmark="DEU_Test-1_1_T-1",
    )
    scene = only_scene(path)
    lines = {line.key: line for line in scene.map.lines}
    centre = lines["1"]
    np.testing.assert_allclose(centre.points_m, [[0, 0], [50, 0]])
    assert (centre.successors, centre.left, centre.right) == (("2",), "3", None)
    assert (centre.width_m, centre.speed_limit_mps, centre.has_signal) == (4.0, 13.9, True)
    assert lines["2"].width_m == 5.0
    assert lines["2"].speed_limit_mps is None
    np.testing.assert_allclose(lines["1:stop"].points_m, [[50, 2], [50, -2]])
    assert lines["4:crosswalk"].kind == "crosswalk"
    assert "4" not in lines
    # The bound between 1 and 3 appears once, as the right one of the left lanelet.
    assert "1:left" not in lines
    assert lines["3:right"].kind == "lane_boundary"
    assert lines["1:right"].kind == lines["3:left"].kind == "road_edge"
    (light,) = scene.lights
    assert (light.line_key, light.states) == ("1", ("green", "red", "green"))
    np.testing.assert_allclose(light.time_s, [0.0, 0.3, 0.7])


def test_equal_maps_share_a_key(tmp_path):
    one = files.write(tmp_path / "a.xml", [files.obstacle(7, files.states(0.0))])
    other = files.write(
        tmp_path / "b.xml", [files.obstacle(9, files.states(4.0))], benchmark="ZAM_Test-1_2_T-1"
    )
    moved = files.write(
        tmp_path / "c.xml",
        [files.obstacle(9, files.states(4.0))],
        benchmark="ZAM_Test-1_3_T-1",
        road=(files.ROAD[0].replace("50", "51"), *files.ROAD[1:]),
    )
    keys = [scene.map.key for scene in raw_scenes(one, other, moved)]
    assert keys[0] == keys[1] != keys[2]


def test_recording_of_the_index_or_the_map(tmp_path):
    for folder in ("With", "Without"):
        for number in (1, 2):
            files.write(
                tmp_path / folder / f"{number}.xml",
                [files.obstacle(10 + number, files.states(0.0))],
                benchmark=f"ZAM_{folder}-{number}_1_T-1",
            )
    (tmp_path / "With" / "INDEX.csv").write_text("file,traffic_group\n1.xml,5\n2.xml,5\n")
    found = [scene.recording_key for scene in raw_scenes(tmp_path)]
    assert found == ["group 0005", "group 0005", "ZAM_Without-1", "ZAM_Without-2"]
    assert tmp_path / "With" / "INDEX.csv" in CommonRoadSource([tmp_path]).files()


def test_files_with_the_same_vehicles_are_one_recording():
    paths = [Path(name) for name in "abcd"]
    recordings = dict(zip(paths, ["r3", "r2", "r1", "r0"], strict=True))
    names = dict(zip(paths, ["X_P-1_1", "X_P-2_1", "X_P-3_1", "X_Q-1_1"], strict=True))
    boxes = {
        paths[0]: frozenset({("1", "4.0", "2.0"), ("2", "5.0", "2.0")}),
        paths[1]: frozenset({("1", "4.0", "2.0"), ("2", "5.0", "2.0"), ("9", "4.0", "2.0")}),
        paths[2]: frozenset({("1", "4.0", "2.0"), ("2", "5.1", "2.0")}),  # one alone may be chance
        paths[3]: frozenset({("1", "4.0", "2.0"), ("2", "5.0", "2.0")}),  # another place
    }
    joined = shared_recordings(recordings, names, boxes)
    assert [joined[path] for path in paths] == ["r2", "r2", "r1", "r0"]


def test_place_of_a_benchmark():
    assert place("USA_US101-3_1_T-1") == "USA_US101"
    assert place("C-DEU_A9-2_1_T-1") == "DEU_A9"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "no whole XML document"),
        (lambda text: text.replace("2020a", "2017a"), "no CommonRoad scenario"),
        (
            lambda text: text.replace("?>", '?><!DOCTYPE a [<!ENTITY b "c">]>', 1),
            "declares a document type",
        ),
        (lambda text: text.replace("UTF-8", "cp037", 1), "not encoded as UTF-8"),
        (lambda text: text.replace("<exact>10.0</exact>", "", 1), "velocity without a value"),
        (lambda text: text.replace('type="x"', "").replace("car", "ufo"), "no readable scenario"),
        (lambda text: text.replace("<leftBound>", "<loftBound>", 1), "no whole XML document"),
        (lambda text: text.replace("ZAM_Test-1_1_T-1", ""), "names no benchmarkID"),
        (lambda text: text.replace("Bound>", "Edge>"), "an element that the format needs"),
        (lambda _: "", "no whole XML document"),
        (lambda text: text.replace("<exact>29<", "<exact>99000000<"), "lasts 99,000,001 steps"),
    ],
)
def test_bad_file_is_refused_alone(tmp_path, change, reason):
    good = files.write(
        tmp_path / "b.xml", [files.obstacle(7, files.states(0.0))], benchmark="ZAM_Good-1_1_T-1"
    )
    bad = files.write(tmp_path / "a.xml", [files.obstacle(7, files.states(0.0))])
    bad.write_text(change(bad.read_text()))
    refused, kept = scenes(bad, good)
    assert isinstance(refused, RejectedInput)
    assert refused.file == "a.xml"
    assert reason in refused.reason
    assert isinstance(kept, RawScene)


def test_bomb_is_not_expanded(tmp_path):
    levels = "".join(
        f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' if k else '<!ENTITY l0 "lol">' for k in range(10)
    )
    bomb = tmp_path / "bomb.xml"
    bomb.write_text(f'<?xml version="1.0"?><!DOCTYPE lolz [{levels}]><commonRoad>&l9;</commonRoad>')
    (refused,) = scenes(bomb)
    assert isinstance(refused, RejectedInput)
    assert "never expanded" in refused.reason


def test_an_obstacle_without_a_trajectory_has_no_states(tmp_path):
    path = files.write(
        tmp_path / "a.xml",
        [
            files.obstacle(7, files.states(0.0)),
            files.obstacle(8, files.states(0.0), trajectory=False),
        ],
    )
    scene = only_scene(path)
    assert [track.time_s.size for track in scene.tracks] == [30, 0]


def test_criticality_is_noted(tmp_path):
    path = files.write(
        tmp_path / "a.xml",
        [files.obstacle(7, files.states(0.0))],
        source="NGSIM, optimized towards criticality",
    )
    assert only_scene(path).notes["optimized_towards_criticality"] is True


def test_no_file_is_said(tmp_path):
    with pytest.raises(InputError, match="no CommonRoad file"):
        CommonRoadSource([tmp_path]).files()
    with pytest.raises(InputError, match="neither a file nor a folder"):
        CommonRoadSource([tmp_path / "none"]).files()


def test_real_recordings(tmp_path):
    folder = SHARED_DATA / "commonroad_ngsim"
    if not folder.is_dir():
        pytest.skip("the data folder commonroad_ngsim is not there")
    names = ["USA_Peach-4_1_T-1", "USA_Peach-4_2_T-1", "USA_Peach-4_3_T-1", "USA_US101-30_1_T-1"]
    for name in ["INDEX.csv", *(f"{name}.xml" for name in names)]:
        (tmp_path / name).symlink_to(folder / name)
    found = raw_scenes(tmp_path)
    assert [scene.key for scene in found] == names
    assert [len(scene.tracks) for scene in found] == [20, 19, 6, 13]
    # The index calls all of them recordings of their own, but two hold the same vehicles.
    recordings = [scene.recording_key for scene in found]
    assert recordings == ["group 0032", "group 0032", "group 0034", "group 0068"]
    assert "optimized_towards_criticality" in found[3].notes
    (fault,) = (fault for scene in found for t in scene.tracks if (fault := track_fault(t)))
    assert fault == "its heading is off its motion by 159 degrees"
    lanes = [line for line in found[0].map.lines if line.kind == "lane_centre"]
    assert len(lanes) == 79
    assert {round(line.speed_limit_mps or 0, 1) for line in lanes} <= {15.6, 11.2, 8.9, 6.7, 0.0}
    assert any(line.has_signal for line in lanes)
    assert {line.road_class for line in lanes} == {"urban"}
