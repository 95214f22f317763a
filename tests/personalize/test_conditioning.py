"""Conditioning vectors by hand."""

import numpy as np
import pytest

from personalize.conditioning.attributes import Attributes
from personalize.conditioning.mixture import Mixture
from personalize.conditioning.statement import Statement
from personalize.conditioning.vector import ConditioningVector
from personalize.preferences.record import Preference

VECTORS = {"a": [1.0, 0.0], "b": [0.0, 1.0], "minus a": [-1.0, 0.0]}


def vectors_of(texts):
    return np.array([VECTORS[text] for text in texts])


def preference(text, polarity, strength, confidence=1.0, aspect="size"):
    return Preference(
        subject_id=0, valid_from=0, text=text, polarity=polarity, aspect=aspect, strength=strength,
        confidence=confidence, evidence=(), extractor="test", extractor_version="1",
    )  # fmt: skip


def test_attributes_are_signed_strengths_weighted_by_confidence():
    stated = [
        preference("a", "like", 0.8, 0.75),
        preference("b", "avoid", 0.4, 0.25),
        preference("b", "avoid", 0.5, 1.0, aspect="noise"),
        preference("b", "like", 1.0, 1.0, aspect="unlisted"),
    ]
    found = Attributes(("noise", "price", "size")).encode(stated)
    assert found.values.tolist() == pytest.approx([-0.5, 0.0, 0.8 * 0.75 - 0.4 * 0.25])
    assert found.mask.tolist() == [True, False, True]


def test_opposite_statements_cancel_but_stay_stated():
    stated = [preference("a", "like", 0.6), preference("a", "avoid", 0.6)]
    found = Attributes(("size",)).encode(stated)
    assert (found.values.tolist(), found.mask.tolist()) == ([0.0], [True])


def test_a_mixture_keeps_likes_and_avoids_apart():
    stated = [preference("a", "like", 0.8), preference("b", "like", 0.6, 1.0)]
    found = Mixture(vectors_of, 2).encode(stated)
    assert found.values.tolist() == pytest.approx([0.8, 0.6, 0.0, 0.0])
    assert found.mask.tolist() == [True, True, False, False]
    both = Mixture(vectors_of, 2).encode([*stated, preference("b", "avoid", 0.1)])
    assert both.values.tolist() == pytest.approx([0.8, 0.6, 0.0, 1.0])
    assert both.mask.all()


def test_vectors_that_cancel_leave_nothing():
    stated = [preference("a", "like", 0.5), preference("minus a", "like", 0.5)]
    assert not Mixture(vectors_of, 2).encode(stated).mask.any()


def test_a_statement_says_the_strongest_first_and_not_more_than_asked():
    stated = [
        preference("b", "like", 0.2),
        preference("a", "avoid", 0.9),
        preference("c", "like", 0.0),
    ]
    assert Statement(vectors_of, 2).text(stated) == "a. b."
    assert Statement(vectors_of, 2, most=1).text(stated) == "a."
    VECTORS["a."] = VECTORS["a"]
    found = Statement(vectors_of, 2, most=1).encode(stated)
    assert (found.values.tolist(), found.mask.all()) == ([1.0, 0.0], True)


def test_what_is_no_vector_is_refused():
    one, yes = np.ones(1, np.float32), np.ones(1, np.bool_)
    with pytest.raises(ValueError, match="values and mask must be equally long, got 1 and 2"):
        ConditioningVector(one, np.ones(2, np.bool_))
    with pytest.raises(ValueError, match="values must be finite"):
        ConditioningVector(one * np.nan, yes)
    with pytest.raises(ValueError, match="values must be 0 where the mask is false"):
        ConditioningVector(one, ~yes)
    with pytest.raises(ValueError, match="aspects must be distinct and at least one"):
        Attributes(("size", "size"))
    with pytest.raises(ValueError, match="aspects must be distinct and at least one"):
        Attributes(())
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        Statement(vectors_of, 2, most=0)
