"""Every contrast obeys the slot's laws; variants are found by walking the package."""

import importlib
import inspect
import pkgutil
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

import personalize.preference_optimization as package
from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.contrasts import DPO, DiscoPOP, MarginContrast
from personalize.preference_optimization.likelihood_contrasts import KTO
from personalize.preference_optimization.list_contrasts import (
    DMPO,
    SDPO,
    OverPairs,
    PlackettLuce,
    PreferenceRanking,
)


def contrasts() -> list[Contrast]:
    """One of every kind, with its defaults."""
    found = set()
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(value, Contrast) and not inspect.isabstract(value):
                found.add(value)
    return [
        kind(DPO()) if kind is OverPairs else kind()
        for kind in sorted(found, key=lambda kind: kind.__name__)
    ]


EVERY = contrasts()
LISTS = [one for one in EVERY if isinstance(one, SDPO | DMPO | OverPairs | PlackettLuce | KTO)]
LISTS += [PreferenceRanking()]
NAMES = [type(one).__name__ for one in EVERY]
every = pytest.mark.parametrize("contrast", EVERY, ids=NAMES)
lists = pytest.mark.parametrize("contrast", LISTS, ids=[type(one).__name__ for one in LISTS])


def drawn(rows: int = 5, count: int = 2) -> Scored:
    """Scores as log-probabilities are, of several steps, with lopsided labels."""
    generator = torch.Generator().manual_seed(0)
    score = -6 * torch.rand(rows, count, generator=generator, dtype=torch.float64) - 0.2
    reference = -6 * torch.rand(rows, count, generator=generator, dtype=torch.float64) - 0.2
    grade = torch.arange(count, 0, -1, dtype=torch.float64).expand(rows, -1)
    strength = torch.linspace(0.4, 1.0, rows, dtype=torch.float64)
    scored = Scored.of(score, reference, grade=grade, strength=strength)
    return replace(
        scored,
        steps=torch.full_like(score, 3.0),
        mismatched=torch.tensor(0.4, dtype=torch.float64),
    )


def permuted(scored: Scored, order: Tensor) -> Scored:
    """The comparisons in another order."""
    moved = {
        field.name: getattr(scored, field.name)[order]
        for field in fields(scored)
        if isinstance(getattr(scored, field.name), Tensor) and field.name != "mismatched"
    }
    return replace(scored, **moved)


def test_all_of_them_are_found():
    assert set(NAMES) == {
        *("DPO", "Robust", "Hinge", "IPO", "EXO", "DiscoPOP", "CPL", "SePPO", "NCA", "BCO"),
        *("SPPO", "AnchoredZero", "AnchoredDown", "AlignmentByTransport", "CPO", "SimPO"),
        *("ORPO", "KTO", "SDPO", "DMPO", "OverPairs", "PreferenceRanking", "PlackettLuce"),
    }


@pytest.mark.parametrize(
    "contrast",
    [one for one in EVERY if not isinstance(one, DiscoPOP)],
    ids=lambda one: type(one).__name__,
)
def test_at_equal_scores_the_best_is_raised_above_the_others(contrast: Contrast):
    score = torch.full((3, 2), -2.0, dtype=torch.float64).requires_grad_()
    neutral = Scored.of(
        score, score.detach().clone(), mismatched=torch.zeros((), dtype=score.dtype)
    )
    (gradient,) = torch.autograd.grad(contrast(neutral).sum(), score)
    assert (gradient[:, 0] <= 0).all()
    assert (gradient[:, 0] < gradient[:, 1]).all()


@every
def test_permuting_comparisons_permutes_losses(contrast: Contrast):
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(contrast(permuted(drawn(), order)), contrast(drawn())[order])


@every
@pytest.mark.parametrize("size", [1e3, 1e5])
def test_finite_for_finite_scores(contrast: Contrast, size: float):
    for sign in (-1, 1):
        score = torch.tensor([[-size, -0.1], [-0.1, -size], [0.0, 0.0]]).requires_grad_()
        scored = Scored.of(score, sign * 10 * torch.ones(3, 2), mismatched=torch.zeros(()))
        loss = contrast(scored)
        assert loss.shape == (3,)
        assert loss.isfinite().all()
        (gradient,) = torch.autograd.grad(loss.sum(), score)
        assert gradient.isfinite().all()


