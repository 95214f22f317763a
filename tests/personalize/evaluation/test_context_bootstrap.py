"""Weighted intervals over contexts, against the plain ones and against rows written out."""

import numpy as np
import pytest

from personalize.evaluation.context_bootstrap import ContextBootstrap
from personalize.evaluation.intervals import bootstrap_interval

RANDOM = np.random.default_rng(6)


def ends(found) -> tuple[float, float, float]:
    return found.mean, found.low, found.high


def test_with_equal_weights_it_is_the_plain_bootstrap_over_groups():
    values, contexts = RANDOM.exponential(size=120), np.repeat(np.arange(40), 3)
    found = ContextBootstrap(contexts, np.ones(120), resamples=10_000).mean(values)
    expected = bootstrap_interval(values, groups=contexts)
    assert found is not None
    assert ends(found) == pytest.approx(ends(expected), abs=0.02)
    assert found.rows == 40


def test_a_weight_is_worth_as_many_rows():
    values, contexts = RANDOM.random(20), np.arange(20)
    times = RANDOM.integers(1, 4, 20)
    weighted = ContextBootstrap(contexts, times.astype(float)).mean(values)
    written = ContextBootstrap(np.repeat(contexts, times), np.ones(times.sum()))
    repeated = written.mean(np.repeat(values, times))
    assert weighted is not None
    assert repeated is not None
    assert ends(weighted) == pytest.approx(ends(repeated))
    worst = ContextBootstrap(contexts, times.astype(float)).worst_mean(values)
    assert ends(worst) == pytest.approx(ends(written.worst_mean(np.repeat(values, times))))


def test_rows_of_a_context_come_and_go_together():
    values = RANDOM.random(30)
    alone = ContextBootstrap(np.arange(30), np.ones(30)).mean(values)
    many = ContextBootstrap(np.repeat(np.arange(30), 8), np.ones(240)).mean(np.repeat(values, 8))
    assert ends(many) == pytest.approx(ends(alone))


def test_quotients_are_of_sums():
    above, below = np.array([1.0, 2.0, 0.0]), np.array([2.0, 2.0, 0.0])
    found = ContextBootstrap(np.arange(3), np.array([1.0, 3.0, 9.0])).quotient(above, below)
    assert found is not None
    assert found.mean == pytest.approx(7 / 8)
    assert (found.low, found.high) == pytest.approx((0.5, 1.0))
    assert found.rows == 2


def test_unknown_values_and_rows_not_asked_for_are_left_out():
    values = np.array([1.0, np.nan, 3.0, 100.0])
    boot = ContextBootstrap(np.arange(4), np.ones(4))
    found = boot.mean(values, np.array([True, True, True, False]))
    assert found is not None
    assert found.mean == 2.0
    assert found.rows == 2
    assert boot.mean(np.full(4, np.nan)) is None
    assert boot.worst_mean(np.full(4, np.nan)) is None
    assert boot.mean(values, np.zeros(4, bool)) is None


def test_the_worst_mean_of_contexts_draws_them_whole():
    values = np.array([0.0] * 9 + [1.0])
    found = ContextBootstrap(np.arange(10), np.ones(10)).worst_mean(values)
    assert ends(found) == (1.0, 0.0, 1.0)
    values = np.array([0.0] * 19 + [1.0])  # drawn twice, it is the whole worst tenth
    found = ContextBootstrap(np.arange(20), np.ones(20)).worst_mean(values)
    assert ends(found) == pytest.approx((0.5, 0.0, 1.0))


def test_the_same_seed_gives_the_same_interval():
    values, contexts = RANDOM.random(50), np.arange(50)
    one, same, other = (ContextBootstrap(contexts, np.ones(50), seed=s) for s in (0, 0, 1))
    assert one.mean(values) == same.mean(values)
    assert one.mean(values) != other.mean(values)


@pytest.mark.parametrize("weights", [np.array([1.0, 0.0]), np.array([1.0, np.nan]), np.zeros(0)])
def test_weights_that_are_not_positive_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be positive, and of at least one row"):
        ContextBootstrap(np.arange(len(weights)), weights)
