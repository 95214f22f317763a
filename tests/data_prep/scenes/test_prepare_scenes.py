"""From raw scenes to tables: numbers, frames, splits, refusals, and equal bytes."""

from dataclasses import replace

import numpy as np
import pytest

from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import InputError
from data_prep.scenes.prepare import write_scenes
from data_prep.scenes.raw_scene import RawLight, RejectedInput
from data_prep.scenes.scene_rules import SceneDestination, SceneRules
from data_prep.scenes.tables import (
    DRIVER_STYLES,
    LIGHT_STATES,
    MAP_LINES,
    MAPS,
    SCENE_TOKENS,
    SCENES,
    STATES,
    TRACKS,
)
from data_prep.schema import REJECTED
from tests.data_prep.scenes.scene_stubs import ROAD, Stub, drive, moved, scene, style


def prepared(folder, found, **rules) -> Artifact:
    write_scenes(Stub(found), SceneRules(**rules), SceneDestination(folder))
    return read_artifact(folder, kind="scenes")


def test_scenes_are_numbered_by_key(tmp_path):
    artifact = prepared(tmp_path / "a", [scene("b"), scene("a"), scene("c", drive("x", steps=31))])
    scenes = artifact.table(SCENES)
    assert scenes["scene_key"].to_list() == ["a", "b", "c"]
    assert scenes["scene_id"].to_list() == [0, 1, 2]
    assert scenes["step_count"].to_list() == [60, 60, 31]
    assert scenes["source"].to_list() == ["stub"] * 3
    assert scenes["ego_track_id"].to_list() == [None] * 3
    assert sorted(scenes["split"]) == ["test", "train", "validation"]
    states = artifact.table(STATES)
    assert states.filter(scene_id=2).height == 31
    assert states.rows() == states.sort("scene_id", "track_id", "step").rows()


def test_positions_are_in_the_scene_frame(tmp_path):
    far = moved(ROAD, "far", np.array([640_000.25, 4_100_000.5]))
    track = drive("1", x=640_005.5, y=4_100_000.75)
    artifact = prepared(tmp_path / "a", [scene("a", track, raw_map=far)])
    (key, x_m, y_m) = artifact.table(MAPS).row(0)[1:]
    assert (key, x_m, y_m) == ("stub:far", 640_100.0, 4_100_000.0)
    states = artifact.table(STATES)
    np.testing.assert_allclose(states["x_m"][:2], [-94.5, -93.5], atol=1e-5)
    np.testing.assert_allclose(states["y_m"][:2], 0.75, atol=1e-5)
    line = artifact.table(MAP_LINES).row(0, named=True)
    np.testing.assert_allclose(line["x_m"], [-99.75, 0.25], atol=1e-5)


def test_lines_keep_their_order_and_links(tmp_path):
    lines = prepared(tmp_path / "a", [scene("a")]).table(MAP_LINES)
    assert lines["line_key"].to_list() == ["z", "a", "area", "hole"]
    assert lines["successor_ids"].to_list() == [[1], [], [], []]
    assert lines["speed_limit_mps"].to_list()[0] == pytest.approx(13.9)


def test_areas_run_counter_clockwise_and_holes_clockwise(tmp_path):
    lines = prepared(tmp_path / "a", [scene("a")]).table(MAP_LINES)
    for key, sign in (("area", 1), ("hole", -1)):
        row = lines.filter(line_key=key).row(0, named=True)
        x, y = np.array(row["x_m"], float), np.array(row["y_m"], float)
        assert len(x) == 4  # the first point is not repeated
        assert np.sign(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) == sign


def test_maps_are_written_once(tmp_path):
    other = moved(ROAD, "other", 7.0)
    found = [scene("a"), scene("b", raw_map=other), scene("c")]
    artifact = prepared(tmp_path / "a", found)
    assert artifact.table(MAPS)["map_key"].to_list() == ["stub:other", "stub:road"]
    assert artifact.table(SCENES)["map_id"].to_list() == [1, 0, 1]
    assert artifact.table(MAP_LINES)["map_id"].to_list() == [0] * 4 + [1] * 4


def test_maps_beyond_the_few_kept_ready(tmp_path):
    maps = [moved(ROAD, f"m{k:02d}", 10.0 * k) for k in range(12)]
    found = [
        scene(f"{turn}{k:02d}", drive("1", x=5.0 + 10 * k), raw_map=maps[k])
        for turn in "ab"
        for k in range(12)
    ]
    artifact = prepared(tmp_path / "a", found)
    assert artifact.table(MAPS).height == 12
    states = artifact.table(STATES)
    first, again = states.filter(scene_id=3), states.filter(scene_id=15)
    assert first["x_m"].to_list() == again["x_m"].to_list()


