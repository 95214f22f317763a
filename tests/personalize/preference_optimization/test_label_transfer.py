"""Labels carried by shape: slow oracles, the missing division, and what symmetry must not hide."""

import itertools
import sys

import numpy as np
import pytest

from data_prep.errors import InputError
from personalize.preference_optimization.label_transfer import (
    Plans,
    Transfer,
    _mismatch,
    distances,
    matched,
    transferred_labels,
)

FEW = Transfer(starts=4)


def plans_of(*plans: np.ndarray, weights: tuple[float, ...] = (1.0,)) -> Plans:
    return Plans(np.stack(plans), np.array(weights), np.zeros(len(plans)))


def cloud(seed: int, count: int = 14, *, symmetric: bool = False) -> np.ndarray:
    draw = np.random.default_rng(seed).normal(size=(count, 3)) * [1.0, 0.7, 0.4]
    if symmetric:
        half = draw[: count // 2]
        return np.concatenate([half, -half])
    return draw + 0.5 * np.maximum(draw[:, :1], 0) ** 2


def copied(points: np.ndarray, seed: int, noise: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """Turned, stretched, shuffled and a little noisy; and which point each one is."""
    draw = np.random.default_rng(seed + 100)
    turn, _ = np.linalg.qr(draw.normal(size=(3, 3)))
    order = draw.permutation(len(points))
    noisy = points + noise * points.std() * draw.normal(size=points.shape)
    return 3 * noisy[order] @ turn, order


def true_labels(utility: np.ndarray) -> np.ndarray:
    return (utility[:, None] > utility[None]) * 1.0


def accuracy(found: np.ndarray, truth: np.ndarray) -> float:
    different = ~np.eye(len(truth), dtype=bool)
    return float(((found > 0.5) == (truth > 0.5))[different].mean())


def test_a_permutation_carries_labels_as_they_are():
    labels = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.6], [0.8, 0.4, 0.5]])
    order = [2, 0, 1]  # target j is source order[j]
    plan = np.zeros((3, 3))
    plan[order, range(3)] = 1 / 3
    found = transferred_labels(plans_of(plan), labels)
    assert found.probability == pytest.approx(labels[np.ix_(order, order)])
    assert found.agreement[~np.eye(3, dtype=bool)] == pytest.approx(1.0)


def test_labels_are_divided_by_the_mass_that_spoke():
    draw = np.random.default_rng(0)
    plan = draw.random((4, 3))
    plan /= plan.sum()
    labels = draw.random((4, 4))
    known = draw.random((4, 4)) < 0.7
    found = transferred_labels(plans_of(plan), labels, known).probability
    raw = np.zeros((3, 3))
    for j, m in itertools.permutations(range(3), 2):
        said = mass = 0.0
        for i, k in itertools.permutations(range(4), 2):
            if known[i, k]:
                said += plan[i, j] * plan[k, m] * labels[i, k]
                mass += plan[i, j] * plan[k, m]
        assert found[j, m] == pytest.approx(said / mass)
        raw[j, m] = said
    assert raw.max() <= 1 / 9  # what is not divided is no probability
    assert np.diag(found) == pytest.approx(0.5)


def test_labels_of_a_pair_are_complements():
    draw = np.random.default_rng(1)
    plan = draw.random((5, 4))
    labels = true_labels(draw.normal(size=5))
    found = transferred_labels(plans_of(plan / plan.sum()), labels).probability
    assert found + found.T == pytest.approx(1.0)


def test_nothing_known_of_a_pair_is_a_coin():
    plan = np.eye(3) / 3
    known = np.zeros((3, 3), dtype=bool)
    known[0, 1] = True
    found = transferred_labels(plans_of(plan), np.ones((3, 3)), known)
    assert found.probability[0, 1] == 1
    assert found.probability[1, 2] == 0.5
    assert found.agreement[1, 2] == 0


def test_plans_that_say_the_opposite_agree_on_nothing():
    labels = true_labels(np.array([3.0, 2.0, 1.0]))
    upright, reversed_ = np.eye(3) / 3, np.eye(3)[::-1] / 3
    both = plans_of(upright, reversed_, weights=(0.75, 0.25))
    found = transferred_labels(both, labels)
    assert found.agreement[0, 1] == pytest.approx(0.5)
    assert found.confidence == pytest.approx(0.5)
    assert found.probability[0, 1] == pytest.approx(0.75)


