"""Opponents are samples of the checkpoint that made the candidates."""

import torch

from personalize.preference_optimization.checkpoint_opponents import CheckpointOpponents
from tests.personalize.preference_optimization.toy_tunable import ToyTunable


def test_what_was_logged_meets_one_sample_of_the_checkpoint() -> None:
    toy = ToyTunable(drawn=3)
    contexts = torch.arange(40)
    candidates = toy.candidates(contexts, toy.policy, seed=2)
    found = CheckpointOpponents()(candidates, seed=0)
    assert found.sources == ("checkpoint_opponents",)
    drawn = toy.policy.sample(toy.batch(contexts), 3, seed=2).responses
    logged = toy.targets(contexts)[:, 0]
    places = candidates.response[found.rows]
    for row, context in enumerate(candidates.context[found.rows[:, 0]].tolist()):
        assert int(places[row, 0]) == int(logged[context])
        assert int(places[row, 1]) in drawn[context].tolist()
    alone = (drawn == logged[:, None]).all(-1)
    assert len(found) == int((~alone).sum())
