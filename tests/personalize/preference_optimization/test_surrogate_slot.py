"""The laws of a surrogate, for every variant in the package."""

import importlib
import inspect
import pkgutil

import pytest
import torch

import personalize.preference_optimization
from personalize.preference_optimization.surrogate import Surrogate

CONTEXTS, GROUP, STEPS = 3, 5, 2


def found() -> list[type[Surrogate]]:
    package = personalize.preference_optimization
    variants = set()
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(value, Surrogate) and not inspect.isabstract(value):
                variants.add(value)
    return sorted(variants, key=lambda variant: variant.__name__)


every = pytest.mark.parametrize("variant", found())


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centred(seed: int) -> torch.Tensor:
    advantage = drawn(seed, CONTEXTS, GROUP)
    return advantage - advantage.mean(1, keepdim=True)


def slope(surrogate, new, old, advantage) -> torch.Tensor:
    leaf = new.clone().requires_grad_()
    surrogate(leaf, old, advantage).sum(-1).mean().backward()
    return leaf.grad


def test_all_are_found():
    names = {variant.__name__ for variant in found()}
    assert {"Reinforce", "Clipped", "SequenceClipped", "EarlyClipped"} <= names
    assert {"PairwiseSeparate", "PairwiseJoint", "ClippedWeight"} <= names


@every
def test_no_advantage_no_gradient(variant):
    old = -drawn(0, CONTEXTS, GROUP, STEPS).abs()
    new = old + 0.3 * drawn(1, CONTEXTS, GROUP, STEPS)
    nothing = slope(variant(), new, old, torch.zeros(CONTEXTS, GROUP, dtype=torch.float64))
    assert torch.equal(nothing, torch.zeros_like(new))


@every
def test_where_nothing_has_moved_it_is_reinforce_up_to_a_factor(variant):
    old, advantage = -drawn(0, CONTEXTS, GROUP, STEPS).abs(), centred(1)
    mine = slope(variant(), old, old, advantage)
    reinforce = -advantage[..., None].expand_as(old) / (CONTEXTS * GROUP)
    factor = (mine / reinforce).mean()
    assert factor > 0
    torch.testing.assert_close(mine, factor * reinforce)


@every
def test_permuting_contexts_and_responses_permutes_losses(variant):
    old = -drawn(0, CONTEXTS, GROUP, STEPS).abs()
    new, advantage = old + 0.3 * drawn(1, CONTEXTS, GROUP, STEPS), centred(2)
    loss = variant()(new, old, advantage)
    assert loss.shape == new.shape
    order = torch.tensor([2, 0, 1])
    turned = variant()(new[order], old[order], advantage[order])
    torch.testing.assert_close(turned, loss[order])
    order = torch.tensor([4, 2, 0, 1, 3])
    turned = variant()(new[:, order], old[:, order], advantage[:, order])
    torch.testing.assert_close(turned, loss[:, order])


@every
def test_a_batch_is_its_contexts_one_by_one(variant):
    old = -drawn(0, CONTEXTS, GROUP, STEPS).abs()
    new, advantage = old + 0.3 * drawn(1, CONTEXTS, GROUP, STEPS), centred(2)
    alone = [
        variant()(new[row : row + 1], old[row : row + 1], advantage[row : row + 1])
        for row in range(CONTEXTS)
    ]
    torch.testing.assert_close(torch.cat(alone), variant()(new, old, advantage))


@every
def test_finite_for_log_probabilities_far_apart(variant):
    advantage = centred(2).float()
    for far in (-300.0, 300.0):
        old = torch.full((CONTEXTS, GROUP, STEPS), -1.0)
        new = old + far * drawn(3, CONTEXTS, GROUP, STEPS).sign().float()
        assert variant()(new, old, advantage).isfinite().all()
        assert slope(variant(), new, old, advantage).isfinite().all()


@every
def test_a_group_of_one_is_finite(variant):
    one = torch.full((2, 1, STEPS), -1.0)
    assert variant()(one, one, torch.ones(2, 1)).isfinite().all()
