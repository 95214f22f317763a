"""Surrogates by hand, as identities, and against exact expectations of a tabular policy."""

import math

import pytest
import torch

from personalize.preference_optimization.policy import Drawn
from personalize.preference_optimization.surrogates import (
    Clipped,
    ClippedWeight,
    EarlyClipped,
    PairwiseJoint,
    PairwiseSeparate,
    Reinforce,
    SequenceClipped,
)
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy
from personalize.rewards.advantage import LeaveOneOutScale, SumThenNormalize
from personalize.rewards.combination import Parts


def slope(surrogate, new, old, advantage) -> torch.Tensor:
    leaf = new.clone().requires_grad_()
    surrogate(leaf, old, advantage).sum(-1).mean().backward()
    return leaf.grad


def one_step(surrogate, ratio: float, advantage: float) -> tuple[float, float]:
    """Loss and slope of one response of one step."""
    new = torch.tensor([[[math.log(ratio)]]], dtype=torch.float64)
    gain = torch.tensor([[advantage]], dtype=torch.float64)
    loss = surrogate(new, torch.zeros_like(new), gain).item()
    return loss, slope(surrogate, new, torch.zeros_like(new), gain).item()


@pytest.mark.parametrize(
    ("surrogate", "ratio", "advantage", "loss", "gradient"),
    [
        (Clipped(), 1.1, 2.0, -2.2, -2.2),
        (Clipped(), 1.5, 2.0, -2.4, 0.0),
        (Clipped(high=0.28), 1.25, 2.0, -2.5, -2.5),
        (Clipped(), 0.5, 2.0, -1.0, -1.0),
        (Clipped(), 0.5, -2.0, 1.6, 0.0),
        (Clipped(), 5.0, -2.0, 10.0, 10.0),
        (Clipped(dual=3.0), 5.0, -2.0, 6.0, 0.0),
        (Clipped(dual=3.0), 2.0, -2.0, 4.0, 4.0),
        (Clipped(dual=3.0), 5.0, 2.0, -2.4, 0.0),
        (EarlyClipped(), 5.0, -2.0, 2.6, 2.6),
        (EarlyClipped(), 1.25, -2.0, 2.5, 2.5),
        (EarlyClipped(), 5.0, 2.0, -2.4, 0.0),
        (EarlyClipped(), 0.5, -2.0, 1.6, 0.0),
        (EarlyClipped(high=0.4, margin=0.6), 5.0, -2.0, 4.0, 4.0),
        (SequenceClipped(), 1.5, 2.0, -2.4, 0.0),
    ],
)
def test_clips_by_hand(surrogate, ratio, advantage, loss, gradient):
    found = one_step(surrogate, ratio, advantage)
    assert found == pytest.approx((loss, gradient), abs=1e-12)


def test_the_weight_of_a_step_is_cut_and_its_gradient_kept():
    loss, gradient = one_step(ClippedWeight(most=2.0), 7.0, 3.0)
    assert (loss, gradient) == pytest.approx((-2.0 * 3.0 * math.log(7.0), -6.0))
    assert one_step(ClippedWeight(most=2.0), 1.5, 3.0)[1] == pytest.approx(-4.5)


def test_ratios_of_responses_are_products_or_geometric_means():
    old = torch.zeros(1, 1, 3, dtype=torch.float64)
    new = torch.tensor([[[0.3, -0.1, 0.04]]], dtype=torch.float64)
    gain = torch.tensor([[-1.0]], dtype=torch.float64)
    early = EarlyClipped(high=5.0, margin=0.0)(new, old, gain)
    torch.testing.assert_close(early.sum(-1), torch.full_like(gain, math.exp(0.24)))
    mean = SequenceClipped()(new, old, gain)
    torch.testing.assert_close(mean.sum(-1), torch.full_like(gain, math.exp(0.08)))
    torch.testing.assert_close(
        slope(SequenceClipped(), new, old, gain), torch.full_like(new, math.exp(0.08) / 3)
    )
    by_step = Clipped(5 / 6, 5.0)(new, old, gain)
    torch.testing.assert_close(by_step, new.exp())


def pairs_slowly(ratio: list[float], advantage: list[float], *, joint: bool, limit=0.2) -> float:
    """P3O's loss of a group, pair by pair."""

    def cut(value: float, low: float, high: float) -> float:
        return min(max(value, low), high)

    total, count = 0.0, 0
    for i in range(len(ratio)):
        for j in range(i + 1, len(ratio)):
            lead, both = advantage[i] - advantage[j], ratio[i] * ratio[j]
            if joint:
                u = math.log(ratio[i] / ratio[j])
                total += -0.5 * both * min(lead * u, lead * cut(u, -limit, limit))
            else:
                for one, other, gain in ((i, j, lead), (j, i, -lead)):
                    kept = cut(ratio[one], 1 - limit, 1 + limit)
                    total += -0.5 * ratio[other] * min(gain * ratio[one], gain * kept)
            count += 1
    return total / count


@pytest.mark.parametrize("joint", [True, False])
def test_pairs_by_hand(joint):
    ratio, advantage = [1.05, 0.7, 1.6, 1.0], [0.5, -1.0, 2.0, 0.3]
    surrogate = PairwiseJoint() if joint else PairwiseSeparate()
    new = torch.tensor([[[0.5 * math.log(r)] * 2 for r in ratio]], dtype=torch.float64)
    loss = surrogate(new, torch.zeros_like(new), torch.tensor([advantage], dtype=torch.float64))
    expected = pairs_slowly(ratio, advantage, joint=joint)
    assert loss.sum(-1).mean().item() == pytest.approx(expected)


