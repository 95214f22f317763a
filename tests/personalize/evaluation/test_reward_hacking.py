"""Reward hacking: gains in units of before, and a fall that is not chosen and measured at once."""

import numpy as np
import pytest

from personalize.evaluation.reward_hacking import hacking_report

GENERATOR = np.random.default_rng(4)
BASE = GENERATOR.normal(size=200)


def curve(true_gains: list[float], noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    proxy = np.stack([BASE + step for step in range(len(true_gains))])
    moved = GENERATOR.normal(0, noise, (len(true_gains), 200))
    moved[0] = 0
    return proxy, np.stack([BASE + gain for gain in true_gains]) + moved


def test_numbers_by_hand():
    proxy = np.array([[0.0, 2.0, 0.0, 2.0], [4.0, 6.0, 4.0, 6.0]])
    true = np.array([[0.0, 10.0, 0.0, 10.0], [5.0, 15.0, 5.0, 15.0]])
    report = hacking_report(proxy, true, np.array([0.0, 2.0]))
    last = report.points[-1]
    assert (last.proxy.mean, last.true.mean, last.gap.mean) == (4.0, 1.0, 3.0)
    assert report.points[0].gap.mean == 0
    assert [point.kl for point in report.points] == [0, 2]
    assert report.peak_kl == 2
    assert report.fall.mean == 0
    assert not report.over_optimised


def test_a_reward_that_turns_is_over_optimised_from_its_peak():
    report = hacking_report(*curve([0.0, 0.5, 1.0, -0.5]), np.array([0.0, 1.0, 4.0, 9.0]))
    assert report.peak_kl == 4
    scale = BASE.std()
    assert report.fall.mean == pytest.approx(-1.5 / scale, abs=0.05)
    assert report.over_optimised
    gaps = [point.gap.mean for point in report.points]
    assert gaps == pytest.approx([0, 0.5 / scale, 1 / scale, 3.5 / scale], abs=0.05)


def test_luck_alone_is_no_over_optimisation():
    """Ten policies alike: the best of them on some contexts is not better on the others."""
    false_alarms = 0
    for _ in range(30):
        proxy, true = curve([0.0] * 10, noise=1.0)
        false_alarms += hacking_report(proxy, true, np.arange(10.0), resamples=200).over_optimised
    assert false_alarms <= 4


def test_units_are_irrelevant():
    proxy, true = curve([0.0, 1.0])
    kl = np.array([0.0, 1.0])
    one = hacking_report(proxy, true, kl)
    other = hacking_report(100 * proxy + 7, 0.01 * true - 3, kl)
    assert other.points[1].gap.mean == pytest.approx(one.points[1].gap.mean)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 9), "2 policies and 4 contexts, got 1 and 9"), ((2, 3), "got 2 and 3")],
)
def test_too_little_is_refused(shape, message):
    values = GENERATOR.normal(size=shape)
    with pytest.raises(ValueError, match=message):
        hacking_report(values, values, np.arange(float(shape[0])))


def test_a_reward_that_does_not_vary_is_refused():
    still, moving = np.zeros((2, 6)), GENERATOR.normal(size=(2, 6))
    for proxy, true, name in ((still, moving, "proxy"), (moving, still, "true")):
        with pytest.raises(ValueError, match=f"{name} must vary between contexts"):
            hacking_report(proxy, true, np.arange(2.0))
