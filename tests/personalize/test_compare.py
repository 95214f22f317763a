"""The command `personalize compare`, on a half in closed form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from data_prep.artifact import read_artifact
from personalize.__main__ import main
from personalize.compare import Comparing
from personalize.configured_command import configured
from personalize.preference_optimization.stored_comparisons import read_comparisons
from personalize.preference_optimization.target_pairs import TargetAgainstOthers
from tests.conftest import PROJECT
from tests.personalize.preference_optimization.toy_tunable import ToyTunable

SOURCE = """
source:
  class_path: tests.personalize.preference_optimization.toy_tunable.ToySource
"""
BUILDER = """
builder:
  class_path: personalize.preference_optimization.extremes.PairsByReward
  init_args: {weights: {match: 1}, least_gap: 0.5}
"""
OWN = "comparison,place,context,response,strength\n1,0,5,8,0.5\n1,1,5,3,0.5\n"


def run(folder: Path, text: str, *options: str) -> int:
    (folder / "compare.yaml").write_text(SOURCE + text)
    out = folder / "out"
    return main(["compare", "--config", str(folder / "compare.yaml"), "--out", str(out), *options])


def test_a_builder_compares_the_candidates_of_a_split(tmp_path, capsys) -> None:
    assert (
        run(tmp_path, BUILDER, "--set", "splits=[validation]", "--set", "contexts_at_once=7") == 0
    )
    found = read_comparisons(tmp_path / "out")
    toy = ToyTunable()
    assert set(found.context.tolist()) <= {*range(60, 80), *range(160, 180)}
    assert set(found.origin.tolist()) <= {*range(60, 80)}
    judged = toy.judge(found.context, found.responses[found.response][:, None])
    match = judged.reward[:, 0, 0]
    pairs = found.compared.pairs()
    assert (match[pairs.better] - match[pairs.worse] > 0.5).all()
    assert f"{len(found)} comparisons, {len(found.origin.unique())} contexts" in (
        capsys.readouterr().err
    )
    with read_artifact(tmp_path / "out", kind="comparisons") as artifact:
        assert artifact.manifest.inputs == {"toy": "100 6 0"}
        assert artifact.manifest.configuration["splits"] == ["validation"]
        assert artifact.json("facts") == {"generator": "table", "contexts": 100}


def test_some_contexts_are_chosen_by_seed(tmp_path) -> None:
    contexts = []
    for seed in (0, 1, 0):
        assert (
            run(tmp_path, BUILDER, "--set", "contexts=5", "--set", f"seed={seed}", "--overwrite")
            == 0
        )
        contexts.append(set(read_comparisons(tmp_path / "out").origin.tolist()))
    assert contexts[0] == contexts[2] != contexts[1]
    assert all(len([c for c in some if c < 60]) == 5 for some in contexts)
    assert all(len([c for c in some if 60 <= c < 80]) == 5 for some in contexts)


def test_a_table_of_ones_own_is_taken(tmp_path) -> None:
    (tmp_path / "own.csv").write_text(OWN)
    assert run(tmp_path, f"table: {tmp_path}/own.csv") == 0
    found = read_comparisons(tmp_path / "out")
    assert found.responses[found.response[found.compared.rows]].tolist() == [[8, 3]]
    assert found.compared.strength.tolist() == [0.5]
    with read_artifact(tmp_path / "out", kind="comparisons") as artifact:
        assert set(artifact.manifest.inputs) == {"toy", "table"}


def test_a_table_may_number_responses_of_its_own(tmp_path) -> None:
    (tmp_path / "own.csv").write_text(OWN)
    paths = np.random.default_rng(0).normal(size=(9, 8, 3)).astype(np.float32)
    save_file({"responses": paths}, tmp_path / "paths.safetensors")
    text = f"table: {tmp_path}/own.csv\nresponses: {tmp_path}/paths.safetensors"
    assert run(tmp_path, text) == 0
    found = read_comparisons(tmp_path / "out")
    rows = found.responses[found.response[found.compared.rows[0]]]
    assert torch.equal(rows, torch.from_numpy(paths[[8, 3]]))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", (), "exactly one of builder and table"),
        (BUILDER + "table: own.csv", (), "exactly one of builder and table"),
        (BUILDER + "responses: a.safetensors", (), "responses belong to a table"),
        (
            BUILDER,
            ("--set", "splits=[all]"),
            "splits must be among train, validation, test, got all",
        ),
        (BUILDER, ("--set", "contexts_at_once=0"), "contexts_at_once 1 or more"),
        (BUILDER, ("--set", "builder.init_args.least_gap=99"), "No comparison is decided"),
        (BUILDER, ("--set", "source.init_args.contexts=1"), "no context in test"),
        (BUILDER.replace("match", "taste"), (), "no reward is named taste"),
        (BUILDER.replace("least_gap", "wrong"), (), "does not fit"),
        ("table: nowhere.csv", (), "cannot be read as a table"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(tmp_path, capsys, text, options, message) -> None:
    split = ("--set", "splits=[test]") if "contexts=1" in str(options) else ()
    assert run(tmp_path, text, *options, *split) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("own", "responses", "message"),
    [
        (OWN.replace(",5,", ",90,"), None, "compares in context 90, which is none of the splits"),
        (OWN, 4, "numbers responses up to 8"),
        (OWN, 0, "holds no array responses in safetensors"),
    ],
)
def test_a_table_that_fits_no_half_is_refused(tmp_path, capsys, own, responses, message) -> None:
    (tmp_path / "own.csv").write_text(own)
    text = f"table: {tmp_path}/own.csv"
    if responses is not None:
        (tmp_path / "paths.safetensors").write_bytes(b"")
        text += f"\nresponses: {tmp_path}/paths.safetensors"
    if responses:
        save_file({"responses": np.zeros((responses, 2))}, tmp_path / "paths.safetensors")
    assert run(tmp_path, text) == 2
    assert message in capsys.readouterr().err


def test_the_configuration_of_the_demo_is_understood() -> None:
    path = PROJECT / "configs" / "personalize" / "compare.yaml"
    found, plain = configured(Comparing, "personalize compare", path, ["contexts=3"])
    assert isinstance(found.builder, TargetAgainstOthers)
    assert plain["contexts"] == 3


def test_nothing_is_replaced_unasked(tmp_path, capsys) -> None:
    assert run(tmp_path, BUILDER) == 0
    assert run(tmp_path, BUILDER) == 2
    assert "pass --overwrite to replace it" in capsys.readouterr().err
    assert main(["compare", "--config", "none.yaml", "--out", str(tmp_path / "other")]) == 2
    assert "none.yaml is no file" in capsys.readouterr().err