def test_routes_are_given_or_matched(tmp_path):
    walker = drive("w", kind="pedestrian", speed=1.0)
    short = drive("s", steps=10)
    tracks = (drive("1"), walker, short, drive("2", y=80.0))
    artifact = prepared(tmp_path / "a", [scene("a", *tracks, routes={"1": ("a",)})])
    tracks = artifact.table(TRACKS)
    assert tracks["track_key"].to_list() == ["1", "2", "s", "w"]
    assert tracks["route_source"].to_list() == ["given", "none", "none", "none"]
    assert tracks["route_ids"].to_list()[0] == [1]
    artifact = prepared(tmp_path / "b", [scene("a")])
    assert artifact.table(TRACKS).row(0, named=True)["route_ids"] == [0, 1]
    assert artifact.table(TRACKS)["route_source"].to_list() == ["matched"]


def test_ego_lights_tokens_and_styles(tmp_path):
    light = RawLight("z", np.array([0.0, 0.25, 9.0]), ("red", "green", "red"))
    first = scene(
        "a",
        drive("1"),
        drive("0"),
        ego_key="1",
        lights=(light,),
        tokens={"late": 99.0, "t": 0.52},
        driver_styles={"1": style()},
        simulated=True,
    )
    artifact = prepared(tmp_path / "a", [first])
    assert artifact.table(SCENES)["ego_track_id"].to_list() == [1]
    assert artifact.table(LIGHT_STATES).rows() == [(0, 0, 0, "red"), (0, 0, 3, "green")]
    assert artifact.table(SCENE_TOKENS).rows() == [(0, 5, "t")]
    assert artifact.table(DRIVER_STYLES).row(0) == (0, 1, "normal", [0.5] * 8, '{"tau": 1.2}')
    assert artifact.json("style_dimensions")[0] == "speed"
    assert artifact.manifest.notes["simulated"] is True


def test_what_no_source_gives_is_not_written(tmp_path):
    artifact = prepared(tmp_path / "a", [scene("a"), scene("b", simulated=True)])
    assert not artifact.has("driver_styles.parquet")
    assert not artifact.has("scene_tokens.parquet")
    assert not artifact.has("style_dimensions.json")
    assert artifact.table(LIGHT_STATES).height == 0
    assert artifact.manifest.notes["simulated"] == "partly"


def test_refusals_are_rows_with_names(tmp_path):
    bad = replace(drive("9"), length_m=-1.0)
    found = [
        scene("a", drive("1"), drive("2"), drive("3"), drive("4"), drive("5"), bad),
        RejectedInput("broken.log", "the file is no log", "\x00half"),
        scene("a", drive("1")),
        *(scene(key, *(drive(str(k)) for k in range(9))) for key in "bcd"),
    ]
    artifact = prepared(tmp_path / "a", found, max_rejected_share=0.3)
    rows = artifact.table(REJECTED).select("file", "reason", "excerpt").rows()
    assert rows == [
        (
            "a.log",
            "scene a, track 9: its box of -1 m x 1.8 m is no road user's",
            "vehicle, 60 states from 0 s at (5.00, 0.00)",
        ),
        ("a.log", "scene a: its key repeats", ""),
        ("broken.log", "the file is no log", "\\x00half"),
    ]
    notes = artifact.manifest.notes
    assert (notes["scenes"], notes["tracks"], notes["tracks_refused"]) == (4, 32, 2)
    assert notes["rejected_by_reason"] == {
        "its box of # m x # m is no road user's": 1,
        "its key repeats": 1,
        "the file is no log": 1,
    }


def test_a_track_that_meets_no_step_is_refused(tmp_path):
    lone = replace(drive("9", steps=1), velocity_mps=None)
    tracks = [drive(str(k)) for k in range(8)]
    artifact = prepared(tmp_path / "a", [scene("a", *tracks, lone)])
    (reason,) = artifact.table(REJECTED)["reason"]
    assert reason.startswith("scene a, track 9: a lone state without a velocity")
    assert artifact.manifest.notes["tracks_refused"] == 1
    assert artifact.table(TRACKS).height == 8
    with pytest.raises(InputError, match="No scene is left"):
        prepared(tmp_path / "b", [scene("a", lone)])


