"""Intervals and tests against SciPy, hand-worked numbers and their own laws."""

import numpy as np
import pytest
from scipy import stats

from personalize.evaluation.intervals import (
    Interval,
    bootstrap_interval,
    holm,
    paired_comparison,
)

RANDOM = np.random.default_rng(3)


def test_the_interval_agrees_with_scipy():
    values = RANDOM.exponential(size=300)
    ours = bootstrap_interval(values)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=1
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = RANDOM.normal(size=50)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


def test_groups_of_equal_rows_widen_the_interval():
    values = RANDOM.normal(size=40)
    repeated = np.repeat(values, 9)
    alone = bootstrap_interval(values)
    grouped = bootstrap_interval(repeated, groups=np.repeat(np.arange(40), 9))
    naive = bootstrap_interval(repeated)
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high))
    assert naive.high - naive.low < 0.5 * (grouped.high - grouped.low)
    assert grouped.rows == 40


def test_groups_of_unequal_size_keep_the_mean_over_rows():
    values = np.array([1.0, 1.0, 1.0, 0.0])
    interval = bootstrap_interval(values, groups=np.array([7, 7, 7, 2]))
    assert interval.mean == 0.75
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_a_constant_has_an_interval_of_no_width():
    assert bootstrap_interval(np.full(9, 0.25)) == Interval(0.25, 0.25, 0.25, 9)
    assert Interval(0.5, 0.4, 0.6, 9).excludes(0.39)
    assert not Interval(0.5, 0.4, 0.6, 9).excludes(0.6)


def test_the_randomisation_test_agrees_with_all_sign_flips():
    difference = np.array([0.5, 1.0, 2.0, -0.25, 1.5])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    exact = (np.abs(signs.T @ difference) >= abs(difference.sum())).mean()
    ours = paired_comparison(difference, np.zeros(5))
    assert ours.p_value == pytest.approx(exact, abs=0.01)
    assert (ours.wins, ours.ties, ours.losses) == (4, 0, 1)
    assert ours.difference.mean == pytest.approx(0.95)


def test_swapping_the_systems_mirrors_the_comparison():
    first, second = RANDOM.normal(size=(2, 30)).round(1)
    there, back = paired_comparison(first, second), paired_comparison(second, first)
    assert there.p_value == back.p_value
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert there.difference.low == pytest.approx(-back.difference.high)


def test_equal_systems_differ_in_nothing():
    values = RANDOM.normal(size=20)
    same = paired_comparison(values, values)
    assert (same.p_value, same.ties, same.difference.mean) == (1.0, 20, 0.0)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval(np.array([])), "values must be a list of at least one number"),
        (lambda: bootstrap_interval(np.array([1.0, np.nan])), "values must be finite"),
        (
            lambda: bootstrap_interval(np.ones(3), groups=np.zeros(2, np.int64)),
            "groups must have one entry per value, got 2 for 3",
        ),
        (
            lambda: paired_comparison(np.ones(3), np.ones(2)),
            "candidate and baseline must have equal lengths, got 3 and 2",
        ),
        (lambda: holm(np.array([1.5])), r"p_values must lie in \[0, 1\]"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_drawing_counts_of_distinct_values_is_the_same_law_as_drawing_rows(monkeypatch):
    generator = np.random.default_rng(7)
    ranks = generator.integers(1, 40, size=400)
    candidate = np.where(ranks <= 10, 1.0 / ranks, 0.0)
    baseline = np.where(generator.permutation(ranks) <= 10, 1.0 / ranks, 0.0) * 0.8
    groups = generator.integers(0, 200, size=400)
    for chosen in (None, groups):
        fast = paired_comparison(candidate, baseline, groups=chosen)
        with monkeypatch.context() as patched:
            patched.setattr("personalize.evaluation.intervals._FEW", 0)
            slow = paired_comparison(candidate, baseline, groups=chosen)
        assert fast.difference.low == pytest.approx(slow.difference.low, abs=2e-3)
        assert fast.difference.high == pytest.approx(slow.difference.high, abs=2e-3)
        assert fast.p_value == pytest.approx(slow.p_value, abs=0.02)
