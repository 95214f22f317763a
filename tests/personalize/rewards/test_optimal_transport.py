"""The transport reward against hand-worked numbers, all permutations, and its laws."""

import itertools
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from personalize.rewards.optimal_transport import (
    AlignedFeatures,
    CosineCost,
    Examples,
    SquaredCost,
    TransportReward,
    transport_plan,
    triplet_loss,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_hand_worked_way():
    steps = torch.tensor([[[[0.0], [3.0]]]])
    example = Examples.whole(torch.tensor([[[2.0], [1.0]]]))
    reward = TransportReward(cost=SquaredCost())
    # 0 goes to 1 and 3 to 2; half the mass each, 1 of cost each
    assert reward(steps, example).tolist() == [[-1.0]]
    assert reward.of_steps(steps[:, 0], example).tolist() == [[-0.5, -0.5]]


def test_it_is_the_best_of_all_permutations():
    steps, others = drawn(1, 5, 3), drawn(1, 5, 3, seed=1)
    for cost in (CosineCost(), SquaredCost()):
        costs = cost(steps, others)[0]
        least = min(
            sum(costs[i, j].item() for i, j in enumerate(order)) / 5
            for order in itertools.permutations(range(5))
        )
        found = TransportReward(cost=cost)(steps[:, None], Examples.whole(others))
        assert found.item() == pytest.approx(-least)


def test_cosine_costs():
    steps = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
    others = torch.tensor([[[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    assert CosineCost()(steps, others).tolist() == [[[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]]


def test_squared_costs_are_means_over_features():
    found = SquaredCost()(torch.tensor([[[1.0, 5.0]]]), torch.tensor([[[3.0, 5.0]]]))
    assert found.tolist() == [[[2.0]]]


def test_backwards_is_worth_the_same_only_without_time():
    drive = torch.linspace(0, 1, 9, dtype=torch.float64)[None, :, None] * torch.ones(1, 9, 2)
    both = torch.stack((drive, drive.flip(1)), 1).double()
    example = Examples.whole(drive.double())
    without = TransportReward(cost=SquaredCost())(both, example)
    assert without[0].tolist() == pytest.approx([0.0, 0.0])
    timed = TransportReward(cost=SquaredCost(), time_weight=1.0)(both, example)
    assert timed[0, 0].item() == pytest.approx(0.0)
    assert timed[0, 1].item() < -0.2


def test_time_is_relative_to_each_length():
    example = Examples(torch.tensor([[[0.0], [1.0], [9.0]]]), torch.tensor([[True, True, False]]))
    steps = torch.tensor([[[0.0], [0.0], [1.0], [1.0]]])
    found = TransportReward(cost=SquaredCost(), time_weight=3.0).of_steps(steps, example)
    # relative times 0, 1/3, 2/3, 1 against 0, 0, 1, 1: 3 * (1/9) / 4 at the two inner steps
    assert found[0].tolist() == pytest.approx([0.0, -1 / 12, -1 / 12, 0.0], abs=1e-6)


def test_the_gradient_is_that_of_the_exact_cost():
    steps = drawn(1, 4, 2).requires_grad_()
    example = Examples.whole(drawn(1, 6, 2, seed=3))
    reward = TransportReward(cost=SquaredCost(), time_weight=0.2)

    def worth(values: torch.Tensor) -> torch.Tensor:
        return reward(values[:, None], example).sum()

    worth(steps).backward()
    gradient = steps.grad
    assert gradient is not None
    for place in ((0, 0, 0), (0, 2, 1), (0, 3, 0)):
        moved = torch.zeros_like(steps)
        moved[place] = 1e-5
        slope = (worth(steps + moved) - worth(steps - moved)).item() / 2e-5
        assert gradient[place].item() == pytest.approx(slope, abs=1e-6)


@settings(deadline=None, derandomize=True, max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.7]))
def test_laws_of_a_value(seed: int, smoothing: float):
    x, others = drawn(2, 3, 4, 2, seed=seed), drawn(2, 5, 2, seed=seed + 1)
    example = Examples(others, torch.tensor([[True] * 5, [True, True, False, False, False]]))
    reward = TransportReward(cost=SquaredCost(), smoothing=smoothing, time_weight=0.5)
    found = reward(x, example)
    assert found.isfinite().all()
    assert (found <= 1e-9).all()
    order = torch.tensor([2, 0, 1])
    assert torch.allclose(reward(x[:, order], example), found[:, order])
    alone = Examples(others[1:, :2], torch.ones(1, 2, dtype=torch.bool))
    assert torch.allclose(reward(x[1:], alone), found[1:])
    spoiled = others.clone()
    spoiled[1, 3] = 1e3
    assert torch.allclose(reward(x, Examples(spoiled, example.mask)), found)


def test_plans_keep_their_mass():
    mask = torch.tensor([[True, False, True, True]])
    costs = drawn(1, 5, 4).square()
    for smoothing in (0.0, 0.1, 5.0):
        plan = transport_plan(costs, mask, smoothing=smoothing)[0]
        assert torch.allclose(plan.sum(1), torch.full((5,), 0.2, dtype=plan.dtype), atol=1e-6)
        ends = torch.tensor([1 / 3, 0, 1 / 3, 1 / 3], dtype=plan.dtype)
        assert torch.allclose(plan.sum(0), ends, atol=1e-6)
    assert (plan[:, mask[0]] - 1 / 15).abs().max() < 0.03  # much entropy: all to all


def test_more_smoothing_costs_more():
    x, example = drawn(1, 1, 6, 3), Examples.whole(drawn(1, 6, 3, seed=9))
    worth = [TransportReward(smoothing=s)(x, example).item() for s in (0.0, 0.05, 1.0)]
    assert worth[0] > worth[1] > worth[2]


def test_a_slate_is_worth_more_with_variety():
    liked = torch.eye(3, dtype=torch.float64)[None]
    same = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 0, 0])]
    varied = torch.eye(3, dtype=torch.float64)[torch.tensor([2, 0, 1])]
    found = TransportReward()(torch.stack((same, varied))[None], Examples.whole(liked))
    assert found[0, 1].item() == pytest.approx(0.0)
    assert found[0, 0].item() == pytest.approx(-2 / 3)


def test_triplets_draw_the_nearer_nearer():
    near, far = torch.tensor([1.0], requires_grad=True), torch.tensor([3.0], requires_grad=True)
    loss = triplet_loss(near, far)
    assert loss.item() == pytest.approx(0.126928, abs=1e-5)  # log(1 + exp(-2))
    loss.backward()
    assert near.grad is not None
    assert far.grad is not None
    assert near.grad.item() > 0 > far.grad.item()


def test_aligned_features_have_their_width():
    assert AlignedFeatures(3, width=5)(torch.ones(2, 4, 3)).shape == (2, 4, 5)
    plain = AlignedFeatures(3)
    assert plain(torch.zeros(1, 3)).abs().max().item() == 0
    assert AlignedFeatures(3, hidden=7)(torch.ones(2, 3)).shape == (2, 16)


def test_errors(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="time_weight and smoothing must not be negative, got -1"):
        TransportReward(time_weight=-1.0)
    with pytest.raises(ValueError, match=r"must not be negative, got 0 and -0\.5"):
        TransportReward(smoothing=-0.5)
    with pytest.raises(ValueError, match="at least one real step"):
        transport_plan(torch.ones(1, 2, 2), torch.zeros(1, 2, dtype=torch.bool))
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(InputError, match=r"install it with pip install 'personalize\[transport\]'"):
        transport_plan(torch.ones(1, 2, 2), torch.ones(1, 2, dtype=torch.bool))
