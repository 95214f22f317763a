"""Shaping: laws of every variant, exact properties of PAR, and a polynomial fitted anew."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.rewards import shaping
from personalize.rewards.self_play import LogisticWins
from personalize.rewards.shaping import (
    ClippedShaping,
    LogSigmoidShaping,
    PolynomialShaping,
    PreferenceAsReward,
    Shaping,
    StandardizedShaping,
    TanhShaping,
    UnitRangeShaping,
    Unshaped,
)

VARIANTS = sorted(
    (
        value
        for _, value in inspect.getmembers(shaping, inspect.isclass)
        if issubclass(value, Shaping) and not inspect.isabstract(value)
    ),
    key=lambda variant: variant.__name__,
)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_all_are_found():
    assert len(VARIANTS) == 8


@pytest.mark.parametrize("variant", VARIANTS)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.1, 1.0, 30.0]))
def test_obeys_the_laws(variant, seed, size):
    reward, reference = size * drawn(seed, 3, 6, 2), size * drawn(seed + 1, 3, 4, 2)
    found = variant()(reward, reference)
    assert found.isfinite().all()
    order = reward.argsort(1)
    assert (found.gather(1, order).diff(dim=1) >= -1e-12).all()
    turned = torch.tensor([3, 5, 0, 2, 1, 4])
    torch.testing.assert_close(variant()(reward[:, turned], reference), found[:, turned])


@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_rewards_are_finite_with_one_reference(variant):
    found = variant()(torch.full((2, 3, 1), 4.0), torch.full((2, 1, 1), 4.0))
    assert found.isfinite().all()
    assert (found == found[0, 0, 0]).all()


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant.uses_reference])
def test_a_constant_for_response_and_reference_changes_nothing(variant):
    reward, reference = drawn(0, 2, 3, 1), drawn(1, 2, 4, 1)
    shift = torch.tensor([7.0, -40.0], dtype=torch.float64)[:, None, None]
    shifted = variant()(reward + shift, reference + shift)
    torch.testing.assert_close(shifted, variant()(reward, reference))


def test_preference_as_reward_is_the_mean_probability_to_win():
    reward, reference = drawn(0, 2, 3, 1), drawn(1, 2, 4, 1)
    par = PreferenceAsReward(2.0)(reward, reference)[..., 0]
    torch.testing.assert_close(par, LogisticWins(2.0)(reward, reference).mean(-1))
    assert ((par > 0) & (par < 1)).all()
    one = PreferenceAsReward()(torch.tensor([[[3.0], [1.0]]]), torch.tensor([[[1.0]]]))
    assert one[0, :, 0].tolist() == pytest.approx([1 / (1 + np.exp(-2.0)), 0.5])
    two = PreferenceAsReward()(torch.tensor([[[1.0]]]), torch.tensor([[[1.0], [-99.0]]]))
    assert two.item() == pytest.approx(0.75)


def test_tanh_by_hand():
    found = TanhShaping()(torch.tensor([[[2.0]]]), torch.tensor([[[1.0], [2.0]]]))
    assert found.item() == pytest.approx(np.tanh(1.0) / 2)


def test_the_polynomial_is_the_least_squares_fit():
    at = np.linspace(-5, 5, 100)
    fit = np.polyfit(at, 1 / (1 + np.exp(-at)), 5)
    where = torch.linspace(-4.9, 4.9, 29, dtype=torch.float64)[None, :, None]
    found = PolynomialShaping()(where, torch.zeros(1, 1, 1, dtype=torch.float64))
    expected = torch.as_tensor(np.polyval(fit, where.numpy()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_the_polynomial_does_not_fall_where_its_interval_ends():
    ends = torch.tensor([[[-60.0], [-4.999], [4.999], [60.0]]])
    found = PolynomialShaping()(ends, torch.zeros(1, 1, 1))[0, :, 0]
    assert found.tolist() == sorted(found.tolist())
    assert 1.01 < found[3] < 1.02
    assert -0.02 < found[0] < -0.01


def test_log_sigmoid_takes_the_percentile_of_a_normal():
    reference = torch.tensor([[[1.0], [3.0]]], dtype=torch.float64)
    level = 2.0 + 1.0364333894937898 * 2**0.5
    reward = torch.tensor([[[level], [level + 1]]], dtype=torch.float64)
    found = LogSigmoidShaping()(reward, reference)[0, :, 0]
    assert found.tolist() == pytest.approx([-np.log(2), -np.log1p(np.exp(-1))])


def test_statistics_are_those_of_the_batch():
    reward, none = torch.tensor([[[0.0], [2.0]], [[4.0], [10.0]]]), torch.zeros(2, 0, 1)
    assert StandardizedShaping()(reward, none).flatten().tolist() == pytest.approx(
        [(r - 4) / 14**0.5 for r in (0.0, 2.0, 4.0, 10.0)]
    )
    reach = 0.5 * 14**0.5
    clipped = ClippedShaping(0.5)(reward, none).flatten().tolist()
    assert clipped == pytest.approx([4 - reach, 4 - reach, 4.0, 4 + reach])
    assert UnitRangeShaping()(reward, none).flatten().tolist() == pytest.approx([0, 0.2, 0.4, 1])
    assert Unshaped()(reward, none) is reward
    two = torch.cat([reward, 100 * reward], -1)
    each = StandardizedShaping()(two, torch.zeros(2, 0, 2))
    torch.testing.assert_close(each[..., 0], each[..., 1])


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="steepness must be positive, got 0"):
        PreferenceAsReward(0.0)
    with pytest.raises(ValueError, match="percentile must lie between 0 and 1, got 1"):
        LogSigmoidShaping(1.0)
    with pytest.raises(ValueError, match="deviations must be positive, got -1"):
        ClippedShaping(-1.0)
