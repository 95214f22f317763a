"""`driving fit` as users meet it: configurations, exact resuming, reading back, embedding."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from driving.__main__ import main
from driving.data import DrivingDataModule
from driving.load import load_planner
from driving.module import PlannerModule, average_displacement
from driving.planner.anchors import straight_anchors
from driving.planner.diffusion import DiffusionPlanner
from driving.planning_rows import joined_scenes
from driving.style.tables import SAMPLES
from personalize.checkpoint import checkpoint_folders
from tests.conftest import PROJECT
from tests.driving.planner_fixtures import no_style, random_scene
from tests.driving.planning_artifacts import STARTS, write_planning_artifacts

CONFIGURATIONS = sorted((PROJECT / "configs" / "driving").glob("*.yaml"))
PLANNER = "driving.planner.diffusion.DiffusionPlanner"


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> dict[str, Path]:
    return write_planning_artifacts(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture
def where(artifacts, tmp_path, monkeypatch) -> Path:
    """A folder of its own with a small configuration, as the working folder."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(_configuration(artifacts)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(artifacts, tmp_path_factory) -> Path:
    """A run of one epoch."""
    run = tmp_path_factory.mktemp("runs") / "mine"
    configuration = run.parent / "small.yaml"
    configuration.write_text(yaml.safe_dump(_configuration(artifacts)))
    options = ["--config", str(configuration), "--run-folder", str(run)]
    assert main(["fit", *options, "--trainer.max_epochs", "1"]) == 0
    return run


def _configuration(artifacts: dict[str, Path]) -> dict:
    sizes = {"width": 16, "heads": 2, "feedforward": 16, "anchors": 3, "encoder_layers": 1,
             "decoder_layers": 1}  # fmt: skip
    return {
        "model": {"planner": {"class_path": PLANNER, "init_args": sizes}, "warm_up_steps": 2},
        "data": {name: str(path) for name, path in artifacts.items()}
        | {"batch_size": 8, "maximum_samples": 24},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "gradient_clip_val": 1.0},
        "checkpoints": {"every_n_batches": 1, "keep": 100},
    }


def _fit(*options: str) -> int:
    return main(["fit", "--config", "small.yaml", *options])


def _final(run: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint_folders(run, "last")[0] / "weights.safetensors")


def test_a_run_resumed_anywhere_ends_with_the_same_bits(where):
    assert _fit("--run-folder", "whole") == 0
    whole = _final(where / "whole")
    states = checkpoint_folders(where / "whole", "last")
    assert [int(state.name[-8:]) for state in states[::-1]] == [1, 2, 3, 4, 5, 6]
    for step in (2, 3):  # within an epoch, and after one
        state = states[-step]
        run = where / f"resumed-{step}"
        assert main(["fit", "--resume", str(state), "--run-folder", str(run)]) == 0
        resumed = _final(run)
        assert resumed.keys() == whole.keys()
        assert all(torch.equal(resumed[name], whole[name]) for name in whole), step
        finished = json.loads((run / "finished.json").read_text())
        assert finished == json.loads((where / "whole" / "finished.json").read_text())


def test_what_is_read_back_is_the_average_and_plans(trained, artifacts):
    loaded = load_planner(trained, changes={"guidance": "2.5"})
    assert loaded.paths == artifacts
    assert isinstance(loaded.planner, DiffusionPlanner)
    assert loaded.planner.guidance == 2.5
    weights = load_file(loaded.folder / "weights.safetensors")
    name = "decoder.joined.weight"
    found = loaded.planner.state_dict()[name]
    assert torch.equal(found, weights[f"averaged.{name}"])
    assert not torch.equal(found, weights[f"planner.{name}"])
    assert not torch.equal(loaded.planner.anchors, straight_anchors(3).poses)  # surveyed
    assert loaded.planner.plan(random_scene(2), no_style(2)).poses.shape == (2, 3, 8, 3)
    with pytest.raises(InputError, match="DiffusionPlanner does not take guidence=2"):
        load_planner(trained, changes={"guidence": "2"})


def test_a_planner_of_other_dimensions_is_refused(trained, monkeypatch):
    monkeypatch.setattr("driving.load.STYLE_DIMENSIONS", ("speed", "courage"))
    with pytest.raises(ArtifactMismatch, match="this version has speed, courage"):
        load_planner(trained)


