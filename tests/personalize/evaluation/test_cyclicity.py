"""Cycles: rock, paper and scissors, and random tournaments against slow counting."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalize.evaluation.cyclicity import (
    certain_exploitability,
    exploitability,
    majority_cycle_rate,
    minimax_winner,
    win_matrix,
)

RPS = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
BEST_FIRST = np.array([[0.5, 0.6, 0.9], [0.4, 0.5, 0.7], [0.1, 0.3, 0.5]])


def drawn_win(seed: int, count: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).random((count, count)), 1)
    return upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(count)


def test_rock_paper_scissors():
    even = minimax_winner(RPS)
    np.testing.assert_allclose(even, 1 / 3, atol=1e-9)
    assert exploitability(even, RPS) == pytest.approx(0, abs=1e-9)
    assert certain_exploitability(RPS) == 0.5
    assert majority_cycle_rate(RPS) == 1.0
    assert exploitability(np.array([0.5, 0.5, 0.0]), RPS) == pytest.approx(0.25)


def test_one_that_beats_all_is_the_winner_and_gives_nothing_away():
    np.testing.assert_allclose(minimax_winner(BEST_FIRST), [1, 0, 0], atol=1e-9)
    assert certain_exploitability(BEST_FIRST) == 0.0
    assert majority_cycle_rate(BEST_FIRST) == 0.0
    assert exploitability(np.array([0.0, 0.0, 1.0]), BEST_FIRST) == pytest.approx(0.4)


@given(st.integers(0, 500), st.integers(2, 6))
def test_no_answer_beats_the_minimax_winner_and_slow_search_finds_none_better(seed, count):
    win = drawn_win(seed, count)
    policy = minimax_winner(win)
    assert policy.sum() == pytest.approx(1)
    assert exploitability(policy, win) == pytest.approx(0, abs=1e-7)
    others = np.random.default_rng(seed).dirichlet(np.ones(count), 20)
    assert all(exploitability(other, win) >= -1e-7 for other in others)
    certain = min(exploitability(row, win) for row in np.eye(count))
    assert certain_exploitability(win) == pytest.approx(certain)


@given(st.integers(0, 500))
def test_cycles_equal_slow_counting(seed: int):
    win = drawn_win(seed, 6)
    cyclic = 0
    for three in combinations(range(6), 3):
        wins = sorted(sum(win[i, j] > 0.5 for j in three if j != i) for i in three)
        cyclic += wins == [1, 1, 1]
    assert majority_cycle_rate(win) == pytest.approx(cyclic / 20)


def test_judges_that_disagree_in_a_circle_make_a_cycle():
    """Condorcet: each of three orders is transitive, their majority is not."""
    rewards = np.array([[3.0, 2, 1], [1, 3, 2], [2, 1, 3]])
    win = win_matrix(rewards)
    assert win[0, 1] == pytest.approx(2 / 3)
    assert win[1, 0] == pytest.approx(1 / 3)
    assert majority_cycle_rate(win) == 1.0
    assert majority_cycle_rate(win_matrix(rewards[:1])) == 0.0


@given(st.integers(0, 200))
def test_a_win_matrix_reads_only_the_order_of_each_judge(seed: int):
    rewards = np.random.default_rng(seed).integers(0, 4, (3, 5)).astype(float)
    win = win_matrix(rewards)
    np.testing.assert_allclose(win + win.T, 1)
    np.testing.assert_allclose(win_matrix(np.exp(rewards) * np.array([[1], [9], [100]])), win)


@pytest.mark.parametrize("call", [majority_cycle_rate, minimax_winner, certain_exploitability])
def test_a_matrix_that_contradicts_itself_is_refused(call):
    with pytest.raises(ValueError, match="win and its transpose must sum to 1"):
        call(np.ones((2, 2)))


@pytest.mark.parametrize("policy", [[0.5, 0.6, 0.0], [1.5, -0.5, 0.0]])
def test_what_is_no_distribution_is_refused(policy):
    with pytest.raises(ValueError, match="policy must be probabilities"):
        exploitability(np.array(policy), RPS)
