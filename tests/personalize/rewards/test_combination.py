"""Combinations and gates: laws of every variant, and numbers by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.preference_optimization.ranked_factors import RankedFactors
from personalize.rewards.combination import (
    LexicographicRank,
    LowestGate,
    Separate,
    WeightedSum,
    WorstReward,
    ZeroGate,
)

VARIANTS = [
    Separate(),
    Separate((0.5, 0.0, 2.0)),
    WeightedSum(),
    WeightedSum((1.0, 3.0, 0.0)),
    WorstReward(),
    LexicographicRank((0.0, 0.0, 0.0)),
    LexicographicRank((0.5, 0.2, 0.0)),
]
GATINGS = [LowestGate(), LowestGate(0.0), ZeroGate()]


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
@given(seed=st.integers(0, 10**6))
def test_obeys_the_laws(variant, seed):
    reward = drawn(seed, 2, 4, 3)
    reward[:, 1] = reward[:, 0] + drawn(seed + 1, 2, 3).abs()
    parts = variant(reward)
    assert (parts.value[:, 1] >= parts.value[:, 0]).all()
    assert (parts.weight >= 0).all()
    assert parts.weight.shape == (2, parts.value.shape[-1])
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(variant(reward[:, order]).value, parts.value[:, order])


@pytest.mark.parametrize("variant", GATINGS, ids=repr)
@given(seed=st.integers(0, 10**6))
def test_gates_obey_the_laws(variant, seed):
    value = 10 * drawn(seed, 3, 5, 2)
    gate = drawn(seed + 1, 3, 5) > 0
    gate[0], gate[1] = True, False
    found = variant(value, gate)
    assert found.isfinite().all()
    for row in range(3):
        passing, failing = found[row, gate[row]], found[row, ~gate[row]]
        assert (failing[:, None] <= passing[None]).all()
        assert (failing == failing[:1]).all()


def test_sums_with_the_weights_given():
    reward = torch.tensor([[[1.0, 10.0], [2.0, -4.0]]])
    assert WeightedSum()(reward).value[..., 0].tolist() == [[11.0, -2.0]]
    assert WeightedSum((3.0, 0.5))(reward).value[..., 0].tolist() == [[8.0, 4.0]]
    by_context = torch.tensor([[0.0, 2.0]])
    assert WeightedSum((3.0, 0.5))(reward, by_context).value[..., 0].tolist() == [[20.0, -8.0]]
    apart = Separate((3.0, 0.5))(reward)
    assert apart.value.tolist() == reward.tolist()
    assert apart.weight.tolist() == [[3.0, 0.5]]
    assert Separate()(reward, by_context).weight.tolist() == [[0.0, 2.0]]


def test_the_worst_reward_is_the_least():
    reward = torch.tensor([[[1.0, 10.0], [2.0, -4.0]]])
    assert WorstReward()(reward).value[..., 0].tolist() == [[1.0, -4.0]]


def test_ranks_by_the_relation_of_ranked_factors():
    reward, margins = drawn(5, 1, 7, 3), (0.7, 0.3, 0.0)
    rank = LexicographicRank(margins)(reward).value[0, :, 0]
    sign, _ = RankedFactors(("a", "b", "c"), margins)(reward[0, :, None], reward[0, None])
    beaten = [sum(1.0 if s > 0 else 0.5 for s in row if s >= 0) - 0.5 for row in sign.tolist()]
    torch.testing.assert_close(rank, torch.tensor(beaten, dtype=torch.float64) / 6)


def test_the_first_reward_decides_whatever_the_second():
    reward = torch.tensor([[[1.0, 0.0], [0.0, 100.0], [1.0, 1.0]]])
    rank = LexicographicRank((0.0, 0.0))(reward).value[0, :, 0]
    assert rank.tolist() == [0.5, 0.0, 1.0]


def test_the_lowest_gate_puts_failures_below_the_worst_that_passes():
    value = torch.tensor([[[5.0], [3.0], [9.0]], [[5.0], [3.0], [9.0]]])
    gate = torch.tensor([[True, True, False], [False, False, False]])
    assert LowestGate(0.5)(value, gate)[0, :, 0].tolist() == [5.0, 3.0, 2.5]
    assert LowestGate(0.5)(value, gate)[1, :, 0].tolist() == [8.5, 8.5, 8.5]
    assert torch.equal(LowestGate()(value, torch.ones_like(gate)), value)


def test_the_zero_gate_is_a_product_that_failing_cannot_profit_from():
    value = torch.tensor([[[0.5], [-3.0], [9.0]]])
    found = ZeroGate()(value, torch.tensor([[True, True, False]]))
    assert found[0, :, 0].tolist() == [0.5, 0.0, 0.0]


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"weights must not be negative, got \(1.0, -1.0\)"):
        WeightedSum((1.0, -1.0))
    with pytest.raises(ValueError, match="weights must not be negative"):
        Separate((-1.0,))
    for variant in (WeightedSum((1.0,)), Separate((1.0,))):
        with pytest.raises(ValueError, match="weights must be one per reward, got 1 for 3"):
            variant(drawn(0, 1, 2, 3))
    with pytest.raises(ValueError, match="margins must be one or more and not negative"):
        LexicographicRank((-1.0,))
    with pytest.raises(ValueError, match="margins must be one per part, got 1 for 3"):
        LexicographicRank((1.0,))(drawn(0, 1, 2, 3))
    with pytest.raises(ValueError, match="margin must not be negative, got -1"):
        LowestGate(-1.0)