def test_the_average_can_be_turned_off(where):
    assert _fit("--run-folder", "none", "--trainer.max_epochs", "1",
                "--model.averaging", "0") == 0  # fmt: skip
    assert not any(name.startswith("averaged.") for name in _final(where / "none"))
    assert load_planner(where / "none").planner is not None
    with pytest.raises(ValueError, match="averaging must be at least 0 and below 1, got 1"):
        PlannerModule(DiffusionPlanner(width=8, heads=1, feedforward=8, anchors=2), averaging=1.0)


def test_one_step_moves_the_average_by_its_share(monkeypatch):
    module = PlannerModule(DiffusionPlanner(width=8, heads=1, feedforward=8, anchors=2))
    mine, theirs = (dict(one.named_parameters())["encoder.norm.weight"]
                    for one in (module.averaged, module.planner))  # fmt: skip
    before = mine.clone()
    with torch.no_grad():
        theirs.add_(1.0)
    for steps, kept in ((1, 2 / 11), (1, 2 / 11), (10**6, 0.999)):
        monkeypatch.setattr(PlannerModule, "trainer", type("T", (), {"global_step": steps})())
        module._move_average()
        before = before + (1 - kept) * (2.0 - before)
        torch.testing.assert_close(mine, before)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_evaluation_prints_displacements(trained, capsys, stage):
    assert main([stage, "--checkpoint", str(trained)]) == 0
    word = "validation" if stage == "validate" else "test"
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [f"{word}_{name}" for name in
                     ("ade_m", "best_of_all_ade_m", "fde_m", "loss", "score")]  # fmt: skip


def test_displacement_is_the_mean_over_logged_steps():
    poses = torch.zeros(1, 2, 8, 3)
    poses[0, 1, :, 0] = 3.0
    future = torch.zeros(1, 8, 3)
    future[0, :, 1] = torch.tensor([4.0] * 2 + [100.0] * 6)
    mask = torch.arange(8)[None] < 2
    assert average_displacement(poses, future, mask).tolist() == [[4.0, 5.0]]
    assert average_displacement(poses, future, mask & False).tolist() == [[0.0, 0.0]]


