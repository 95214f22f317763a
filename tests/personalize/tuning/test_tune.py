"""`personalize tune` as users meet it, on a half in closed form."""

import dataclasses
import functools
import itertools
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from data_prep.artifact import read_artifact
from data_prep.errors import ArtifactMismatch
from personalize.__main__ import main
from personalize.checkpoint import checkpoint_folders, generator_checkpoint
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.stored_comparisons import (
    StoredComparisons,
    write_comparisons,
)
from personalize.preference_optimization.tabular_policy import TabularPolicy
from tests.personalize.preference_optimization.toy_tunable import ToyTunable

OWN = "tests.personalize.tuning.toy_objectives"
HALF = "tests.personalize.preference_optimization.toy_tunable.ToySource"
OBJECTIVES = {"compare": "Compare", "imitate": "Imitate", "reinforce": "Reinforce"}


def configuration(objective: str, **model):
    data = {"half": {"class_path": HALF, "init_args": {"contexts": 200}}, "batch_size": 20}
    if objective == "compare":
        data["builder"] = {"class_path": f"{OWN}.BestAgainstWorst"}
    return {
        "model": {
            "objective": {"class_path": f"{OWN}.{OBJECTIVES[objective]}"},
            "optimizer": {
                "class_path": "torch.optim.Adam",
                "init_args": {"lr": 0.05, "weight_decay": 0.0},
            },
            **model,
        },
        "data": data,
        "trainer": {"max_epochs": 4, "accelerator": "cpu", "log_every_n_steps": 1},
        "checkpoints": {"every_n_batches": 2, "keep": 100},
        "early_stopping": {"patience": 100},
    }


