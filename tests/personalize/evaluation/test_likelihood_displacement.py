"""Likelihood displacement: what falls, and where the mass goes, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalize.evaluation.likelihood_displacement import displacement_report, mass_moved
from personalize.evaluation.ranking_accuracy import PairScores

NAMES = ("winner", "loser", "found")


def test_changes_by_hand():
    pairs = PairScores(
        winner=np.array([-1.0, -3.0, -5.0, -2.0, -4.0]),
        loser=np.array([-4.0, -6.0, -3.0, -2.0, -7.0]),
        reference_winner=np.full(5, -2.0),
        reference_loser=np.full(5, -2.0),
    )
    report = displacement_report(pairs)
    assert report.winner_change.mean == pytest.approx((1 - 1 - 3 + 0 - 2) / 5)
    assert report.loser_change.mean == pytest.approx((-2 - 4 - 1 + 0 - 5) / 5)
    assert report.winner_falls.mean == 0.6
    assert report.displaced.mean == 0.4  # the third falls further than its loser


def test_contexts_are_drawn_together():
    values = np.random.default_rng(0).normal(size=(4, 30))
    report = displacement_report(PairScores(*values), contexts=np.arange(30) // 3)
    assert report.winner_change.rows == 10


def test_mass_by_hand():
    before = np.log([[0.5, 0.3, 0.1], [0.6, 0.2, 0.7]])
    after = np.log([[0.3, 0.1, 0.4], [0.2, 0.1, 0.7]])
    kind = np.array([[0, 1, 2], [0, 1, 1]])
    present = np.array([[True, True, True], [True, True, False]])
    moved = mass_moved(before, after, kind, present, NAMES)
    assert moved["winner"].mean == pytest.approx((-0.2 - 0.4) / 2)
    assert moved["loser"].mean == pytest.approx((-0.2 - 0.1) / 2)
    assert moved["found"].mean == pytest.approx(0.15)
    assert moved["elsewhere"].mean == pytest.approx((0.1 + 0.5) / 2)
    assert moved["elsewhere"].rows == 2


@given(st.integers(0, 500))
def test_moved_mass_sums_to_nothing_and_order_is_irrelevant(seed: int):
    generator = np.random.default_rng(seed)
    before, after = (np.log(generator.dirichlet(np.ones(6), 4))[:, :4] for _ in range(2))
    kind, present = generator.integers(0, 3, (4, 4)), generator.random((4, 4)) < 0.8
    moved = mass_moved(before, after, kind, present, NAMES)
    assert sum(one.mean for one in moved.values()) == pytest.approx(0, abs=1e-12)
    order = generator.permutation(4)
    other = mass_moved(before[:, order], after[:, order], kind[:, order], present[:, order], NAMES)
    assert {name: one.mean for name, one in other.items()} == pytest.approx(
        {name: one.mean for name, one in moved.items()}
    )


def test_scores_that_are_no_probabilities_are_refused():
    once = np.log([[0.7, 0.7]])
    here = np.ones((1, 2), dtype=bool)
    with pytest.raises(ValueError, match="probabilities of a context must sum to 1 at most"):
        mass_moved(once, np.log([[0.1, 0.1]]), np.zeros((1, 2), dtype=int), here, NAMES)
