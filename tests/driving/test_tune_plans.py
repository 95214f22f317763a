"""`personalize tune` on planners, with the configurations that are given."""

import json
from pathlib import Path

import pytest

from driving.load import load_planner
from personalize.__main__ import main
from tests.driving.planning_artifacts import write_planning_artifacts
from tests.driving.planning_checkpoint import write_random_planner

CONFIGURATIONS = sorted(Path("configs/personalize/tune").glob("plans_*.yaml"))


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    return write_planning_artifacts(tmp_path_factory.mktemp("tune"))


@pytest.fixture(scope="module")
def checkpoint(paths, tmp_path_factory) -> Path:
    return write_random_planner(tmp_path_factory.mktemp("runs") / "diffusion", paths)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[] if "near" in path.stem else pytest.mark.slow)
        for path in CONFIGURATIONS
    ],
)
def test_every_configuration_tunes_and_its_checkpoint_plans(path, paths, checkpoint, tmp_path):
    run, half = tmp_path / "run", "--data.half.init_args"
    options = [f"{half}.{name}={paths[name]}" for name in paths]
    options += [
        f"{half}.checkpoint={checkpoint}",
        f"{half}.moments=4",
        "--data.batch_size=4",
        "--trainer.max_epochs=1",
        "--trainer.max_steps=2",
        "--trainer.accelerator=cpu",
    ]
    assert main(["tune", "--config", str(path), "--run-folder", str(run), *options]) == 0
    found = json.loads((run / "evaluation.json").read_text())
    assert found["main"] == "safe_style_match"
    tuned, before = load_planner(run / "tuned").planner, load_planner(checkpoint).planner
    moved = {
        name
        for name, value in tuned.state_dict().items()
        if not value.equal(before.state_dict()[name])
    }
    assert all(name.startswith("decoder.") for name in moved)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_every_configuration_says_how_it_is_run(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 50
    assert lines[0].startswith("# ")
    assert f"#   personalize tune --config configs/personalize/tune/{path.name}" in lines
    assert max(map(len, lines)) <= 100