@pytest.fixture
def where(tmp_path, monkeypatch):
    """A folder with a configuration per objective, as the working folder."""
    for objective in OBJECTIVES:
        text = yaml.safe_dump(configuration(objective))
        (tmp_path / f"{objective}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tune(objective: str, run: str, *options: str) -> int:
    return main(["tune", "--config", f"{objective}.yaml", "--run-folder", run, *options])


def begun_table() -> torch.Tensor:
    """The weights a run begins with."""
    policy = ToyTunable(contexts=200).policy
    assert isinstance(policy, TabularPolicy)
    return policy.table.detach()


def weights(run: Path):
    return load_file(checkpoint_folders(run, "last")[0] / "weights.safetensors")


def equal(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("objective", ["compare", "reinforce"])
def test_tuning_towards_matches_makes_answers_match_better(where, objective, capsys):
    assert tune(objective, "run") == 0
    found = json.loads((where / "run" / "evaluation.json").read_text())
    match = found["measures"]["match"]
    assert match["verdict"] == "better"
    assert match["after"]["mean"] > match["before"]["mean"] + 0.3
    assert set(match["groups"]) == {f"kind {kind}" for kind in range(4)}
    told = capsys.readouterr().err
    assert "match" in told
    assert "better (40 contexts)" in told


def test_imitation_raises_the_probability_of_what_is_logged(where):
    assert tune("imitate", "run", "--trainer.max_epochs", "20") == 0
    found = json.loads((where / "run" / "evaluation.json").read_text())
    assert found["measures"]["hit"]["difference"]["low"] > 0


def test_the_tuned_checkpoint_has_the_weights_that_validated_best(where):
    assert tune("compare", "run") == 0
    best = load_file(checkpoint_folders(where / "run", "best")[0] / "weights.safetensors")
    tuned = read_artifact(where / "run" / "tuned", kind="toy_policy").arrays("weights")
    assert torch.equal(torch.from_numpy(tuned["table"].copy()), best["policy.table"])
    assert not torch.equal(best["policy.table"], begun_table())


ROUNDS = ["--model.rounds.epochs", "1"]
VARIANTS = {
    "compare": ("compare", []),
    "imitate": ("imitate", []),
    "reinforce": ("reinforce", []),
    "rounds": ("compare", ROUNDS),
    "accelerated": ("compare", [*ROUNDS, "--model.rounds.acceleration", "0.5"]),
    "opponents": ("compare", [*ROUNDS, "--model.rounds.opponents", "3"]),
    "same reference": ("compare", [*ROUNDS, "--model.rounds.refresh_reference", "false"]),
    "moving reference": (
        "compare",
        ["--model.moving_reference.every", "3", "--model.moving_reference.share", "0.5"],
    ),
}


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_a_run_resumed_anywhere_ends_with_the_same_bits(where, variant):
    objective, options = VARIANTS[variant]
    assert tune(objective, "whole", *options) == 0
    states = checkpoint_folders(where / "whole", "last")
    assert len(states) > 8
    for number, state in enumerate(states[1::4]):
        run = f"resumed-{number}"
        assert main(["tune", "--resume", str(state), "--run-folder", run]) == 0
        assert equal(weights(where / run), weights(where / "whole"))
        first, second = ((where / name / "evaluation.json").read_text() for name in (run, "whole"))
        assert first == second


def test_a_finished_run_is_told_again_and_not_repeated(where, capsys):
    assert tune("compare", "run") == 0
    state = weights(where / "run")
    (where / "run" / "evaluation.json").unlink()
    capsys.readouterr()
    assert tune("compare", "run") == 0
    told = capsys.readouterr().err
    assert "has finished already" in told
    assert "better" in told
    assert equal(weights(where / "run"), state)


def test_scores_of_the_reference_are_the_same_kept_or_asked_for(where):
    assert tune("compare", "kept") == 0
    assert tune("compare", "asked", "--data.cache_reference", "false") == 0
    kept, asked = weights(where / "kept"), weights(where / "asked")
    assert "reference.table" not in kept
    torch.testing.assert_close(kept["policy.table"], asked["policy.table"])
    assert torch.equal(asked["reference.table"], begun_table())


def test_several_steps_read_the_same_rollouts(where, monkeypatch):
    from tests.personalize.tuning import toy_objectives

    made = []
    original = toy_objectives.Reinforce.__init__

    @functools.wraps(original)  # keeps the signature, which configurations are read by
    def remembered(self, *given, **named):
        original(self, *given, **named)
        made.append(self)

    monkeypatch.setattr(toy_objectives.Reinforce, "__init__", remembered)
    updates = ["--model.objective.init_args.updates", "2", "--trainer.max_epochs", "1"]
    assert tune("reinforce", "run", *updates) == 0
    seen = next(objective.seen for objective in made if objective.seen)
    assert len(seen) == 6
    pairs = [torch.equal(seen[step], seen[step + 1]) for step in range(5)]
    assert pairs == [True, False, True, False, True]


def starts_of_epochs(where: Path, *options: str):
    """The weights after every epoch of a run of three."""
    run = f"run{len(list(where.iterdir()))}"
    three = ["--trainer.max_epochs", "3", "--checkpoints.every_n_batches", "null"]
    assert tune("compare", run, *three, *options) == 0
    states = checkpoint_folders(where / run, "last")[::-1]
    assert len(states) == 3
    return [load_file(state / "weights.safetensors") for state in states]


def test_rounds_begin_alike_and_then_read_other_comparisons(where):
    plain, rounds = starts_of_epochs(where), starts_of_epochs(where, *ROUNDS)
    assert torch.equal(plain[0]["policy.table"], rounds[0]["policy.table"])
    assert not torch.equal(plain[1]["policy.table"], rounds[1]["policy.table"])
    for before, after in itertools.pairwise(rounds):
        assert torch.equal(after["opening.table"], before["policy.table"])
    assert [int(state["round"]) for state in rounds] == [0, 1, 2]


def test_an_accelerated_round_begins_further_on(where):
    states = starts_of_epochs(where, *ROUNDS, "--model.rounds.acceleration", "0.5")
    begun = begun_table()
    first, second, third = (state["policy.table"] for state in states)
    torch.testing.assert_close(states[1]["ended.table"], first)
    torch.testing.assert_close(states[1]["opening.table"], first + 0.5 * (first - begun))
    torch.testing.assert_close(states[2]["opening.table"], second + 0.5 * (second - first))
    assert not torch.equal(third, second)


def test_an_opponent_is_one_of_the_last_rounds(where):
    states = starts_of_epochs(where, *ROUNDS, "--model.rounds.opponents", "2")
    begun = begun_table()
    known = [begun, states[0]["policy.table"], states[1]["policy.table"]]
    for number, state in enumerate(states[1:], 1):
        among = [torch.equal(state["opening.table"], one) for one in known[: number + 1][-2:]]
        assert any(among)


def test_a_reference_that_does_not_refresh_stays_the_first(where):
    states = starts_of_epochs(where, *ROUNDS, "--model.rounds.refresh_reference", "false")
    begun = begun_table()
    assert torch.equal(states[2]["reference.table"], begun)


def test_a_moving_reference_follows_by_its_share(where):
    steps = ["--model.moving_reference.every", "6", "--model.moving_reference.share", "0.5"]
    states = starts_of_epochs(where, *steps)
    begun = begun_table()
    expected = begun
    for state in states:
        expected = 0.5 * expected + 0.5 * state["policy.table"]
        torch.testing.assert_close(state["reference.table"], expected)


def test_a_reference_follows_once_for_a_step_of_several_batches(where):
    steps = ["--model.moving_reference.every", "1", "--model.moving_reference.share", "0.5"]
    only = ["--trainer.accumulate_grad_batches", "6", "--trainer.max_epochs", "2"]
    last = ["--checkpoints.every_n_batches", "null"]
    assert tune("compare", "run", *steps, *only, *last) == 0
    states = checkpoint_folders(where / "run", "last")[::-1]
    expected = begun_table()
    for state in (load_file(folder / "weights.safetensors") for folder in states):
        expected = 0.5 * expected + 0.5 * state["policy.table"]
        torch.testing.assert_close(state["reference.table"], expected)


def test_a_reference_that_is_not_read_cannot_move(where, capsys):
    assert tune("imitate", "run", "--model.moving_reference.every", "3") == 2
    assert "Imitate reads no reference; leave out model.moving_reference" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.rounds.epochs", "0"], "rounds.epochs must be at least 1"),
        (["--model.rounds.acceleration", "1.0"], "rounds.acceleration must lie in [0, 1), got 1"),
        (
            ["--model.rounds.opponents", "1", "--model.rounds.refresh_reference", "false"],
            "rounds.opponents needs rounds.refresh_reference",
        ),
    ],
)
def test_rounds_that_cannot_be_are_refused(where, capsys, options, message):
    assert tune("compare", "run", *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_mixed_precision_trains(where):
    assert tune("compare", "run", "--trainer.precision", "bf16-mixed") == 0


def test_an_objective_of_comparisons_needs_a_builder(where, capsys):
    assert tune("compare", "run", "--data.builder", "null") == 2
    assert (
        "Compare reads comparisons; give data.builder or data.comparisons."
        in capsys.readouterr().err
    )


def test_a_builder_that_decides_nothing_is_said(where, capsys):
    assert tune("compare", "run", "--data.builder.init_args.nothing", "true") == 2
    assert "decided no comparison in 120 contexts" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["contexts", "validation_contexts", "batch_size"])
