"""Measures of steering: identities, the rows whose answer is known, and slow oracles."""

import numpy as np
import pytest

from personalize.evaluation.steerability import (
    along_correlation,
    oracle_error,
    request_cells,
    response_matrix,
    row_measures,
    side_to_target,
    worst_mean,
)

RANDOM = np.random.default_rng(8)
ROWS, SIZE = 400, 4


def requests(active: int = 2) -> np.ndarray:
    change = RANDOM.uniform(0.1, 0.7, (ROWS, SIZE)) * RANDOM.choice([-1, 1], (ROWS, SIZE))
    order = RANDOM.random((ROWS, SIZE)).argsort(1)
    return np.where(order < active, change, 0.0)


CHANGE = requests()
ALL = np.ones((ROWS, SIZE), bool)


def test_the_square_of_the_error_is_that_of_what_is_missing_along_and_of_what_is_across():
    move = RANDOM.normal(size=(ROWS, SIZE))
    found = row_measures(CHANGE, move, ALL)
    error = CHANGE - move
    along = (error * CHANGE).sum(1) / (CHANGE**2).sum(1)
    across = np.linalg.norm(error - along[:, None] * CHANGE, axis=1)
    squared = (found.miscalibration * found.asked) ** 2 + across**2
    assert found.steering_error**2 == pytest.approx(squared, abs=1e-8)


def test_side_effects_are_the_sine_of_the_angle():
    move = RANDOM.normal(size=(ROWS, SIZE))
    found = row_measures(CHANGE, move, ALL)
    lengths = np.linalg.norm(move, axis=1) * np.linalg.norm(CHANGE, axis=1)
    cosine = (move * CHANGE).sum(1) / lengths
    assert found.side_effects == pytest.approx(np.sqrt(1 - cosine**2), abs=1e-3)
    assert (found.side_effects <= 1).all()


@pytest.mark.parametrize(
    ("move", "error", "in_asked", "gain", "miscalibration", "side"),
    [
        ([0.3, 0.0], 0.0, 0.0, 1.0, 0.0, 0.0),  # perfect
        ([0.0, 0.0], 0.3, 0.3, 0.0, 1.0, 0.0),  # nothing is done
        ([0.45, 0.0], 0.15, 0.15, 1.5, 0.5, 0.0),  # half as far again
        ([0.3, 0.2], 0.2, 0.0, 1.0, 0.0, 0.2 / np.hypot(0.3, 0.2)),  # right, with a leak
        ([-0.3, 0.0], 0.6, 0.6, -1.0, 2.0, 0.0),  # the wrong way
    ],
)
def test_rows_whose_answer_is_known(move, error, in_asked, gain, miscalibration, side):
    found = row_measures(np.array([[0.3, 0.0]]), np.array([move]), np.ones((1, 2), bool))
    assert found.steering_error[0] == pytest.approx(error, abs=1e-9)
    assert found.asked_error[0] == pytest.approx(in_asked, abs=1e-9)
    assert found.gain[0] == pytest.approx(gain)
    assert found.miscalibration[0] == pytest.approx(miscalibration, abs=1e-9)
    assert found.side_effects[0] == pytest.approx(side, abs=1e-3)


def test_a_coupled_map_has_its_gain_and_side_effects():
    coupled = np.eye(SIZE) + 0.4 * (np.roll(np.eye(SIZE), 1, axis=1))
    found = row_measures(CHANGE, CHANGE @ coupled, ALL)
    assert found.gain.mean() == pytest.approx(1, abs=0.15)
    assert found.side_effects.mean() > 0.2


def test_who_does_nothing_has_no_side_effects_but_is_no_good():
    nothing = row_measures(CHANGE, np.zeros_like(CHANGE), ALL)
    good = row_measures(CHANGE, 0.9 * CHANGE + 0.01, ALL)
    assert (nothing.side_effects == 0).all()
    assert good.side_effects.mean() > 0
    assert (nothing.miscalibration == 1).all()
    assert nothing.steering_error.mean() > good.steering_error.mean()


def in_bins(change: np.ndarray) -> np.ndarray:
    """The asked direction as the released code bins it when it is given no edges."""
    edges = np.array([-1, -0.5, -0.2, -0.1, 0.1, 0.2, 0.5, 1])
    return np.digitize(change, edges) - 4.0


def test_moving_exactly_where_asked_has_no_side_effects_whatever_the_amounts():
    """With the asked direction left in bins, the same moves would seem to go astray."""
    found = row_measures(CHANGE, 0.5 * CHANGE, ALL)
    assert found.side_effects == pytest.approx(np.zeros(ROWS), abs=1e-9)
    binned = in_bins(CHANGE)
    along = (CHANGE * binned).sum(1) / (binned**2).sum(1)
    astray = np.linalg.norm(CHANGE - along[:, None] * binned, axis=1)
    astray /= np.linalg.norm(CHANGE, axis=1)
    assert astray.mean() > 0.1


def test_a_dimension_that_is_not_known_is_left_out_of_its_row():
    move = RANDOM.normal(size=(ROWS, SIZE))
    known = RANDOM.random((ROWS, SIZE)) > 0.3
    found = row_measures(CHANGE, np.where(known, move, 99.0), known)
    for row in range(0, ROWS, 7):
        there = known[row]
        if not (CHANGE[row][there] != 0).any():
            assert np.isnan(found.gain[row])
            assert np.isnan(found.steering_error[row])
            assert np.isnan(found.side_effects[row])
            continue
        alone = row_measures(CHANGE[[row]][:, there], move[[row]][:, there], ALL[:1, : there.sum()])
        assert found.gain[row] == pytest.approx(alone.gain[0])
        assert found.steering_error[row] == pytest.approx(alone.steering_error[0])
        assert found.side_effects[row] == pytest.approx(alone.side_effects[0])


