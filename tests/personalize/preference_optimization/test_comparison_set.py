"""Batches of comparisons against what rows say one by one."""

from dataclasses import replace

import torch

from personalize.preference_optimization.candidates import joined_candidates
from personalize.preference_optimization.compared import policy_scores
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.comparison_set import ComparisonSet, LoggedTargets
from personalize.preference_optimization.objective import Objective
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.rolling_out import rolled_out
from tests.personalize.preference_optimization.toy_tunable import ToyTunable

CONTEXT = torch.tensor([3, 3, 7, 103, 4, 4, 8])
RESPONSE = torch.tensor([0, 1, 2, 2, 1, 3, 0])
RESPONSES = torch.tensor([5, 9, 2, 11])


def log_prob(policy: Policy, half: ToyTunable, context: int, response: int) -> float:
    """Of one response in one context."""
    one = half.batch(torch.tensor([context]))
    return float(policy.log_prob(one, torch.tensor([[response]])).sum().detach())


def check_scores(rows: list[list[int]], present: torch.Tensor, *, shared: bool) -> None:
    """Hold the scores of a batch to those of its rows one by one."""
    half = ToyTunable()
    compared = ComparedRows.of(torch.tensor(rows), "by hand", present=present)
    found = ComparisonSet.of(compared, CONTEXT, RESPONSE, RESPONSES)
    assert found.shared == shared
    order = torch.arange(len(rows)).flip(0)
    batch = found.batch(order, half)
    said = policy_scores(half.policy, batch).sum(-1).detach()
    kept = found.with_reference(half.policy, half, batch_size=1).reference
    assert kept is not None
    for place, number in enumerate(order.tolist()):
        for column, row in enumerate(rows[number]):
            if not present[number, column]:
                continue
            response = int(RESPONSES[RESPONSE[row]])
            expected = log_prob(half.policy, half, int(CONTEXT[row]), response)
            assert abs(float(said[place, column]) - expected) < 1e-5
            assert abs(float(kept[number, column]) - expected) < 1e-5


def test_responses_that_share_a_context_are_scored_in_it() -> None:
    whole = torch.ones(2, 2, dtype=torch.bool)
    check_scores([[0, 1], [5, 4]], whole, shared=True)


def test_an_absent_row_of_another_context_does_not_part_a_comparison() -> None:
    present = torch.tensor([[True, True, False], [True, True, False]])
    check_scores([[0, 1, 0], [5, 4, 0]], present, shared=True)


def test_every_response_is_scored_in_its_own_context_where_contexts_are_compared() -> None:
    whole = torch.ones(3, 2, dtype=torch.bool)
    check_scores([[2, 3], [0, 1], [6, 4]], whole, shared=False)


def test_numbers_of_contexts_come_row_by_row() -> None:
    half = ToyTunable()
    compared = ComparedRows.of(torch.tensor([[2, 3], [0, 1]]), "by hand")
    batch = ComparisonSet.of(compared, CONTEXT, RESPONSE, RESPONSES).batch(torch.arange(2), half)
    assert batch.numbers is not None
    assert batch.numbers.tolist() == [7, 103, 3, 3]


def test_joined_candidates_keep_their_own_responses() -> None:
    half = ToyTunable()
    parts = [
        half.candidates(torch.tensor(numbers), half.policy, seed=1) for numbers in ([4, 9], [2])
    ]
    last = parts[1].responses.flip(0)  # the same responses, numbered from behind
    turned = replace(parts[1], responses=last, response=len(last) - 1 - parts[1].response)
    whole = joined_candidates([parts[0], turned])
    said = [int(response) for part in parts for response in part.responses[part.response]]
    assert whole.responses[whole.response].tolist() == said
    assert whole.context.tolist() == [int(c) for part in parts for c in part.context]


class Wants(Objective):
    """Four responses, and what the reference would answer."""

    group_size = 4
    judges_reference = True

    def forward(self, policy, reference, batch, rollouts=None):
        return {}


def test_rollouts_are_judged_in_their_contexts_and_beside_the_references_best() -> None:
    half = ToyTunable()
    numbers = torch.tensor([5, 106])
    contexts = half.batch(numbers)
    found = rolled_out(half.policy, half.policy, half, Wants(), contexts, numbers=numbers, seed=3)
    judged = half.judge(numbers, found.drawn.responses)
    assert torch.equal(found.reward, judged.reward)
    assert torch.equal(found.gate, judged.gate)
    best = half.policy.sample(contexts, 1, seed=0, beam=True).responses
    assert torch.equal(found.reference_reward, half.judge(numbers, best).reward)
    alone = rolled_out(half.policy, None, half, Wants(), contexts, numbers=numbers, seed=3)
    assert alone.reference_reward.shape == (2, 0, 2)


def test_logged_targets_are_the_only_response() -> None:
    half = ToyTunable()
    batch = LoggedTargets(torch.tensor([8, 3, 5])).batch(torch.tensor([2, 0]), half)
    assert torch.equal(batch.responses, half.targets(torch.tensor([5, 8])))
    assert batch.present.tolist() == [[True], [True]]
