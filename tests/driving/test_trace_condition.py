"""The trace as a condition: neutral is the identity, what training draws, and how it is told."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from driving.planner.diffusion import DiffusionPlanner
from driving.planner.diffusion_sampler import DiffusionSampler
from driving.planner.going_on import going_on
from driving.planner.inpainting import inpainted
from driving.planner.sub_score_heads import Selection
from driving.planner.trace import trace_of, trace_steps
from driving.planner.trace_anchor import trace_anchor
from driving.planner.trace_condition import (
    TraceCondition,
    TraceTraining,
    distance_to_trace,
    edited_poses,
    trace_changes,
    trace_condition,
)
from tests.driving.planner_fixtures import (
    SMALL,
    constant_speed_futures,
    no_style,
    random_batch,
    random_futures,
    random_scene,
    random_style,
)
from tests.driving.small_worlds import present_input, straight_road

ROWS = 4


def planner_of(trace: TraceTraining | None = None, **options: Any) -> DiffusionPlanner:
    """A small one whose every weight is at random."""
    torch.manual_seed(0)
    planner = DiffusionPlanner(**(SMALL | options), trace=trace)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in planner.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=generator))
    return planner.eval()


def no_trace(rows: int) -> TraceCondition:
    return TraceCondition(torch.zeros(rows, 8, 2), torch.zeros(rows, 8, dtype=torch.bool))


def straight_scene(rows: int = 1):
    """An ego on a straight road, as often as wanted."""
    return present_input(straight_road()).rows(torch.zeros(rows, dtype=torch.long))


@pytest.fixture(scope="module")
def traced() -> DiffusionPlanner:
    return planner_of(TraceTraining())


def test_way_points_stand_at_their_steps():
    points = torch.arange(12.0).reshape(2, 3, 2)
    trace = trace_condition(points)
    assert trace.mask.tolist() == [[False, False, True, False, True, False, False, True]] * 2
    assert torch.equal(trace.points[:, [2, 4, 7]], points)
    assert not trace.points[:, [0, 1, 3, 5, 6]].any()


def test_distance_is_the_mean_over_way_points():
    poses = constant_speed_futures(torch.tensor([2.0, 4.0]))[None]  # at 4 s: 8 m and 16 m
    trace = trace_condition(torch.tensor([[[4.0, 3.0], [8.0, 1.0]]]))
    torch.testing.assert_close(distance_to_trace(poses, trace), torch.tensor([[2.0, 6.531129]]))
    assert distance_to_trace(poses, no_trace(1)).tolist() == [[0.0, 0.0]]


def test_a_planner_without_traces_has_no_weights_for_them_and_says_so():
    plain, traced = planner_of(), planner_of(TraceTraining())
    more = set(traced.state_dict()) - set(plain.state_dict())
    assert more == {"trace_anchor.told.weight", "trace_anchor.told.bias"}
    with pytest.raises(ValueError, match="trained without traces; train it with `trace`"):
        plain.plan(random_scene(2), no_style(2), trace=no_trace(2))


def test_the_same_draws_with_and_without_traces():
    """Building one leaves every other weight as it was."""
    torch.manual_seed(3)
    plain = DiffusionPlanner(**SMALL)
    torch.manual_seed(3)
    traced = DiffusionPlanner(**SMALL, trace=TraceTraining())
    for name, value in plain.state_dict().items():
        assert torch.equal(traced.state_dict()[name], value)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_no_way_point_is_no_trace(guidance):
    """The candidate that a trace would have does not count, and moves neither others nor gate."""
    planner = planner_of(TraceTraining(), guidance=guidance, selection=Selection(safety_gate=1.0))
    planner.sub_score_heads.known.fill_(value=True)
    scene, style = random_scene(ROWS), random_style(ROWS)
    plain = planner.plan(scene, style)
    assert plain.scores.isneginf().any()  # the gate is shut for some
    found = planner.plan(scene, style, trace=no_trace(ROWS))
    assert torch.equal(found.poses[:, :-1], plain.poses)
    assert torch.equal(found.scores[:, :-1], plain.scores)
    assert found.scores[:, -1].isneginf().all()
    assert torch.equal(found.poses[:, -1], found.poses[:, 0])  # no safer one, to move the gate by
    dirty = replace(no_trace(ROWS), points=torch.randn(ROWS, 8, 2))
    assert torch.equal(planner.plan(scene, style, trace=dirty).poses, found.poses)


def test_a_row_without_a_trace_is_not_changed_by_one_that_has_one(traced):
    scene, style = random_scene(ROWS), random_style(ROWS)
    trace = trace_condition(10 * torch.randn(ROWS, 3, 2))
    trace.mask[1] = False
    plain, found = traced.plan(scene, style), traced.plan(scene, style, trace=trace)
    torch.testing.assert_close(found.poses[1, :-1], plain.poses[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.scores[1, :-1], plain.scores[1], atol=1e-4, rtol=1e-5)
    assert found.scores[:, -1].isneginf().tolist() == [False, True, False, False]


def test_the_candidate_of_a_trace_answers_relative_to_it():
    """A decoder that says nothing follows the trace."""
    planner = planner_of(TraceTraining())
    for outer in planner.decoder.outer:
        outer.weight.data.zero_()  # pyright: ignore[reportCallIssue]
        outer.bias.data.zero_()  # pyright: ignore[reportCallIssue]
    points = random_futures(3)[:, trace_steps(4), :2]
    found = planner.plan(straight_scene(3), no_style(3), trace=trace_condition(points))
    torch.testing.assert_close(trace_of(found.poses[:, -1], 4), points, atol=1e-3, rtol=0)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_trace_matters_and_a_batch_gives_what_its_rows_give(guidance):
    planner = planner_of(TraceTraining(), guidance=guidance)
    scene, style = random_scene(ROWS), random_style(ROWS)
    trace = trace_condition(10 * torch.randn(ROWS, 3, 2))
    trace.mask[1] = False
    together = planner.plan(scene, style, trace=trace)
    others = (together.poses[:, :-1] - planner.plan(scene, style).poses).abs()
    assert others.amax((1, 2, 3))[0] > 1e-3  # the other candidates see it
    for row in range(ROWS):
        one = slice(row, row + 1)
        alone = planner.plan(scene.rows(one), style.rows(one), trace=trace.rows(one))
        torch.testing.assert_close(alone.poses, together.poses[one], atol=2e-3, rtol=0)
        torch.testing.assert_close(alone.scores, together.scores[one], atol=2e-3, rtol=1e-4)


def test_both_answers_of_guidance_see_the_trace():
    """At a guidance of 0 the style does not count and the trace does."""
    planner = planner_of(TraceTraining(), guidance=0.0)
    scene, trace = random_scene(ROWS), trace_condition(10 * torch.randn(ROWS, 3, 2))
    styled = planner.plan(scene, random_style(ROWS), trace=trace)
    planner.guidance = 1.0
    plain = planner.plan(scene, no_style(ROWS), trace=trace)
    torch.testing.assert_close(styled.poses, plain.poses, atol=2e-3, rtol=0)


def standing_base(rows: int = 1, *, speed_mps: float = 0.0):
    """On a straight road at a speed; changes are metres along it and to the left."""
    scene = straight_scene(rows)
    scene.ego_history[:, -1, 3] = speed_mps
    return going_on(scene)


def test_an_anchor_is_linear_between_way_points_and_constant_past_the_last():
    base = standing_base(speed_mps=10.0)
    points = torch.zeros(1, 8, 2)
    mask = torch.zeros(1, 8, dtype=torch.bool)
    points[0, 1], points[0, 5] = torch.tensor([12.0, 1.0]), torch.tensor([30.0, -1.0])
    mask[0, [1, 5]] = True  # at 1 s 2 m further than 10 m/s leads, at 3 s as far
    anchor = trace_anchor(TraceCondition(points, mask), base)[0]
    along = [1.0, 2.0, 1.5, 1.0, 0.5, 0.0, 0.0, 0.0]
    left = [0.5, 1.0, 0.5, 0.0, -0.5, -1.0, -1.0, -1.0]
    torch.testing.assert_close(anchor[:, 0], torch.tensor(along), atol=1e-4, rtol=0)
    torch.testing.assert_close(anchor[:, 1], torch.tensor(left), atol=1e-4, rtol=0)
    # at 0.5 s from 0 to 12 m and 1 m aside; at 1 s from 6 to 16.5 m, aside as before; at 4 s none
    torch.testing.assert_close(
        anchor[[0, 1, 7], 2], torch.tensor([1 / 12, 0.0, 0.0]).atan(), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(anchor[3, 2], torch.tensor(-1.0 / 9.0).atan(), atol=1e-4, rtol=0)


def test_an_anchor_passes_its_way_points_in_a_bend():
    base = going_on(random_scene(ROWS))
    points = random_futures(ROWS)[:, trace_steps(3), :2]
    trace = trace_condition(points)
    places = base.poses(trace_anchor(trace, base)[:, None])[:, 0]
    assert (trace_of(places, 3) - points).norm(dim=-1).median() < 0.02


def test_standing_turns_no_heading():
    trace = trace_condition(torch.zeros(1, 5, 2))
    assert not trace_anchor(trace, standing_base()).any()


def test_only_the_last_candidate_is_told_and_only_rows_with_a_trace_have_it(traced):
    trace = trace_condition(torch.randn(2, 2, 2))
    trace.mask[1] = False
    module = traced.trace_anchor
    assert module is not None
    begun = module(trace, standing_base(2), traced.anchors)
    assert begun.notes is not None
    assert begun.notes.present.tolist() == [[True] * 5, [True] * 4 + [False]]
    assert not begun.notes.told[:, :-1].any()
    expected = module.told.bias + module.told.weight[:, [3, 7]].sum(-1)
    torch.testing.assert_close(begun.notes.told[0, -1], expected)
    assert torch.equal(begun.anchors[:, :-1], traced.anchors.expand(2, -1, -1, -1))
    scores = begun.counted(torch.zeros(2, 5))
    assert scores.isneginf().tolist() == (~begun.notes.present).tolist()
    changes = begun.filled(torch.randn(2, 5, 8, 3))
    assert torch.equal(changes[1, -1], changes[1, 0])
    assert not torch.equal(changes[0, -1], changes[0, 0])


def test_training_wants_the_candidate_of_a_trace_to_win():
    """With way-points on the future and a decoder that says nothing, it alone is without loss."""
    planner = planner_of(TraceTraining(present=1.0, jitter_m=0.0, edited=0.0))
    for outer in planner.decoder.outer:
        outer.weight.data.zero_()  # pyright: ignore[reportCallIssue]
        outer.bias.data.zero_()  # pyright: ignore[reportCallIssue]
    batch = random_batch(4)
    future = constant_speed_futures(torch.tensor([3.0, 6.0, 9.0, 12.0]))
    batch = replace(batch, scene=straight_scene(4), future=future,
                    future_mask=torch.ones(4, 8).bool())  # fmt: skip
    parts = planner.loss(batch)
    assert parts["regression"] < 1e-3
    torch.testing.assert_close(parts["scores"], torch.tensor(5.0).log(), atol=1e-4, rtol=0)
    planner.trace = TraceTraining(present=0.0)
    parts = planner.loss(batch)
    assert parts["regression"] > 0.1
    torch.testing.assert_close(parts["scores"], torch.tensor(4.0).log(), atol=1e-4, rtol=0)


def test_training_draws_one_to_five_way_points_of_the_future_for_some_rows():
    rows = 2000
    future = random_futures(1).expand(rows, -1, -1)
    mask = torch.ones(rows, 8, dtype=torch.bool)
    base = going_on(straight_scene(rows))
    torch.manual_seed(0)
    trace, learnt = TraceTraining(present=0.6, jitter_m=0.0, edited=0.0)(future, mask, base)
    count = trace.mask.sum(-1)
    assert abs((count > 0).float().mean().item() - 0.6) < 0.04
    drawn = torch.bincount(count[count > 0], minlength=6)[1:] / (count > 0).sum()
    assert (drawn - 0.2).abs().max() < 0.04
    assert torch.equal(trace.points, future[..., :2] * trace.mask[..., None])
    assert torch.equal(learnt, future)
    for row in trace.mask[count > 0][:50]:
        assert row.nonzero()[:, 0].tolist() == trace_steps(int(row.sum())).tolist()
    assert (TraceTraining(present=0.0)(future, mask, base)[0].mask.sum()) == 0


def test_jitter_moves_way_points_and_not_what_is_learnt():
    rows = 2000
    future, mask = random_futures(1).expand(rows, -1, -1), torch.ones(rows, 8, dtype=torch.bool)
    base = going_on(straight_scene(rows))
    torch.manual_seed(0)
    draw = TraceTraining(present=1.0, jitter_m=0.3, edited=0.0)
    trace, learnt = draw(future, mask, base)
    off = (trace.points - future[..., :2])[trace.mask]
    assert torch.equal(learnt, future)
    torch.testing.assert_close(off.std(0), torch.tensor([0.3, 0.3]), atol=0.02, rtol=0)
    assert off.mean(0).abs().max() < 0.02


def test_unknown_steps_have_no_way_point_and_are_not_edited():
    rows = 400
    mask = torch.ones(rows, 8, dtype=torch.bool)
    mask[:, 5:] = False
    future = random_futures(rows) * mask[..., None]
    draw = TraceTraining(present=1.0, edited=1.0)
    trace, learnt = draw(future, mask, going_on(straight_scene(rows)))
    assert not trace.mask[:, 5:].any()
    assert not trace.points[:, 5:].any()
    assert torch.equal(learnt, future)
    mask[:], mask[:, 2] = True, False  # edited, with a gap
    future = random_futures(rows) * mask[..., None]
    trace, learnt = draw(future, mask, going_on(straight_scene(rows)))
    assert not torch.equal(learnt, future)
    assert not learnt[:, 2].any()
    assert not trace.mask[:, 2].any()


def test_what_is_edited_is_learnt_as_it_is_asked_for():
    rows = 3000
    future = constant_speed_futures(torch.full((rows,), 10.0))
    mask = torch.ones(rows, 8, dtype=torch.bool)
    base = going_on(straight_scene(rows))
    torch.manual_seed(0)
    draw = TraceTraining(present=0.5, jitter_m=0.0, edited=0.6, aside_m=1.5, length=(0.7, 1.2))
    trace, learnt = draw(future, mask, base)
    end = learnt[:, -1] - future[:, -1]
    aside, longer = end[:, 1].abs() > 1e-3, end[:, 0].abs() > 1e-3
    present = trace.mask.any(-1)
    assert not (aside | longer)[~present].any()
    share = (aside | longer)[present].float().mean()
    assert abs(share.item() - 0.6) < 0.04
    kinds = [(aside & ~longer).sum(), (longer & ~aside).sum(), (aside & longer).sum()]
    assert (torch.stack(kinds) / (aside | longer).sum() - 1 / 3).abs().max() < 0.05
    assert 1.4 < end[:, 1].max() <= 1.501
    assert -1.501 <= end[:, 1].min() < -1.4
    assert -12.01 <= end[:, 0].min() < -11.5
    assert 7.6 < end[:, 0].max() <= 8.01
    assert torch.equal(trace.points, learnt[..., :2] * trace.mask[..., None])


def test_an_edited_plan_by_hand():
    poses = constant_speed_futures(torch.tensor([10.0, 10.0, 1.0]))
    base = going_on(straight_scene(3))
    edited = edited_poses(poses, base, torch.tensor([1.0, 0.0, 1.5]), torch.tensor([1.0, 0.8, 1.0]))
    torch.testing.assert_close(edited[0, [1, 3, 7], 1], torch.tensor([0.5, 1.0, 1.0]))
    torch.testing.assert_close(edited[1, :, :2], 0.8 * poses[1, :, :2])
    assert abs(edited[2, -1, 1].item() - 0.8) < 1e-5  # a fifth of four metres
    # half-way aside it turns as the cubic does: 0.75 m/s aside at 10 m/s
    torch.testing.assert_close(edited[0, 1, 2], torch.tensor(0.075).atan())
    assert edited[0, 3:, 2].abs().max() < 1e-6


def test_headings_of_an_edited_plan_follow_its_path():
    torch.manual_seed(0)
    base = going_on(straight_scene(1))
    fine = edited_poses(
        constant_speed_futures(torch.tensor([12.0])), base, torch.tensor([1.2]), torch.tensor([0.9])
    )[0]
    step = fine[2:, :2] - fine[:-2, :2]
    along = torch.atan2(step[:, 1], step[:, 0])
    assert (along - fine[1:-1, 2]).abs().max() < 0.02


def test_the_loss_is_repeatable_and_reaches_every_weight():
    planner, batch = planner_of(TraceTraining()), random_batch(16, teacher=True, proposals=True)
    planner.train()
    losses = []
    for _ in range(2):
        planner.zero_grad()
        torch.manual_seed(5)
        losses.append(planner.loss(batch)["loss"])
    assert torch.equal(losses[0], losses[1])
    losses[1].backward()
    for name, weights in planner.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().sum() > 0, name


def test_inpainting_holds_way_points_and_lets_the_last_step_go():
    planner = planner_of()
    scene, style = random_scene(ROWS), no_style(ROWS)
    sampler = DiffusionSampler(planner, steps=4)
    trace = trace_condition(random_futures(ROWS)[:, trace_steps(3), :2])

    def sampled(held: int) -> torch.Tensor:
        state = sampler.init(scene, style, len(planner.anchors), seed=0)
        predict = inpainted(sampler.predict, trace, state.base, held_steps=held)
        with torch.no_grad():
            for number in range(sampler.steps):
                state = sampler.step(state, number, predict)
        return state.changes

    held, free, never = sampled(4), sampled(3), sampled(0)
    changes = trace_changes(trace, going_on(scene))
    where = trace.mask[0]
    expected = changes[:, None, where].expand(-1, len(planner.anchors), -1, -1)
    torch.testing.assert_close(held[:, :, where, :2], expected)
    assert (free[:, :, where, :2] - expected).abs().max() > 0.1
    torch.testing.assert_close(held[..., ~where, :], free[..., ~where, :])
    assert (free - never).abs().max() > 1e-4
    plain = sampler.init(scene, style, len(planner.anchors), seed=0)
    with torch.no_grad():
        for number in range(sampler.steps):
            plain = sampler.step(plain, number, sampler.predict)
    assert torch.equal(never, plain.changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"present": 1.5}, "present and trace.edited must be from 0 to 1, got 1.5 and 0.5"),
        ({"edited": -0.5}, "from 0 to 1, got 0.5 and -0.5"),
        ({"jitter_m": -0.1}, "must not be negative, and trace.length"),
        ({"aside_m": -0.1}, "got 0.1, -0.1 and"),
        ({"length": (1.2, 0.8)}, r"positive range, got 0.1, 1.5 and \(1.2, 0.8\)"),
    ],
)
def test_training_refuses_what_is_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        TraceTraining(**options)


def test_a_copy_plans_alike(traced):
    scene, trace = random_scene(2), trace_condition(torch.randn(2, 5, 2))
    other = copy.deepcopy(traced)
    found = other.plan(scene, no_style(2), trace=trace)
    assert torch.equal(found.poses, traced.plan(scene, no_style(2), trace=trace).poses)
