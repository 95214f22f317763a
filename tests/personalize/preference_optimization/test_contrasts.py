"""Contrasts against closed forms written out by hand, and the identities that tie them."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.contrasts import (
    CPL,
    DPO,
    EXO,
    IPO,
    DiscoPOP,
    Hinge,
    Robust,
    SePPO,
)
from personalize.preference_optimization.likelihood_contrasts import CPO, KTO, ORPO, SimPO
from personalize.preference_optimization.list_contrasts import (
    DMPO,
    SDPO,
    OverPairs,
    PlackettLuce,
    PreferenceRanking,
)
from personalize.preference_optimization.score_contrasts import (
    BCO,
    NCA,
    SPPO,
    AlignmentByTransport,
    AnchoredDown,
    AnchoredZero,
)
from personalize.preference_optimization.smoothed_weight import smoothed_weight

BEST, OTHER = (-1.0, -3.5), (-4.0, -2.0)  # (policy, reference) of each; so a = 2.5 and -2
A, B = 2.5, -2.0
NUMBER = st.floats(-8, 8)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pair(steps: float = 1.0, strength: float = 1.0, margin: float = 0.0) -> Scored:
    scored = Scored.of(column(BEST[0], OTHER[0])[None], column(BEST[1], OTHER[1])[None])
    return replace(
        scored,
        steps=steps * torch.ones_like(scored.score),
        strength=column(strength),
        margin=column(margin),
    )


def of(contrast: Contrast, scored: Scored | None = None) -> float:
    return float(contrast(pair() if scored is None else scored))


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def lost(x: float) -> float:
    return -math.log(sigma(x))


@pytest.mark.parametrize(
    ("contrast", "expected"),
    [
        (DPO(), lost(0.1 * 4.5)),
        (DPO(beta=0.5, label_smoothing=0.2), 0.8 * lost(2.25) + 0.2 * lost(-2.25)),
        (DPO(power=0.5), lost(0.1 * (3 - 0.5 * -1.5))),
        (DPO(power=0.0), lost(0.1 * 3)),
        (Hinge(), 1 - 0.45),
        (Hinge(beta=1.0), 0.0),
        (Hinge(beta=1.0, label_smoothing=0.1), 0.1 * 5.5),
        (IPO(), (4.5 - 5) ** 2),
        (IPO(beta=0.5, label_smoothing=0.1), 0.9 * (4.5 - 1) ** 2 + 0.1 * (4.5 + 1) ** 2),
        (Robust(label_smoothing=0.2), (0.8 * lost(0.45) - 0.2 * lost(-0.45)) / 0.6),
        (
            EXO(label_smoothing=0.1),
            sigma(0.45) * math.log(sigma(0.45) / 0.9) + sigma(-0.45) * math.log(sigma(-0.45) / 0.1),
        ),
        (
            DiscoPOP(beta=0.01),
            (1 - sigma(0.9)) * lost(0.045) + sigma(0.9) * math.exp(-0.045),
        ),
        (NCA(), lost(0.25) + lost(-0.25) / 2 + lost(0.2) / 2),
        (BCO(), lost(0.25) + lost(0.2)),
        (SPPO(), (A - 5) ** 2 + (B + 5) ** 2),
        (AnchoredZero(), 1 - sigma(0.25) + sigma(-0.2)),
        (AnchoredDown(), sigma(0.25) + 1 - sigma(0.45)),
        (AlignmentByTransport(), lost(0.1 * (3.0 + 1.5))),
        (CPL(), lost(0.1 * (-1 - 0.5 * -4))),
        (CPL(beta=1.0, conservatism=0.5, uses_reference=True), lost(2.5 + 1)),
        (SePPO(), lost(0.45)),
        (CPO(), lost(0.3) + 1.0),
        (CPO(beta=0.5, alpha=0.0, label_smoothing=0.1), 0.9 * lost(1.5) + 0.1 * lost(-1.5)),
        (SimPO(beta=2.0), lost(6 - 0.5)),
        (SimPO(beta=2.0, gamma=1.0, label_smoothing=0.1), 0.9 * lost(5) + 0.1 * lost(-5)),
        (
            ORPO(),
            1.0
            + 0.1
            * lost(
                math.log(math.exp(-1) / (1 - math.exp(-1)))
                - math.log(math.exp(-4) / (1 - math.exp(-4)))
            ),
        ),
        (SDPO(), lost(0.45)),
        (DMPO(), lost(0.45)),
        (OverPairs(DPO()), lost(0.45)),
        (PreferenceRanking(), lost(3.0) + 0.05 * 1.0),
        (PlackettLuce(), lost(0.45)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Contrast) else "",
)
def test_the_closed_forms(contrast: Contrast, expected: float):
    assert of(contrast) == pytest.approx(expected, abs=1e-12)


def test_three_numbers_worked_on_paper():
    assert of(DPO()) == pytest.approx(0.4932487, abs=1e-6)  # log(1 + exp(-0.45))
    assert of(SPPO()) == pytest.approx(15.25)
    assert of(IPO()) == pytest.approx(0.25)


def test_where_scores_are_averaged_over_steps():
    two = pair(steps=2.0)
    assert of(IPO(), two) == pytest.approx((2.25 - 5) ** 2)
    assert of(IPO(per_step=False), two) == pytest.approx(0.25)
    assert of(DPO(per_step=True), two) == pytest.approx(lost(0.225))
    assert of(DPO(), two) == pytest.approx(lost(0.45))
    assert of(SimPO(beta=2.0), two) == pytest.approx(lost(3 - 0.5))
    assert of(CPO(), two) == pytest.approx(lost(0.3) + 0.5)
    assert of(PreferenceRanking(), two) == pytest.approx(lost(1.5) + 0.05 * 1.0)
    odds = [math.exp(-x) / (1 - math.exp(-x)) for x in (0.5, 2.0)]
    assert of(ORPO(), two) == pytest.approx(0.5 + 0.1 * lost(math.log(odds[0] / odds[1])))


def test_a_margin_is_in_units_of_the_implicit_reward():
    ahead = pair(margin=0.3)
    for contrast in (DPO(), SDPO(), DMPO(), SePPO()):
        assert of(contrast, ahead) == pytest.approx(lost(0.45 - 0.3))
    assert of(SimPO(beta=2.0), ahead) == pytest.approx(lost(6 - 0.8))
    assert of(CPO(alpha=0.0), ahead) == pytest.approx(lost(0.3 - 0.3))
    assert of(CPL(), ahead) == pytest.approx(lost(0.1 - 0.3))
    ready = replace(ahead, logit=column(2.0), logit_weight=column(0.5))
    assert of(DPO(), ready) == pytest.approx(lost(2.0 * 0.5 - 0.3))
    assert of(CPL(), ready) == pytest.approx(lost(2.0 * 0.5 - 0.3))


def test_a_soft_label_turns_score_and_margin_round():
    soft = pair(strength=0.4, margin=0.3)
    assert of(DPO(), soft) == pytest.approx(0.7 * lost(0.15) + 0.3 * lost(-0.15))
    assert of(SePPO(), soft) == pytest.approx(0.7 * lost(0.15) + 0.3 * lost(-0.15))
    forward, backward = 0.1 * (-1 + 2) - 0.3, 0.1 * (-4 + 0.5) + 0.3
    assert of(CPL(), soft) == pytest.approx(0.7 * lost(forward) + 0.3 * lost(backward))
    assert of(BCO(), soft) == pytest.approx(
        0.7 * (lost(0.25) + lost(0.2)) + 0.3 * (lost(-0.2) + lost(-0.25))
    )
    assert of(AlignmentByTransport(), pair(strength=0.4)) == pytest.approx(
        0.7 * lost(0.45) + 0.3 * lost(-0.45)
    )


def test_kto_holds_each_response_to_the_divergence():
    scored = replace(pair(), mismatched=column(0.5)[0])
    desirable, undesirable = 1 - sigma(0.1 * (A - 0.5)), 1 - sigma(0.1 * (0.5 - B))
    assert of(KTO(), scored) == pytest.approx((desirable + undesirable) / 2)
    weighed = KTO(desirable_weight=2.0, undesirable_weight=0.5)
    assert of(weighed, scored) == pytest.approx((2 * desirable + 0.5 * undesirable) / 2)


def test_kto_clamps_the_divergence_and_takes_no_gradient_of_it():
    ratio = column(-3.0).requires_grad_()
    below = replace(pair(), mismatched=ratio[0])
    assert of(KTO(), below) == pytest.approx((1 - sigma(0.25) + 1 - sigma(0.2)) / 2)
    positive = replace(pair(), mismatched=-ratio[0])
    assert not KTO()(positive).requires_grad


def test_kto_says_when_the_divergence_is_missing():
    with pytest.raises(ValueError, match="KTO needs the log-ratio of mismatched responses"):
        KTO()(pair())


def test_transport_sorts_both_sides_and_gives_losses_back_to_their_owners():
    score = column(5.0, 1.0, 3.0)
    scored = Scored.of(
        torch.stack([score, torch.zeros(3).double()], 1),
        torch.stack([column(0.5, 0.2, 0.9), torch.zeros(3).double()], 1),
    )
    expected = [lost(0.1 * (5 - 0.9)), lost(0.1 * (1 - 0.2)), lost(0.1 * (3 - 0.5))]
    assert AlignmentByTransport()(scored).tolist() == pytest.approx(expected)
    unpaired = Scored.of(torch.stack([score, column(2.0, 4.0, -1.0)], 1))
    expected = [lost(0.1 * (5 - 4)), lost(0.1 * (1 + 1)), lost(0.1 * (3 - 2))]
    assert AlignmentByTransport(paired=False)(unpaired).tolist() == pytest.approx(expected)


def test_seppo_pulls_the_other_up_where_the_anchor_is_behind():
    score = torch.tensor([[-5.0, -4.0]], dtype=torch.float64).requires_grad_()
    scored = Scored.of(score, column(-3.5, -2.0)[None])
    loss = SePPO(beta=1.0)(scored)
    assert loss.item() == pytest.approx(lost(-1.5 - 2.0))
    (gradient,) = torch.autograd.grad(loss.sum(), score)
    assert (gradient < 0).all()  # both are raised


@given(NUMBER, NUMBER, NUMBER, NUMBER, st.floats(0.05, 1.0))
def test_the_identities_of_a_pair(best: float, other: float, first: float, second: float, beta):
    scored = Scored.of(column(best, other)[None], column(first, second)[None])
    dpo = DPO(beta)(scored)
    for same in (
        SDPO(beta),
        DMPO(beta),
        OverPairs(DPO(beta)),
        PlackettLuce(beta),
        CPL(beta, conservatism=1.0, uses_reference=True),
        Robust(beta),
        AlignmentByTransport(beta),
    ):
        torch.testing.assert_close(same(scored), dpo)
    certain = replace(scored, strength=column(1.0))  # p = 1
    torch.testing.assert_close(DPO(beta)(certain), dpo)
    free = Scored.of(scored.score)
    torch.testing.assert_close(DPO(beta, power=0.0)(scored), DPO(beta)(free))
    torch.testing.assert_close(CPL(beta, conservatism=1.0)(scored), DPO(beta)(free))
    torch.testing.assert_close(CPO(beta, alpha=0.0)(scored), DPO(beta)(free))
    ranking = PreferenceRanking(imitation=0.0)(replace(scored, grade=column(1.0, 0.0)[None]))
    torch.testing.assert_close(ranking, DPO(1.0)(free))


@given(st.lists(NUMBER, min_size=4, max_size=4), st.floats(0.05, 1.0))
def test_the_weights_of_softmax_dpo_on_its_negatives(scores: list[float], beta: float):
    score = column(*scores)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(SDPO(beta)(Scored.of(score)).sum(), score)
    hard = [math.exp(beta * (one - scores[0])) for one in scores[1:]]
    weights = [one / (1 + sum(hard)) for one in hard]
    expected = [-beta * sum(weights), *(beta * weight for weight in weights)]
    assert gradient[0].tolist() == pytest.approx(expected, abs=1e-6)


@given(NUMBER, NUMBER, st.floats(0.1, 20))
def test_a_shift_of_both_scores_is_free_only_at_conservatism_one(best, other, shift: float):
    scored = Scored.of(column(best, other)[None])
    moved = replace(scored, score=scored.score + shift)
    whole, half = CPL(conservatism=1.0), CPL(conservatism=0.5)
    torch.testing.assert_close(whole(moved), whole(scored))
    assert of(half, moved) < of(half, scored)


def test_no_gradient_where_the_smoothed_weight_is_zero():
    score = torch.tensor([[-1.0, -2.0]] * 3, dtype=torch.float64).requires_grad_()
    weight = smoothed_weight(column(0.5, 0.9, 0.1), column(0.5, 0.1, 0.9))
    loss = DPO()(replace(Scored.of(score), logit_weight=weight))
    (gradient,) = torch.autograd.grad(loss.sum(), score)
    assert (gradient[0] == 0).all()
    assert gradient[1, 0] < 0 < gradient[2, 0]  # raised; lowered, against the label


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_half_of_beta_is_the_gradient_at_margin_zero(beta: float):
    score = torch.full((1, 2), -1.0, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(DPO(beta)(Scored.of(score)).sum(), score)
    assert gradient[0].tolist() == pytest.approx([-beta / 2, beta / 2])


def test_smoothing_may_differ_from_pair_to_pair():
    scored = replace(
        Scored.of(column(1.0, 0.0).expand(3, 2)), strength=1 - 2 * column(0.0, 0.1, 0.3)
    )
    each = [float(DPO(label_smoothing=e)(pairs(scored, 0))) for e in (0.0, 0.1, 0.3)]
    assert DPO()(scored).tolist() == pytest.approx(each)


def pairs(scored: Scored, row: int) -> Scored:
    """One comparison, with its label certain."""
    return Scored.of(scored.score[row : row + 1], scored.reference[row : row + 1])


def test_a_soft_label_is_met_by_its_own_logit():
    margin = column(0.0).requires_grad_()
    zero = torch.zeros(1, dtype=torch.float64)
    target = math.log(0.7 / 0.3)
    for contrast in (DPO(beta=1.0), EXO(beta=1.0, label_smoothing=1e-9)):
        score = torch.stack([margin + target, zero], 1)
        loss = contrast(replace(Scored.of(score), strength=column(0.4))).sum()
        (gradient,) = torch.autograd.grad(loss, margin)
        assert gradient.item() == pytest.approx(0.0, abs=1e-8)


def test_robust_is_without_bias():
    """Its mean over wrong labels of a known share is DPO's over right ones."""
    right, turned = pair(), pair()
    turned = replace(turned, score=right.score.flip(1), reference=right.reference.flip(1))
    robust = Robust(label_smoothing=0.3)
    assert 0.7 * of(robust, right) + 0.3 * of(robust, turned) == pytest.approx(of(DPO(), right))


