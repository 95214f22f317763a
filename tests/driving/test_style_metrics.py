"""Measures of style against scipy, scikit-learn, plain loops and numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from sklearn.metrics import balanced_accuracy_score, f1_score

from driving.metrics.style_metrics import (
    keeps_moving,
    kendall_tau,
    mean_discrepancy,
    monotone,
    nearest_centroid,
    response,
    style_recovery,
)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), levels=st.integers(2, 7))
def test_kendall_tau_equals_scipy(seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    requested = random.integers(0, 4, (3, levels)).astype(float)
    measured = random.integers(0, 4, (3, levels)).astype(float)
    values, known = kendall_tau(requested, measured)
    for row in range(3):
        expected = np.asarray(kendalltau(requested[row], measured[row]))[0]
        assert known[row] == (not np.isnan(expected))
        assert values[row] == pytest.approx(expected if known[row] else 0.0)


def test_monotone_allows_ties_and_slack() -> None:
    requested = np.array([[-1.0, 0.0, 1.0]] * 4)
    measured = np.array([[1.0, 1.0, 2.0], [1.0, 0.95, 2.0], [3.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    assert monotone(requested, measured).tolist() == [True, False, False, True]
    assert monotone(requested, measured, slack=0.1).tolist() == [True, True, False, True]
    assert monotone(requested[:, ::-1], measured[:, ::-1]).tolist() == [True, False, False, True]


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_recovery_equals_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    requested = np.sort(random.integers(0, 3, 20))
    recognised = random.integers(0, 3, 20)
    found = style_recovery(requested, recognised)
    assert found.macro_f1 == pytest.approx(f1_score(requested, recognised, average="macro"))
    if len(np.unique(requested)) == 3:
        assert found.balanced_accuracy == pytest.approx(
            balanced_accuracy_score(requested, recognised)
        )


def test_always_normal_recovers_a_third_however_common_normal_is() -> None:
    requested = np.array([1] * 80 + [2] * 15 + [0] * 5)
    found = style_recovery(requested, np.ones_like(requested))
    assert found.balanced_accuracy == pytest.approx(1 / 3)
    assert found.macro_f1 == pytest.approx(2 * 80 / 180 / 3)
    assert found.confusion.tolist() == [[0, 5, 0], [0, 80, 0], [0, 15, 0]]


def test_nearest_centroid_weighs_features_by_their_spread() -> None:
    features = np.array([[0.0, 0.0], [0.2, 90.0], [1.0, 10.0], [1.2, 100.0]])
    labels = np.array([0, 0, 2, 2])
    asked = np.array([[0.3, 80.0], [0.9, 40.0], [0.6, 50.0]])
    assert nearest_centroid(features, labels, asked).tolist() == [0, 2, 0]


def test_discrepancy_equals_a_double_loop() -> None:
    random = np.random.default_rng(1)
    first, second = random.normal(0, 1, (5, 2)), random.normal(1, 1, (8, 2))
    found = mean_discrepancy(first, second, permutations=50)
    rows = np.concatenate([first, second])
    distances = [np.linalg.norm(rows[i] - rows[j]) for i in range(13) for j in range(i)]
    width = np.median(distances)

    def mean_kernel(one: np.ndarray, other: np.ndarray, *, same: bool) -> float:
        values = [
            np.exp(-(np.linalg.norm(a - b) ** 2) / (2 * width**2))
            for i, a in enumerate(one)
            for j, b in enumerate(other)
            if not (same and i == j)
        ]
        return float(np.mean(values))

    expected = (
        mean_kernel(first, first, same=True)
        + mean_kernel(second, second, same=True)
        - 2 * mean_kernel(first, second, same=False)
    )
    assert found.bandwidth == pytest.approx(width)
    assert found.squared == pytest.approx(expected)


def test_discrepancy_tells_samples_apart_and_is_fair_where_they_are_alike() -> None:
    random = np.random.default_rng(2)
    first, far = random.normal(0, 1, (40, 3)), random.normal(1, 1, (30, 3))
    assert mean_discrepancy(first, far).p_value == pytest.approx(1 / 501)
    assert mean_discrepancy(first, far) == mean_discrepancy(first, far)
    p_values = [
        mean_discrepancy(*np.split(random.normal(0, 1, (25, 2)), [10]), permutations=99).p_value
        for _ in range(200)
    ]
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.06)
    same = np.ones((4, 1))
    assert mean_discrepancy(same, same).p_value == 1.0


def test_keeps_moving_by_hand() -> None:
    progress = np.array([4.0, 3.9, 0.0, 0.0, 0.0])
    expert = np.array([20.0, 20.0, 0.0, 0.5, 0.51])
    assert keeps_moving(progress, expert).tolist() == [True, False, True, True, False]


def test_response_finds_the_slopes_under_scene_levels() -> None:
    random = np.random.default_rng(3)
    slopes = np.array([[2.0, 0.5, 0.0], [0.0, -1.0, 1.0], [0.3, 0.0, 0.0]])
    scenes = np.repeat(np.arange(6), 5)
    requested = random.uniform(-1, 1, (30, 3))
    measured = requested @ slopes + random.normal(0, 50, (6, 3))[scenes]
    found = response(requested, measured, scenes[::1])
    np.testing.assert_allclose(found.slopes, slopes, atol=1e-9)
    assert found.side_effects[:2] == pytest.approx([0.125, 0.5])
    assert found.side_effects[2] > 1e6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: style_recovery(np.zeros(0, int), np.zeros(0, int)), "at least one row"),
        (lambda: style_recovery(np.array([0]), np.array([3])), "styles must be 0 to 2"),
        (lambda: mean_discrepancy(np.zeros((1, 1)), np.zeros((3, 1))), "need two rows"),
        (
            lambda: response(np.eye(4)[:, :2] * 0, np.zeros((4, 2)), np.zeros(4, int)),
            "only 0 can be told apart",
        ),
    ],
)
def test_refuses(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
