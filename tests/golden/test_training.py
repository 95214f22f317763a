"""Twenty training steps of every model give the losses that are stored in `training.json`.

A changed number is a changed model, optimizer or library. Where that is meant, `make golden`
writes the file anew and the commit says why.
"""

import json
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recsys.baselines.sasrec import SASRec
from recsys.catalogue import Catalogue
from recsys.recommender import Recommender
from recsys.retriever.mender_emb import MenderEmb
from recsys.retriever.tiger import Tiger
from tests.recsys.retriever_fixtures import TINY, small_batch, small_catalogue

STORED = Path(__file__).with_name("training.json")
STEPS, SHOWN = 20, 5
MODELS: dict[str, Callable[[Catalogue], Recommender]] = {
    "mender_emb": lambda catalogue: MenderEmb(catalogue, size=TINY),
    "sasrec": lambda catalogue: SASRec(catalogue, width=16, heads=2, dropout=0.0),
    "tiger": lambda catalogue: Tiger(catalogue, size=TINY),
}


def _losses(name: str) -> list[float]:
    """The loss of every fifth of twenty steps, on batches that come again."""
    catalogue = small_catalogue()
    torch.manual_seed(0)
    model = MODELS[name](catalogue).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(STEPS):
        torch.manual_seed(step)
        batch = small_batch(catalogue, rows=16, seed=step % 4)
        torch.manual_seed(step)
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(round(loss.item(), 6))
    return losses[::SHOWN] + losses[-1:]


@pytest.fixture(scope="module")
def stored() -> dict:
    """What was stored."""
    return json.loads(STORED.read_text()) if STORED.exists() else {"losses": {}}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_training_gives_the_stored_losses(
    name: str, stored: dict, request: pytest.FixtureRequest
) -> None:
    losses = _losses(name)
    assert losses[-1] < losses[0]
    if request.config.getoption("--write-golden", default=False):
        stored["losses"][name] = losses
        stored["versions"] = {"python": platform.python_version(), "torch": torch.__version__}
        STORED.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
        return
    # Other processors add in another order; twenty steps make more of that than one does.
    assert losses == pytest.approx(stored["losses"][name], rel=1e-3), stored["versions"]
