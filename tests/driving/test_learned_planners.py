"""Learned planners: the laws of both slots, the decoder's formulas, and what training achieves."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from driving.planner.anchors import fitted_anchors, signal_shares, straight_anchors
from driving.planner.batch import (
    SUB_SCORES,
    PlanningBatch,
    ScoredProposals,
    TeacherFutures,
    drawn_lesson,
)
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.ego_mlp import EgoMlp
from driving.planner.going_on import GoingOn
from driving.planner.learned import LearnedPlanner
from driving.planner.planner import PlannerInput, StyleCondition
from driving.planner.scene_encoder import SceneEncoder
from driving.planner.style_dropout import StyleDropout
from driving.planner.style_injection import OneHotLinear, WithoutStyle, style_class
from driving.planner.sub_score_heads import Selection
from driving.planning_rows import joined_scenes
from driving.simulation.path import path_of
from tests.driving.planner_fixtures import (
    SMALL,
    constant_speed_futures,
    no_style,
    padded_scene,
    random_batch,
    random_futures,
    random_scene,
    random_style,
    speed_style,
)

ALL_MASKED = StyleDropout(whole=0.0, dimension=0.0)


AnyPlanner = TypeVar("AnyPlanner", bound=LearnedPlanner)
Part = TypeVar("Part", PlannerInput, StyleCondition, PlanningBatch)


def _shaken(planner: AnyPlanner) -> AnyPlanner:
    """Every weight at random, so that nothing that begins at 0 hides a fault."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in planner.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=generator))
    return planner.double().eval()


def _double(value: Part) -> Part:
    return value._map(_double_part)


