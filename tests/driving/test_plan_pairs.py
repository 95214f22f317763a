"""Comparisons of plans: nothing of a style wins over a safety gate, whatever builds them."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driving.tuned_plans import TunablePlans
from driving.tuning import TunedPlans
from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.context_swaps import ContextSwaps
from personalize.preference_optimization.extremes import BestAgainstWorst, PairsByReward
from personalize.preference_optimization.near_misses import NearMisses
from personalize.preference_optimization.target_pairs import Drawn
from personalize.preference_optimization.tunable import TRAINING
from tests.driving.planning_artifacts import write_planning_artifacts
from tests.driving.planning_checkpoint import write_random_planner

SCORE, STYLE = {"pdms": 1.0, "style_match": 1.0}, {"style_match": 1.0}
OF_STYLE = (BestAgainstWorst(STYLE), PairsByReward(STYLE), ContextSwaps(STYLE))
OF_SAFETY = (
    NearMisses(SCORE),
    NearMisses(SCORE, choice=Drawn()),
    NearMisses(SCORE, fails_below=float("inf"), choice=Drawn()),
)


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> TunablePlans:
    paths = write_planning_artifacts(tmp_path_factory.mktemp("pairs"))
    checkpoint = write_random_planner(tmp_path_factory.mktemp("runs") / "diffusion", paths)
    return TunedPlans(checkpoint=checkpoint, moments=4, swaps=True).open()


@pytest.fixture(scope="module")
def candidates(half) -> Candidates:
    return half.candidates(torch.from_numpy(half.contexts(TRAINING)), half.policy, seed=0)


def drawn(candidates: Candidates, seed: int, share: float) -> Candidates:
    """The same plans, of which others pass: a gate is a response's own, under any style."""
    generator = torch.Generator().manual_seed(seed)
    passes = torch.rand(len(candidates.responses), generator=generator) < share
    return dataclasses.replace(candidates, gate=passes[candidates.response])


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_no_winner_fails_a_gate_that_its_loser_passes(candidates, seed: int, share: float):
    made = drawn(candidates, seed, share)
    for builder in (*OF_STYLE, *OF_SAFETY):
        pairs = builder(made, seed=seed).pairs()
        better, worse = made.gate[pairs.better], made.gate[pairs.worse]
        assert not (worse & ~better).any(), builder
        assert torch.equal(made.origin[pairs.better], made.origin[pairs.worse])
        if builder in OF_STYLE:
            assert (better & worse).all(), builder


def test_what_lies_nearest_to_the_target_and_fails_is_the_loser(candidates):
    made = drawn(candidates, 3, 0.6)
    pairs = NearMisses(SCORE)(made).pairs()
    assert len(pairs.better) > 4
    value = made.named("pdms") + made.named("style_match")
    for better, worse in zip(pairs.better.tolist(), pairs.worse.tolist(), strict=True):
        own = (made.context == made.context[better]) & (made.origin == made.origin[better])
        assert bool(own[worse])
        assert value[better] == value[own & made.gate].max()
        failed = own & (~made.gate | ((value < 0.3) & (value < value[better])))
        assert made.distance[worse] == made.distance[failed].min()


def test_a_swapped_style_turns_a_preference_round(candidates, half):
    """Of two plans under two opposed styles the calmer one wins under the calm style."""
    made = dataclasses.replace(candidates, gate=torch.ones_like(candidates.gate))
    pairs = BestAgainstWorst(STYLE)(made).pairs()
    calm, brisk = made.named("calm"), made.named("brisk")
    for better, worse in zip(pairs.better.tolist(), pairs.worse.tolist(), strict=True):
        own = calm if int(made.context[better]) % 2 == 0 else brisk
        assert own[better] > own[worse]
