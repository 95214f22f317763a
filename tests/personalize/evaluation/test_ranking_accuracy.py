"""Ranking accuracy: numbers by hand, the theorem on every pair, and exact minimisers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.methods import rankings
from personalize.evaluation.ranking_accuracy import (
    PairScores,
    ahead,
    difficulty,
    dpo_loss,
    idealised_margin,
    ranking_loss,
    ranking_report,
)


def pairs_of(seed: int, count: int = 40) -> PairScores:
    values = np.random.default_rng(seed).normal(-3, 2, (4, count))
    return PairScores(*values)


BY_HAND = PairScores(
    winner=np.array([-1.0, -4.0, -2.0, -1.0]),
    loser=np.array([-2.0, -3.0, -5.0, -3.0]),
    reference_winner=np.array([-2.0, -6.0, -1.0, -3.0]),
    reference_loser=np.array([-1.5, -3.0, -6.0, -2.0]),
)
"""Margins 1, -1, 3, 2; before -0.5, -3, 5, -1."""


def test_the_report_by_hand():
    report = ranking_report(BY_HAND, beta=0.5)
    assert report.accuracy.mean == 0.75
    assert report.reference_accuracy.mean == 0.25
    assert report.implicit_accuracy.mean == 0.75
    assert report.errors_flipped is not None
    assert report.errors_flipped.mean == pytest.approx(2 / 3)
    assert report.errors_flipped.rows == 3
    assert report.successes_kept is not None
    assert report.successes_kept.mean == 1.0
    assert report.difficulty.mean == pytest.approx(-0.125)
    losses = np.log1p(np.exp(-0.5 * np.array([1.5, 2.0, -2.0, 3.0])))
    assert report.loss.mean == pytest.approx(losses.mean())
    assert report.idealised_accuracy is report.alignment_gap is None


@given(st.integers(0, 10_000), st.floats(0.01, 3.0))
def test_a_pair_is_ranked_correctly_exactly_where_its_loss_is_small_enough(seed: int, beta: float):
    pairs = pairs_of(seed)
    by_loss = dpo_loss(pairs, beta) <= ranking_loss(difficulty(pairs), beta)
    np.testing.assert_array_equal(by_loss, pairs.winner >= pairs.loser)


@given(st.integers(0, 1000), st.floats(0.1, 2.0), st.floats(0.51, 0.95))
def test_the_idealised_margin_minimises_the_expected_loss(seed: int, beta: float, share: float):
    """Two losses of a pair, weighed by who prefers which, are least at the idealised margin."""
    pairs = pairs_of(seed, 5)
    best = idealised_margin(pairs, share, beta)

    def expected(margin: np.ndarray) -> np.ndarray:
        logit = beta * (margin - pairs.reference_margin)
        return share * np.logaddexp(0, -logit) + (1 - share) * np.logaddexp(0, logit)

    for moved in (best - 0.01, best + 0.01):
        assert (expected(moved) > expected(best)).all()


def test_sure_judges_make_the_idealised_accuracy_1_and_unsure_ones_do_not():
    sure = ranking_report(BY_HAND, beta=0.5, share=1.0)
    assert sure.idealised_accuracy is not None
    assert sure.alignment_gap is not None
    assert sure.idealised_accuracy.mean == 1.0
    assert sure.alignment_gap.mean == 0.25
    unsure = ranking_report(BY_HAND, beta=0.5, share=0.75)  # adds log(3) / 0.5 = 2.197
    assert unsure.idealised_accuracy is not None
    assert unsure.idealised_accuracy.mean == 0.75
    each = ranking_report(BY_HAND, beta=0.5, share=np.array([0.5, 0.9, 0.5, 0.5]))
    assert each.idealised_accuracy is not None  # -0.5, -3 + 4.39, 5, -1
    assert each.idealised_accuracy.mean == 0.5


def test_a_policy_that_was_not_tuned_ranks_as_before_and_implies_nothing():
    pairs = pairs_of(3)
    same = PairScores(
        pairs.reference_winner, pairs.reference_loser, pairs.reference_winner, pairs.reference_loser
    )
    report = ranking_report(same)
    assert report.accuracy == report.reference_accuracy
    assert report.implicit_accuracy.mean == 0.5
    assert report.loss.mean == pytest.approx(np.log(2))


@given(st.integers(0, 1000))
def test_a_constant_on_both_responses_changes_nothing(seed: int):
    pairs = pairs_of(seed)
    shifted = PairScores(
        pairs.winner + 3.0, pairs.loser + 3.0, pairs.reference_winner - 2, pairs.reference_loser - 2
    )
    assert ranking_report(shifted).accuracy == ranking_report(pairs).accuracy
    np.testing.assert_allclose(dpo_loss(shifted, 0.3), dpo_loss(pairs, 0.3))


def test_contexts_are_drawn_together():
    copies = PairScores(*(np.repeat(values, 10) for values in vars(BY_HAND).values()))
    whole = ranking_report(copies, contexts=np.repeat(np.arange(4), 10))
    apart = ranking_report(copies)
    assert whole.accuracy.rows == 4
    assert whole.accuracy.high - whole.accuracy.low > apart.accuracy.high - apart.accuracy.low


def test_without_wrong_pairs_before_nothing_can_be_flipped():
    report = ranking_report(BY_HAND.some(np.array([2])))
    assert report.errors_flipped is None
    assert report.successes_kept is not None


def test_equal_probabilities_count_half():
    assert ahead(np.array([0.0])).tolist() == [0.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ranking_report(BY_HAND, beta=0.0), "beta must be positive, got 0"),
        (lambda: ranking_report(BY_HAND, share=0.0), "share must lie above 0 and at most at 1"),
        (lambda: ranking_report(BY_HAND, share=1.2), "share must lie above 0 and at most at 1"),
        (lambda: idealised_margin(BY_HAND, 0.7, -1.0), "beta must be positive, got -1"),
        (lambda: PairScores(*np.zeros((4, 0))), "there must be at least one pair"),
        (lambda: PairScores(*np.full((4, 1), np.inf)), "winner must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_experiment_shows_what_the_paper_says():
    found = rankings.experiment((0, 1), pairs=300)
    assert found["shown"]
    hard = found["levels"]["spread 8, mean loss 0.65"]
    assert hard["ranking accuracy"]["high"] < 0.6
    assert hard["implicit"]["low"] == 1.0
    assert hard["idealised accuracy"]["low"] > 0.8
