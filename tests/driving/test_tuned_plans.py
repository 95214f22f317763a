"""Planners to be tuned: the laws of the slot, what judges, what is imitated, what is written."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from data_prep.scenes.style_dimensions import AGGRESSIVE_SIGNS
from driving.anchor_table import AnchorTable
from driving.asked_styles import AskedStyles
from driving.goal_measures import GOAL_NAMES, Measured
from driving.load import load_planner
from driving.plan_judge import (
    REWARDS,
    SHOWN,
    DrivenPlans,
    StyleRuler,
    drive,
    preset,
    spread_within,
)
from driving.plan_kinds import speed_kind
from driving.planner.anchor_policy import AnchorPolicy
from driving.planner.chain_policy import ChainPolicy
from driving.planner.diffusion_policy import DiffusionPolicy
from driving.planner.ego_mlp import EgoMlp
from driving.planner.planner import StyleCondition
from driving.tuned_plans import TunablePlans
from driving.tuning import TunedPlans, imitated, of_teacher, teacher_drives
from personalize.checkpoint import KIND
from personalize.preference_optimization.tunable import TEST, TRAINING, VALIDATION
from personalize.rewards.judged_features import JudgedFeaturesTunable
from personalize.rewards.regret_features import RegretFeaturesTunable
from tests.driving.planning_artifacts import write_planning_artifacts
from tests.driving.planning_checkpoint import write_checkpoint, write_random_planner
from tests.personalize.preference_optimization.tunable_laws import LAWS

POLICIES = {"anchors": AnchorPolicy, "bells": DiffusionPolicy, "chains": ChainPolicy}


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    return write_planning_artifacts(tmp_path_factory.mktemp("tuning"))


@pytest.fixture(scope="module")
def checkpoint(paths, tmp_path_factory) -> Path:
    return write_random_planner(tmp_path_factory.mktemp("runs") / "diffusion", paths)


def opened(checkpoint: Path, policy: Callable = DiffusionPolicy, **options) -> TunablePlans:
    return TunedPlans(checkpoint=checkpoint, policy=policy, moments=4, **options).open()


@pytest.fixture(scope="module")
def halves(checkpoint) -> dict[str, TunablePlans]:
    return {
        name: opened(checkpoint, policy, swaps=name == "bells") for name, policy in POLICIES.items()
    }


@pytest.fixture(scope="module")
def half(halves) -> TunablePlans:
    return halves["bells"]


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_what_can_be_tuned_keeps_the_laws(halves, name, law):
    law(halves[name])


@pytest.mark.parametrize("name", POLICIES)
def test_a_reward_model_sees_plans_by_their_rewards_and_beside_what_else_is_offered(halves, name):
    half = halves[name]
    seen = JudgedFeaturesTunable(half)
    offering = RegretFeaturesTunable(seen, 2)
    contexts = torch.from_numpy(half.contexts(VALIDATION))[:2]
    targets = half.targets(contexts)
    context, response = seen.features(contexts, targets)
    assert seen.response_names == REWARDS
    torch.testing.assert_close(response, half.judge(contexts, targets).reward)
    beside, found = offering.features(contexts, targets)
    assert torch.equal(beside, context)
    collected, start, end = found[:, 0].unflatten(-1, (5, len(REWARDS))).split([1, 2, 2], 1)
    torch.testing.assert_close(collected, response)
    likeliest = half.policy.sample(half.batch(contexts), 2, seed=0, beam=True).responses
    torch.testing.assert_close(start, half.judge(contexts, likeliest).reward)
    assert (end == 0).all()


def test_contexts_are_moments_under_every_style(half):
    contexts = torch.from_numpy(half.contexts(TRAINING))
    assert len(contexts) == 8
    style = half.style(contexts)
    signs = torch.tensor(AGGRESSIVE_SIGNS, dtype=torch.float32)
    torch.testing.assert_close(style.values[::2], -signs.expand(4, -1))
    torch.testing.assert_close(style.values[1::2], signs.expand(4, -1))
    scene = half.batch(contexts).scene
    torch.testing.assert_close(scene.ego_history[::2], scene.ego_history[1::2])


@pytest.mark.parametrize("name", POLICIES)
def test_a_moment_can_be_asked_for_no_style(halves, name):
    half = halves[name]
    contexts = torch.from_numpy(half.contexts(TRAINING))
    none = half.under_condition(contexts, "none")
    assert none is not None
    assert torch.equal(half.moment(none), half.moment(contexts))
    assert not half.style(none).mask.any()
    assert half.style(contexts).mask.any()
    assert half.under_condition(contexts, "true") is None
    assert torch.equal(half.under_condition(none, "none"), none)
    targets = half.targets(contexts)
    blank, told = half.judge(none, targets), half.judge(contexts, targets)
    assert blank.reward.isfinite().all()
    if name != "bells":  # elsewhere a response means what the planner makes of it in that style
        return
    torch.testing.assert_close(half.targets(none), targets)
    assert torch.equal(blank.gate, told.gate)
    assert (blank.reward[..., REWARDS.index("style_match")] == 1).all()
    kept = [place for place, reward in enumerate(REWARDS) if reward != "style_match"]
    torch.testing.assert_close(blank.reward[..., kept], told.reward[..., kept])


def test_a_style_is_inferred_from_how_its_driver_drove_before(checkpoint, paths):
    """For another driver's own style it is what the other one did before."""
    half = opened(checkpoint, asked=("own", "shuffled", "aggressive"))
    contexts = torch.from_numpy(half.contexts(TEST))
    told = half.under_condition(contexts, "inferred")
    assert told is not None
    assert torch.equal(half.moment(told), half.moment(contexts))
    arrays = read_artifact(paths["style_vectors"], kind="style_vectors").arrays("style_vectors")
    every = torch.arange(len(half._moments.splits))
    samples = half.samples(3 * every)
    mixed = np.random.Generator(np.random.PCG64(0)).permutation(samples)
    asked, inferred = half.style(contexts), half.style(told)
    differs = False
    for row, context in enumerate(contexts.tolist()):
        moment, style = divmod(context, 3)
        sample = (samples, mixed, samples)[style][moment]
        np.testing.assert_array_equal(inferred.mask[row], arrays["before_mask"][sample])
        np.testing.assert_array_equal(
            inferred.values[row], np.where(inferred.mask[row], arrays["before_values"][sample], 0)
        )
        if style < 2:
            np.testing.assert_array_equal(asked.mask[row], arrays["own_mask"][sample])
        differs |= not torch.equal(asked.values[row], inferred.values[row])
    assert differs
    scene = half.batch(told).scene
    torch.testing.assert_close(scene.ego_history, half.batch(contexts).scene.ego_history)


