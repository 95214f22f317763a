"""`personalize reward` on a recommender, and a half that is judged by what was learnt."""

from pathlib import Path

import torch

from personalize.__main__ import main
from personalize.preference_optimization.tunable import VALIDATION
from personalize.rewards.learned_reward import LearnedSource
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