@lists
def test_what_is_absent_changes_nothing_and_has_no_gradient(contrast: Contrast):
    whole = drawn(count=4)
    present = whole.present.clone()
    present[:, 2] = False
    present[1, 3] = False
    score = whole.score.clone().requires_grad_()
    absent = replace(whole, score=score, present=present)
    loss = contrast(absent)
    (gradient,) = torch.autograd.grad(loss.sum(), score)
    assert (gradient[~present] == 0).all()
    assert (gradient[present] != 0).all()
    other = {
        name: getattr(whole, name).masked_fill(~present, value)
        for name, value in {"score": -50.0, "reference": 9.0, "steps": 7.0, "grade": 99.0}.items()
    }
    torch.testing.assert_close(contrast(replace(absent, **other)), loss.detach())


@lists
def test_a_list_without_its_absent_ones_is_the_shorter_list(contrast: Contrast):
    whole, short = drawn(count=3), {}
    for name in ("score", "reference", "steps", "present", "grade"):
        short[name] = getattr(whole, name)[:, :2]
    present = whole.present.clone()
    present[:, 2] = False
    expected = contrast(replace(whole, **short))
    torch.testing.assert_close(contrast(replace(whole, present=present)), expected)


@every
def test_uses_the_reference_if_it_says_so(contrast: Contrast):
    moved = replace(drawn(), reference=drawn().reference.flip(1))
    assert contrast.uses_reference != torch.equal(contrast(drawn()), contrast(moved))


@every
def test_a_ready_logit_is_taken_where_only_the_difference_counts(contrast: Contrast):
    ready = replace(drawn(), logit=torch.linspace(-1, 1, 5, dtype=torch.float64))
    if isinstance(contrast, MarginContrast) or type(contrast).__name__ in ("CPL", "OverPairs"):
        assert contrast(ready).isfinite().all()
        assert not torch.equal(contrast(ready), contrast(drawn()))
    else:
        with pytest.raises(ValueError, match="takes no ready logit and no weight inside the loss"):
            contrast(ready)


@every
def test_a_weight_inside_is_taken_or_refused(contrast: Contrast):
    inside = replace(drawn(), logit_weight=torch.full((5,), 0.5, dtype=torch.float64))
    if isinstance(contrast, MarginContrast) or type(contrast).__name__ in ("CPL", "OverPairs"):
        assert not torch.equal(contrast(inside), contrast(drawn()))
    else:
        with pytest.raises(ValueError, match="takes no ready logit and no weight inside the loss"):
            contrast(inside)


@pytest.mark.parametrize(
    "contrast", [one for one in EVERY if one not in LISTS], ids=lambda one: type(one).__name__
)
def test_contrasts_of_pairs_refuse_lists(contrast: Contrast):
    with pytest.raises(ValueError, match="compares two responses, got 3: wrap it in OverPairs"):
        contrast(drawn(count=3))


@every
def test_a_soft_label_mixes_or_is_not_read(contrast: Contrast):
    """At 1/2 a pair's loss is the same either way round, but where the label counts as certain."""
    even = replace(drawn(), strength=torch.zeros(5, dtype=torch.float64))
    turned = {name: getattr(even, name).flip(1) for name in ("score", "reference", "steps")}
    one, other = contrast(even), contrast(replace(even, **turned))
    certain = {"SDPO", "DMPO", "KTO", "PreferenceRanking", "PlackettLuce"}
    one_sided = {"CPO", "SimPO", "ORPO", "SePPO", "AlignmentByTransport"}
    if type(contrast).__name__ not in certain | one_sided:
        torch.testing.assert_close(one, other)
    same = torch.equal(one, contrast(drawn()))
    assert same == (type(contrast).__name__ in certain)


@every
def test_refuses_a_beta_of_zero(contrast: Contrast):
    if hasattr(contrast, "beta"):
        with pytest.raises(ValueError, match=r"beta must be positive, got 0\."):
            type(contrast)(beta=0.0)  # pyright: ignore[reportCallIssue]


def test_a_control_over_pairs_says_what_its_contrast_needs():
    assert OverPairs(DPO()).uses_reference
    assert not OverPairs(DPO()).uses_mismatched
    assert OverPairs(KTO()).uses_mismatched
