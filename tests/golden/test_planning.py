"""Twenty training steps of every planner give the losses that are stored in `planning.json`.

A changed number is a changed model or library. Where that is meant, `make golden` writes the file
anew and the commit says why.
"""

import json
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from driving.planner.diffusion import DiffusionPlanner
from driving.planner.ego_mlp import EgoMlp
from driving.planner.learned import LearnedPlanner
from driving.planner.style_injection import OneHotLinear, WithoutStyle
from driving.planning_rows import joined_scenes
from tests.driving.planner_fixtures import SMALL, random_batch

STORED = Path(__file__).with_name("planning.json")
STEPS, SHOWN = 20, 5
PLANNERS: dict[str, Callable[[], LearnedPlanner]] = {
    "diffusion": lambda: DiffusionPlanner(**SMALL),
    "diffusion_no_style": lambda: DiffusionPlanner(**SMALL, injection=WithoutStyle()),
    "diffusion_one_hot": lambda: DiffusionPlanner(**SMALL, injection=OneHotLinear()),
    "ego_mlp": lambda: EgoMlp(width=32),
}


def _losses(name: str) -> list[float]:
    """The loss of every fifth of twenty steps, on batches that come again."""
    torch.manual_seed(0)
    planner = PLANNERS[name]().train()
    batches = [random_batch(8, seed=seed, teacher=True, proposals=True) for seed in range(4)]
    planner.survey(
        joined_scenes([batch.scene for batch in batches]),
        torch.cat([batch.future for batch in batches])[:, None],
        torch.cat([batch.future_mask for batch in batches])[:, None],
    )
    optimizer = torch.optim.AdamW(planner.parameters(), lr=3e-3)
    losses = []
    for step in range(STEPS):
        batch = batches[step % 4]
        torch.manual_seed(step)
        loss = planner.loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(round(loss.item(), 6))
    return losses[::SHOWN] + losses[-1:]


@pytest.mark.parametrize("name", sorted(PLANNERS))
def test_training_gives_the_stored_losses(name: str, request: pytest.FixtureRequest) -> None:
    stored = json.loads(STORED.read_text()) if STORED.exists() else {"losses": {}}
    losses = _losses(name)
    assert losses[-1] < losses[0]
    if request.config.getoption("--write-golden", default=False):
        stored["losses"][name] = losses
        stored["versions"] = {"python": platform.python_version(), "torch": torch.__version__}
        STORED.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
        return
    # Other processors add in another order; twenty steps make more of that than one does.
    assert losses == pytest.approx(stored["losses"][name], rel=1e-3), stored["versions"]
