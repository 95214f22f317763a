"""Value drift: magnitude and time by hand, and a chance level that chance keeps to."""

import numpy as np
import pytest
import torch

from benchmarks.methods import value_drift
from personalize.evaluation.value_drift import drift_report, value_gap

NAMES = ("cheap", "middling", "dear")


def mass_of(*means: tuple[float, float, float], contexts: int = 4) -> np.ndarray:
    return np.repeat(np.array(means)[:, None], contexts, axis=1)


def test_magnitude_and_time_by_hand():
    mass = mass_of((0.5, 0.3, 0.2), (0.1, 0.5, 0.4), (0.2, 0.3, 0.5))
    report = drift_report(mass, np.array([10, 20, 50]), NAMES)
    cheap, middling, dear = report.categories
    assert cheap.first == 0.5
    assert cheap.change.mean == pytest.approx(-0.3)
    assert (cheap.magnitude, cheap.time) == (pytest.approx(0.4), 0.25)
    assert (middling.magnitude, middling.time) == (pytest.approx(0.2), 0.25)
    assert middling.change.mean == pytest.approx(0)
    assert (dear.magnitude, dear.time) == (pytest.approx(0.3), 1.0)
    assert report.total == pytest.approx((0.3 + 0.0 + 0.3) / 2)


def test_a_move_that_all_contexts_make_is_drift_and_noise_is_not():
    generator = np.random.default_rng(0)
    first = generator.dirichlet(np.ones(3), 200)
    noisy = generator.dirichlet(np.ones(3), 200)
    still = drift_report(np.stack([first, noisy]), np.array([0, 1]), NAMES)
    assert still.total < still.noise
    assert still.p_value > 0.05
    assert not any(one.drifted for one in still.categories)
    moved = 0.7 * noisy + 0.3 * np.array([0.0, 0.0, 1.0])
    report = drift_report(np.stack([first, moved]), np.array([0, 1]), NAMES)
    assert report.total > report.noise
    assert report.p_value < 0.01
    assert [one.drifted for one in report.categories] == [True, True, True]
    assert report.categories[2].change.low > 0


def test_chance_is_kept_to():
    generator = np.random.default_rng(1)
    alarms = 0
    for seed in range(60):
        mass = generator.dirichlet(np.ones(4), (2, 50))
        found = drift_report(mass, np.array([0, 1]), list("abcd"), resamples=300, seed=seed)
        alarms += found.p_value <= 0.05
    assert alarms <= 8


def test_order_of_contexts_is_irrelevant():
    mass = np.random.default_rng(2).dirichlet(np.ones(3), (3, 20))
    one, other = (
        drift_report(found, np.arange(3), NAMES) for found in (mass, mass[:, ::-1].copy())
    )
    assert other.total == pytest.approx(one.total)
    assert [c.magnitude for c in other.categories] == pytest.approx(
        [c.magnitude for c in one.categories]
    )


def test_the_value_gap_by_hand():
    gap = value_gap(np.array([2, 2, 0, 1]), np.array([0, 0, 0, 2]), NAMES)
    assert [gap[name].mean for name in NAMES] == [-0.5, 0.25, 0.25]
    assert gap["cheap"].rows == 4
    assert value_gap(
        np.array([2, 2]), np.array([0, 0]), NAMES, contexts=np.array([5, 5])
    )["dear"].rows == 1  # fmt: skip


def test_pairs_of_the_experiment_have_the_gaps_it_says():
    generator = torch.Generator().manual_seed(0)
    for kind, maker in value_drift.MAKERS.items():
        lists = maker(600, 1, generator)
        assert lists.shape == (600, 2)
        assert (lists[:, 0] != lists[:, 1]).all()
        winner, loser = (value_drift.CATEGORY[lists[:, place]].numpy() for place in (0, 1))
        gap = value_gap(winner, loser, value_drift.CATEGORIES)
        means = [gap[name].mean for name in value_drift.CATEGORIES]
        if kind == "gap":
            assert means == [0, 1, -1]
        else:
            assert means == pytest.approx([0, 0, 0], abs=0.1)
        if kind == "one category":
            assert (winner == loser).all()
        if kind in ("one category", "any category"):
            assert (lists[:, 0] // 3 > lists[:, 1] // 3).all()


@pytest.mark.parametrize(
    ("mass", "steps", "message"),
    [
        (mass_of((0.5, 0.3, 0.2)), [0], "2 policies or more and of 3 categories, got 1 and 3"),
        (mass_of((0.5, 0.3, 0.2), (1, 0, 0))[..., :2], [0, 1], "got 2 and 2"),
        (mass_of((0.5, 0.3, 0.2), (1, 0, 0)), [3, 3], "steps must grow"),
    ],
)
def test_what_does_not_fit_is_refused(mass, steps, message):
    with pytest.raises(ValueError, match=message):
        drift_report(mass, np.array(steps), NAMES)