def test_the_order_of_dimensions_and_rows_is_irrelevant():
    move = RANDOM.normal(size=(ROWS, SIZE))
    found = row_measures(CHANGE, move, ALL)
    turned = row_measures(CHANGE[::-1, [2, 0, 3, 1]], move[::-1, [2, 0, 3, 1]], ALL)
    assert turned.gain == pytest.approx(found.gain[::-1])
    assert turned.side_effects == pytest.approx(found.side_effects[::-1])


# The worst tenth


def test_the_worst_tenth_is_that_of_rows_written_out():
    values, times = RANDOM.random(30), RANDOM.integers(1, 5, 30)
    written = np.sort(np.repeat(values, times * 10))[::-1]
    expected = written[: len(written) // 10].mean()
    assert worst_mean(values, times.astype(float)) == pytest.approx(expected)
    assert worst_mean(values, times.astype(float), share=1.0) == pytest.approx(
        np.average(values, weights=times)
    )
    assert worst_mean(np.array([1.0, 5.0]), np.ones(2)) == 5.0


# The oracle


def test_the_oracle_takes_the_nearest_candidate_of_which_all_that_counts_is_known():
    target, known = RANDOM.random((15, SIZE)), RANDOM.random((15, SIZE)) > 0.3
    pool, visible = RANDOM.random((40, SIZE)), RANDOM.random((40, SIZE)) > 0.4
    expected = []
    for wanted, counts in zip(target, known, strict=True):
        gaps = [
            float(np.linalg.norm((candidate - wanted)[counts]))
            for candidate, seen in zip(pool, visible, strict=True)
            if seen[counts].all()
        ]
        expected.append(min(gaps))
    assert oracle_error(target, known, pool, visible) == pytest.approx(expected)


def test_where_no_candidate_can_be_looked_at_the_oracle_is_unknown():
    hidden = np.zeros((3, SIZE), bool)
    found = oracle_error(RANDOM.random((2, SIZE)), ALL[:2], RANDOM.random((3, SIZE)), hidden)
    assert np.isnan(found).all()
    assert np.isnan(oracle_error(np.ones((1, 2)), ALL[:1, :2], np.ones((0, 2)), ALL[:0, :2])).all()


# Responses


def test_the_response_matrix_of_a_linear_map_is_that_map():
    change = np.concatenate([requests(active=1), CHANGE])
    answer = RANDOM.normal(size=(SIZE, SIZE))
    move = change @ answer
    move[ROWS:] += 5.0  # rows that ask for more than one are not looked at
    known = np.ones(change.shape, bool)
    weights = RANDOM.random(len(change)) + 0.1
    assert response_matrix(change, move, known, weights) == pytest.approx(answer)


def test_requests_up_and_down_do_not_cancel_in_the_response():
    """Plain means of move and change would both be 0 here."""
    change = np.array([[0.4, 0.0], [-0.4, 0.0]])
    move = np.array([[0.2, 0.1], [-0.2, -0.1]])
    found = response_matrix(change, move, np.ones((2, 2), bool), np.ones(2))
    assert found[0].tolist() == pytest.approx([0.5, 0.25])
    assert np.isnan(found[1]).all()


def test_responses_weigh_rows_and_skip_what_is_not_known():
    change = np.array([[0.5, 0.0], [0.5, 0.0], [0.5, 0.0]])
    move = np.array([[0.5, 0.1], [0.0, 0.3], [9.0, 9.0]])
    known = np.array([[True, True], [True, True], [False, True]])
    found = response_matrix(change, move, known, np.array([3.0, 1.0, 5.0]))
    assert found[0].tolist() == pytest.approx([0.75, 0.3])


def test_the_side_of_a_matrix_against_its_target():
    assert side_to_target(np.eye(3)) == 0
    assert side_to_target(np.array([[3.0, np.nan], [2.0, 4.0]])) == pytest.approx(0.4)
    assert np.isnan(side_to_target(np.zeros((2, 2))))


# Requests


def test_requests_with_and_against_a_correlation():
    correlation = np.array([[1.0, 0.5, -0.2], [0.5, 1.0, np.nan], [-0.2, np.nan, 1.0]])
    change = np.array([[0.1, 0.7, 0.0], [0.1, -0.7, 0.0], [0.2, 0.0, 0.2], [0.3, 0.0, 0.0]])
    assert along_correlation(change, correlation).tolist() == [0.5, -0.5, -0.2, 0.0]


def test_cells_hold_the_rows_that_ask_for_them():
    change = np.array([[0.1, 0.0, -0.2], [0.3, 0.0, 0.2], [-0.5, 0.0, 0.0]])
    found = {pattern: rows.tolist() for pattern, rows in request_cells(change)}
    assert found == {
        ((0, 1),): [True, True, False],
        ((0, -1),): [False, False, True],
        ((2, 1),): [False, True, False],
        ((2, -1),): [True, False, False],
        ((0, 1), (2, 1)): [False, True, False],
        ((0, 1), (2, -1)): [True, False, False],
    }