def test_without_style_vectors_nothing_is_inferred(half):
    styles = AskedStyles.of(("conservative",), None, [0, 1])
    assert not styles.inferred
    assert styles.told["conservative"].mask.all()
    plain = copy.copy(half)
    plain._inferred = {}
    contexts = torch.from_numpy(half.contexts(TEST))
    assert plain.under_condition(contexts, "inferred") is None
    assert half.under_condition(contexts, "inferred") is not None


@pytest.mark.parametrize("name", POLICIES)
def test_plans_are_sorted_by_what_they_do_with_the_speed(halves, name):
    """Alone, together and from poses, whatever the policy's responses are."""
    half = halves[name]
    contexts = torch.from_numpy(half.contexts(TEST)).flip(0)
    drawn = half.policy.sample(half.batch(contexts), 5, seed=0).responses
    found = half.category(contexts, drawn)
    assert found.shape == (len(contexts), 5)
    poses = half._responses.poses(half.batch(contexts), drawn)
    speeds = half.batch(contexts).scene.ego_history[:, -1, 3]
    for row in range(len(contexts)):
        end = (poses[row, :, -1, :2] - poses[row, :, -2, :2]).norm(dim=-1) / 0.5
        for place in range(5):
            change = float(end[place] - speeds[row])
            word = "keeps its speed"
            if end[place] < 0.5:
                word = "stops"
            elif change < -1:
                word = "slows down"
            elif change > 1:
                word = "speeds up"
            assert half.category_names[found[row, place]] == word
        assert torch.equal(half.category(contexts[row : row + 1], drawn[row : row + 1])[0],
                           found[row])  # fmt: skip


