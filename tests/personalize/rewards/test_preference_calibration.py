"""Temperatures and calibration errors, against a search and numbers worked by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.rewards.preference_calibration import (
    expected_calibration_error,
    fitted_temperature,
    preference_accuracy,
    preference_log_loss,
)


def stated(seed: int, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are too large by a factor, and who won."""
    generator = torch.Generator().manual_seed(seed)
    truth = 1.5 * torch.randn(4000, generator=generator)
    won = torch.rand(4000, generator=generator) < truth.sigmoid()
    return factor * torch.where(won, truth, -truth), torch.ones(4000)


@pytest.mark.parametrize("factor", [0.2, 1.0, 4.0])
def test_the_temperature_undoes_a_factor(factor):
    logit, share = stated(0, factor)
    assert float(fitted_temperature(logit, share)) == pytest.approx(factor, rel=0.1)


@given(st.integers(0, 50), st.floats(0.1, 8.0))
def test_no_other_temperature_is_better(seed, factor):
    logit, share = stated(seed, factor)
    share = share * 0.9
    found = fitted_temperature(logit, share)
    best = preference_log_loss(logit / found, share).mean()
    for other in (0.8, 0.97, 1.03, 1.25):
        assert best <= preference_log_loss(logit / (other * found), share).mean() + 1e-7


def test_logits_that_are_never_wrong_get_the_least_temperature():
    assert float(fitted_temperature(torch.ones(9), torch.ones(9))) == pytest.approx(0.01)
    assert float(fitted_temperature(-torch.ones(9), torch.ones(9))) == pytest.approx(100.0)


def test_a_temperature_needs_comparisons():
    with pytest.raises(ValueError, match="needs at least one comparison"):
        fitted_temperature(torch.zeros(0), torch.zeros(0))


def test_a_calibration_error_by_hand():
    logit = torch.tensor([0.8, 0.8, 0.6, 0.6]).logit()
    logit[1], logit[3] = -logit[1], -logit[3]
    share = torch.tensor([1.0, 1.0, 1.0, 0.25])
    # Sure of 0.6 twice, right in 1 and 0.75; sure of 0.8 twice, right in 1 and 0.
    expected = (2 * abs(0.6 - (1 + 0.75) / 2) + 2 * abs(0.8 - 0.5)) / 4
    assert expected_calibration_error(logit, share, bins=2) == pytest.approx(expected, abs=1e-6)


def test_what_is_calibrated_has_hardly_an_error_and_what_is_not_has():
    logit, share = stated(1, 1.0)
    assert expected_calibration_error(logit, share) < 0.03
    assert expected_calibration_error(5 * logit, share) > 0.1


def test_naming_the_loser_first_changes_no_calibration_error():
    logit, share = stated(2, 2.0)
    turned = torch.arange(len(logit)) % 2 == 0
    other = torch.where(turned, -logit, logit), torch.where(turned, 1 - share, share)
    assert expected_calibration_error(*other) == pytest.approx(
        expected_calibration_error(logit, share), abs=1e-6
    )


def test_more_bins_than_comparisons_leave_some_empty():
    found = expected_calibration_error(torch.tensor([1.0, 3.0]), torch.ones(2), bins=10)
    assert found == pytest.approx(1 - float(torch.tensor([1.0, 3.0]).sigmoid().mean()))


@pytest.mark.parametrize(("count", "bins"), [(0, 10), (3, 0)])
def test_a_calibration_error_needs_comparisons_and_bins(count, bins):
    with pytest.raises(ValueError, match="there must be a comparison and a bin"):
        expected_calibration_error(torch.zeros(count), torch.ones(count), bins=bins)


def test_accuracy_counts_ties_by_half():
    assert preference_accuracy(torch.tensor([2.0, -1.0, 0.0])).tolist() == [1.0, 0.0, 0.5]