@pytest.mark.parametrize("surrogate", [PairwiseJoint(), PairwiseSeparate()])
def test_all_pairs_where_nothing_has_moved_are_leave_one_out(surrogate):
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(4, 6, 2, generator=generator, dtype=torch.float64)
    reward = torch.randn(4, 6, 1, generator=generator, dtype=torch.float64)
    parts = Parts(reward, torch.ones(4, 1, dtype=torch.float64))
    left_out = SumThenNormalize(LeaveOneOutScale())(parts)
    by_hand = torch.stack(
        [reward[:, i, 0] - (reward[..., 0].sum(1) - reward[:, i, 0]) / 5 for i in range(6)], 1
    )
    torch.testing.assert_close(left_out, by_hand)
    pairs = slope(surrogate, old, old, reward[..., 0])
    torch.testing.assert_close(pairs, slope(Reinforce(), old, old, left_out))
    centred = reward[..., 0] - reward[..., 0].mean(1, keepdim=True)
    torch.testing.assert_close(pairs, slope(Reinforce(), old, old, centred) * 6 / 5)


@pytest.mark.parametrize("surrogate", [PairwiseJoint(), PairwiseSeparate()])
def test_a_constant_per_context_changes_pairs_by_nothing(surrogate):
    generator = torch.Generator().manual_seed(1)
    old = -torch.rand(8, 4, 2, generator=generator, dtype=torch.float64)
    new = old + 0.1 * torch.randn(8, 4, 2, generator=generator, dtype=torch.float64)
    reward = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    shifted = reward + 20 * torch.randn(8, 1, generator=generator, dtype=torch.float64)

    def change(kind) -> float:
        before, after = slope(kind, new, old, reward), slope(kind, new, old, shifted)
        return ((after - before).norm() / before.norm()).item()

    assert change(surrogate) < 1e-6
    assert change(Reinforce()) >= 1


def expected_slope(policy: TabularPolicy, reward: torch.Tensor) -> torch.Tensor:
    """The gradient of minus the mean reward, summed over every response."""
    loss = -(policy.probabilities * reward).sum(-1).mean()
    return torch.autograd.grad(loss, policy.table)[0]


@pytest.mark.parametrize(
    ("surrogate", "factor"),
    [
        (Reinforce(), 1.0),
        (Clipped(), 1.0),
        (EarlyClipped(), 1.0),
        (SequenceClipped(), 1.0),
        (PairwiseJoint(), 6 / 5),
        (PairwiseSeparate(), 6 / 5),
        (ClippedWeight(), 1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_draws_estimate_the_exact_gradient(surrogate, factor):
    generator = torch.Generator().manual_seed(2)
    policy = TabularPolicy(torch.randn(3, 7, generator=generator))
    reward = torch.randn(3, 7, generator=generator)
    numbers, group = torch.arange(3).repeat(4000), 6
    context = NumberedContexts(numbers)
    uniform = torch.multinomial(policy.probabilities.detach()[numbers], group, replacement=True)
    drawn = Drawn(uniform, policy.log_prob(context, uniform).detach(), sampled=True)
    got = reward[numbers].gather(1, drawn.responses)
    advantage = got - got.mean(1, keepdim=True)
    loss = surrogate(policy.log_prob(context, drawn.responses), drawn.log_prob, advantage)
    found = torch.autograd.grad(loss.sum(-1).mean(), policy.table)[0]
    exact = expected_slope(policy, reward)
    cosine = torch.cosine_similarity(found.flatten(), exact.flatten(), dim=0)
    assert cosine > 0.98
    # a group's own mean as the baseline costs (G - 1) / G of the size; pairs give it back
    size = (found.norm() / exact.norm()).item()
    assert size == pytest.approx(factor * 5 / 6, abs=0.06)


@pytest.mark.parametrize("surrogate", [PairwiseJoint(5.0), PairwiseSeparate(0.99, 50.0)])
def test_pairs_correct_for_another_policy_having_drawn(surrogate):
    generator = torch.Generator().manual_seed(3)
    policy = TabularPolicy(torch.randn(1, 4, generator=generator, dtype=torch.float64))
    reward = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    other = (policy.table.detach() + torch.tensor([0.4, -0.2, 0.0, -0.3])).log_softmax(-1)[0]
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    new = policy.log_prob(NumberedContexts(torch.zeros(16, dtype=torch.long)), pairs)
    loss = surrogate(new, other[pairs][..., None], reward[0][pairs]).sum(-1).mean(1)
    weight = other[pairs].sum(1).exp()  # every pair as often as the other policy draws it
    found = torch.autograd.grad((weight * loss).sum(), policy.table)[0]
    torch.testing.assert_close(found, expected_slope(policy, reward))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clipped(low=1.0), r"low must lie in \[0, 1\)"),
        (lambda: Clipped(high=-0.1), "high must not be negative"),
        (lambda: Clipped(dual=1.0), "dual must be more than 1, got 1"),
        (lambda: SequenceClipped(low=1.0), r"low must lie in \[0, 1\)"),
        (lambda: EarlyClipped(low=1.0), r"low must lie in \[0, 1\)"),
        (lambda: EarlyClipped(margin=-1.0), "margin must not be negative, got -1"),
        (lambda: PairwiseSeparate(high=-1.0), "high must not be negative"),
        (lambda: PairwiseJoint(0.0), "limit must be positive, got 0"),
        (lambda: ClippedWeight(0.5), "most must be 1 or more, got 0.5"),
    ],
)
def test_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
