"""Every half obeys the laws of the slot; and a half that breaks one is caught."""

import numpy as np
import pytest

from personalize.evaluation.steerable import REPORTED, Outcome
from personalize.steering.chain import Chain, Lookahead, Telling
from tests.personalize.evaluation import steerable_laws as laws
from tests.personalize.steerability.toy_half import Toy

CHAIN = Chain(telling=Telling(0.3), lookahead=Lookahead(0.5))
LAWS = (
    laws.shapes_fit,
    laws.the_same_question_has_the_same_answer,
    laws.contexts_do_not_influence_each_other,
    laws.neutral_is_no_chain,
)


@pytest.mark.parametrize("law", LAWS)
def test_the_toy_obeys(law):
    law(Toy(), CHAIN)


def test_the_toy_keeps_its_splits_apart():
    laws.splits_share_nothing(Toy())


class Crowded(Toy):
    """Rows of a batch pull each other along."""

    def generate(self, contexts, goals, chain, *, seed=0):
        found = super().generate(contexts, goals, chain, seed=seed)
        return Outcome(found.raw + len(contexts), found.mask, found.quality, 1.0, 1.0)


class Moody(Toy):
    """Draws without the seed."""

    mood = np.random.default_rng(0)

    def generate(self, contexts, goals, chain, *, seed=0):
        found = super().generate(contexts, goals, chain, seed=seed)
        return Outcome(found.raw + self.mood.random(), found.mask, found.quality, 1.0, 1.0)


class Eager(Toy):
    """Follows goals without a chain."""

    def generate(self, contexts, goals, chain, *, seed=0):
        return super().generate(contexts, goals, chain or CHAIN, seed=seed)


class Unknowing(Toy):
    """Says it could measure what it could not."""

    def generate(self, contexts, goals, chain, *, seed=0):
        found = super().generate(contexts, goals, chain, seed=seed)
        return Outcome(found.raw * np.nan, np.ones(found.mask.shape, bool), found.quality, 1.0, 1.0)


@pytest.mark.parametrize(
    ("half", "law"),
    [
        (Crowded, laws.contexts_do_not_influence_each_other),
        (Moody, laws.the_same_question_has_the_same_answer),
        (Eager, laws.neutral_is_no_chain),
        (Unknowing, laws.shapes_fit),
    ],
)
def test_a_half_that_breaks_a_law_is_caught(half, law):
    with pytest.raises(AssertionError):
        law(half(), CHAIN)


def test_splits_that_share_a_context_are_caught():
    shared = Toy(overlap=1)
    assert set(shared.contexts(REPORTED).tolist()) & {119}
    with pytest.raises(AssertionError):
        laws.splits_share_nothing(shared)
