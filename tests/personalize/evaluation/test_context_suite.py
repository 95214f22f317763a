"""The context suite: conditions by hand, and a blind score is right on exactly half."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalize.evaluation.context_suite import context_suite

ONE_WAY = np.array(4 * [[1.0, -1.0]])
TRUE = np.array([[1.0, 2.0], [3.0, -1.0], [-1.0, -2.0], [0.5, 0.1]])


def test_conditions_by_hand():
    suite = context_suite({"true": TRUE, "adversarial": -TRUE, "inferred": ONE_WAY})
    assert suite.accuracy["true"].mean == 0.625
    assert suite.accuracy["adversarial"].mean == 0.375
    assert suite.reversal_rate.mean == 0.5
    assert suite.wrong_way.mean == 0.25
    assert suite.specific_error.mean == 0.375
    assert suite.use_of_context is not None
    assert suite.use_of_context.mean == 0.25
    assert suite.inference_error is not None
    assert suite.inference_error.mean == pytest.approx(0.625 - 0.5)
    assert suite.accuracy["true"].rows == 4


@given(st.integers(0, 500))
def test_a_score_that_reads_no_context_is_right_on_half_of_every_reversal(seed: int):
    blind = np.random.default_rng(seed).normal(size=(7, 1)) * np.array([[1.0, -1.0]])
    suite = context_suite({"true": blind, "none": blind, "adversarial": blind})
    for found in suite.accuracy.values():
        assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    assert suite.reversal_rate.mean == suite.wrong_way.mean == 0
    assert suite.use_of_context is not None
    assert suite.use_of_context.mean == 0
    assert suite.inference_error is None


def test_one_that_follows_the_context_whatever_it_says():
    sure = np.ones((5, 2))
    suite = context_suite({"true": sure, "adversarial": -sure})
    assert suite.use_of_context is not None
    assert suite.use_of_context.mean == 1
    assert suite.reversal_rate.mean == 1
    assert suite.specific_error.mean == 0


def test_origins_are_drawn_together():
    suite = context_suite({"true": TRUE}, origins=np.array([1, 1, 2, 2]))
    assert suite.accuracy["true"].rows == 2


@pytest.mark.parametrize(
    ("margins", "message"),
    [
        ({"none": TRUE}, "margins must have the condition true"),
        ({"true": TRUE[:0]}, "with at least one reversal"),
        ({"true": TRUE, "none": TRUE[:2]}, "as many reversals in every condition"),
    ],
)
def test_what_does_not_fit_is_refused(margins, message):
    with pytest.raises(ValueError, match=message):
        context_suite(margins)
