"""Spearman's correlation against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from personalize.evaluation.rank_correlation import rank_correlation


def test_rank_correlation_agrees_with_scipy():
    generator = np.random.default_rng(1)
    a = generator.integers(0, 6, 40).astype(float)
    b = a + generator.normal(size=40)
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b)[0])
    assert rank_correlation(a, np.ones(40)) == 0.0


def test_rank_correlations_share_the_ranks_of_equals():
    first = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(first, first**3) == pytest.approx(1.0)
    assert rank_correlation(first, -first) == pytest.approx(-1.0)
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4
    assert rank_correlation(first, np.array([0.0, 5, 5, 9])) == pytest.approx(0.9486833)
    assert rank_correlation(first, np.ones(4)) == 0.0