def _double_part(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    return _double(value)


def _modulated(**options: Any) -> DiffusionPlanner:
    return DiffusionPlanner(**(SMALL | options))


MAKERS: dict[str, Callable[[], LearnedPlanner]] = {
    "modulated": _modulated,
    "one_hot": lambda: _modulated(injection=OneHotLinear()),
    "without": lambda: _modulated(injection=WithoutStyle()),
    "guided": lambda: _modulated(guidance=2.0),
    "ego_mlp": lambda: EgoMlp(width=16),
}


@pytest.fixture(params=sorted(MAKERS))
def planner(request) -> LearnedPlanner:
    torch.manual_seed(0)
    return MAKERS[request.param]()


def test_a_batch_gives_what_its_rows_give_and_padding_changes_nothing(planner):
    planner = _shaken(planner)
    scene, style = _double(random_scene(4)), _double(random_style(4))
    plans = planner.plan(scene, style, seed=3)
    assert plans.poses.isfinite().all()
    single = [planner.plan(scene.rows(slice(n, n + 1)), style.rows(slice(n, n + 1)), seed=3)
              for n in range(4)]  # fmt: skip
    padded = planner.plan(padded_scene(scene), style, seed=3)
    for other in (padded.poses, torch.cat([one.poses for one in single])):
        assert (plans.poses - other).abs().max() < 1e-6
    for other in (padded.scores, torch.cat([one.scores for one in single])):
        torch.testing.assert_close(plans.scores, other, atol=1e-6, rtol=0)
    again = planner.plan(scene, style, seed=3)
    assert torch.equal(plans.poses, again.poses)
    other = planner.plan(scene, style, seed=4)
    assert torch.equal(plans.poses, other.poses) == isinstance(planner, EgoMlp)


def test_padding_in_front_does_not_change_the_loss_or_the_scene_vector():
    planner = _shaken(_modulated())
    batch = _double(random_batch(4))
    planner.eval()
    losses = []
    for scene in (batch.scene, padded_scene(batch.scene)):
        torch.manual_seed(5)
        losses.append(float(planner.loss(replace(batch, scene=scene))["loss"].detach()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)
    vectors = planner.scene_vectors(batch.scene)
    torch.testing.assert_close(vectors, planner.scene_vectors(padded_scene(batch.scene)))
    assert (vectors[0] - vectors[1]).abs().max() > 0.1


def test_every_part_of_the_scene_is_seen():
    planner = _shaken(_modulated())
    scene = _double(random_scene(3))
    plain = planner.scene_vectors(scene)
    for name, value in vars(scene).items():
        if value.dtype == torch.bool:
            changed = value & (torch.arange(value[0].numel()).reshape(value[0].shape) % 3 > 0)
        elif value.is_floating_point():
            changed = value + 0.5
        else:
            changed = (value + 1) % 4
        other = planner.scene_vectors(replace(scene, **{name: changed}))
        assert (plain - other).abs().amax(-1).max() > 1e-6, name


def test_the_loss_is_reproducible_and_reaches_every_parameter(planner):
    batch = random_batch(teacher=True, proposals=True)
    optimizer = torch.optim.SGD(planner.parameters(), lr=1e-2)
    values = []
    for _ in range(2):  # the modulation begins at 0, so what lies before it follows a step later
        before = copy.deepcopy(planner.state_dict())
        losses = []
        for _ in range(2):
            torch.manual_seed(7)
            optimizer.zero_grad()
            loss = planner.loss(batch)["loss"]
            loss.backward()
            losses.append(float(loss.detach()))
        assert losses[0] == losses[1]
        optimizer.step()
        values.append(before)
    for name, weights in planner.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().max() > 0, name


def test_a_row_without_a_future_changes_no_gradient(planner):
    batch = random_batch(4)
    empty = replace(batch, future_mask=batch.future_mask & (torch.arange(4) < 3)[:, None])
    moved = replace(empty, future=empty.future + 9.0 * (torch.arange(4) == 3)[:, None, None])
    found = []
    for one in (empty, moved):
        torch.manual_seed(2)
        found.append(float(planner.loss(one)["loss"].detach()))
    assert found[0] == found[1]


def test_style_has_no_effect_before_training_and_has_one_once_the_modulation_moved():
    planner = _modulated()
    scene = random_scene(3)
    plans = [planner.plan(scene, style).poses for style in (random_style(3), no_style(3))]
    assert torch.equal(plans[0], plans[1])
    with torch.no_grad():
        planner.decoder.modulation.weight.normal_(std=0.1)
    plans = [planner.plan(scene, style).poses for style in (random_style(3), no_style(3))]
    assert (plans[0] - plans[1]).abs().amax((1, 2, 3)).min() > 1e-3
    hidden = StyleCondition(random_style(3).values, torch.zeros(3, 8, dtype=torch.bool))
    assert torch.equal(plans[1], planner.plan(scene, hidden).poses)


def test_a_planner_that_is_deaf_ignores_the_style():
    planner = _shaken(MAKERS["without"]())
    scene = _double(random_scene(3))
    told, untold = _double(random_style(3)), _double(no_style(3))
    plans = [planner.plan(scene, style).poses for style in (told, untold)]
    assert torch.equal(plans[0], plans[1])


def test_guidance_is_the_identity_at_1_and_no_style_at_0_and_linear_in_one_step():
    planner = _shaken(_modulated())
    scene, style = _double(random_scene(3)), _double(random_style(3))
    plain, untold = planner.plan(scene, style), planner.plan(scene, _double(no_style(3)))
    planner.guidance = 1.0 + 1e-9  # takes the guided way
    near = planner.plan(scene, style)
    torch.testing.assert_close(near.poses, plain.poses, atol=1e-5, rtol=0)
    torch.testing.assert_close(near.scores, plain.scores, atol=1e-5, rtol=0)
    planner.guidance = 0.0
    torch.testing.assert_close(planner.plan(scene, style).poses, untold.poses, atol=1e-6, rtol=0)
    planner.guidance = 3.0
    twice = planner.plan(scene, style)
    assert (twice.poses - plain.poses).abs().max() > 1e-3
    encoded = planner.encoder(scene)
    seen = planner.decoder.see(encoded.tokens, encoded.mask)
    import driving.planner.diffusion as module

    steps, module.DENOISING_STEPS = module.DENOISING_STEPS, (10,)
    try:
        answers = {}
        for guidance in (0.0, 1.0, 3.0):
            planner.guidance = guidance
            answers[guidance], _ = planner._denoised(seen, style, 0)
    finally:
        module.DENOISING_STEPS = steps
    expected = answers[0.0] + 3.0 * (answers[1.0] - answers[0.0])
    torch.testing.assert_close(answers[3.0], expected)


def test_a_one_hot_injection_is_one_bias_per_style():
    torch.manual_seed(0)
    module = OneHotLinear().build(6, 2)
    presets = StyleCondition(
        torch.tensor([[1, -1, 1, 1, 1, 1, 1, -1.0]] * 3) * torch.tensor([[1.0], [0.0], [-1.0]]),
        torch.ones(3, 8, dtype=torch.bool),
    )
    assert style_class(presets).tolist() == [0, 1, 2]
    one, two = torch.randn(1, 5, 6).expand(3, 5, 6), torch.randn(1, 5, 6).expand(3, 5, 6)
    with torch.no_grad():
        first, second = module.inject(1, one, presets), module.inject(1, two, presets)
    bias = first[0] - first[2]
    torch.testing.assert_close(bias, second[0] - second[2])
    torch.testing.assert_close(bias, bias[:1].expand(5, 6))
    assert bias.abs().max() > 0.01


@pytest.mark.parametrize(
    ("speed", "gap", "expected"),
    [(0.34, None, 0), (0.32, None, 1), (-0.32, None, 1), (-0.34, None, 2),
     (0.9, 0.9, 1), (0.9, 0.0, 0), (0.0, -0.9, 0), (None, None, 1)],
)  # fmt: skip
def test_the_class_is_the_mean_of_what_is_asked_towards_the_aggressive_end(speed, gap, expected):
    style = no_style(1)
    for place, value in enumerate((speed, gap)):
        if value is not None:
            style.values[0, place], style.mask[0, place] = value, True
    assert style_class(style).tolist() == [expected]


def test_anchors_are_ordered_and_lie_in_their_clusters():
    speeds = torch.tensor([9.0, 1.0, 5.0]).repeat_interleave(20) + 0.1 * torch.randn(60)
    futures = constant_speed_futures(speeds)
    futures[::2, :, 1] += 0.01
    fitted = fitted_anchors(futures, torch.ones(60, 8, dtype=torch.bool), 3)
    for anchor, speed in zip(fitted.poses, (1.0, 5.0, 9.0), strict=True):
        torch.testing.assert_close(anchor, constant_speed_futures(torch.tensor([speed]))[0],
                                   atol=0.3, rtol=0)  # fmt: skip
    low, high = futures[..., :2].amin(0), futures[..., :2].amax(0)
    torch.testing.assert_close(fitted.centre_m, (low + high) / 2)
    torch.testing.assert_close(fitted.scale_m[:, 0], (high - low)[:, 0] / 2)
    assert fitted.scale_m[:, 1].tolist() == [0.5] * 8
    again = fitted_anchors(futures, torch.ones(60, 8, dtype=torch.bool), 3)
    assert torch.equal(fitted.poses, again.poses)


def test_units_are_how_far_futures_lie_from_their_anchors():
    futures = constant_speed_futures(torch.tensor([4.0, 6.0] * 4 + [10.0, 12.0] * 4))
    fitted = fitted_anchors(futures, torch.ones(16, 8, dtype=torch.bool), 2)
    seconds = 0.5 * np.arange(1, 9)  # each 1 m/s off its anchor
    np.testing.assert_allclose(fitted.unit[:, 0].numpy(), seconds, rtol=1e-5)
    np.testing.assert_allclose(fitted.unit[:, 1].numpy(), 0.1, rtol=1e-5)
    np.testing.assert_allclose(fitted.unit[:, 2].numpy(), 0.02, rtol=1e-5)


def test_futures_that_lack_a_step_make_no_anchor_and_too_few_are_refused():
    futures = constant_speed_futures(torch.tensor([1.0, 2.0, 3.0, 3.0]))
    mask = torch.ones(4, 8, dtype=torch.bool)
    mask[0, -1] = False
    assert fitted_anchors(futures, mask, 2).poses[0, -1, 0] == pytest.approx(8.0)
    with pytest.raises(InputError, match=r"3 anchors need as many different .* there are 2"):
        fitted_anchors(futures, mask, 3)


def test_a_survey_fits_once(planner):
    futures, mask = random_futures(30)[:, None], torch.ones(30, 1, 8, dtype=torch.bool)
    planner.survey(random_scene(30), futures, mask)
    before = {name: value.clone() for name, value in planner.state_dict().items()}
    planner.survey(random_scene(30), 2 * futures, mask)
    assert all(torch.equal(value, planner.state_dict()[name]) for name, value in before.items())
    if isinstance(planner, DiffusionPlanner):
        straight = straight_anchors(4).poses
        assert not torch.equal(before["anchors"], straight)


def test_noise_follows_the_scaled_linear_schedule():
    shares = signal_shares().double()
    roots = np.linspace(math.sqrt(1e-4), math.sqrt(0.02), 1000)
    np.testing.assert_allclose(shares[49], np.prod(1 - roots[:50] ** 2), rtol=1e-6)
    planner = _modulated().double()
    clean, noise = torch.ones(2, dtype=torch.double), torch.tensor([1.0, -1.0]).double()
    noised = planner.noised(clean, noise, 8)
    signal = np.prod(1 - roots[:9] ** 2)
    expected = np.sqrt(signal) + np.sqrt(1 - signal) * np.array([1.0, -1.0])
    np.testing.assert_allclose(noised.numpy(), expected, rtol=1e-6)


def test_two_steps_of_a_perfect_decoder_find_the_future():
    """A decoder that always answers one future: the second step starts from little noise of it."""
    planner = _modulated().double()
    target = constant_speed_futures(torch.tensor([7.0]))[0].double()
    seen_noise = []

    def perfect(noisy, anchors, time, style, scene, **_):
        from driving.planner.diffusion_decoder import Decoded

        seen_noise.append((time[0].item(), noisy))
        offsets = torch.zeros(*noisy.shape[:3], 3, dtype=torch.double)
        offsets[..., :2] = ((target - planner.anchors) / planner.unit)[..., :2]
        offsets[..., 2] = 0.3 / planner.unit[:, 2]
        return [
            Decoded(offsets, torch.zeros(noisy.shape[:2], dtype=torch.double), offsets[..., 0, :])
        ]

    scene, style = _double(random_scene(2)), _double(no_style(2))
    encoded = planner.encoder(scene)
    seen = planner.decoder.see(encoded.tokens, encoded.mask)
    planner.decoder.forward = perfect  # pyright: ignore[reportAttributeAccessIssue]
    poses, _ = planner._denoised(seen, style, 0)
    torch.testing.assert_close(poses[..., :2], target[:, :2].expand(2, 4, 8, 2))
    torch.testing.assert_close(poses[..., 2], torch.full((2, 4, 8), 0.3).double())
    assert [time for time, _ in seen_noise] == [10.0, 0.0]
    signal = planner.signal
    found = (target[:, :2] - planner.centre_m) / planner.scale_m
    left = (seen_noise[0][1] - signal[10].sqrt() * found) / (1 - signal[10]).sqrt()
    expected = signal[0].sqrt() * found + (1 - signal[0]).sqrt() * left
    torch.testing.assert_close(seen_noise[1][1], expected)


def _standing_on_a_straight_way(rows: int) -> GoingOn:
    """On which poses are changes."""
    along = 2.0 * torch.arange(80).double()
    points = torch.stack((along, torch.zeros_like(along)), -1).expand(rows, -1, -1)
    nothing = torch.zeros(rows, 8).double()
    return GoingOn(path_of(points, 2.0), nothing, nothing, nothing)


def test_the_winner_is_the_nearest_clean_anchor_and_the_loss_is_what_it_says():
    planner = _modulated(style_dropout=ALL_MASKED).double()
    future = constant_speed_futures(torch.tensor([5.6, 14.0])).double()
    mask = torch.ones(2, 8, dtype=torch.bool)
    assert planner._winner(future, mask).tolist() == [1, 3]  # anchors at 0, 5, 10, 15 m/s
    mask[0, 1:] = False
    from driving.planner.diffusion_decoder import Decoded

    answer = Decoded(*(torch.zeros(2, 4, *rest).double() for rest in ((8, 3), (), (5,))))
    answer.offsets[:, :, :, 2] = 0.5 / planner.unit[:, 2]
    way = _standing_on_a_straight_way(2)
    losses = planner._answer_losses(answer, torch.tensor([1, 3]), way, future, mask)
    steps = 0.5 * torch.arange(1, 9)
    off = torch.cat([0.6 * steps[:1], 1.0 * steps]) + 2 * 0.5
    assert float(losses[0]) == pytest.approx(float(off.mean()), rel=1e-6)
    assert float(losses[1]) == pytest.approx(math.log(4), rel=1e-6)


def test_dropout_hides_whole_styles_and_single_dimensions_at_their_rates():
    torch.manual_seed(0)
    style = StyleCondition(torch.ones(4000, 8), torch.ones(4000, 8, dtype=torch.bool))
    hidden = StyleDropout(whole=0.3, dimension=0.2)(style)
    none = ~hidden.mask.any(-1)
    assert none.double().mean().item() == pytest.approx(0.3, abs=0.03)
    assert hidden.mask[~none].double().mean().item() == pytest.approx(0.8, abs=0.02)
    assert torch.equal(hidden.values, hidden.mask.float())
    kept = StyleDropout(whole=0.0, dimension=0.0)(style)
    assert torch.equal(kept.mask, style.mask)
    assert not StyleDropout(whole=1.0)(style).mask.any()


def test_hiding_happens_in_training_only():
    planner = _modulated(style_dropout=StyleDropout(whole=1.0)).eval()
    with torch.no_grad():
        planner.decoder.modulation.weight.normal_(std=0.1)
    batch = random_batch()
    bare = replace(batch, style=no_style(5))
    found = {}
    for training in (False, True):
        planner.train(training)
        for told, one in ((True, batch), (False, bare)):
            torch.manual_seed(0)
            found[training, told] = float(planner.loss(one)["scores"].detach())
    assert found[True, True] == found[True, False]
    assert found[False, True] != found[False, False]


def test_teacher_futures_come_with_their_own_style():
    batch = random_batch(400)
    count = 400
    taught = TeacherFutures(
        torch.stack([torch.full((count, 8, 3), float(n)) for n in (10, 20)], 1),
        torch.stack([torch.ones(count, dtype=torch.bool), torch.arange(count) % 2 == 0], 1),
        torch.stack([torch.full((count, 8), v) for v in (0.1, 0.2)], 1),
        torch.ones(count, 2, 8, dtype=torch.bool),
        torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).expand(count, -1, -1),
    )
    batch = replace(batch, teacher=taught)
    torch.manual_seed(0)
    lesson = drawn_lesson(batch, 0.5)
    future, mask, style = lesson.future, lesson.future_mask, lesson.style
    from_teacher = future[:, 0, 0] >= 10
    assert from_teacher.double().mean().item() == pytest.approx(0.5 * 0.75, abs=0.08)
    torch.testing.assert_close(
        style.values[from_teacher, 0], future[from_teacher, 0, 0] / 100, rtol=0, atol=1e-6
    )
    assert mask[from_teacher].all()
    assert not (future[:, 0, 0] == 20)[1::2].any()
    logged = ~from_teacher
    assert torch.equal(future[logged], batch.future[logged])
    assert torch.equal(style.mask[logged], batch.style.mask[logged])
    assert drawn_lesson(batch, 0.0).future is batch.future
    # the second variant begins a metre to the left, from where the road lies a metre to the right
    beside = future[:, 0, 0] == 20
    assert torch.equal(lesson.scene.route[~beside], batch.scene.route[~beside])
    there = batch.scene.route_mask[beside]
    moved = (lesson.scene.route - batch.scene.route)[beside][there]
    torch.testing.assert_close(moved, torch.tensor([0.0, -1.0]).expand_as(moved), atol=1e-5, rtol=0)


def test_selection_weighs_what_the_style_asks_for():
    known = torch.ones(len(SUB_SCORES), dtype=torch.bool)
    scores = torch.ones(1, 3, len(SUB_SCORES))
    scores[0, :, SUB_SCORES.index("mean_speed_mps")] = torch.tensor([2.0, 5.0, 11.0])
    logits = torch.tensor([[0.0, 0.0, -0.5]])
    fast, slow = speed_style(torch.tensor([1.0])), speed_style(torch.tensor([-1.0]))
    pick = Selection(preference_weight=1.0).scores
    torch.testing.assert_close(pick(logits, scores, known, fast), torch.tensor([[-0.4, -0.1, 0.0]]))
    assert pick(logits, scores, known, slow).argmax().item() == 0
    assert torch.equal(pick(logits, scores, known, no_style(1)), logits)
    assert torch.equal(pick(logits, scores, ~known, fast), logits)
    assert torch.equal(Selection().scores(logits, scores, known, fast), logits)


def test_the_safety_gate_shuts_whatever_the_style_and_never_shuts_all():
    known = torch.ones(len(SUB_SCORES), dtype=torch.bool)
    scores = torch.ones(1, 3, len(SUB_SCORES))
    scores[0, :, 0] = torch.tensor([0.8, 0.9, 0.39])
    scores[0, :, 1] = torch.tensor([1.0, 0.4, 1.0])
    scores[0, :, 6] = torch.tensor([1.0, 2.0, 30.0])
    fast = speed_style(torch.tensor([1.0]))
    gated = Selection(preference_weight=100.0, safety_gate=0.5).scores
    logits = torch.zeros(1, 3)
    assert gated(logits, scores, known, fast).isinf().tolist() == [[False, True, True]]
    assert gated(logits, scores * 0.01, known, fast).isinf().tolist() == [[False, True, True]]
    unknown = known.clone()
    unknown[1] = False
    assert gated(logits, scores, unknown, fast).isinf().tolist() == [[False, False, True]]
    opened = Selection(safety_gate=0.0).scores(logits, scores, known, fast)
    assert opened.isfinite().all()


@given(st.integers(0, 10_000))
def test_a_selection_without_weight_keeps_the_order_of_those_it_admits(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(2, 5, len(SUB_SCORES), generator=generator)
    logits = torch.randn(2, 5, generator=generator)
    known = torch.ones(len(SUB_SCORES), dtype=torch.bool)
    found = Selection().scores(logits, scores, known, random_style(2, seed=seed))
    there = found.isfinite()
    assert there.any(-1).all()
    assert torch.equal(found[there], logits[there])


def test_sub_score_heads_learn_only_what_is_known():
    planner = _modulated()
    batch = random_batch(proposals=True)
    assert batch.proposals is not None
    mask = batch.proposals.mask & (torch.arange(len(SUB_SCORES)) < 2)
    some = replace(batch, proposals=replace(batch.proposals, mask=mask))
    torch.manual_seed(0)
    planner.loss(some)["loss"].backward()
    gradient = planner.sub_score_heads.outer.weight.grad
    assert gradient is not None
    assert (gradient.abs().amax(1) > 0).tolist() == [True, True] + [False] * 5
    assert planner.sub_score_heads.known.tolist() == [True, True] + [False] * 5
    planner.eval()
    planner.loss(batch)
    assert planner.sub_score_heads.known.tolist() == [True, True] + [False] * 5


def test_sub_scores_come_in_their_own_units():
    planner = _modulated().train()
    poses = constant_speed_futures(torch.tensor([3.0, 9.0]))[:, None]
    values = torch.tensor([1.0, 0.0, 0.5, 0.5, 1.0, 3.0, 7.0]).expand(2, 1, 7)
    known = ScoredProposals(poses, values, torch.ones(2, 1, 7, dtype=torch.bool))
    batch = replace(random_batch(2), proposals=known)
    optimizer = torch.optim.Adam(planner.sub_score_heads.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        planner.loss(batch)["sub_scores"].backward()
        optimizer.step()
    found = planner.sub_scores(batch.scene, poses)
    assert (found - values).abs().max() < 0.25


def test_sixteen_scenes_are_learnt_by_heart():
    torch.manual_seed(0)
    planner = DiffusionPlanner(width=32, heads=2, feedforward=48, anchors=6, encoder_layers=1)
    futures = random_futures(16)
    batch = PlanningBatch(
        random_scene(16, agents=2, lines=3),
        no_style(16),
        futures,
        torch.ones(16, 8, dtype=torch.bool),
    )
    planner.survey(batch.scene, futures[:, None], batch.future_mask[:, None])
    _train(planner, [batch], steps=120)
    plans = planner.plan(batch.scene, batch.style)
    errors = (plans.best - futures)[..., :2].norm(dim=-1).mean(-1)
    still = (futures.mean(0) - futures)[..., :2].norm(dim=-1).mean(-1)
    assert errors.mean() < 0.1 * still.mean()
    turned = (futures.mean(0) - futures)[..., 2].abs().mean()
    assert (plans.best - futures)[
        ..., 2
    ].abs().mean() < 0.35 * turned  # futures know nothing of the routes


def _plain_scene(rows: int) -> PlannerInput:
    """The same small scene in every row."""
    scene = random_scene(1, agents=1, lines=2, places=10)
    return scene.rows(torch.zeros(rows, dtype=torch.long))


def _steering_batch(rows: int, seed: int) -> PlanningBatch:
    """All scenes alike; the future's speed is 6 m/s plus four times the style's speed."""
    generator = torch.Generator().manual_seed(seed)
    values = 2 * torch.rand(rows, generator=generator) - 1
    scene = _plain_scene(rows)
    futures = constant_speed_futures(6.0 + 4.0 * values)
    return PlanningBatch(scene, speed_style(values), futures, torch.ones(rows, 8, dtype=torch.bool))


def _train(planner: LearnedPlanner, batches: list[PlanningBatch], *, steps: int) -> None:
    planner.train()
    optimizer = torch.optim.AdamW(planner.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        planner.loss(batches[step % len(batches)])["loss"].backward()
        torch.nn.utils.clip_grad_norm_(planner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    planner.eval()


def test_a_style_steers_after_training_and_guidance_exaggerates_it():
    torch.manual_seed(0)
    planner = _modulated(style_dropout=StyleDropout(whole=0.15, dimension=0.0))
    batches = [_steering_batch(32, seed) for seed in range(8)]
    futures = torch.cat([batch.future for batch in batches])
    scenes = joined_scenes([batch.scene for batch in batches])
    planner.survey(scenes, futures[:, None], torch.ones(len(futures), 1, 8, dtype=torch.bool))
    _train(planner, batches, steps=170)
    asked = torch.tensor([-0.8, -0.3, 0.3, 0.8])
    scene = _plain_scene(4)
    driven = planner.plan(scene, speed_style(asked)).best[:, -1, 0] / 4.0
    assert (driven - (6 + 4 * asked)).abs().max() < 0.8
    planner.guidance = 0.0
    untold = planner.plan(scene, speed_style(asked)).best[:, -1, 0]
    assert untold.max() - untold.min() < 1e-4


def test_the_ego_network_follows_the_style_too():
    torch.manual_seed(0)
    planner = EgoMlp(width=32, style_dropout=ALL_MASKED)
    _train(planner, [_steering_batch(32, seed) for seed in range(4)], steps=150)
    asked = torch.tensor([-0.8, 0.8])
    scene = _plain_scene(2)
    driven = planner.plan(scene, speed_style(asked)).best[:, -1, 0] / 4.0
    assert (driven - (6 + 4 * asked)).abs().max() < 0.5


def test_an_unfitting_size_is_refused():
    with pytest.raises(ValueError, match="heads must divide the width 6, got 4"):
        SceneEncoder(6, heads=4)
    with pytest.raises(ValueError, match="anchors must be at least 1, got 0"):
        _modulated(anchors=0)
    with pytest.raises(ValueError, match=r"teacher_share must be from 0 to 1, got 1\.5"):
        _modulated(teacher_share=1.5)
    with pytest.raises(ValueError, match=r"style_dropout.whole and .dimension must be from 0 to 1"):
        StyleDropout(whole=2.0)
    with pytest.raises(ValueError, match="selection needs a preference_weight of at least 0"):
        Selection(safety_gate=1.5)
