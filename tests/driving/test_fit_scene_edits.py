"""`driving fit-edits`: scenes driven slowly and fast, maps that move the scene encoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.artifact import read_artifact, read_manifest
from data_prep.errors import ArtifactMismatch, InputError
from driving import activation_maps
from driving.__main__ import main
from driving.activation_maps import scene_reading, style_ends
from driving.load import LoadedPlanner
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.ego_mlp import EgoMlp
from driving.style.tables import SAMPLES
from personalize.steering.edits import edited
from personalize.steering.stored_maps import read_maps
from tests.driving.planner_fixtures import no_style, random_scene
from tests.driving.planning_artifacts import write_planning_artifacts


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    return write_planning_artifacts(tmp_path_factory.mktemp("fit_scene_edits"))


@pytest.fixture
def loaded(paths, monkeypatch) -> LoadedPlanner:
    """An untrained planner in the place of a checkpoint's."""
    torch.manual_seed(0)
    planner = DiffusionPlanner(width=16, heads=2, feedforward=16, anchors=3)
    found = LoadedPlanner(planner.eval(), paths["scenes"], "hash", {}, paths)
    monkeypatch.setattr(activation_maps, "load_planner", lambda *_: found)
    return found


def options(out: Path, *more: str) -> list[str]:
    few = ["--rows", "2", "--share", "0.5", "--steps", "12", "--sparsity", "0.01"]
    return ["fit-edits", "--checkpoint", "run", "--out", str(out), *few, *more]


def test_maps_are_written_and_move_plans(loaded, tmp_path, capsys):
    assert main(options(tmp_path / "maps")) == 0
    assert "time_gap: left out" in capsys.readouterr().err  # nothing is known of it here
    sets = read_maps(tmp_path / "maps", checkpoint="hash")
    assert list(sets) == ["speed"]
    assert list(sets["speed"]) == ["encoder.layers.0", "encoder.layers.1", "encoder.norm"]
    notes = read_manifest(tmp_path / "maps").notes
    assert notes["fits"]["speed"]["cost_after"] < notes["fits"]["speed"]["cost_before"]
    assert "yielding_margin" in notes["left_out"]
    planner, scene = loaded.planner, random_scene(3)
    plain = planner.plan(scene, no_style(3))
    with edited(planner, sets["speed"], 1.0):
        moved = planner.plan(scene, no_style(3))
    assert not torch.equal(plain.scores, moved.scores)
    assert torch.equal(planner.plan(scene, no_style(3)).scores, plain.scores)


def test_ends_are_slow_and_fast_drivers_of_training_scenes(loaded, paths, monkeypatch):
    read = []
    rows_of = activation_maps.read_planning_rows

    def noting(scenes, samples):
        read.append(samples["sample_id"].to_numpy())
        return rows_of(scenes, samples)

    monkeypatch.setattr(activation_maps, "read_planning_rows", noting)
    sources = {n: read_artifact(paths[n], kind=n) for n in ("scenes", "styles", "style_vectors")}
    ends = style_ends(loaded, sources, "speed", count=2, share=0.5, seed=0)
    samples = sources["styles"].table(SAMPLES)
    splits, speeds = samples["split"].to_numpy(), read_speeds(sources)
    low, high = read
    assert set(splits[low]) == set(splits[high]) == {"train"}
    assert speeds[low].max() <= speeds[high].min()
    mask = ends.low()
    assert mask is not None
    assert mask.shape[0] == 2


def test_style_vectors_of_other_samples_are_refused(loaded, paths, monkeypatch):
    sources = {n: read_artifact(paths[n], kind=n) for n in ("scenes", "styles", "style_vectors")}
    fewer = sources["styles"].table(SAMPLES)[1:]
    monkeypatch.setattr(type(sources["styles"]), "table", lambda *_: fewer)
    with pytest.raises(ArtifactMismatch, match=r"samples, there are .*make it again from these"):
        style_ends(loaded, sources, "speed", count=2, share=0.5, seed=0)


def read_speeds(sources) -> np.ndarray:
    return sources["style_vectors"].arrays("style_vectors")["own_values"][:, 0]


def test_what_cannot_be_fitted_is_one_sentence(loaded, tmp_path, capsys, monkeypatch):
    for more, sentence in (
        (["--dimensions", "charm"], "no dimension charm; known are speed"),
        (["--dimensions", "jerk"], "Edits of jerk cannot be fitted: an end needs rows of 2"),
        (["--modules", "nothing"], "DiffusionPlanner has no module that matches nothing"),
    ):
        assert main(options(tmp_path / "none", *more)) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "none").exists()
    paths = {name: path for name, path in loaded.paths.items() if name != "style_vectors"}
    without = replace(loaded, paths=paths)
    monkeypatch.setattr(activation_maps, "load_planner", lambda *_: without)
    assert main(options(tmp_path / "none")) == 2
    assert "trained without style_vectors; pass --style-vectors" in capsys.readouterr().err


def test_a_planner_without_a_scene_encoder_is_refused():
    with pytest.raises(InputError, match="EgoMlp has no scene encoder to edit"):
        scene_reading(EgoMlp(), random_scene(2))
