"""Configurations: every file builds; a mistake is answered in one sentence, before torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from recsys.__main__ import main
from recsys.load import load_recommender
from tests.conftest import PROJECT
from tests.recsys.small_artifacts import (
    write_preferences,
    write_semantic_ids,
    write_tables,
    write_vectors,
)
from tests.recsys.tiny_t5 import write_tiny_t5

CONFIGURATIONS = sorted((PROJECT / "configs" / "recsys").glob("*.yaml"))
SASREC = str(PROJECT / "configs" / "recsys" / "sasrec.yaml")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("artifacts")
    generator = np.random.default_rng(0)
    people = [generator.integers(0, 12, size=6).tolist() for _ in range(9)]
    texts = [f"text {n:02}" for n in range(14)]
    values = generator.normal(size=(14, 8))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    preferences = [
        {"subject_id": user, "valid_from": 1, "preference_number": 0, "text": "text 13"}
        for user in range(9)
    ]
    codes = [[n // 4, n % 4, 0] for n in range(12)]
    return {
        "tables": write_tables(folder / "tables", people, item_count=12),
        "vectors": write_vectors(folder / "vectors", values, list(range(12)), texts),
        "preferences": write_preferences(folder / "preferences", preferences),
        "semantic_ids": write_semantic_ids(folder / "semantic_ids", codes, [3, 4, 1]),
    }


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_every_configuration_trains_and_its_checkpoint_answers(path, artifacts, tmp_path):
    chosen = yaml.safe_load(path.read_text())["model"]["recommender"]["class_path"]
    options = [f"--data.{name}={folder}" for name, folder in artifacts.items()]
    options += ["--trainer.max_epochs=1", "--trainer.max_steps=2", "--trainer.accelerator=cpu"]
    if path.stem == "mender_tok":
        encoder = write_tiny_t5(tmp_path / "t5")
        options.append(f"--model.recommender.init_args.encoder={encoder}")
    run = tmp_path / "run"
    assert main(["fit", "--config", str(path), "--run-folder", str(run), *options]) == 0
    loaded = load_recommender(run)
    assert f"{type(loaded.recommender).__module__}.{type(loaded.recommender).__name__}" == chosen
    manifest = json.loads((loaded.folder / "manifest.json").read_text())
    assert set(manifest["inputs"]) == set(artifacts)
    assert "codec.json" in manifest["files"]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_every_configuration_fits_one_screen_and_opens_with_its_expectation(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 50
    assert lines[0].startswith("# ")
    assert any("recsys fit --config configs/recsys/" in line for line in lines)


MISTAKES = {
    "missing file": (["--config", "none.yaml"], "none.yaml cannot be read: No such file"),
    "near file": (
        ["--config", SASREC.replace("sasrec.", "sasrek.")],
        "Did you mean sasrec.yaml",
    ),
    "broken YAML": (["--config", "broken.yaml"], "broken.yaml line 3:"),
    "no mapping": (["--config", "list.yaml"], "list.yaml must be a mapping"),
    "not UTF-8": (["--config", "bytes.yaml"], "bytes.yaml is not UTF-8 at byte 0"),
    "section": (["--modle.seed", "1"], "unknown option modle. Did you mean model?"),
    "section in a file": (
        ["--config", "section.yaml"],
        "section.yaml has an unknown option trainr",
    ),
    "trainer key": (["--trainer.max_epoch", "1"], "takes no trainer.max_epoch. Did you mean"),
    "data key": (["--data.batchsize", "1"], "takes no data.batchsize. Did you mean batch_size"),
    "class": (
        ["--model.recommender", "recsys.baselines.sasrec.SASrec"],
        "recsys.baselines.sasrec has no class SASrec. Did you mean SASRec?",
    ),
    "module": (
        ["--model.recommender", "recsys.baselines.sasrek.SASRec"],
        "there is no module recsys.baselines.sasrek.",
    ),
    "package": (["--model.recommender", "nowhere.Model"], "there is no module nowhere"),
    "init_args": (
        ["--model.recommender.init_args.widht", "1"],
        "recsys.baselines.sasrec.SASRec takes no model.recommender.widht. Did you mean width?",
    ),
    "optimizer": (["--model.optimizer", "torch.optim.AdamX"], "has no class AdamX. Did you mean"),
    "optimizer key": (
        ["--model.optimizer.init_args.learning_rate", "1"],
        "torch.optim.AdamW takes no model.optimizer.learning_rate",
    ),
    "callback": (
        ["--config", "callback.yaml"],
        "trainer.callbacks[0] names lightning.pytorch.callbacks.EarlyStoping",
    ),
    "required": ([], "data.tables is missing; pass --data.tables"),
    "folder": (["--data.tables", "nowhere"], "data.tables names nowhere, which is no artifact"),
    "value": (["--run-folder"], "--run-folder needs a value"),
    "resume": (["--resume", "nowhere"], "nowhere is neither a run"),
}
CALL = """
import io, json, sys, contextlib
from recsys.__main__ import main
answers = {}
for name, (arguments, _) in json.load(sys.stdin).items():
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = main(arguments)
    answers[name] = [status, said.getvalue(), sorted({"torch", "lightning", "polars"} & set(sys.modules))]