def test_sizes_must_be_positive(where, capsys, option):
    assert tune("compare", "run", f"--data.{option}", "0") == 2
    assert f"data.{option} must be at least 1, got 0" in capsys.readouterr().err


def stored(where: Path, contexts: list[int]) -> Path:
    """An artifact that prefers response 3 to response 5 in some contexts."""
    row = torch.arange(2 * len(contexts))
    kept = StoredComparisons(
        ComparedRows.of(row.view(-1, 2), "by hand"),
        torch.tensor(contexts).repeat_interleave(2),
        torch.tensor([0, 1]).repeat(len(contexts)),
        torch.tensor(contexts),
        torch.tensor([3, 5]),
        {},
    )
    folder = where / "mine"
    write_comparisons(folder, kept, command="a test", configuration={}, inputs={})
    return folder


def test_stored_comparisons_are_trained_on_but_for_those_of_other_splits(where, capsys):
    folder = stored(where, [0, 1, 2, 5, 119, 121, 161, 190])
    own = ["--data.builder", "null", "--data.comparisons", str(folder)]
    assert tune("compare", "run", *own, "--data.batch_size", "2") == 0
    facts = json.loads((where / "run" / "evaluation.json").read_text())["tuned_on"]
    assert facts["comparisons"] == 5  # in contexts 0, 1, 2, 5 and 119 of the first 120
    assert facts["held_out"] == 1  # in context 121
    table = weights(where / "run")["policy.table"]
    lead = table[:, 3] - table[:, 5]
    begun = begun_table()
    moved = lead - (begun[:, 3] - begun[:, 5])
    assert (moved[:4] > 0.1).all()
    assert torch.equal(moved[4:], torch.zeros(4))  # the opposite wish was never compared
    assert tune("compare", "other", "--data.comparisons", str(folder)) == 2
    assert "data.builder and data.comparisons exclude each other" in capsys.readouterr().err