def test_kinds_of_plans_by_hand():
    """At 10 m/s: to a stop, to 8.9, to 9.1, to 10.9 and to 11.1 m/s; standing at 0."""
    ends = torch.tensor([[0.4, 8.9, 9.1, 10.9, 11.1], [0.4, 0.6, 0.9, 1.1, 5.0]])
    poses = torch.zeros(2, 5, 8, 3)
    poses[..., -1, 1] = ends / 2
    found = speed_kind(poses, torch.tensor([10.0, 0.0]))
    assert found.tolist() == [[0, 1, 2, 2, 3], [0, 2, 2, 3, 3]]


def test_nothing_of_the_future_is_in_a_batch(half):
    contexts = torch.from_numpy(half.contexts(TEST))
    before = half.batch(contexts)
    world = half._moments.world
    now = world.now
    kept = world.ego_poses[:, now + 1 :].clone(), world.agent_poses[:, :, now + 1 :].clone()
    with torch.inference_mode():
        world.ego_poses[:, now + 1 :] += 50.0
        world.agent_poses[:, :, now + 1 :] += 50.0
    after = half.batch(contexts)
    with torch.inference_mode():
        world.ego_poses[:, now + 1 :], world.agent_poses[:, :, now + 1 :] = kept
    for part in ("scene", "style"):
        for name, value in vars(getattr(before, part)).items():
            torch.testing.assert_close(value, getattr(getattr(after, part), name))


def test_the_logged_way_is_likest_to_the_human(half):
    contexts = torch.from_numpy(half.contexts(VALIDATION))
    rows = half.moment(contexts)
    world = half._moments.world.rows(rows)
    times = world.now + 5 * torch.arange(1, 9)
    logged = world.ego_poses[:, times].clone()
    aside = logged.clone()
    aside[..., 1] += 1.5
    judged = half.judge(contexts, torch.stack([logged, aside], 1))
    likeness = judged.reward[..., REWARDS.index("human_likeness")]
    torch.testing.assert_close(likeness[:, 0], torch.zeros(len(rows)), atol=1e-4, rtol=0)
    torch.testing.assert_close(likeness[:, 1], torch.full((len(rows),), -1.5), atol=1e-4, rtol=0)


def test_who_drives_into_somebody_fails_the_gate_under_any_style(half):
    """Car 0 stands 25 m behind car 1: at 40 m/s it is in it within a second."""
    rows = torch.arange(len(half._moments.splits))
    world = half._moments.world
    ahead = (world.agent_poses[:, :, world.now, 0] > 5) & world.agent_mask[:, :, world.now]
    behind = rows[ahead.any(1)]
    assert len(behind) > 0
    into = torch.zeros(len(behind), 8, 3)
    near = torch.where(ahead, world.agent_poses[:, :, world.now, 0], torch.inf).argmin(1)
    place = world.agent_poses[rows, near, world.now, :2][behind]
    into[..., :2] = place[:, None] * torch.linspace(0.3, 1.5, 8)[:, None]
    for style in (0, 1):
        judged = half.judge(2 * behind + style, into[:, None])
        failed = ~judged.gate[:, 0]
        assert failed.any()
        assert (judged.reward[..., 0, REWARDS.index("pdms")][failed] == 0).all()
    torch.testing.assert_close(
        half.judge(2 * behind, into[:, None]).gate, half.judge(2 * behind + 1, into[:, None]).gate
    )


def test_only_the_style_match_depends_on_the_style(half):
    contexts = torch.from_numpy(half.contexts(TRAINING))[::2]
    drawn = half.policy.sample(half.batch(contexts), 5, seed=0).responses
    calm, brisk = half.judge(contexts, drawn), half.judge(contexts + 1, drawn)
    column = REWARDS.index("style_match")
    others = [place for place in range(len(REWARDS)) if place != column]
    torch.testing.assert_close(calm.reward[..., others], brisk.reward[..., others])
    torch.testing.assert_close(calm.reward[..., column], calm.reward[..., REWARDS.index("calm")])
    torch.testing.assert_close(brisk.reward[..., column], calm.reward[..., REWARDS.index("brisk")])
    assert (calm.reward[..., column] != brisk.reward[..., column]).any()


