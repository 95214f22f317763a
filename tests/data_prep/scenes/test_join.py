"""Joined artifacts: the same tables as preparing everything together, or one clear sentence."""

import pytest

from data_prep.artifact import read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.scenes import join
from data_prep.scenes.prepare import write_scenes
from data_prep.scenes.scene_rules import SceneDestination, SceneRules
from data_prep.scenes.tables import (
    DRIVER_STYLES,
    LIGHT_STATES,
    MAP_LINES,
    MAPS,
    SCENES,
    STATES,
    TRACKS,
)
from data_prep.schema import REJECTED
from tests.data_prep.scenes.scene_stubs import ROAD, Stub, drive, moved, scene, style


def write(folder, found, name="stub", **rules):
    write_scenes(Stub(found, name), SceneRules(**rules), SceneDestination(folder))
    return folder


def joined(folder, *parts):
    join.join_scenes(parts, SceneDestination(folder))
    return read_artifact(folder, kind="scenes")


def scenes_of(keys, **more):
    other = moved(ROAD, "other", 7.0)
    return [
        scene(
            key,
            *(drive(str(k), steps=20 + ord(key[-1]) % 7) for k in range(3)),
            raw_map=other if key[0] == "b" else ROAD,
            split="train",
            **more,
        )
        for key in keys
    ]


@pytest.mark.parametrize("rows_at_once", [1, 100, 10**6])
def test_joining_is_preparing_together(tmp_path, monkeypatch, rows_at_once):
    monkeypatch.setattr(join, "_ROWS_AT_ONCE", rows_at_once)
    keys = ["a1", "a2", "b1", "b2", "a7", "c3", "c9"]
    one = write(tmp_path / "1", scenes_of(keys[::2]))
    two = write(tmp_path / "2", scenes_of(keys[1::2]))
    together = read_artifact(write(tmp_path / "3", scenes_of(keys)), kind="scenes")
    found = joined(tmp_path / "4", one, two)
    for schema in (SCENES, MAPS, MAP_LINES, TRACKS, STATES, LIGHT_STATES, REJECTED):
        assert found.table(schema).equals(together.table(schema)), schema.name
    notes = found.manifest.notes
    assert (notes["scenes"], notes["recordings"]) == (7, 7)
    assert notes["seconds"] == pytest.approx(together.manifest.notes["seconds"])
    assert found.manifest.inputs == {
        "0 1": read_artifact(one, kind="scenes").content_hash,
        "1 2": read_artifact(two, kind="scenes").content_hash,
    }


def test_sources_and_styles_come_together(tmp_path):
    real = write(tmp_path / "1", scenes_of(["a1", "a2"]), "logs")
    styled = scenes_of(["a1"], driver_styles={"1": style()}, simulated=True)
    made = write(tmp_path / "2", styled, "game")
    found = joined(tmp_path / "3", real, made)
    scenes = found.table(SCENES)
    assert scenes["source"].to_list() == ["game", "logs", "logs"]
    assert scenes["map_id"].to_list() == [0, 1, 1]
    assert found.table(MAPS)["map_key"].to_list() == ["game:road", "logs:road"]
    assert found.table(DRIVER_STYLES)["scene_id"].to_list() == [0]
    assert found.json("style_dimensions")[0] == "speed"
    assert found.manifest.notes["simulated"] == "partly"


def test_maps_that_differ_under_one_name_stay_two(tmp_path):
    one = write(tmp_path / "1", [scene("a")])
    two = write(tmp_path / "2", [scene("b", raw_map=moved(ROAD, "road", 7.0))])
    found = joined(tmp_path / "3", one, two)
    assert found.table(MAPS)["map_key"].to_list() == ["stub:road", "stub:road#2"]
    assert found.table(SCENES)["map_id"].to_list() == [0, 1]


def test_what_cannot_be_joined_is_said(tmp_path):
    one = write(tmp_path / "1", scenes_of(["a1"]))
    slow = write(tmp_path / "2", scenes_of(["a2"]), step_s=0.5)
    torn = write(tmp_path / "3", [scene("x", recording="r-a1", split="test")])
    with pytest.raises(InputError, match=r"steps of 0\.1 s and 0\.5 s"):
        joined(tmp_path / "out", one, slow)
    with pytest.raises(InputError, match="Scene a1 of stub is in several"):
        joined(tmp_path / "out", one, one)
    with pytest.raises(InputError, match="Recording r-a1 of stub belongs to several"):
        joined(tmp_path / "out", one, torn)
    with pytest.raises(InputError, match="needs two artifacts or more"):
        joined(tmp_path / "out", one)
    with pytest.raises(ArtifactMismatch, match="is no artifact"):
        joined(tmp_path / "out", one, tmp_path)
    assert not (tmp_path / "out").exists()