def test_states_between_steps_on_the_same_rollouts_are_refused(where, capsys):
    updates = ["--model.objective.init_args.updates", "3"]
    assert tune("reinforce", "run", *updates) == 2
    assert "must be a multiple of the objective's 3 updates" in capsys.readouterr().err


def test_a_missing_objective_is_told_before_anything_is_read(where, capsys):
    document = configuration("compare")
    del document["model"]["objective"]
    (where / "bare.yaml").write_text(yaml.safe_dump(document))
    assert main(["tune", "--config", "bare.yaml"]) == 2
    assert "model.objective is missing" in capsys.readouterr().err


def test_help_is_quick_and_names_the_parts(capsys):
    assert main(["tune", "--help"]) == 0
    assert "--data.builder CLASS" in capsys.readouterr().out


def test_a_tuning_run_stands_for_what_it_made(where):
    assert tune("compare", "run") == 0
    with pytest.raises(ArtifactMismatch, match="tuned holds no recommender; of a tuning run"):
        generator_checkpoint(where / "run", "recommender")
    state = checkpoint_folders(where / "run", "last")[0]
    with pytest.raises(ArtifactMismatch, match="holds no planner; of a tuning run pass"):
        generator_checkpoint(state, "planner")


def test_dropout_is_off_unless_it_is_asked_for(where, monkeypatch):
    from tests.personalize.tuning import toy_objectives

    modes: list[bool] = []
    original = toy_objectives.Imitate.forward

    def noted(self, policy, *rest):
        modes.append(policy.training)
        return original(self, policy, *rest)

    monkeypatch.setattr(toy_objectives.Imitate, "forward", noted)
    quick = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "0"]
    assert tune("imitate", "off", *quick) == 0
    assert tune("imitate", "on", *quick, "--model.dropout", "true") == 0
    assert modes == [False, False, True, True]


def test_a_main_measure_that_should_be_low_is_low_where_it_validates_best(where, monkeypatch):
    from tests.personalize.preference_optimization import toy_tunable

    original = toy_tunable.ToyTunable.evaluate

    def other(self, policy, split, *, seed=0):
        found = original(self, policy, split, seed=seed)
        values = {**found.values, "miss": -found.values["match"]}
        return dataclasses.replace(
            found, values=values, main="miss", lower_is_better=frozenset({"miss"})
        )

    monkeypatch.setattr(toy_tunable.ToyTunable, "evaluate", other)
    assert tune("compare", "run") == 0
    found = json.loads((where / "run" / "evaluation.json").read_text())
    score = json.loads((where / "run" / "finished.json").read_text())["validation_score"]
    assert score > 0
    assert found["measures"]["miss"]["verdict"] == "better"
