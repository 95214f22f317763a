"""The laws of what can be tuned, for the tests of every half.

That nothing after a context's present enters `batch` each half tests by changing its own future.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import numpy as np
import torch
from torch import Tensor

from personalize.preference_optimization.tunable import TEST, TRAINING, VALIDATION, Tunable

SPLITS = (TRAINING, VALIDATION, TEST)


def splits_share_no_context(half: Tunable) -> None:
    """Contexts are numbered once each, and every split has some."""
    found = np.concatenate([half.contexts(split) for split in SPLITS])
    assert all(len(half.contexts(split)) for split in SPLITS)
    assert len(np.unique(found)) == len(found)


def the_policy_is_ready(half: Tunable) -> None:
    """On the CPU and in evaluation mode, so that nothing in it is random."""
    assert not half.policy.training
    assert all(weight.device.type == "cpu" for weight in half.policy.parameters())
    assert len(set(half.reward_names)) == len(half.reward_names) > 0
    assert half.inputs
    assert all(isinstance(value, str) for value in half.inputs.values())


def the_same_numbers_give_the_same_batch(half: Tunable) -> None:
    """Twice the same, and permuted where the numbers are."""
    contexts = some(half)
    first, again = half.batch(contexts), half.batch(contexts)
    equal(first, again)
    order = torch.arange(len(contexts)).flip(0)
    equal(half.batch(contexts[order]), first.rows(order))
    torch.testing.assert_close(half.targets(contexts[order]), half.targets(contexts)[order])
    assert len(first) == len(contexts)


def a_batch_answers_like_its_rows(half: Tunable) -> None:
    """What else is in a batch does not change the policy's log-probabilities."""
    contexts = some(half)
    targets = half.targets(contexts)
    assert targets.shape[:2] == (len(contexts), 1)
    with torch.no_grad():
        together = half.policy.log_prob(half.batch(contexts), targets)
        alone = [
            half.policy.log_prob(half.batch(number[None]), target[None])
            for number, target in zip(contexts, targets, strict=True)
        ]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-4)


def rewards_are_finite_and_each_responses_own(half: Tunable) -> None:
    """Neither the other particles nor the other rows change what a response is worth."""
    contexts, responses = answered(half)
    judged = half.judge(contexts, responses)
    assert judged.reward.shape == (*responses.shape[:2], len(half.reward_names))
    assert judged.gate.shape == responses.shape[:2]
    assert judged.reward.isfinite().all()
    for place in range(responses.shape[1]):
        alone = half.judge(contexts[-1:], responses[-1:, place : place + 1])
        torch.testing.assert_close(alone.reward[0, 0], judged.reward[-1, place])
        assert torch.equal(alone.gate[0, 0], judged.gate[-1, place])


def features_do_not_depend_on_the_policy(half: Tunable) -> None:
    """Finite, each response's own, and the same after the policy has changed."""
    contexts, responses = answered(half)
    context, response = half.features(contexts, responses)
    assert context.shape[0] == len(contexts)
    assert response.shape[:2] == responses.shape[:2]
    assert context.isfinite().all()
    assert response.isfinite().all()
    alone = half.features(contexts[:1], responses[:1, 1:2])
    torch.testing.assert_close(alone[0][0], context[0])
    torch.testing.assert_close(alone[1][0, 0], response[0, 1])
    with weights_changed(half):
        again = half.features(contexts, responses)
    assert torch.equal(again[0], context)
    assert torch.equal(again[1], response)


def candidates_fit_their_contexts(half: Tunable) -> None:
    """One target per context, judged as `judge` does, scored as the policy does."""
    contexts = some(half)
    found = half.candidates(contexts, half.policy, seed=1)
    assert found.names == half.reward_names
    assert set(found.origin.tolist()) == set(contexts.tolist())
    assert set(found.origin[found.context == found.origin].tolist()) == set(contexts.tolist())
    assert not found.target[found.context != found.origin].any()
    assert (found.distance >= -1e-5).all()
    logged = found.origin[found.target].sort().values
    assert torch.equal(logged, contexts.sort().values)
    assert (found.distance[found.target].abs() < 1e-5).all()
    pairs = torch.stack([found.context, found.response], 1)
    assert len(pairs.unique(dim=0)) == len(pairs)
    responses = found.responses[found.response]
    judged = half.judge(found.context, responses[:, None])
    torch.testing.assert_close(judged.reward[:, 0], found.reward)
    assert torch.equal(judged.gate[:, 0], found.gate)
    again = half.candidates(contexts, half.policy, seed=1)
    torch.testing.assert_close(again.log_prob, found.log_prob)
    torch.testing.assert_close(again.responses, found.responses)


def evaluating_changes_nothing(half: Tunable) -> None:
    """No weight, and the second time the values are the same; groups and values fit the split."""
    before = {name: value.clone() for name, value in half.policy.state_dict().items()}
    first = half.evaluate(half.policy, VALIDATION, seed=2)
    again = half.evaluate(half.policy, VALIDATION, seed=2)
    rows = len(half.contexts(VALIDATION))
    assert first.main in first.values
    assert first.lower_is_better <= set(first.values)
    assert len(first.groups) == rows
    for name, values in first.values.items():
        assert values.shape == (rows,)
        np.testing.assert_array_equal(values, again.values[name])
    for name, value in half.policy.state_dict().items():
        assert torch.equal(value, before[name]), name


LAWS = (
    splits_share_no_context,
    the_policy_is_ready,
    the_same_numbers_give_the_same_batch,
    a_batch_answers_like_its_rows,
    rewards_are_finite_and_each_responses_own,
    features_do_not_depend_on_the_policy,
    candidates_fit_their_contexts,
    evaluating_changes_nothing,
)


def some(half: Tunable, count: int = 3) -> Tensor:
    """A few contexts of every split, not in order."""
    parts = [torch.from_numpy(np.asarray(half.contexts(split)[:count])) for split in SPLITS]
    return torch.cat(parts).flip(0)


def answered(half: Tunable, count: int = 3) -> tuple[Tensor, Tensor]:
    """A few contexts and what the policy answers in them, beside what was logged."""
    contexts = some(half)
    drawn = half.policy.sample(half.batch(contexts), count, seed=4).responses
    return contexts, torch.cat([half.targets(contexts), drawn], 1)


class weights_changed:  # noqa: N801  (used like a function)
    """The policy with other weights, within a `with`."""

    def __init__(self, half: Tunable) -> None:
        self._policy = half.policy
        self._kept = {name: value.clone() for name, value in half.policy.state_dict().items()}

    def __enter__(self) -> None:
        with torch.no_grad():
            for weight in self._policy.parameters():
                weight.mul_(0.5).add_(0.01)

    def __exit__(self, *_: object) -> None:
        self._policy.load_state_dict(self._kept)


def tensors(value: object) -> Iterator[Tensor]:
    """All tensors of a record, in the order of its fields."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


def equal(first: object, second: object) -> None:
    """Records with the same tensors."""
    for one, other in zip(tensors(first), tensors(second), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
