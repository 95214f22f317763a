"""Advantages: laws of every variant, TRL's formulas by hand, and two rewards of unlike scale."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.rewards.advantage import (
    BatchScale,
    ConstantScale,
    GroupScale,
    LeaveOneOutScale,
    NormalizeThenSum,
    NoScale,
    SumThenNormalize,
    reward_to_go,
)
from personalize.rewards.combination import Parts

SCALES = [GroupScale(), BatchScale(), ConstantScale(), NoScale(), LeaveOneOutScale()]
ADVANTAGES = [
    NormalizeThenSum(),
    *(SumThenNormalize(scale) for scale in SCALES),
    *(NormalizeThenSum(scale, NoScale()) for scale in SCALES),
]


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of(value: torch.Tensor, *weights: float) -> Parts:
    weight = torch.tensor(weights, dtype=value.dtype) if weights else torch.ones_like(value[0, 0])
    return Parts(value, weight.expand(len(value), -1))


@pytest.mark.parametrize("scale", SCALES, ids=repr)
def test_scales_obey_the_laws(scale):
    value = drawn(0, 3, 5, 2)
    centred = value - value.mean(1, keepdim=True)
    found = scale(centred)
    torch.testing.assert_close(found.mean(1), torch.zeros(3, 2, dtype=torch.float64))
    assert torch.equal(found.argsort(1), centred.argsort(1))
    assert torch.equal(scale(torch.zeros(2, 3, 1)), torch.zeros(2, 3, 1))


@pytest.mark.parametrize("variant", ADVANTAGES, ids=repr)
@given(seed=st.integers(0, 10**6))
def test_obeys_the_laws(variant, seed):
    value = drawn(seed, 3, 5, 2)
    value[:, 1] = value[:, 0] + drawn(seed + 1, 3, 2).abs()
    value[2] = 7.0
    found = variant(of(value, 2.0, 0.5))
    torch.testing.assert_close(found.sum(1), torch.zeros(3, dtype=torch.float64))
    assert (found[:, 1] >= found[:, 0]).all()
    assert torch.equal(found[2], torch.zeros(5, dtype=torch.float64))
    shift = 20 * drawn(seed + 2, 3, 1, 2)
    torch.testing.assert_close(variant(of(value + shift, 2.0, 0.5)), found)


def test_rounding_is_no_difference():
    value = torch.full((2, 7, 1), 0.7)
    value[0, 3] = torch.nextafter(torch.tensor(0.7), torch.tensor(1.0))  # as a sigmoid may round
    value[1, 3] += 1e-4
    found = SumThenNormalize()(of(value))
    assert torch.equal(found[0], torch.zeros(7))
    assert found[1, 3] > 0.2


def test_scales_by_hand():
    value = torch.tensor([[[0.0], [2.0], [4.0]], [[1.0], [1.0], [10.0]]])
    by = {type(s).__name__: SumThenNormalize(s)(of(value))[0].tolist() for s in SCALES}
    assert by["NoScale"] == [-2.0, 0.0, 2.0]
    assert by["GroupScale"] == pytest.approx([-2 / 2.0001, 0.0, 2 / 2.0001])
    assert by["LeaveOneOutScale"] == pytest.approx([-3.0, 0.0, 3.0])
    assert by["ConstantScale"] == pytest.approx([-20.0, 0.0, 20.0])
    deviation = ((4 + 4 + 9 + 9 + 36) / 5) ** 0.5
    assert by["BatchScale"] == pytest.approx([-2 / (deviation + 1e-4), 0.0, 2 / (deviation + 1e-4)])


def test_normalises_then_sums_as_trl_does():
    value, weights = drawn(3, 4, 6, 3), (1.0, 0.5, 2.0)
    rewards = value.numpy()
    total = np.zeros((4, 6))
    for k in range(3):
        mean, std = rewards[..., k].mean(1), rewards[..., k].std(1, ddof=1)
        total += weights[k] * (rewards[..., k] - mean[:, None]) / (std[:, None] + 1e-4)
    flat = total.flatten()
    expected = ((flat - flat.mean()) / (flat.std(ddof=1) + 1e-4)).reshape(4, 6)
    found = NormalizeThenSum()(of(value, *weights))
    torch.testing.assert_close(found, torch.as_tensor(expected))


def test_sums_then_normalises_as_trl_does():
    value = drawn(4, 4, 6, 3)
    total = (value * torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)).sum(-1).numpy()
    expected = (total - total.mean(1, keepdims=True)) / (total.std(1, ddof=1, keepdims=True) + 1e-4)
    found = SumThenNormalize()(of(value, 1.0, 0.5, 2.0))
    torch.testing.assert_close(found, torch.as_tensor(expected))


@pytest.mark.parametrize("seed", range(3))
def test_normalised_first_a_small_reward_is_heard(seed):
    value = drawn(seed, 300, 8, 2) * torch.tensor([10.0, 1.0], dtype=torch.float64)

    def heard(variant) -> list[float]:
        found = variant(of(value)).flatten().numpy()
        return [float(np.corrcoef(found, value[..., k].flatten())[0, 1]) for k in (0, 1)]

    large, small = heard(NormalizeThenSum())
    assert small >= 0.6
    assert large >= 0.6
    large, small = heard(SumThenNormalize())
    assert small <= 0.2
    assert large >= 0.85


def test_units_of_a_reward_are_of_no_consequence_when_normalised_first():
    value = drawn(0, 5, 8, 2)
    other = value * torch.tensor([1000.0, 1.0], dtype=torch.float64)
    first, second = NormalizeThenSum()(of(value)), NormalizeThenSum()(of(other))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


def test_reward_to_go_is_the_slow_sum():
    reward = drawn(2, 3, 4)
    found = reward_to_go(reward, discount=0.6)
    for step in range(4):
        later = sum(0.6**k * reward[:, step + k] for k in range(4 - step))
        torch.testing.assert_close(found[:, step], later)
    torch.testing.assert_close(reward_to_go(reward, discount=0.0), reward)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="divisor must be positive, got 0"):
        ConstantScale(0.0)
    with pytest.raises(ValueError, match=r"discount must lie in \[0, 1\], got 1.5"):
        reward_to_go(torch.zeros(3), discount=1.5)
