"""What tuning changed, against differences done by hand."""

import numpy as np
import pytest

from personalize.evaluation.intervals import Interval
from personalize.preference_optimization.tunable import Evaluation
from personalize.tuning.outcome import outcome, outcome_text, verdict


@pytest.mark.parametrize(
    ("low", "high", "lower", "said"),
    [
        (0.1, 0.3, False, "better"),
        (0.1, 0.3, True, "worse"),
        (-0.3, -0.1, False, "worse"),
        (-0.3, -0.1, True, "better"),
        (-0.1, 0.2, False, "no difference shown"),
        (0.0, 0.2, True, "no difference shown"),
    ],
)
def test_a_verdict_needs_the_whole_interval(low, high, lower, said):
    interval = Interval((low + high) / 2, low, high, rows=5)
    assert verdict(interval, lower_is_better=lower) == said


def evaluation(match: list[float], crash: list[float]) -> Evaluation:
    values = {"match": np.array(match), "crash": np.array(crash)}
    return Evaluation(values, "match", ["a", "a", "b", "b"], frozenset({"crash"}))


def test_changes_are_paired_and_what_has_no_value_is_counted():
    before = evaluation([0.1, 0.2, np.nan, 0.4], [1.0, 1.0, 1.0, 1.0])
    after = evaluation([0.3, 0.4, 0.9, 0.6], [0.0, 0.0, 0.0, 0.0])
    found = outcome(before, after)
    match, crash = found["measures"]["match"], found["measures"]["crash"]
    assert match["difference"]["mean"] == pytest.approx(0.2)
    assert (match["contexts"], match["without_value"]) == (3, 1)
    assert match["groups"]["a"] == {"contexts": 2, "before": 0.15000000000000002, "after": 0.35}
    assert match["verdict"] == crash["verdict"] == "better"
    text = outcome_text(found)
    assert text.splitlines()[1].startswith("match")
    assert "worst group a 0.1500 -> a 0.3500" in text
    assert "crash" in text


def test_what_nobody_measured_is_said():
    none = [np.nan] * 4
    found = outcome(evaluation([0.1] * 4, none), evaluation([0.1] * 4, none))
    assert found["measures"]["crash"]["verdict"] == "not measured"
    assert "not measured in any context" in outcome_text(found)


def test_other_contexts_are_refused():
    other = Evaluation({"match": np.zeros(4)}, "match", ["a"] * 4)
    with pytest.raises(ValueError, match="must measure the same in the same contexts"):
        outcome(evaluation([0.1] * 4, [0.0] * 4), other)