def of_values(values: torch.Tensor, gate: torch.Tensor) -> DrivenPlans:
    """Rides of which only the mean speed is known."""
    raw = torch.zeros(*values.shape, len(GOAL_NAMES))
    raw[..., GOAL_NAMES.index("mean_speed")] = values
    mask = torch.zeros_like(raw, dtype=torch.bool)
    mask[..., GOAL_NAMES.index("mean_speed")] = True
    safe = gate.float()
    return DrivenPlans(
        Measured(raw, mask), {"no_collision": safe, "drivable_area": torch.ones_like(safe)}
    )


def ruler(usual: list[float], spread: float) -> StyleRuler:
    count = len(SHOWN)
    values = torch.zeros(len(usual), count)
    values[:, 0] = torch.tensor(usual)
    return StyleRuler(
        values, torch.ones(len(usual), count, dtype=torch.bool), torch.full((count,), spread)
    )


def test_a_style_is_matched_spread_by_spread():
    """Usual is 10 m/s, a spread 2 m/s: 12 m/s is what brisk asks for, 8 m/s what calm does."""
    speeds = torch.tensor([[6.0, 8.0, 10.0, 11.0, 12.0, 14.0, 30.0]])
    rides = of_values(speeds, torch.ones_like(speeds)).measured
    rows = torch.tensor([1])
    found = ruler([0.0, 10.0], 2.0)
    brisk = found.match(rides, rows, preset(1.0, 1))
    torch.testing.assert_close(brisk, torch.tensor([[0.0, 0.0, 0.5, 0.75, 1.0, 0.5, 0.0]]))
    calm = found.match(rides, rows, preset(-1.0, 1))
    torch.testing.assert_close(calm, torch.tensor([[0.5, 1.0, 0.5, 0.25, 0.0, 0.0, 0.0]]))
    nothing = StyleCondition(torch.zeros(1, 8), torch.zeros(1, 8, dtype=torch.bool))
    assert (found.match(rides, rows, nothing) == 1).all()


def test_a_dimension_that_was_not_measured_is_not_counted():
    speeds = torch.tensor([[10.0]])
    found = ruler([10.0], 2.0)
    asked = StyleCondition(torch.zeros(1, 8), torch.zeros(1, 8, dtype=torch.bool))
    asked.values[0, :2], asked.mask[0, :2] = torch.tensor([0.5, 1.0]), True
    rides = of_values(speeds, torch.ones_like(speeds)).measured
    assert float(found.match(rides, torch.tensor([0]), asked)) == pytest.approx(0.75)
    rides.mask[..., GOAL_NAMES.index("time_gap")] = True
    rides.raw[..., GOAL_NAMES.index("time_gap")] = 2.0
    assert float(found.match(rides, torch.tensor([0]), asked)) == pytest.approx(0.875)
    blind = replace(found, known=torch.zeros_like(found.known))
    assert float(blind.match(rides, torch.tensor([0]), asked)) == 1.0


def test_the_spread_is_that_of_candidates_that_passed_within_their_moment():
    speeds = torch.tensor([[1.0, 3.0, 100.0], [10.0, 10.0, 16.0], [5.0, 7.0, 9.0]])
    gate = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    found = spread_within(of_values(speeds, gate))[0]
    expected = (np.std([1, 3], ddof=1) + np.std([10, 10, 16], ddof=1)) / 2
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_half_a_collision_and_leaving_the_road_both_fail_the_gate():
    safe = torch.tensor([[1.0, 0.5, 0.0, 1.0]])
    road = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    nothing = torch.zeros(1, 4, len(GOAL_NAMES))
    driven = DrivenPlans(
        Measured(nothing, nothing.bool()), {"no_collision": safe, "drivable_area": road}
    )
    assert driven.gate.tolist() == [[True, False, False, False]]


