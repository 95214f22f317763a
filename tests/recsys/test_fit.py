"""`recsys fit` as users meet it: exact resuming, run folders, damaged or unwritable disks."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from data_prep.artifact import read_manifest
from personalize.checkpoint import checkpoint_folders, find_checkpoint
from recsys.__main__ import main
from recsys.load import build_recommender, checkpoint_data_paths, load_recommender
from tests.conftest import PROJECT
from tests.recsys.small_artifacts import write_tables

STUB = "tests.recsys.fit_stubs.Stub"


def _people(count: int = 14, items: int = 9):
    generator = random.Random(3)
    return [[generator.randrange(items) for _ in range(generator.randint(4, 9))]
            for _ in range(count)]  # fmt: skip


@pytest.fixture
def where(tmp_path, monkeypatch):
    """A folder of its own with tables and a configuration, as the working folder."""
    write_tables(tmp_path / "tables", _people(), item_count=9)
    configuration = {
        "model": {"recommender": {"class_path": STUB}, "warm_up_steps": 3},
        "data": {"tables": "tables", "batch_size": 8},
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 1},
        "checkpoints": {"every_n_batches": 2, "keep": 100},
    }
    (tmp_path / "stub.yaml").write_text(yaml.safe_dump(configuration))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _fit(*options: str) -> int:
    return main(["fit", "--config", "stub.yaml", *options])


def _final_weights(run: Path):
    return load_file(checkpoint_folders(run, "last")[0] / "weights.safetensors")


def _equal(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def _finished(run: Path):
    return json.loads((run / "finished.json").read_text())


HALVES = ["--trainer.val_check_interval", "0.5", "--checkpoints.every_n_batches", "3"]


@pytest.mark.parametrize(
    ("extra", "written"),
    [([], [2, 4, 6, 8, 10, 12, 14, 16, 18]), (HALVES, [4, 6, 10, 12, 16, 18])],
)  # after the third batch validation follows, so its state is written after the fourth
def test_a_run_resumed_anywhere_ends_with_the_same_bits(where, extra, written):
    assert _fit("--run-folder", "whole", *extra) == 0
    whole = _final_weights(where / "whole")
    states = checkpoint_folders(where / "whole", "last")
    assert [int(state.name[-8:]) for state in states[::-1]] == written
    for number, state in enumerate(states):
        run = where / f"resumed-{number}"
        assert main(["fit", "--resume", str(state), "--run-folder", str(run)]) == 0
        if number:
            assert _equal(_final_weights(run), whole), state.name
        assert _finished(run) == _finished(where / "whole"), state.name


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(where):
    slow = ["--model.recommender.init_args.seconds", "0.05", "--trainer.max_epochs", "6"]
    assert _fit("--run-folder", "whole", *slow) == 0
    command = [sys.executable, "-m", "recsys", "fit", "--config", str(where / "stub.yaml"),
               "--run-folder", "killed", *slow]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(command, cwd=where, env=environment, stderr=subprocess.DEVNULL)
    after = random.Random().randint(2, 12)
    while process.poll() is None and len(checkpoint_folders(where / "killed", "last")) < after:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (where / "killed" / "finished.json").exists()
    assert _fit("--run-folder", "killed", *slow) == 0
    assert _equal(_final_weights(where / "killed"), _final_weights(where / "whole"))
    assert _finished(where / "killed") == _finished(where / "whole")


def test_the_same_command_again_finds_its_run_and_another_one_gets_another_folder(where, capsys):
    assert _fit() == 0
    assert _fit() == 0
    assert "has finished already: batches 18, epochs 3" in capsys.readouterr().err
    assert len(list((where / "runs").iterdir())) == 1
    assert _fit("--seed_everything", "1") == 0
    assert len(list((where / "runs").iterdir())) == 2


def test_another_configuration_in_the_same_folder_is_refused(where, capsys):
    assert _fit("--run-folder", "runs/mine", "--trainer.max_epochs", "1") == 0
    assert _fit("--run-folder", "runs/mine", "--trainer.max_epochs", "2") == 2
    message = capsys.readouterr().err
    assert "runs/mine holds another run (trainer.max_epochs: 1 -> 2)" in message
    shutil.rmtree(where / "tables")
    write_tables(where / "tables", _people(15), item_count=9)
    assert _fit("--run-folder", "runs/mine", "--trainer.max_epochs", "1") == 2
    assert "holds another run (content of tables)" in capsys.readouterr().err


def test_explicit_options_win_over_a_resumed_run_and_are_told(where, capsys):
    optimizer = "--model.optimizer.init_args.lr"
    assert _fit("--run-folder", "mine", "--model.optimizer", "torch.optim.AdamW", optimizer,
                "0.01", "--trainer.max_epochs", "1") == 0  # fmt: skip
    capsys.readouterr()
    assert main(["fit", "--resume", "mine", optimizer, "0.5", "--trainer.max_epochs", "2"]) == 0
    message = capsys.readouterr().err
    assert "Changed since mine: model.optimizer.init_args.lr: 0.01 -> 0.5" in message
    assert "Changed since mine: trainer.max_epochs: 1 -> 2" in message
    last = checkpoint_folders(where / "mine", "last")[0]
    state = torch.load(last / "training_state.pt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["initial_lr"] == 0.5
    assert state["lr_schedulers"][0]["base_lrs"] == [0.5]
    assert state["epoch"] == 1
    assert read_manifest(last).configuration["trainer"]["max_epochs"] == 2


def test_init_from_takes_weights_and_nothing_else(where):
    assert _fit("--run-folder", "first", "--trainer.max_epochs", "1") == 0
    assert _fit("--run-folder", "second", "--init-from", "first", "--trainer.max_epochs", "1",
                "--model.optimizer", "torch.optim.SGD", "--model.optimizer.init_args.lr", "0",
                ) == 0  # fmt: skip
    best = load_file(find_checkpoint(where / "first") / "weights.safetensors")
    assert _equal(_final_weights(where / "second"), best)
    steps = [int(path.name[-8:]) for path in checkpoint_folders(where / "second", "last")]
    assert max(steps) == max(
        int(path.name[-8:]) for path in checkpoint_folders(where / "first", "last")
    )


def test_a_damaged_last_checkpoint_is_named_and_the_one_before_is_used(where, capsys):
    assert _fit("--run-folder", "whole") == 0
    shutil.copytree("whole", "damaged")
    newest, before = checkpoint_folders(where / "damaged", "last")[:2]
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (where / "damaged" / "finished.json").unlink()
    capsys.readouterr()
    assert _fit("--run-folder", "damaged") == 0
    message = capsys.readouterr().err
    assert "Skipping a damaged checkpoint: " in message
    assert "was changed after it was written" in message
    assert f"Going on from {Path('damaged') / 'checkpoints' / before.name}" in message
    assert _equal(_final_weights(where / "damaged"), _final_weights(where / "whole"))


def test_a_diverging_loss_stops_with_a_message_and_keeps_its_batch(where, capsys):
    status = _fit("--run-folder", "bad", "--model.recommender.init_args.diverge_at", "5")
    assert status == 2
    message = capsys.readouterr().err
    assert "Step 4 has loss nan and gradient norm nan; its batch is kept in" in message
    batch = load_file(where / "bad" / "not-finite-step-00000004.safetensors")
    assert batch["history_item_ids"].shape[0] == 8
    assert torch.isfinite(_final_weights(where / "bad")["recommender.scores.weight"]).all()
    assert not (where / "bad" / "finished.json").exists()


def test_a_checkpoint_that_cannot_be_written_stops_the_run(where, capsys):
    (where / "bad").mkdir()
    (where / "bad" / "checkpoints").write_text("a file in the way")
    assert _fit("--run-folder", "bad") == 2
    message = capsys.readouterr().err
    assert "recsys: Cannot write" in message
    assert "Not a directory" in message or "File exists" in message


def test_a_full_disk_stops_the_run(where, capsys):
    disk = where / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        assert _fit("--run-folder", str(disk / "run")) == 2
        assert "No space left on device" in capsys.readouterr().err
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("option", ["--resume", "--init-from"])
def test_a_url_is_refused(where, capsys, option):
    assert _fit(option, "https://example.org/run") == 2
    assert "is a URL; fetch the checkpoint first" in capsys.readouterr().err


def test_a_pickled_object_is_never_loaded(where, capsys):
    assert _fit("--run-folder", "mine", "--trainer.max_epochs", "1") == 0
    last = checkpoint_folders(where / "mine", "last")[0]
    state = last / "training_state.pt"
    torch.save({"loops": Path("x")}, state)
    manifest = json.loads((last / "manifest.json").read_text())
    import hashlib

    entry = manifest["files"]["training_state.pt"]
    entry["sha256"] = hashlib.sha256(state.read_bytes()).hexdigest()
    entry["size_bytes"] = state.stat().st_size
    (last / "manifest.json").write_text(json.dumps(manifest))
    assert main(["fit", "--resume", "mine", "--trainer.max_epochs", "2"]) == 2
    assert "holds objects that are not plain numbers" in capsys.readouterr().err


def test_a_stop_that_was_asked_for_holds_after_resuming(where):
    options = ["--early_stopping.patience", "1", "--model.optimizer", "torch.optim.SGD",
               "--model.optimizer.init_args.lr", "0", "--trainer.max_epochs", "50"]  # fmt: skip
    assert _fit("--run-folder", "whole", *options) == 0
    assert _finished(where / "whole")["epochs"] == 2
    (where / "whole" / "finished.json").unlink()
    assert _fit("--run-folder", "whole", *options) == 0
    assert _finished(where / "whole")["epochs"] == 2


def test_a_counting_recommender_sees_the_training_rows_once(where):
    options = ["--model.recommender", "recsys.baselines.popularity.Popularity"]
    assert _fit("--run-folder", "counted", *options) == 0
    last = checkpoint_folders(where / "counted", "last")[0]
    counts = load_file(last / "weights.safetensors")["recommender.counts"]
    training = [person[:-2] for person in _people()]
    expected = [sum(p.count(item) for p in training if len(p) > 1) for item in range(9)]
    assert counts.tolist() == expected
    assert _finished(where / "counted")["epochs"] == 1


def test_metrics_are_logged_as_csv_and_the_configuration_is_kept(where):
    assert _fit("--run-folder", "mine", "--trainer.max_epochs", "1") == 0
    text = (where / "mine" / "metrics" / "version_0" / "metrics.csv").read_text()
    assert "training_loss" in text
    assert "validation_ndcg10" in text
    saved = yaml.safe_load((where / "mine" / "config.yaml").read_text())
    assert saved["model"]["recommender"]["class_path"] == STUB
    manifest = read_manifest(find_checkpoint(where / "mine"))
    assert manifest.configuration == saved
    assert set(manifest.inputs) == {"tables"}
    assert "catalogue.json" in manifest.files


def test_validation_and_test_of_a_checkpoint_are_printed(where, capsys):
    assert _fit("--run-folder", "mine", "--trainer.max_epochs", "2") == 0
    capsys.readouterr()
    assert main(["validate", "--checkpoint", "mine"]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(printed["validation_ndcg10"]) == pytest.approx(
        _finished(where / "mine")["validation_ndcg10"], abs=1e-4
    )
    assert main(["test", "--checkpoint", str(find_checkpoint(where / "mine"))]) == 0
    assert "test_recall10 " in capsys.readouterr().out


def test_a_loaded_recommender_has_the_trained_weights(where):
    assert _fit("--run-folder", "mine", "--trainer.max_epochs", "1") == 0
    loaded = load_recommender(where / "mine")
    assert loaded.paths == {"tables": Path("tables")} == checkpoint_data_paths(where / "mine")
    assert loaded.maximum_history == 20
    assert not loaded.trained_on_validation
    assert not loaded.recommender.training
    weights = load_file(loaded.folder / "weights.safetensors")
    assert torch.equal(
        loaded.recommender.state_dict()["scores.weight"], weights["recommender.scores.weight"]
    )


def test_a_catalogue_that_does_not_fit_is_refused(where, capsys):
    from data_prep.errors import ArtifactMismatch
    from recsys.stored_catalogue import load_catalogue

    assert _fit("--run-folder", "mine", "--trainer.max_epochs", "1") == 0
    other = write_tables(where / "other", _people(items=8), item_count=8)
    with pytest.raises(ArtifactMismatch, match="trained with item count 9, this catalogue has 8"):
        build_recommender(where / "mine", catalogue=load_catalogue(other))
    assert main(["test", "--checkpoint", "mine", "--data.tables", "other"]) == 2
    assert "does not fit this model" in capsys.readouterr().err