json.dump(answers, sys.stdout)
"""  # noqa: E501


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict:
    """What the door says to each mistake, in a process that has imported nothing else."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "broken.yaml").write_text("model:\n  seed: 1\n bad: [\n")
    (folder / "list.yaml").write_text("- 1\n")
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe")
    (folder / "section.yaml").write_text("trainr:\n  max_epochs: 1\n")
    (folder / "callback.yaml").write_text(
        "trainer:\n  callbacks:\n  - class_path: lightning.pytorch.callbacks.EarlyStoping\n"
    )
    calls = {
        name: (["fit", "--config", SASREC, *arguments], expected)
        for name, (arguments, expected) in MISTAKES.items()
    }
    calls["help"] = (["fit", "--help"], "")
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin"},
        check=True,
    )
    return json.loads(done.stdout[done.stdout.rindex('{"missing file"') :])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence_before_torch_is_imported(answers, name):
    status, said, imported = answers[name]
    assert status == 2
    assert MISTAKES[name][1] in said
    assert said.count("\n") == 1
    assert imported == []


def test_help_imports_nothing_heavy(answers):
    status, _, imported = answers["help"]
    assert (status, imported) == (0, [])


def test_what_only_the_full_parser_sees_is_one_sentence_too(artifacts, tmp_path, capsys):
    status = main(
        ["fit", "--config", SASREC, "--data.tables", str(artifacts["tables"]),
         "--run-folder", str(tmp_path / "run"), "--trainer.max_epochs", "many"]
    )  # fmt: skip
    assert status == 2
    message = capsys.readouterr().err
    assert "trainer.max_epochs" in message
    assert message.count("\n") == 1


def test_the_whole_configuration_is_printed(artifacts, capsys):
    with pytest.raises(SystemExit) as left:
        main(["fit", "--config", SASREC, "--data.tables", str(artifacts["tables"]),
              "--model.recommender.init_args.width", "32", "--print_config"])  # fmt: skip
    assert left.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["recommender"]["init_args"]["width"] == 32
    assert "catalogue" not in printed["model"]["recommender"]["init_args"]


def test_a_later_configuration_wins_and_options_win_over_all(artifacts, tmp_path, capsys):
    later = tmp_path / "later.yaml"
    later.write_text("data:\n  batch_size: 3\ntrainer:\n  max_epochs: 7\n")
    with pytest.raises(SystemExit):
        main(["fit", "--config", SASREC, "--config", str(later), "--data.tables",
              str(artifacts["tables"]), "--trainer.max_epochs", "9", "--print_config"])  # fmt: skip
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["data"]["batch_size"], printed["trainer"]["max_epochs"]) == (3, 9)


def test_every_option_is_explained_on_demand(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help-all"])
    shown = capsys.readouterr().out
    for option in ("--data.maximum_history", "--checkpoints.keep", "--early_stopping.patience"):
        assert option in shown


def test_precision_is_plain_where_no_gpu_computes_in_bf16():
    from types import SimpleNamespace

    from personalize.experiment_cli import chosen_precision

    asked = SimpleNamespace(precision="64-true", accelerator="cpu")
    assert chosen_precision(asked) == "64-true"
    assert chosen_precision(SimpleNamespace(precision=None, accelerator="cpu")) == "32-true"
    auto = chosen_precision(SimpleNamespace(precision=None, accelerator="auto"))
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    assert auto == ("bf16-mixed" if has_bf16 else "32-true")
