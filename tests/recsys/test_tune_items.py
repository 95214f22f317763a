"""The configurations of `personalize tune` for recommenders run as they stand, on a small world."""

import json
from pathlib import Path

import pytest
import torch

from data_prep.artifact import read_artifact
from personalize.__main__ import main
from personalize.checkpoint import KIND, weights_of
from recsys.load import load_recommender

CONFIGURATIONS = sorted(Path("configs/personalize/tune").glob("items_*.yaml"))
ALONE = [path for path in CONFIGURATIONS if "reward_model:" not in path.read_text()]
"""Those that need no reward model; with one, see `test_reward_items.py`."""


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_every_configuration_tunes_and_its_checkpoint_answers(path, one_world, tmp_path):
    run, half = tmp_path / "run", "--data.half.init_args"
    options = [
        f"{half}.checkpoint={one_world.root / 'mender_emb'}",
        f"{half}.preferences={one_world.root / 'preferences'}",
        "--data.batch_size=8",
        "--trainer.max_epochs=1",
        "--trainer.max_steps=2",
        "--trainer.accelerator=cpu",
    ]
    assert main(["tune", "--config", str(path), "--run-folder", str(run), *options]) == 0
    found = json.loads((run / "evaluation.json").read_text())
    assert found["main"] == "ndcg@10"
    assert found["measures"]["ranking_accuracy"]["contexts"] == 12
    assert "short history" in found["measures"]["ndcg@10"]["groups"]
    assert load_recommender(run).folder == run / "tuned"


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_every_configuration_fits_one_screen_and_opens_with_its_expectation(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 50
    assert lines[0].startswith("# ")
    assert f"#   personalize tune --config configs/personalize/tune/{path.name}" in lines


def test_a_run_with_weights_beside_the_policy_resumes_to_the_same_bits(one_world, tmp_path):
    """The checkpoint keeps the layer that reads degrees; what is tuned leaves it out."""
    half, path = "--data.half.init_args", Path("configs/personalize/tune/items_degree.yaml")
    options = [
        *("--config", str(path), f"{half}.checkpoint={one_world.root / 'mender_emb'}"),
        f"{half}.preferences={one_world.root / 'preferences'}",
        *("--data.batch_size=8", "--trainer.max_steps=6", "--checkpoints.every_n_batches=2"),
        "--checkpoints.keep=9",
        *("--trainer.accelerator=cpu", "--model.optimizer.init_args.lr=0.003"),
    ]
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert main(["tune", *options, "--run-folder", str(whole)]) == 0
    (state,) = (whole / "checkpoints").glob("last-*2")
    assert main(["tune", "--resume", str(state), "--run-folder", str(again)]) == 0
    first, second = (_last(run) for run in (whole, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    layer = "objective.auxiliary.0.read.weight"
    assert first[layer].shape == (4, 16)
    assert not torch.equal(first[layer], _weights(state)[layer])
    evaluations = [(run / "evaluation.json").read_text() for run in (whole, again)]
    assert evaluations[0] == evaluations[1]
    assert not any("auxiliary" in name for name in _weights(whole / "tuned"))


def test_a_degree_is_not_read_off_what_shows_nothing(one_world, tmp_path, capsys):
    options = [
        *("--config", "configs/personalize/tune/items_degree.yaml"),
        f"--data.half.init_args.checkpoint={one_world.root / 'sasrec'}",
        f"--data.half.init_args.preferences={one_world.root / 'preferences'}",
    ]
    assert main(["tune", *options, "--run-folder", str(tmp_path / "run")]) != 0
    assert "SASRec has no vectors of rows and items to show" in capsys.readouterr().err


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(weights_of(read_artifact(folder, kind=KIND)))


def _last(run: Path) -> dict[str, torch.Tensor]:
    return _weights(max((run / "checkpoints").glob("last-*")))
