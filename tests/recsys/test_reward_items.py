"""`personalize reward` on a recommender, and a half that is judged by what was learnt."""

import json
from pathlib import Path

import torch

from data_prep.artifact import read_manifest
from personalize.__main__ import main
from personalize.preference_optimization.tunable import VALIDATION
from personalize.rewards.learned_reward import LearnedSource
from personalize.rewards.stored_reward_model import read_reward_model
from recsys.load import load_recommender
from recsys.tuning import TunedItems

CONFIGURATION = Path("configs/personalize/reward.yaml")


def test_the_configuration_learns_a_reward_that_judges_items(one_world, tmp_path):
    run, half = tmp_path / "run", "--data.half.init_args"
    checkpoint, preferences = one_world.root / "mender_emb", one_world.root / "preferences"
    options = [
        f"{half}.checkpoint={checkpoint}",
        f"{half}.preferences={preferences}",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
    ]
    assert main(["reward", "--config", str(CONFIGURATION), "--run-folder", str(run), *options]) == 0
    source = LearnedSource(
        source=TunedItems(checkpoint=checkpoint, preferences=preferences),
        reward_model=run / "reward_model",
    )
    judged = source.open()
    assert judged.reward_names[0] == "learned_reward"
    contexts = torch.as_tensor(judged.contexts(VALIDATION)[:3])
    found = judged.judge(contexts, torch.tensor([[0, 1], [2, 3], [1, 4]]))
    assert found.reward.shape == (3, 2, len(judged.reward_names))
    assert bool(found.reward.isfinite().all())
    assert float(found.reward[..., 0].std()) > 0


def test_weights_of_rewards_are_learnt_and_a_recommender_is_tuned_by_them(one_world, tmp_path):
    run, tuned = tmp_path / "run", tmp_path / "tuned"
    half = "--data.half.init_args.source.init_args"
    options = [
        f"{half}.checkpoint={one_world.root / 'mender_emb'}",
        f"{half}.preferences={one_world.root / 'preferences'}",
        "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
    ]
    configuration = CONFIGURATION.with_name("reward_weights.yaml")
    assert main(["reward", "--config", str(configuration), "--run-folder", str(run), *options]) == 0
    options += [
        f"--data.half.init_args.reward_model={run / 'reward_model'}",
        "--data.batch_size=8",
        "--trainer.max_steps=2",
    ]
    configuration = CONFIGURATION.with_name("tune") / "items_orchestrated.yaml"
    assert main(["tune", "--config", str(configuration), "--run-folder", str(tuned), *options]) == 0
    found = json.loads((tuned / "evaluation.json").read_text())
    assert found["main"] == "ndcg@10"
    assert load_recommender(tuned).folder == tuned / "tuned"
    assert len(read_manifest(tuned / "tuned").inputs) > 0


def test_regret_is_learnt_from_what_a_recommender_would_answer(one_world, tmp_path):
    run, half = tmp_path / "run", "--data.half.init_args.source.init_args.source.init_args"
    options = [
        f"{half}.checkpoint={one_world.root / 'mender_emb'}",
        f"{half}.preferences={one_world.root / 'preferences'}",
        "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
    ]
    configuration = CONFIGURATION.with_name("reward_regret.yaml")
    assert main(["reward", "--config", str(configuration), "--run-folder", str(run), *options]) == 0
    stored = read_reward_model(run / "reward_model")
    assert stored.sizes.response_parts == 11
    assert stored.model.names == ("reward",)