def test_discopop_is_finite_far_on_the_wrong_side():
    score = torch.tensor([[-1000.0, 0.0]]).requires_grad_()
    loss = DiscoPOP(beta=1.0)(Scored.of(score))
    assert loss.item() == pytest.approx(1000.0)  # the logistic part alone
    (gradient,) = torch.autograd.grad(loss.sum(), score)
    assert gradient[0].tolist() == pytest.approx([-1.0, 1.0])


def test_discopop_pushes_the_best_down_at_margin_zero():
    """The one contrast that does: the mixture turns faster than either part falls."""
    margin = torch.zeros(1, dtype=torch.float64).requires_grad_()
    score = torch.stack([margin, torch.zeros_like(margin)], 1)
    for tau, away in ((0.05, True), (0.5, False)):
        loss = DiscoPOP(beta=1.0, tau=tau)(Scored.of(score)).sum()
        (slope,) = torch.autograd.grad(loss, margin, retain_graph=True)
        assert slope.item() == pytest.approx((1 - math.log(2)) / (4 * tau) - 0.75)
        assert (slope.item() > 0) is away


def test_softmax_dpo_does_not_overflow():
    score = torch.tensor([[0.0, 2000.0, 1990.0]])
    assert SDPO(beta=1.0)(Scored.of(score)).item() == pytest.approx(2000.0, rel=1e-5)