def test_embedding_writes_words_style_and_view_of_every_sample(where, trained, artifacts, capsys):
    mine = str(trained)
    assert main(["embed", "--checkpoint", mine, "--out", "vectors", "--device", "cpu",
                 "--splits", "validation", "test"]) == 0  # fmt: skip
    source = read_artifact(where / "vectors", kind="scene_vectors")
    values = source.arrays("scene_vectors")["values"]
    styles = read_artifact(artifacts["styles"], kind="styles")
    samples = styles.table(SAMPLES)
    from driving.embed import SCENE_TEXTS, SCENE_VECTORS, read_layout

    table, layout = source.table(SCENE_VECTORS), read_layout(source)
    expected = samples.filter(samples["split"] != "train")["sample_id"]
    assert table["sample_id"].to_list() == expected.to_list()
    assert table["vector_row"].to_list() == list(range(len(values)))
    assert (layout.text, layout.scene, values.shape[1]) == (384, 32, layout.width)
    texts = source.table(SCENE_TEXTS)["text"]
    assert source.manifest.notes["texts"] == texts.n_unique()
    for part in (layout.text_part, layout.scene_part):
        np.testing.assert_allclose(np.linalg.norm(values[:, part], axis=1), 1.0, rtol=1e-5)
    same_text = values[:, layout.text_part] @ values[0, layout.text_part] > 1 - 1e-5
    assert same_text.tolist() == (texts == texts[0]).to_list()
    speed = styles.arrays("styles")["values"][expected.to_numpy(), 0]
    style = values[:, layout.style_part]
    np.testing.assert_allclose(style[:, [0, 8, 16]].T, [speed, speed**2, speed * 0 + 1], rtol=1e-5)
    assert not np.delete(style, [0, 8, 16], 1).any()
    view = values[:, layout.scene_part]
    assert view[1] @ view[0] > view[len(STARTS)] @ view[0], "the same car is more alike"
    assert main(["embed", "--checkpoint", mine, "--out", "v2", "--splits", "tets"]) == 2
    assert "There is no split tets; known are train" in capsys.readouterr().err
    assert _fit("--run-folder", "mlp", "--trainer.max_epochs", "1", "--model.planner",
                "driving.planner.ego_mlp.EgoMlp") == 0  # fmt: skip
    assert main(["embed", "--checkpoint", "mlp", "--out", "v3"]) == 2
    assert "holds EgoMlp, which encodes no scenes" in capsys.readouterr().err


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_every_configuration_trains_and_is_read_back(path, artifacts, tmp_path):
    chosen = yaml.safe_load(path.read_text())["model"]["planner"]["class_path"]
    options = [f"--data.{name}={folder}" for name, folder in artifacts.items()]
    options += ["--trainer.max_epochs=1", "--trainer.max_steps=1", "--trainer.accelerator=cpu",
                "--data.batch_size=8", "--data.maximum_samples=24"]  # fmt: skip
    if chosen == PLANNER:
        options.append("--model.planner.init_args.anchors=5")
    run = tmp_path / "run"
    assert main(["fit", "--config", str(path), "--run-folder", str(run), *options]) == 0
    planner = load_planner(run).planner
    assert f"{type(planner).__module__}.{type(planner).__name__}" == chosen


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_every_configuration_fits_one_screen_and_opens_with_its_expectation(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 50
    assert lines[0].startswith("# ")
    assert any(f"driving fit --config configs/driving/{path.name}" in line for line in lines)


def test_mistakes_are_answered_in_one_sentence(where, capsys):
    for options, said in (
        (["--data.condition", "mine"], "condition"),
        (["--model.planner.init_args.widht", "8"], "Did you mean width"),
        (["--data.maximum_samples", "0"], "maximum_samples must be at least 1, got 0"),
        (["--data.condition", "truth"], "has no truth_values; it holds before_mask"),
        (["--model.planner.init_args.anchors", "500"], "500 anchors need as many different"),
    ):
        assert _fit("--run-folder", "bad", *options) == 2
        assert said in capsys.readouterr().err
    assert main(["fit", "--config", "small.yaml", "--data.scenes", "nowhere"]) == 2
    assert "data.scenes names nowhere, which is no artifact" in capsys.readouterr().err
    assert main(["test"]) == 2
    assert "--checkpoint is missing" in capsys.readouterr().err


def test_rows_carry_the_future_that_was_driven_and_the_style_asked_for(artifacts):
    data = DrivingDataModule(**artifacts, evaluation_condition="before", batch_size=5)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    assert batch.teacher is None
    assert batch.proposals is None
    speeds = batch.scene.ego_history[:, -1, 3]
    steps = 0.5 * torch.arange(1, 9)
    torch.testing.assert_close(batch.future[..., 0], speeds[:, None] * steps, atol=1e-3, rtol=0)
    torch.testing.assert_close(batch.future[..., 1:], torch.zeros(48, 8, 2), atol=1e-3, rtol=0)
    assert batch.future_mask.all()
    torch.testing.assert_close(batch.style.values[:, 0], -(speeds - 7) / 5, atol=1e-3, rtol=0)
    assert batch.style.mask.sum().item() == 48
    train = next(iter(data.train_dataloader()))
    speeds = train.scene.ego_history[:, -1, 3]
    torch.testing.assert_close(train.style.values[:, 0], (speeds - 7) / 5, atol=1e-3, rtol=0)
    assert train.teacher is not None
    assert train.teacher.poses[0, :, -1, 0].tolist() == [16.0, 32.0, 48.0]
    scenes, futures, mask = data.training_futures()
    assert futures.shape == (96, 4, 8, 3)
    assert mask.all()
    # the log comes first, then the teacher's three of the same scene
    present = scenes.ego_history[:, -1, 3]
    torch.testing.assert_close(futures[:, 0, -1, 0], 4 * present, atol=1e-3, rtol=0)
    assert futures[0, 1:, -1, 0].tolist() == [16.0, 32.0, 48.0]


def test_a_teacher_that_does_not_say_where_it_begins_is_refused(artifacts, tmp_path):
    arrays = read_artifact(artifacts["teacher"], kind="teacher").arrays("teacher")
    old = {name: np.array(array) for name, array in arrays.items() if name != "displacement"}
    with create_artifact(
        tmp_path / "old", kind="teacher", command="driving teach", configuration={}, inputs={}
    ) as new:
        new.write_arrays("teacher", old)
    with pytest.raises(ArtifactMismatch, match="does not say where its drives begin; make it"):
        DrivingDataModule(**artifacts | {"teacher": tmp_path / "old"})


def test_inputs_of_different_sizes_are_joined_with_padding():
    small, large = random_scene(2, agents=2, lines=3), random_scene(3, agents=4, lines=6, seed=1)
    joined = joined_scenes([small, large])
    assert joined.agents.shape[:2] == (5, 4)
    assert torch.equal(joined.agents[:2, :2], small.agents)
    assert not joined.agent_mask[:2, 2:].any()
    assert torch.equal(joined.lines[2:], large.lines)
