"""`personalize reward` as users meet it, on a half in closed form."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from personalize.__main__ import main
from personalize.checkpoint import checkpoint_folders
from personalize.experiment_front import check_configuration, split_arguments
from personalize.preference_optimization.tunable import TEST
from personalize.reward_learning.command import DOOR
from personalize.rewards.learned_reward import LearnedTunable
from personalize.rewards.orchestrated import OrchestratedSource
from personalize.rewards.stored_reward_model import read_reward_model
from tests.personalize.preference_optimization.toy_tunable import ToySource, ToyTunable

HALF = "tests.personalize.preference_optimization.toy_tunable.ToySource"
LIBRARY = "personalize.rewards"


def configuration(builder: str = "PairsByReward", **model):
    return {
        "model": {
            "contrast": {
                "class_path": "personalize.preference_optimization.contrasts.DPO",
                "init_args": {"beta": 1.0},
            },
            "encoder": {
                "class_path": f"{LIBRARY}.preference_model.LayeredEncoder",
                "init_args": {"width": 32},
            },
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            **model,
        },
        "data": {
            "half": {"class_path": HALF, "init_args": {"contexts": 60}},
            "builder": {
                "class_path": f"personalize.preference_optimization.extremes.{builder}",
                "init_args": {"weights": {"match": 1.0}},
            },
            "batch_size": 20,
        },
        "trainer": {"max_epochs": 5, "accelerator": "cpu", "log_every_n_steps": 1},
        "checkpoints": {"every_n_batches": 1000},
    }


@pytest.fixture
def where(tmp_path, monkeypatch):
    """A folder with a configuration, as the working folder."""
    (tmp_path / "reward.yaml").write_text(yaml.safe_dump(configuration()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def learn(run: str, *options: str) -> int:
    return main(["reward", "--config", "reward.yaml", "--run-folder", run, *options])


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_reward_model(run / "reward_model").model.state_dict()


def test_a_reward_model_is_learnt_calibrated_reported_and_not_learnt_again(where, capsys):
    assert learn("run") == 0
    stored = read_reward_model(where / "run" / "reward_model")
    after, before = stored.facts["after"], stored.facts["before"]
    assert after["accuracy"]["mean"] > 0.9
    assert after["accuracy"] == before["accuracy"]
    assert after["accuracy"]["rows"] == 12  # contexts of the test split, drawn whole
    assert after["worst_group"]["annotator"] in (0, 1)
    assert stored.facts["test_comparisons"] == after["comparisons"]
    assert "temperature" in capsys.readouterr().err
    manifest = where / "run" / "reward_model" / "manifest.json"
    written = manifest.read_bytes()
    assert learn("run") == 0
    told = capsys.readouterr().err
    assert "has finished already" in told
    assert "before calibration" in told
    assert manifest.read_bytes() == written
    half = ToyTunable(contexts=60)
    learned = LearnedTunable(half, stored.model, stored.content_hash)
    contexts = torch.as_tensor(half.contexts(TEST))
    reward = learned.judge(contexts, torch.arange(12).expand(len(contexts), -1)).reward
    both = torch.stack([reward[..., 0].flatten(), reward[..., 1].flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.5


def test_a_run_that_was_stopped_ends_where_it_would_have(where):
    assert learn("whole", "--trainer.max_epochs", "3") == 0
    assert learn("parts", "--trainer.max_epochs", "1") == 0
    last = checkpoint_folders(where / "parts", "last")[0]
    assert learn("rest", "--resume", str(last), "--trainer.max_epochs", "3") == 0
    whole, rest = weights(where / "whole"), weights(where / "rest")
    assert all(torch.equal(whole[name], rest[name]) for name in whole)


def test_a_few_steps_leave_a_model_that_knows_little(where):
    assert learn("run", "--trainer.max_steps", "2") == 0
    facts = read_reward_model(where / "run" / "reward_model").facts
    assert facts["after"]["accuracy"]["mean"] < 0.9
    state = json.loads((where / "run" / "finished.json").read_text())
    assert state["batches"] == 2


def test_groups_are_learnt_by_the_same_command_and_people_are_moved(where):
    chosen = {"class_path": f"{LIBRARY}.group_heads.MixtureHead", "init_args": {"groups": 2}}
    (where / "reward.yaml").write_text(yaml.safe_dump(configuration(head=chosen)))
    assert learn("run", "--trainer.max_epochs", "3") == 0
    stored = read_reward_model(where / "run" / "reward_model")
    assert stored.facts["after"]["accuracy"]["mean"] > 0.7
    assert stored.model.head.state_dict()["passes_left"] == 0
    assert stored.model.names == ("group_0", "group_1")


def wrapped(source: str, **options) -> dict:
    """The toy half within another source."""
    half = {"class_path": HALF, "init_args": {"contexts": 60}}
    return {"class_path": f"{LIBRARY}.{source}", "init_args": {"source": half, **options}}


def test_weights_are_learnt_stored_and_steer_a_tuning(where, capsys):
    head = {"class_path": f"{LIBRARY}.weight_adapter_head.WeightAdapterHead"}
    encoder = {"class_path": f"{LIBRARY}.preference_model.PlainFeatures"}
    told = configuration(head=head, encoder=encoder)
    told["data"]["half"] = wrapped("judged_features.JudgedFeaturesSource")
    (where / "reward.yaml").write_text(yaml.safe_dump(told))
    assert learn("run", "--trainer.max_epochs", "20") == 0
    stored = read_reward_model(where / "run" / "reward_model")
    assert stored.facts["after"]["accuracy"]["mean"] > 0.9
    assert stored.sizes.response_names == ("match", "quality")
    half = {"class_path": HALF, "init_args": {"contexts": 60}}
    model = Path("run") / "reward_model"
    opened = OrchestratedSource(source=ToySource(contexts=60), reward_model=model).open()
    some = torch.as_tensor(opened.contexts(TEST))
    weights = opened.weights(some, opened.targets(some))
    assert weights[:, 0].min().item() > 0.7  # comparisons were made by match alone
    objective = {
        "class_path": "personalize.preference_optimization.rollout_objective.RolloutObjective",
        "init_args": {
            "pipeline": {
                "class_path": f"{LIBRARY}.pipeline.RewardPipeline",
                "init_args": {"combination": f"{LIBRARY}.combination.WeightedSum"},
            }
        },
    }
    source = {"source": half, "reward_model": str(model)}
    tuned = {
        "model": {
            "objective": objective,
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.3}},
        },
        "data": {
            "half": {"class_path": f"{LIBRARY}.orchestrated.OrchestratedSource"}
            | {"init_args": source},
            "batch_size": 12,
        },
        "trainer": {"max_epochs": 4, "accelerator": "cpu"},
        "checkpoints": {"every_n_batches": 1000},
    }
    (where / "tune.yaml").write_text(yaml.safe_dump(tuned))
    assert main(["tune", "--config", "tune.yaml", "--run-folder", "tuned"]) == 0
    found = json.loads((where / "tuned" / "evaluation.json").read_text())
    match = found["measures"]["match"]
    assert match["after"]["mean"] > match["before"]["mean"] + 0.5
    capsys.readouterr()
    source["source"] = {"class_path": "personalize.rewards.learned_reward.LearnedSource"} | {
        "init_args": {"source": half, "reward_model": str(model)}
    }
    (where / "tune.yaml").write_text(yaml.safe_dump(tuned))
    assert main(["tune", "--config", "tune.yaml", "--run-folder", "other"]) == 2
    assert "reads 2 numbers of a context and 2 of a response" in capsys.readouterr().err


def test_weights_need_rewards_for_features(where, capsys):
    head = {"class_path": f"{LIBRARY}.weight_adapter_head.WeightAdapterHead"}
    (where / "reward.yaml").write_text(yaml.safe_dump(configuration(head=head)))
    assert learn("run") == 2
    assert "put JudgedFeaturesSource around the half" in capsys.readouterr().err


def test_regret_is_learnt_from_the_candidates_of_a_half(where):
    head = {"class_path": f"{LIBRARY}.regret.RegretHead"}
    encoder = {"class_path": f"{LIBRARY}.preference_model.PlainFeatures"}
    told = configuration(head=head, encoder=encoder)
    inner = wrapped("judged_features.JudgedFeaturesSource")
    told["data"]["half"] = {
        "class_path": f"{LIBRARY}.regret_features.RegretFeaturesSource",
        "init_args": {"source": inner, "candidates": 3},
    }
    (where / "reward.yaml").write_text(yaml.safe_dump(told))
    assert learn("run", "--model.optimizer.init_args.lr", "0.05") == 0
    stored = read_reward_model(where / "run" / "reward_model")
    assert stored.facts["after"]["accuracy"]["mean"] > 0.9
    assert stored.sizes.response_parts == 7
    weight = stored.model.head.state_dict()["weight"]
    assert weight[0] > 3 * weight[1].abs()  # comparisons were made by match alone


def test_lists_are_cut_into_pairs_for_a_head_that_only_compares(where):
    chosen = {"class_path": f"{LIBRARY}.heads.SkewSymmetricHead"}
    lists = configuration("WholeRankings", head=chosen)
    (where / "reward.yaml").write_text(yaml.safe_dump(lists))
    assert learn("run", "--trainer.max_epochs", "1") == 0
    stored = read_reward_model(where / "run" / "reward_model")
    assert stored.facts["training_comparisons"] > 3 * 36


def test_what_does_not_fit_is_said_in_one_sentence(where, capsys):
    assert learn("run", "--data.batch_size", "0") == 2
    assert "data.batch_size must be at least 1, got 0." in capsys.readouterr().err
    builder = {"weights": {"match": 1.0}, "least_gap": 1e9}
    with_gap = configuration()
    with_gap["data"]["builder"]["init_args"] = builder
    (where / "reward.yaml").write_text(yaml.safe_dump(with_gap))
    assert learn("run") == 2
    assert "PairsByReward made no comparison in 36 contexts" in capsys.readouterr().err
    regret = {"class_path": f"{LIBRARY}.regret.RegretHead", "init_args": {"policies": 3}}
    (where / "reward.yaml").write_text(yaml.safe_dump(configuration(head=regret)))
    assert learn("run") == 2
    assert "response_width must be a multiple of 7 for 3 policies" in capsys.readouterr().err


def test_a_contrast_that_does_not_take_what_there_is_is_refused(where, capsys):
    (where / "reward.yaml").write_text(yaml.safe_dump(configuration("WholeRankings")))
    assert learn("run") == 2
    assert "DPO does not take these comparisons: this contrast compares two" in (
        capsys.readouterr().err
    )


def test_the_door_opens_without_anything_heavy(where, capsys):
    assert main(["reward", "--help"]) == 0
    assert "--data.builder" in capsys.readouterr().out


CONFIGURATIONS = sorted(
    (Path(__file__).parents[3] / "configs" / "personalize").glob("reward*.yaml")
)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_a_configuration_here_fits_the_door(path):
    check_configuration(split_arguments(["--config", str(path)]), DOOR)
    assert f"personalize reward --config configs/personalize/{path.name}" in path.read_text()