def test_over_pairs_sums_or_averages_what_is_there():
    score = column(1.0, 0.0, -1.0, 7.0)[None]
    present = torch.tensor([[True, True, True, False]])
    scored = replace(Scored.of(score), present=present)
    each = lost(1.0) + lost(2.0)
    assert of(OverPairs(DPO(beta=1.0)), scored) == pytest.approx(each)
    assert of(OverPairs(DPO(beta=1.0), mean=True), scored) == pytest.approx(each / 2)
    assert of(DMPO(beta=1.0), scored) == pytest.approx(lost(1.5))


def test_each_other_has_its_own_reference():
    """The released DMPO passes the reference of the best for all."""
    scored = Scored.of(column(0.0, 0.0, 0.0)[None], column(1.0, 2.0, 5.0)[None])
    assert of(DMPO(beta=1.0), scored) == pytest.approx(lost(-1 + (2 + 5) / 2))


def slow_ranking(mean: list[float], grade: list[float]) -> float:
    """Preference Ranking Optimization as a loop over sorted ranks."""
    order = sorted(range(len(grade)), key=lambda k: -grade[k])
    total = 0.0
    for place, k in enumerate(order[:-1]):
        gaps = {i: grade[k] - grade[i] for i in order[place + 1 :]}
        own = math.exp(mean[k] * max(gaps.values()))
        total -= math.log(own / (own + sum(math.exp(mean[i] * gap) for i, gap in gaps.items())))
    return total


