"""From OpenScene's logs, StyleDrive's filter and its labels to an artifact of styles."""

import polars as pl
import pytest

from data_prep.artifact import read_artifact
from data_prep.scenes.nuplan import NuPlanSource
from data_prep.scenes.openscene import OpenSceneSource
from data_prep.scenes.prepare import SceneDestination, SceneRules, write_scenes
from data_prep.scenes.tables import LIGHT_STATES, SCENE_TOKENS, SCENES, STATES, TRACKS
from driving.scene_store import SceneStore
from driving.style.annotate import run
from driving.style.styledrive_fields import styledrive_fields, ten_frames
from driving.style.styledrive_file import StyleDriveLabel, write_styledrive_file
from driving.style.tables import SAMPLES, STYLES
from tests.data_prep.scenes.synthetic_nuplan import (
    LOG,
    frame_token,
    write_database,
    write_filter,
    write_openscene_log,
)
from tests.data_prep.scenes.synthetic_nuplan_map import write_maps

TRAIN_LOG, TEST_LOG = "2021.05.12.22.00.38_veh-35_01008_01518", LOG


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("styledrive")
    write_maps(folder / "maps")
    write_openscene_log(folder / "trainval" / f"{TRAIN_LOG}.pkl")
    write_openscene_log(folder / "test" / f"{TEST_LOG}.pkl")
    chosen = [frame_token(at) for at in (40, 60, 80)]
    write_filter(folder / "filter.yaml", chosen, (TRAIN_LOG, TEST_LOG))
    source = OpenSceneSource(
        [folder / "trainval", folder / "test"], folder / "maps", tokens=folder / "filter.yaml"
    )
    write_scenes(source, SceneRules(), SceneDestination(folder / "scenes"))
    return folder


def test_the_tables_hold_tokens_routes_lights_and_fixed_splits(folder):
    artifact = read_artifact(folder / "scenes", kind="scenes")
    scenes = artifact.table(SCENES)
    splits = dict(scenes.select("recording_key", "split").iter_rows())
    assert splits == {
        "2021.05.12.22.00.38_veh-35": "train",
        "2021.06.03.12.02.06_veh-35": "test",
    }
    first = pl.col("scene_id") == 0
    tokens = artifact.table(SCENE_TOKENS).filter(first)
    assert tokens["step"].to_list() == [20, 30, 40]
    assert tokens["token"].to_list() == [frame_token(at) for at in (40, 60, 80)]
    ego = scenes["ego_track_id"][0]
    track = artifact.table(TRACKS).filter(first, pl.col("track_id") == ego)
    assert track["route_source"].to_list() == ["given"]
    assert len(track["route_ids"][0]) == 3
    states = artifact.table(STATES).filter(first, pl.col("track_id") == ego)
    speed = (states["vx_mps"] ** 2 + states["vy_mps"] ** 2).sqrt()
    assert speed.to_list() == pytest.approx([10.0] * 196, abs=1e-3)
    lights = artifact.table(LIGHT_STATES).filter(first)
    assert lights["step"].to_list() == [0, 40, 0, 80]


def test_their_labels_become_our_styles(folder):
    labels = [
        StyleDriveLabel(frame_token(40), "aggressive", "lane_following"),
        StyleDriveLabel(frame_token(60), "conservative", "protected_intersections"),
    ]
    write_styledrive_file(folder / "labels.json", labels)
    run(scenes=folder / "scenes", out=folder / "styles", labels=[folder / "labels.json"])
    artifact = read_artifact(folder / "styles", kind="styles")
    joined = artifact.table(SAMPLES).join(artifact.table(STYLES), on="sample_id")
    named = joined.filter(pl.col("token").is_not_null()).sort("scene_id", "step")
    assert named["step"].to_list() == [20, 30, 20, 30]
    assert named["label"].to_list() == ["aggressive", "conservative"] * 2


def test_our_labels_go_out_with_every_field_of_theirs(folder):
    store = SceneStore.read(folder / "scenes")
    moment = {"scene_id": 0, "track_id": 4, "step": 30, "sample_id": 0}
    world = store.world(pl.DataFrame([moment]), history_s=1.0, future_s=5.0)
    fields = styledrive_fields(ten_frames(world, 0))
    assert fields["v_ego"] == pytest.approx([10.0] * 10, abs=0.011)
    assert fields["a_max"] == pytest.approx(0.0, abs=0.011)
    # Centres are 25 - 1.461 m apart, and half of 5.176 and of 4.6 m lies between the bumpers.
    assert fields["front_frame"] == pytest.approx([18.65] * 5, abs=0.011)
    assert fields["safe_frame"] == [1] * 5
    assert (fields["with_lead"], fields["pedestrians"]) == ("Near", "No")
    # The cyclist to the left is no vehicle, and everybody else is in front.
    assert not fields["has_left_rear"]
    with pytest.raises(ValueError, match="looks at 5 s of future"):
        ten_frames(store.world(pl.DataFrame([moment]), history_s=1.0, future_s=4.0), 0)
    late = {**moment, "step": 150}
    with pytest.raises(ValueError, match="was not seen for the whole"):
        ten_frames(store.world(pl.DataFrame([late]), history_s=1.0, future_s=5.0), 0)


def test_the_databases_give_the_same_states_as_the_logs(folder, tmp_path):
    write_database(tmp_path / "mini" / f"{TEST_LOG}.db")
    source = NuPlanSource([tmp_path / "mini"], folder / "maps")
    write_scenes(source, SceneRules(), SceneDestination(tmp_path / "scenes"))
    ours = read_artifact(tmp_path / "scenes", kind="scenes").table(STATES)
    theirs = read_artifact(folder / "scenes", kind="scenes").table(STATES)
    both = theirs.filter(pl.col("scene_id") == 1).join(ours, on=("track_id", "step"))
    assert both.height == 5 * 196
    for name in ("x_m", "y_m", "vx_mps", "vy_mps"):
        assert both[f"{name}_right"].to_list() == pytest.approx(both[name].to_list(), abs=2e-4)