def test_mismatch_is_the_sum_over_all_pairs():
    draw = np.random.default_rng(2)
    source, target = distances(draw.normal(size=(3, 2))), distances(draw.normal(size=(4, 2)))
    plan, apart = draw.random((3, 4)), draw.random((3, 4))
    plan /= plan.sum()
    slow = sum(
        (source[i, k] - target[j, m]) ** 2 * plan[i, j] * plan[k, m]
        for i, k in itertools.product(range(3), repeat=2)
        for j, m in itertools.product(range(4), repeat=2)
    )
    assert _mismatch(source, target, apart, plan, 0.0) == pytest.approx(slow)
    fused = 0.75 * slow + 0.25 * (apart * plan).sum()
    assert _mismatch(source, target, apart, plan, 0.25) == pytest.approx(fused)


def test_distances_are_at_most_one():
    found = distances(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 2.5]]))
    assert found[0] == pytest.approx([0, 1, 0.5])
    assert (found == found.T).all()
    with pytest.raises(ValueError, match="at least two different rows"):
        distances(np.ones((3, 2)))


def test_a_copy_is_matched_surely_and_a_symmetric_one_is_not():
    for seed in range(2):
        points = cloud(seed)
        copy, order = copied(points, seed)
        utility = points[:, 0]
        plans = matched(distances(points), distances(copy), FEW)
        assert plans.weights.sum() == pytest.approx(1.0)
        found = transferred_labels(plans, true_labels(utility))
        assert accuracy(found.probability, true_labels(utility[order])) > 0.9
        assert found.confidence > 0.7
        assert found.mismatch < 0.15
        points = cloud(seed, symmetric=True)
        copy, order = copied(points, seed)
        plans = matched(distances(points), distances(copy), FEW)
        found = transferred_labels(plans, true_labels(points[:, 0]))
        assert found.confidence < 0.35


def test_an_anchor_tells_the_sides_of_a_symmetric_shape():
    points = cloud(3, symmetric=True)
    copy, order = copied(points, 3)
    anchors = (points[:, :1] / points[:, 0].std(), points[order, :1] / points[:, 0].std())
    settings = Transfer(starts=3, anchor_weight=0.2)
    plans = matched(distances(points), distances(copy), settings, anchors=anchors)
    found = transferred_labels(plans, true_labels(points[:, 0]))
    assert accuracy(found.probability, true_labels(points[order, 0])) > 0.9
    assert found.confidence > 0.8


def test_shapes_that_have_nothing_in_common_match_badly():
    ring = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    circle = np.stack([np.cos(ring), np.sin(ring), 0 * ring], 1)
    line = np.arange(14.0)[:, None] ** 2 * np.ones((1, 3))
    assert matched(distances(circle), distances(line), FEW).mismatch.min() > 0.3


def test_the_same_seed_finds_the_same():
    points = cloud(5, 8)
    copy, _ = copied(points, 5)
    first, second = (
        matched(distances(points), distances(copy), Transfer(starts=2, seed=7)).plans
        for _ in range(2)
    )
    assert (first == second).all()


def test_errors(monkeypatch: pytest.MonkeyPatch):
    for wrong in (
        lambda: Transfer(starts=0),
        lambda: Transfer(smoothing=0.0),
        lambda: Transfer(tolerance=0.0),
    ):
        with pytest.raises(ValueError, match="starts must be at least 1 and smoothing and toler"):
            wrong()
    with pytest.raises(ValueError, match="anchor_weight must be from 0 to below 1, got 1"):
        Transfer(anchor_weight=1.0)
    gaps = distances(cloud(0, 4))
    with pytest.raises(ValueError, match="anchor_weight needs anchors"):
        matched(gaps, gaps, Transfer(anchor_weight=0.5))
    with pytest.raises(ValueError, match="known must tell at least one label"):
        transferred_labels(plans_of(np.eye(2) / 2), np.ones((2, 2)), np.eye(2, dtype=bool))
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(InputError, match=r"personalize\[transport\]"):
        matched(gaps, gaps, FEW)


def test_where_the_shape_tells_nothing_anchors_decide():
    alike, order = 1 - np.eye(6), np.array([3, 0, 5, 1, 4, 2])
    values = np.arange(6.0)[:, None]
    settings = Transfer(starts=1, anchor_weight=0.5)
    plans = matched(alike, alike, settings, anchors=(values, values[order]))
    for plan in plans.plans:
        assert plan.argmax(0).tolist() == order.tolist()
