"""The configurations of `personalize tune` for recommenders run as they stand, on a small world."""

import json
from pathlib import Path

import pytest

from personalize.__main__ import main
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