def test_a_ranking_in_any_order_of_columns_is_the_loop_over_ranks():
    mean, grade = [-1.2, -0.3, -2.0, -0.7], [2.0, 0.5, 3.5, 1.0]
    scored = replace(
        Scored.of(2 * column(*mean)[None], grade=column(*grade)[None]),
        steps=torch.full((1, 4), 2.0, dtype=torch.float64),
    )
    assert of(PreferenceRanking(imitation=0.0), scored) == pytest.approx(slow_ranking(mean, grade))
    told = of(PreferenceRanking(imitation=0.1), scored)
    assert told == pytest.approx(slow_ranking(mean, grade) + 0.1 * 9 * 2.4)
    score = [2 * one for one in mean]
    order, expected = [2, 0, 3, 1], 0.0
    for place, k in enumerate(order):
        expected -= score[k] - math.log(sum(math.exp(score[i]) for i in order[place:]))
    assert of(PlackettLuce(beta=1.0), scored) == pytest.approx(expected)


def test_equal_grades_are_not_compared():
    score = column(-1.0, -2.0, -3.0)[None].requires_grad_()
    scored = Scored.of(score, grade=column(1.0, 0.0, 0.0)[None])
    for contrast in (PreferenceRanking(imitation=0.0), PlackettLuce(beta=1.0)):
        loss = contrast(scored)
        expected = math.log(1 + math.exp(-1) + math.exp(-2))
        assert loss.item() == pytest.approx(expected)
    ungraded = Scored.of(score)
    torch.testing.assert_close(
        PlackettLuce()(ungraded), SDPO()(ungraded), msg="the first is above the others"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DPO(label_smoothing=0.5), r"label_smoothing must lie in \[0, 0.5\), got 0.5"),
        (lambda: EXO(label_smoothing=0.0), "label_smoothing must be positive, got 0"),
        (lambda: DiscoPOP(tau=0.0), "tau must be positive, got 0"),
        (lambda: DiscoPOP(tau=1.0), r"tau must lie in \[0, 1\), got 1"),
        (lambda: CPO(label_smoothing=-0.1), r"label_smoothing must lie in \[0, 0.5\), got -0.1"),
        (lambda: SimPO(label_smoothing=0.7), r"label_smoothing must lie in \[0, 0.5\), got 0.7"),
        (lambda: AlignmentByTransport(label_smoothing=0.7), "label_smoothing must lie in"),
    ],
)
def test_parameters_out_of_range_are_refused(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_shared_prefix_cancels():
    """Steps before responses part add the same to both, so comparing suffixes alone is DPO."""
    prefix = column(-3.0, -3.0)[None]
    whole = pair()
    longer = replace(whole, score=whole.score + prefix, reference=whole.reference + 2 * prefix)
    for contrast in (DPO(), SDPO(), Hinge()):
        torch.testing.assert_close(contrast(longer), contrast(whole))
