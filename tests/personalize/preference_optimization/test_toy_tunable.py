"""The toy half is what its docstring says, so that tests may rely on it."""

import torch

from personalize.preference_optimization.tunable import TEST, TRAINING, VALIDATION
from tests.personalize.preference_optimization.policy_laws import check_choices, check_policy
from tests.personalize.preference_optimization.toy_tunable import ToyTunable


def test_its_policy_obeys_the_laws() -> None:
    toy = ToyTunable()
    context = toy.batch(torch.tensor([0, 3, 103]))
    check_policy(toy.policy, context)
    check_choices(toy.policy, context)


def test_its_splits_share_nothing_and_cover_all() -> None:
    toy = ToyTunable()
    found = [int(c) for split in (TRAINING, VALIDATION, TEST) for c in toy.contexts(split)]
    assert sorted(found) == list(range(100))


def test_an_opposed_wish_turns_the_match_round_and_leaves_quality() -> None:
    toy = ToyTunable()
    every = torch.arange(12).expand(2, -1)
    judged = toy.judge(torch.tensor([5, 105]), every)
    torch.testing.assert_close(judged.reward[0, :, 0], -judged.reward[1, :, 0])
    torch.testing.assert_close(judged.reward[0, :, 1], judged.reward[1, :, 1])


def test_what_was_logged_passes_the_gate_and_is_a_candidate_once() -> None:
    toy = ToyTunable()
    contexts = torch.arange(40)
    found = toy.candidates(contexts, toy.policy, seed=1)
    logged = found.target.nonzero()[:, 0]
    assert found.origin[logged].tolist() == contexts.tolist()
    assert found.gate[logged].all()
    assert (found.distance[logged] == 0).all()
    pairs = torch.stack([found.context, found.response], -1)
    assert len(pairs.unique(dim=0)) == len(pairs)


def test_candidates_stand_under_both_wishes() -> None:
    toy = ToyTunable()
    found = toy.candidates(torch.tensor([7]), toy.policy, seed=1)
    plain, swapped = found.context == 7, found.context == 107
    assert found.response[plain].tolist() == found.response[swapped].tolist()
    torch.testing.assert_close(found.named("match")[plain], -found.named("match")[swapped])
    assert (found.origin == 7).all()