def test_every_anchor_answers_and_the_target_stands_last(half):
    contexts = torch.from_numpy(half.contexts(TRAINING))[:3]
    found = half.candidates(contexts, half.policy, seed=0)
    count = len(half.policy.planner.anchors) + 1
    assert len(found.context) == 3 * count * 2
    own = found.context == found.origin
    assert int(own.sum()) == 3 * count
    swapped = found.context[~own].view(3, count)
    torch.testing.assert_close(swapped[:, 0], torch.tensor([1, 0, 3]) + contexts[0] // 2 * 2)
    assert torch.equal(found.response[own].unique(), found.response[~own].unique())
    torch.testing.assert_close(found.group, found.context % 2)
    gaps = found.responses.view(3, count, 8, 3)
    apart = (gaps[..., :2] - gaps[:, -1:, :, :2]).norm(dim=-1).mean(-1)
    torch.testing.assert_close(found.distance[own].view(3, count), apart)


def test_numbers_of_anchors_mean_what_the_untuned_planner_makes_of_them(halves):
    half = halves["anchors"]
    contexts = torch.from_numpy(half.contexts(TEST))[:2]
    numbers = torch.tensor([[2, 0], [1, 1]])
    other = halves["bells"]
    answers = half._responses.answers(half.batch(contexts))
    poses = answers[torch.arange(2)[:, None], numbers]
    judged, expected = half.judge(contexts, numbers), other.judge(contexts, poses)
    torch.testing.assert_close(judged.reward, expected.reward)
    targets = half.targets(contexts)
    logged = other.targets(contexts)
    apart = (answers[..., :2] - logged[..., :2]).norm(dim=-1).mean(-1)
    torch.testing.assert_close(targets[:, 0], apart.argmin(1))


def test_the_target_of_a_chain_is_the_likeliest_of_the_untuned_policy(halves):
    half = halves["chains"]
    contexts = torch.from_numpy(half.contexts(TRAINING))[:2]
    best = half.policy.sample(half.batch(contexts), 1, seed=3, beam=True).responses
    torch.testing.assert_close(half.targets(contexts), best)


def test_a_style_is_imitated_from_the_teacher_and_else_from_the_log(half, paths):
    """The teacher of the fixtures drives at 4, 8 and 12 m/s and was told -0.6, 0.2 and 1."""
    teacher = read_artifact(paths["teacher"], kind="teacher")
    moments = half._moments
    rows = len(moments.splits)
    values = torch.zeros(rows, 8)
    values[:, 0] = 0.2
    told = StyleCondition(values, torch.zeros(rows, 8, dtype=torch.bool))
    arrays = teacher.arrays("teacher")
    told = replace(told, mask=torch.from_numpy(np.array(arrays["style_mask"][:rows, 1])))
    other = StyleCondition(-values, told.mask)
    found = imitated(moments, {"told": told, "other": other}, teacher).view(rows, 2, 8, 3)
    expected = 8.0 * 0.5 * torch.arange(1, 9)
    torch.testing.assert_close(found[:, 0, :, 0], expected.expand(rows, -1))
    logged = imitated(moments, {"told": told}, None)
    torch.testing.assert_close(found[:, 1], logged)
    times = moments.world.now + 5 * torch.arange(1, 9)
    torch.testing.assert_close(logged[..., :2], moments.world.ego_poses[:, times, :2].clone())


def test_a_drive_that_is_missing_or_began_elsewhere_is_not_imitated(half, paths, monkeypatch):
    teacher = read_artifact(paths["teacher"], kind="teacher")
    ids = half._moments.world.sample_ids.numpy()
    poses, there, values, asked = teacher_drives(teacher, ids)
    style = StyleCondition(values[:, 1].clone(), asked[:, 1].clone())
    logged = torch.zeros(len(ids), 8, 3)
    assert torch.equal(of_teacher((poses, there, values, asked), style, logged), poses[:, 1])
    none = of_teacher((poses, torch.zeros_like(there), values, asked), style, logged)
    assert torch.equal(none, logged)

    arrays = dict(teacher.arrays("teacher"))
    arrays["displacement"] = arrays["displacement"] + np.float32(0.1)
    monkeypatch.setattr(type(teacher), "arrays", lambda *_: arrays)
    assert not teacher_drives(teacher, ids)[1].any()


def test_an_evaluation_drives_the_planners_own_plan(half):
    found = half.evaluate(half.policy, VALIDATION)
    contexts = torch.from_numpy(half.contexts(VALIDATION))
    context = half.batch(contexts)
    best = half.policy.planner.plan(context.scene, context.style).best
    driven = drive(half._moments, half.moment(contexts), best[:, None])
    np.testing.assert_allclose(found.values["pdms"], driven.parts["pdms"][:, 0].numpy())
    np.testing.assert_allclose(
        found.values["collision"], 1 - driven.parts["no_collision"][:, 0].numpy()
    )
    gate = driven.gate[:, 0].numpy()
    np.testing.assert_allclose(
        found.values["safe_style_match"], found.values["style_match"] * gate, rtol=1e-6
    )
    assert found.lower_is_better == {"collision", "off_road", "ade_m"}
    tau = found.values["style_tau"]
    assert np.isnan(tau[1::2]).all()
    speeds = driven.measured.raw[:, 0, GOAL_NAMES.index("mean_speed")].view(-1, 2)
    faster = torch.sign(speeds[:, 1] - speeds[:, 0]).numpy()
    known = np.isfinite(tau[::2])
    np.testing.assert_allclose(tau[::2][known], faster[known])
    assert found.groups == ["lane_following"] * 8


def test_who_fails_a_gate_matches_no_style_safely(half, monkeypatch):
    """Every second plan is taken to have hit somebody."""

    def struck(moments, rows, poses):
        found = drive(moments, rows, poses)
        hit = (torch.arange(len(rows)) % 2 == 0)[:, None]
        parts = found.parts | {"no_collision": torch.where(hit, 0.5, 1.0)}
        return replace(found, parts=parts | {"drivable_area": torch.ones_like(hit).float()})

    monkeypatch.setattr("driving.tuned_plans.drive", struck)
    found = half.evaluate(half.policy, VALIDATION).values
    assert (found["safe_style_match"][::2] == 0).all()
    np.testing.assert_allclose(found["safe_style_match"][1::2], found["style_match"][1::2])
    assert (found["style_match"][1::2] > 0).all()
    np.testing.assert_allclose(found["collision"][::2], 0.5)


def test_what_is_written_is_read_back(half, checkpoint, tmp_path):
    tuned: Any = TunedPlans(checkpoint=checkpoint, moments=1).open().policy
    with torch.no_grad():
        for weights in tuned.planner.decoder.parameters():
            weights.add_(0.01)
    out = tmp_path / "tuned"
    half.write(tuned, out, command="personalize tune", options={"steps": 3})
    read = load_planner(out)
    for name, value in read.planner.state_dict().items():
        torch.testing.assert_close(value, tuned.planner.state_dict()[name], msg=name)
    manifest = read_artifact(out, kind=KIND).manifest
    assert manifest.configuration["tuned"] == {"steps": 3}
    assert manifest.inputs["checkpoint"] == read_artifact(checkpoint, kind=KIND).content_hash
    with pytest.raises(InputError):
        half.write(tuned, out, command="personalize tune", options={})


def test_options_that_cannot_be_are_refused(checkpoint):
    with pytest.raises(ValueError, match="moments must be at least 1, got 0"):
        TunedPlans(checkpoint=checkpoint, moments=0)
    with pytest.raises(ValueError, match="asked must name distinct styles, at least one, got"):
        TunedPlans(checkpoint=checkpoint, asked=("none", "none"))
    with pytest.raises(InputError, match="there is no condition wild"):
        opened(checkpoint, asked=("wild",))


def test_only_a_diffusion_planner_can_be_tuned(paths, tmp_path):
    folder = write_checkpoint(tmp_path / "mlp", EgoMlp(), {}, paths)
    with pytest.raises(InputError, match="holds a EgoMlp, which cannot be tuned"):
        opened(folder)


def test_a_candidate_of_the_untuned_planner_is_driven_once(halves):
    half = halves["anchors"]
    contexts = torch.from_numpy(half.contexts(TRAINING))[-3:]
    numbers = torch.tensor([[1, 0], [2, 2], [3, 1]])
    driven = []
    judge = half.judge_of
    table = AnchorTable(
        lambda missing: driven.append(missing.tolist()) or half._judged_anchors(missing),
        (int(contexts.max()) + 1, 4, len(REWARDS)),
    )
    first = table(contexts, numbers)
    again = table(contexts.flip(0), numbers.flip(0))
    assert driven == [contexts.tolist()]
    torch.testing.assert_close(again.reward.flip(0), first.reward)
    table(contexts - 1, numbers)
    assert driven[1:] == [[int(contexts[0]) - 1]]
    poses = half._responses.poses(half.batch(contexts), numbers)
    expected = judge(half.moment(contexts), half.style(contexts), poses)
    torch.testing.assert_close(first.reward, expected.reward)
    assert torch.equal(first.gate, expected.gate)
