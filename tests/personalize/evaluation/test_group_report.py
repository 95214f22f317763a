"""The group report: means, who pays, and how much of a gap is chance."""

import numpy as np
import pytest

from personalize.evaluation.group_report import group_report
from personalize.evaluation.intervals import bootstrap_interval

RANDOM = np.random.default_rng(5)


def test_groups_the_worst_and_the_gap_by_hand():
    utilities = np.array([1.0, 3.0, 10.0, 20.0, 30.0, 4.0, 6.0])
    report = group_report(utilities, ["b", "b", "c", "c", "c", "a", "a"])
    assert [one.name for one in report.groups] == ["a", "b", "c"]
    assert [one.utility.mean for one in report.groups] == [5.0, 2.0, 20.0]
    assert [one.utility.rows for one in report.groups] == [2, 2, 3]
    assert report.worst == "b"
    assert report.worst_utility.mean == 2.0
    assert report.gap.mean == 18.0
    assert report.groups[0].change is None
    assert report.pays == ()


def test_intervals_of_the_groups_are_those_of_their_own_people():
    utilities = RANDOM.normal(size=60)
    groups = np.where(np.arange(60) < 15, "few", "many")
    report = group_report(utilities, groups.tolist(), resamples=500, seed=3)
    assert report.groups[0].utility == bootstrap_interval(utilities[:15], resamples=500, seed=3)
    few, many = (one.utility.high - one.utility.low for one in report.groups)
    assert few > many


def test_with_two_far_groups_the_least_is_the_lower_ones():
    utilities = np.concatenate([RANDOM.normal(0, 1, 50), RANDOM.normal(9, 1, 50)])
    report = group_report(utilities, ["low"] * 50 + ["up"] * 50)
    own = report.groups[0].utility
    assert report.worst_utility.low == pytest.approx(own.low, abs=0.05)
    assert report.worst_utility.high == pytest.approx(own.high, abs=0.05)
    assert 8 < report.gap.low < report.gap.mean < report.gap.high < 10


def test_who_pays_is_who_lost_for_certain():
    before = RANDOM.normal(size=90)
    change = np.repeat([-1.0, 1.0, 0.0], 30) + RANDOM.normal(0, 0.5, 90) * np.repeat([1, 1, 3], 30)
    groups = ["minority"] * 30 + ["majority"] * 30 + ["rest"] * 30
    report = group_report(before + change, groups, before=before)
    changes = {one.name: one.change for one in report.groups}
    assert changes["minority"] is not None
    assert changes["minority"].mean == pytest.approx(change[:30].mean())
    assert report.pays == ("minority",)


def test_a_gap_of_random_groups_is_what_chance_makes():
    p_values = []
    for seed in range(25):
        random = np.random.default_rng(seed)
        groups = random.choice(["x", "y", "z"], 60).tolist()
        report = group_report(random.normal(size=60), groups, resamples=100)
        assert report.gap.mean > 0
        p_values.append(report.gap_p_value)
    assert np.mean(np.array(p_values) < 0.1) < 0.3
    assert 0.3 < np.mean(p_values) < 0.7
    real = group_report(
        np.repeat([0.0, 1.0], 20) + RANDOM.normal(0, 0.2, 40), ["x"] * 20 + ["y"] * 20
    )
    assert real.chance_gap < 0.3
    assert real.gap_p_value == pytest.approx(1 / 2001)


def test_the_order_of_people_and_the_seed_change_little():
    utilities = RANDOM.normal(size=40)
    groups = np.array(["x", "y"] * 20)
    shuffled = RANDOM.permutation(40)
    one = group_report(utilities, groups.tolist())
    two = group_report(utilities[shuffled], groups[shuffled].tolist())
    assert one.gap.mean == pytest.approx(two.gap.mean)
    assert one.gap.low == pytest.approx(two.gap.low, abs=0.05)
    assert group_report(utilities, groups.tolist()) == one


def test_what_has_no_groups_is_refused():
    with pytest.raises(ValueError, match="one entry per person"):
        group_report(np.ones(3), ["a", "b"])
    with pytest.raises(ValueError, match="one entry per person"):
        group_report(np.ones(4), ["a", "a", "b", "b"], before=np.ones(3))
    with pytest.raises(ValueError, match="at least two groups, got 1"):
        group_report(np.ones(3), ["a", "a", "a"])
    with pytest.raises(ValueError, match="at least two people, b has one"):
        group_report(np.ones(3), ["a", "a", "b"])