def test_notes_count_what_is_there(tmp_path):
    found = [
        scene("a", drive("1"), drive("2", steps=30), drive("p", kind="pedestrian"), recording="r"),
        scene("b", recording="r"),
    ]
    notes = prepared(tmp_path / "a", found).manifest.notes
    assert notes["seconds"] == 12.0
    assert (notes["scenes"], notes["recordings"], notes["maps"]) == (2, 1, 1)
    assert (notes["tracks"], notes["vehicle_tracks"], notes["states"]) == (4, 3, 210)
    assert notes["vehicle_tracks_of_5_s"] == 2
    assert notes["by_split"]["train"] == {"recordings": 1, "scenes": 2, "vehicle_states": 150}
    assert notes["dropped_links"] == 1


def test_too_much_refused_stops(tmp_path):
    bad = replace(drive("9"), length_m=-1.0)
    tracks = [drive(str(k)) for k in range(3)]
    with pytest.raises(InputError, match=r"1 of 4 tracks were refused.*0\.2.*scene a, track 9"):
        prepared(tmp_path / "a", [scene("a", *tracks, bad)])
    assert not (tmp_path / "a").exists()
    prepared(tmp_path / "a", [scene("a", *tracks, bad)], max_rejected_share=0.25)


def test_a_lost_file_counts_as_a_scene(tmp_path):
    found = [scene("a", *(drive(str(k)) for k in range(9))), RejectedInput("x", "the file is cut")]
    with pytest.raises(InputError, match="9 of 18 tracks were refused"):
        prepared(tmp_path / "a", found)


def test_nothing_left_is_said(tmp_path):
    with pytest.raises(InputError, match="No scene is left of what was read; the first reason is"):
        prepared(tmp_path / "a", [RejectedInput("x", "the file is cut")])
    with pytest.raises(InputError, match="No scene is left of what was read\\. Check"):
        prepared(tmp_path / "a", [])


def test_the_split_of_the_source_stays(tmp_path):
    found = [scene(str(k), recording=f"r{k}", split="test" if k < 5 else None) for k in range(10)]
    scenes = prepared(tmp_path / "a", found).table(SCENES)
    assert scenes["split"].to_list()[:5] == ["test"] * 5
    assert "train" in scenes["split"].to_list()[5:]
    torn = [scene("a", recording="r", split="test"), scene("b", recording="r", split="train")]
    with pytest.raises(InputError, match="Recording r lies in test and in train"):
        prepared(tmp_path / "b", torn)


def test_scenes_of_a_recording_stay_together(tmp_path):
    found = [scene(f"{k}", recording=f"r{k % 5}") for k in range(30)]
    scenes = prepared(tmp_path / "a", found, seed=3).table(SCENES)
    parts = scenes.group_by("recording_key").n_unique()
    assert parts["split"].to_list() == [1] * 5


def test_a_map_that_differs_under_one_name_is_refused(tmp_path):
    other = replace(ROAD, lines=ROAD.lines[:1])
    found = [scene("a", *(drive(str(k)) for k in range(9))), scene("b", raw_map=other)]
    artifact = prepared(tmp_path / "a", found)
    assert "differs from an earlier one" in artifact.table(REJECTED)["reason"][0]


def test_other_steps(tmp_path):
    artifact = prepared(tmp_path / "a", [scene("a")], step_s=0.5)
    assert artifact.table(STATES)["step"].to_list() == list(range(12))
    np.testing.assert_allclose(np.diff(artifact.table(STATES)["x_m"]), 5.0, atol=1e-4)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"step_s": 0.0}, "--step-s must lie in"),
        ({"step_s": 1.0}, "--step-s must lie in"),
        ({"max_rejected_share": 1.5}, "--max-rejected-share must lie in"),
        ({"validation": 0.7, "test": 0.4}, "--split-fractions must be"),
    ],
)
def test_senseless_rules_are_refused(rules, message):
    with pytest.raises(InputError, match=message):
        SceneRules(**rules)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    found = [scene("b", drive("1"), drive("0")), scene("a"), RejectedInput("x", "y")]
    one = prepared(tmp_path / "a", found, max_rejected_share=1.0)
    other = prepared(tmp_path / "b", found[::-1], max_rejected_share=1.0)
    assert one.content_hash == other.content_hash
    assert one.manifest.notes == other.manifest.notes
