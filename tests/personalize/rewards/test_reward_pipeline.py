"""The pipeline: a gate that fails is never an advantage, whatever else is chosen."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personalize.rewards.advantage import NormalizeThenSum, NoScale, SumThenNormalize
from personalize.rewards.combination import (
    LexicographicRank,
    LowestGate,
    Separate,
    WeightedSum,
    WorstReward,
    ZeroGate,
)
from personalize.rewards.pipeline import RewardPipeline
from personalize.rewards.self_play import (
    LogisticWins,
    MajorityWins,
    RankedWins,
    SkewSymmetricWins,
)
from personalize.rewards.shaping import (
    ClippedShaping,
    LogSigmoidShaping,
    PolynomialShaping,
    PreferenceAsReward,
    StandardizedShaping,
    TanhShaping,
    UnitRangeShaping,
    Unshaped,
)

COMBINATIONS = [Separate((2.0, 0.5)), WeightedSum(), WorstReward(), LexicographicRank((0.3, 0.0))]
SHAPINGS = [
    Unshaped(),
    PreferenceAsReward(),
    TanhShaping(),
    PolynomialShaping(),
    LogSigmoidShaping(),
    StandardizedShaping(),
    ClippedShaping(),
    UnitRangeShaping(),
]
ADVANTAGES = [NormalizeThenSum(), SumThenNormalize(), SumThenNormalize(NoScale())]
GATINGS = [LowestGate(), LowestGate(0.0), ZeroGate()]
EVERY = [
    *(RewardPipeline(*parts) for parts in itertools.product(COMBINATIONS, SHAPINGS)),
    *(RewardPipeline(advantage=advantage) for advantage in ADVANTAGES),
    *(RewardPipeline(gating=gating) for gating in GATINGS),
    *(RewardPipeline(gating=gating, shaping=PreferenceAsReward()) for gating in GATINGS),
    *(RewardPipeline(gating=gating, failure_weight=3.0) for gating in GATINGS),
    *(
        RewardPipeline(self_play=play, gating=gating)
        for play in (LogisticWins(), MajorityWins(), RankedWins((0.2, 0.0)), SkewSymmetricWins())
        for gating in GATINGS
    ),
]


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.1, 3.0, 100.0]))
def test_failing_a_gate_is_never_better_than_passing(seed, size):
    reward, reference = size * drawn(seed, 3, 6, 2), size * drawn(seed + 1, 3, 2, 2)
    gate = drawn(seed + 2, 3, 6) > 0
    gate[0] = False
    reward[~gate] += 5 * size  # who fails looks best
    for pipeline in EVERY:
        found = pipeline(reward, gate, reference)
        assert found.isfinite().all()
        for row in range(3):
            failing, passing = found[row, ~gate[row]], found[row, gate[row]]
            assert (failing[:, None] <= passing[None]).all(), pipeline
            assert (failing == failing[:1]).all(), pipeline
        assert (found[0] == 0).all(), pipeline


def test_the_order_of_the_parts_by_hand():
    reward = torch.tensor([[[1.0, 3.0], [2.0, 0.0], [50.0, 50.0]]])
    gate, reference = torch.tensor([[True, True, False]]), torch.tensor([[[1.0, 2.0]]])
    pipeline = RewardPipeline(
        WeightedSum(), PreferenceAsReward(), SumThenNormalize(NoScale()), gating=LowestGate(1.0)
    )
    shaped = torch.tensor([4.0 - 3.0, 2.0 - 3.0, 1.0 - 3.0]).sigmoid()
    found = pipeline(reward, gate, reference)[0]
    torch.testing.assert_close(found, shaped - shaped.mean())


def test_ranks_count_the_references_too():
    reward, reference = torch.tensor([[[1.0], [3.0]]]), torch.tensor([[[2.0]]])
    pipeline = RewardPipeline(
        LexicographicRank((0.0,)), PreferenceAsReward(), SumThenNormalize(NoScale())
    )
    shaped = torch.tensor([0.0 - 0.5, 1.0 - 0.5]).sigmoid()
    found = pipeline(reward, torch.ones(1, 2, dtype=torch.bool), reference)[0]
    torch.testing.assert_close(found, shaped - shaped.mean())


def test_self_play_takes_shares_of_wins():
    reward = torch.tensor([[[3.0, 1.0, 2.0], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]])
    pipeline = RewardPipeline(advantage=SumThenNormalize(NoScale()), self_play=MajorityWins())
    found = pipeline(reward, torch.ones(1, 4, dtype=torch.bool), reward[:, :0])[0]
    torch.testing.assert_close(found, torch.tensor([2 / 3, 2 / 3, 2 / 3, 0.0]) - 0.5)


def test_who_fails_loses_in_self_play_whatever_the_comparator_says():
    angle = torch.tensor([0.0, 1.0, 2.0])
    embedding = torch.stack([angle.cos(), angle.sin()], -1)[None]
    gate = torch.tensor([[False, True, True]])
    wins = SkewSymmetricWins()(embedding, embedding)[0]
    assert wins[0, 1] > 0.5 or wins[0, 2] > 0.5
    pipeline = RewardPipeline(
        advantage=SumThenNormalize(NoScale()), self_play=SkewSymmetricWins(), gating=ZeroGate()
    )
    found = pipeline(embedding.clamp_min(0.1), gate, embedding[:, :0])[0]
    kept = SkewSymmetricWins()(embedding.clamp_min(0.1), embedding.clamp_min(0.1))[0]
    share = torch.stack([torch.tensor(0.0), (1 + kept[1, 2]) / 2, (1 + kept[2, 1]) / 2])
    torch.testing.assert_close(found, share - share.mean())


def test_weights_of_the_context_reach_the_sum():
    reward = drawn(0, 2, 4, 2)
    gate, none = torch.ones(2, 4, dtype=torch.bool), reward[:, :0]
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = RewardPipeline(advantage=SumThenNormalize(NoScale()))(reward, gate, none, weights)
    picked = torch.stack([reward[0, :, 0], reward[1, :, 1]])
    torch.testing.assert_close(found, picked - picked.mean(1, keepdim=True))


def test_has_no_gradient_and_says_what_it_needs():
    reward = drawn(0, 1, 3, 1).requires_grad_()
    gate = torch.ones(1, 3, dtype=torch.bool)
    assert not RewardPipeline()(reward, gate, reward[:, :0]).requires_grad
    pipeline = RewardPipeline(shaping=PreferenceAsReward())
    assert pipeline.judges_reference
    assert not RewardPipeline().judges_reference
    with pytest.raises(ValueError, match="reference_reward must not be empty"):
        pipeline(reward, gate, reward[:, :0])
    with pytest.raises(ValueError, match="log_ratio must be given: kl_weight is not 0"):
        RewardPipeline(kl_weight=0.1)(reward, gate, reward[:, :0])
    with pytest.raises(ValueError, match="kl_weight must not be negative, got -1"):
        RewardPipeline(kl_weight=-1.0)
    with pytest.raises(ValueError, match=r"failure_weight must not be negative, got -0\.5"):
        RewardPipeline(failure_weight=-0.5)


def test_the_divergence_is_taken_off_and_no_gate_is_bought_with_it():
    reward, log_ratio = drawn(0, 2, 4, 1), 5 * drawn(1, 2, 4)
    gate, none = torch.ones(2, 4, dtype=torch.bool), reward[:, :0]
    found = RewardPipeline(kl_weight=0.3)(reward, gate, none, None, log_ratio)
    centred = log_ratio - log_ratio.mean(1, keepdim=True)
    torch.testing.assert_close(found, RewardPipeline()(reward, gate, none) - 0.3 * centred)
    gate[:, 2] = False
    log_ratio[:, 2] = -50.0  # the reference would like it much better
    found = RewardPipeline(kl_weight=0.3)(reward, gate, none, None, log_ratio)
    assert (found[:, 2:3] <= found).all()


def test_what_failing_costs_by_hand():
    """One of four fails: it loses three quarters of the weight and the others gain a quarter."""
    reward, gate = torch.tensor([[[1.0], [2.0], [3.0], [9.0]]]), torch.ones(1, 4, dtype=torch.bool)
    gate[0, 3] = False
    advantage = SumThenNormalize(NoScale())
    plain = RewardPipeline(advantage=advantage)(reward, gate, reward[:, :0])
    torch.testing.assert_close(plain, torch.tensor([[1.0, 2.0, 3.0, 0.0]]) - 1.5)
    costly = RewardPipeline(advantage=advantage, failure_weight=8.0)(reward, gate, reward[:, :0])
    torch.testing.assert_close(costly - plain, torch.tensor([[2.0, 2.0, 2.0, -6.0]]))


def test_failing_costs_nothing_where_all_do_alike():
    reward = drawn(0, 3, 5, 2)
    gate = torch.ones(3, 5, dtype=torch.bool)
    gate[1] = False
    plain, costly = (
        RewardPipeline(failure_weight=w)(reward, gate, reward[:, :0]) for w in (0.0, 9.0)
    )
    assert torch.equal(plain, costly)
    assert (costly[1] == 0).all()


@pytest.mark.parametrize("spread", [0.01, 1.0, 100.0])
def test_a_scaled_advantage_forgets_how_bad_failing_is_and_the_cost_does_not(spread):
    """However far a reward is lowered for failing, scales bring it back; the cost stays."""
    reward = spread * torch.tensor([[[0.0], [1.0], [2.0], [3.0]]])
    gate = torch.tensor([[False, True, True, True]])
    found = {
        weight: RewardPipeline(gating=LowestGate(100 * spread), failure_weight=weight)(
            reward, gate, reward[:, :0]
        )
        for weight in (0.0, 10.0)
    }
    assert abs(float(found[0.0][0, 0])) < 2.0
    torch.testing.assert_close(found[10.0][0, 0], found[0.0][0, 0] - 7.5)


def test_the_gradient_of_the_cost_is_that_of_the_expected_failures():
    """Enumerated: `G / (G - 1)` of what groups of `G` give is the exact gradient."""
    logits = torch.tensor([0.3, -0.4, 0.9], dtype=torch.float64, requires_grad=True)
    fails, weight, size = torch.tensor([True, False, False]), 4.0, 2
    pipeline = RewardPipeline(advantage=SumThenNormalize(NoScale()), failure_weight=weight)
    share = logits.softmax(-1)
    (exact,) = torch.autograd.grad(-weight * share[fails].sum(), logits, retain_graph=True)
    total = torch.zeros((), dtype=torch.float64)
    for group in itertools.product(range(3), repeat=size):
        index = torch.tensor(group)
        zero = torch.zeros(1, size, 1, dtype=torch.float64)
        advantage = pipeline(zero, ~fails[index][None], zero[:, :0])
        lowered = RewardPipeline(advantage=SumThenNormalize(NoScale()))(
            zero, ~fails[index][None], zero[:, :0]
        )
        chance = share[index].prod().detach()
        said = share.log()[index] * (advantage - lowered)[0]
        total = total + chance * said.mean()
    (found,) = torch.autograd.grad(total, logits)
    torch.testing.assert_close(found * size / (size - 1), exact)
