"""The steered planner: neutral is the planner itself, the order of components, what they cost."""

import copy
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from driving.aimed_planner import AimedPlanner
from driving.goals import PlanGoals, driven_candidates, plan_space, told
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.diffusion_sampler import DiffusionSampler
from driving.planner.goal_worth import no_nearer_contact, smallest_strength, standardized
from driving.planner.guided_steps import guided_steps, no_style, own_calls
from driving.planner.planner import PlannerInput, Plans, StyleCondition
from driving.planner.proposal_score import time_to_collision
from driving.planner.steered import SteeredPlanner
from driving.planner.style_injection import WithoutStyle
from driving.planner.sub_score_heads import Selection as PickedBy
from driving.planner_input import planner_input
from driving.simulation.rollout import roll_out
from personalize.steering.chain import (
    Chain,
    Edits,
    Guidance,
    Lookahead,
    Neighbourhood,
    Selection,
    Telling,
)
from personalize.steering.goals import GoalCloseness, Goals, closeness, no_goals
from personalize.steering.guidance import GuidedPredict, Under
from personalize.steering.particles import ParticleSteering, steer
from tests.driving.planner_fixtures import SMALL, random_style
from tests.driving.small_worlds import Mover, behind_leader, bend, road, stack

SPACE = plan_space(
    {
        "mean_speed": (0.0, 20.0),
        "time_gap": (0.5, 5.0),
        "peak_jerk": (0.0, 6.0),
        "progress": (-10.0, 10.0),
        "clearance": (0.0, 15.0),
    }
)
ROWS = 4
AHEAD_M = 46.0
ANCHORS = SMALL["anchors"]
STRONG = Chain(
    telling=Telling(1.0),
    guidance=Guidance(2.0),
    neighbourhood=Neighbourhood(3, 0.5),
    selection=Selection(50.0, calibrate=True),
)


def shaken(seed: int = 1) -> DiffusionPlanner:
    """Every weight at random, so that nothing that begins at 0 hides a fault."""
    torch.manual_seed(0)
    planner = DiffusionPlanner(**SMALL)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in planner.parameters():
            weights.add_(0.2 * torch.randn(weights.shape, generator=generator))
    return planner.eval()


@pytest.fixture(scope="module")
def planner() -> DiffusionPlanner:
    return shaken()


@pytest.fixture(scope="module")
def scene() -> PlannerInput:
    world = stack(
        [
            road(speed_mps=9.0, movers=[Mover(40.0, speed_mps=7.0), Mover(8.0, 4.0)]),
            bend(radius_m=60.0, speed_mps=6.0),
            behind_leader(gap_m=25.0, leader_mps=8.0, speed_mps=8.0),
            road(speed_mps=5.0),
        ]
    )
    return planner_input(world, world.now)


def goals(rows: int = ROWS, *, seed: int = 0, share: float = 0.6) -> Goals:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, len(SPACE), generator=generator) < share
    mask[:, 0] = True
    return Goals(torch.rand(rows, len(SPACE), generator=generator) * mask, mask)


STYLE = random_style(ROWS, seed=5)


def same(one: Plans, other: Plans) -> bool:
    return torch.equal(one.poses, other.poses) and torch.equal(one.scores, other.scores)


def close(one: Plans, other: Plans) -> None:
    torch.testing.assert_close(one.poses, other.poses, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=1e-4)


@settings(deadline=None, derandomize=True, max_examples=5)
@given(angle=st.floats(0.0, 3.0), calibrate=st.booleans(), seed=st.integers(0, 5))
def test_a_neutral_chain_is_the_planner_itself(angle: float, calibrate: bool, seed: int):
    planner, world = shaken(), road(speed_mps=9.0)
    view = planner_input(world, world.now)
    style, chain = random_style(1, seed=seed), Chain(
        neighbourhood=Neighbourhood(3, angle),
        particles=ParticleSteering(2 * ANCHORS, 0.0),
        selection=Selection(0.0, calibrate=calibrate),
        edits=Edits(None, 1.0),
    )  # fmt: skip
    steered = SteeredPlanner(planner, chain, SPACE)
    assert steered.neutral
    found = steered.plan_to(view, style, goals(1, seed=seed), seed=seed)
    assert same(found, planner.plan(view, style, seed=seed))


def test_without_goals_a_strong_chain_is_the_planner_itself(planner, scene):
    steered = SteeredPlanner(planner, STRONG, SPACE)
    assert not steered.neutral
    found = steered.plan_to(scene, STYLE, no_goals(ROWS, len(SPACE)), seed=2)
    assert same(found, planner.plan(scene, STYLE, seed=2))


def test_rows_that_ask_for_nothing_get_the_planners_own_plans(planner, scene):
    asked = goals()
    some = torch.tensor([True, False, True, False])
    asked = Goals(asked.values * some[:, None], asked.mask & some[:, None])
    found = SteeredPlanner(planner, STRONG, SPACE).plan_to(scene, STYLE, asked)
    own = planner.plan(scene, STYLE)
    torch.testing.assert_close(found.poses[1::2, :ANCHORS], own.poses[1::2])
    torch.testing.assert_close(found.scores[1::2, :ANCHORS], own.scores[1::2])
    assert (found.scores[1::2, ANCHORS:] == -torch.inf).all()
    whole = SteeredPlanner(planner, STRONG, SPACE).plan_to(scene, STYLE, goals())
    torch.testing.assert_close(found.poses[::2], whole.poses[::2], atol=1e-5, rtol=1e-5)


CHAINS = {
    "strong": STRONG,
    "told": Chain(telling=Telling(0.7)),
    "selected": Chain(selection=Selection(30.0)),
    "particles": Chain(particles=ParticleSteering(2 * ANCHORS, 5.0), guidance=Guidance(1.5)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_batch_is_its_rows_and_a_seed_its_answer(planner, scene, name):
    steered, asked = SteeredPlanner(planner, CHAINS[name], SPACE, denoising_steps=3), goals()
    found = steered.plan_to(scene, STYLE, asked, seed=3)
    assert same(found, steered.plan_to(scene, STYLE, asked, seed=3))
    for row in (0, 2):
        one = slice(row, row + 1)
        alone = steered.plan_to(scene.rows(one), STYLE.rows(one), asked.rows(one), seed=3)
        close(alone, Plans(found.poses[one], found.scores[one]))


def test_telling_alone_is_the_planner_under_the_told_style(planner, scene):
    asked = goals()
    found = SteeredPlanner(planner, Chain(Telling(0.6)), SPACE).plan_to(scene, STYLE, asked)
    close(found, planner.plan(scene, told(STYLE, asked, SPACE.names, strength=0.6)))
    own = planner.plan(scene, STYLE)
    assert not torch.allclose(found.poses, own.poses, atol=1e-3)


def test_what_is_told_is_preferred_where_the_planner_picks_by_preference(scene):
    planner, asked = shaken(3), goals()
    planner.sub_score_heads.known.fill_(value=True)
    planner.selection = PickedBy(preference_weight=2.0, safety_gate=0.1)
    style = told(STYLE, asked, SPACE.names, strength=0.6)
    found = SteeredPlanner(planner, Chain(Telling(0.6)), SPACE).plan_to(scene, STYLE, asked)
    close(found, planner.plan(scene, style))


@pytest.mark.parametrize("weight", [0.0, 1.0, 1.7])
def test_guided_steps_are_the_planners_own(planner, scene, weight):
    own = copy.deepcopy(planner)
    own.guidance = weight
    expected = own.plan(scene, STYLE, seed=4)
    found = guided_steps(planner, scene, STYLE, weight=weight, seed=4)
    close(planner.picked(scene, found.encoded, found.changes, found.logits, STYLE), expected)
    if weight == 1.0:
        plans = planner.picked(scene, found.encoded, found.changes, found.logits, STYLE)
        assert same(plans, expected)


def test_away_from_a_negative_by_hand(planner, scene):
    worse = shaken(9)
    for name in ("anchors", "centre_m", "scale_m", "unit"):
        getattr(worse, name).copy_(getattr(planner, name))
    none = no_style(STYLE)
    at_zero = guided_steps(planner, scene, STYLE, weight=0.0, negative=worse)
    alone = guided_steps(worse, scene, none)
    torch.testing.assert_close(at_zero.changes, alone.changes)
    torch.testing.assert_close(at_zero.logits, alone.logits)
    away = guided_steps(planner, scene, STYLE, weight=2.0, negative=worse)
    plain = guided_steps(planner, scene, STYLE)
    assert not torch.allclose(away.changes, plain.changes, atol=1e-3)
    unasked = guided_steps(planner, scene, STYLE, weight=1.0, negative=worse)
    assert torch.equal(unasked.changes, plain.changes)
    chain = Chain(guidance=Guidance(2.0, Path("worse")))
    steered = SteeredPlanner(planner, chain, SPACE, negative=worse)
    found = steered.plan_to(scene, STYLE, goals())
    expected = planner.picked(scene, away.encoded, away.changes, away.logits, STYLE)
    torch.testing.assert_close(found.poses, expected.poses)


def test_the_chains_weight_comes_before_the_planners_own(scene):
    planner = shaken()
    planner.guidance = 1.5
    asked = goals()
    told_only = SteeredPlanner(planner, Chain(Telling(1.0)), SPACE).plan_to(scene, STYLE, asked)
    style = told(STYLE, asked, SPACE.names, strength=1.0)
    close(told_only, planner.plan(scene, style))
    chain = Chain(Telling(1.0), guidance=Guidance(3.0))
    found = SteeredPlanner(planner, chain, SPACE).plan_to(scene, STYLE, asked)
    planner.guidance = 3.0
    close(found, planner.plan(scene, style))


def gated() -> DiffusionPlanner:
    """A planner whose gate keeps many candidates out."""
    planner = shaken(3)
    planner.sub_score_heads.known.fill_(value=True)
    planner.selection = PickedBy(safety_gate=0.999)
    return planner


@pytest.mark.parametrize("strength", [1.0, 1e4])
def test_what_the_gate_keeps_out_stays_out(scene, strength):
    planner = gated()
    own = planner.plan(scene, STYLE)
    shut = own.scores == -torch.inf
    assert shut.any()
    assert not shut.all()
    chain = Chain(selection=Selection(strength))
    found = SteeredPlanner(planner, chain, SPACE).plan_to(scene, STYLE, goals())
    torch.testing.assert_close(found.poses, own.poses)
    assert (found.scores[shut] == -torch.inf).all()
    assert (found.scores > -torch.inf).any(1).all()


def test_a_great_strength_takes_the_nearest_that_is_admitted(planner, scene):
    asked = goals(seed=2)
    chain = Chain(selection=Selection(1e6))
    found = SteeredPlanner(planner, chain, SPACE).plan_to(scene, STYLE, asked)
    rewards = PlanGoals(SPACE)(found.poses, scene)
    for row in range(ROWS):
        best, nearest = None, float("inf")
        for candidate in range(ANCHORS):
            gap = (rewards[row, candidate] - asked.values[row])[asked.mask[row]]
            if found.scores[row, candidate] > -torch.inf and gap.square().sum() < nearest:
                best, nearest = candidate, gap.square().sum()
        assert found.scores[row].argmax().item() == best


def test_what_is_held_stays_as_in_the_planners_own_choice(planner, scene):
    asked = goals(seed=6, share=0.0)
    chain = Chain(selection=Selection(1e6, hold=True))
    found = SteeredPlanner(planner, chain, SPACE).plan_to(scene, STYLE, asked)
    reward = PlanGoals(SPACE)
    rewards = reward(found.poses, scene)
    own = reward(planner.plan(scene, STYLE).best[:, None], scene)
    for row in range(ROWS):
        wanted = own[row, 0].clone()
        wanted[0] = asked.values[row, 0]
        gaps = (rewards[row] - wanted).square().sum(-1)
        gaps = gaps.masked_fill(found.scores[row] == -torch.inf, torch.inf)
        assert found.scores[row].argmax() == gaps.argmin()


def leftmost(poses: Tensor, scene: PlannerInput, style: StyleCondition) -> Tensor:
    """Likes to end on the left."""
    return poses[..., -1, 1]


def test_a_critic_is_asked_in_its_own_spread(planner, scene):
    chain = Chain(selection=Selection(critic_weight=1e6))
    steered = SteeredPlanner(planner, chain, SPACE, critic=leftmost)
    found = steered.plan_to(scene, STYLE, goals())
    admitted = found.scores > -torch.inf
    ends = found.poses[..., -1, 1].masked_fill(~admitted, -torch.inf)
    assert torch.equal(found.scores.argmax(1), ends.argmax(1))
    values = torch.tensor([[1.0, 2.0, 6.0]])
    torch.testing.assert_close(standardized(values), standardized(100 * values + 3))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_the_smallest_strength_is_enough_and_the_one_before_is_not(seed: int):
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.rand(1, 6, generator=generator)
    scores[0, 2] = -torch.inf
    near = -torch.rand(1, 6, generator=generator)
    found = smallest_strength(scores, near, largest=100.0)[0]
    tried = [0.0] + [100.0 * 1e-3 ** (number / 23) for number in reversed(range(24))]

    def away(strength: float) -> float:
        return (-near[0, (scores + strength * near)[0].argmax()]).sqrt().item()

    enough = [strength for strength in tried if away(strength) <= away(100.0) + 0.02]
    assert found.item() == pytest.approx(enough[0], rel=1e-4)


def test_calibration_counts_what_a_critic_says_and_what_comes_nearer_to_a_contact(planner):
    world = stack([road(speed_mps=9.0, movers=[Mover(AHEAD_M)])] * ROWS)
    view, asked = planner_input(world, world.now), goals(seed=7)
    own = planner.plan(view, STYLE)
    contact_s = time_to_collision(view, driven_candidates(view, own.poses))
    kept = no_nearer_contact(contact_s, own.scores)
    assert not kept.all()
    told_apart = own.scores + 5.0 * standardized(leftmost(own.poses, view, STYLE))
    before = told_apart.masked_fill(~kept, -torch.inf)
    near = closeness(PlanGoals(SPACE)(own.poses, view), asked)
    least = smallest_strength(before, near, largest=500.0)
    assert not torch.equal(least, smallest_strength(own.scores, near, largest=500.0))
    chain = Chain(selection=Selection(500.0, calibrate=True, critic_weight=5.0))
    steered = SteeredPlanner(planner, chain, SPACE, critic=leftmost)
    found = steered.plan_to(view, STYLE, asked)
    torch.testing.assert_close(found.scores, before + least[:, None] * near, atol=1e-3, rtol=1e-4)


def test_calibration_is_as_near_with_more_of_the_planners_own_score(planner, scene):
    asked = goals(seed=7)
    fixed = Chain(selection=Selection(500.0))
    least = Chain(selection=Selection(500.0, calibrate=True))
    found = [SteeredPlanner(planner, c, SPACE).plan_to(scene, STYLE, asked) for c in (fixed, least)]
    own = planner.plan(scene, STYLE).scores
    gaps = [
        (-closeness(PlanGoals(SPACE)(one.best[:, None], scene), asked))[:, 0].sqrt()
        for one in found
    ]
    assert (gaps[1] <= gaps[0] + 0.02 + 1e-5).all()
    merits = [own.gather(1, one.scores.argmax(1, keepdim=True)) for one in found]
    assert (merits[1] >= merits[0]).all()
    with pytest.raises(ValueError, match="largest must be at least 0, got -1"):
        smallest_strength(own, own, largest=-1.0)


def test_no_selection_brings_a_contact_nearer(planner):
    """A car stands 41 m ahead: whatever is asked, the pick hits it no sooner."""
    world = stack([road(speed_mps=9.0, movers=[Mover(AHEAD_M)])] * ROWS)
    view = planner_input(world, world.now)
    wanted = Goals(torch.ones(ROWS, len(SPACE)), torch.zeros(ROWS, len(SPACE), dtype=torch.bool))
    wanted.mask[:, 0] = True
    own = planner.plan(view, STYLE)
    time_s = time_to_collision(view, driven_candidates(view, own.poses))
    own_place = own.scores.argmax(1, keepdim=True)
    least = time_s.gather(1, own_place).clamp_max(0.95)
    assert (time_s < least).any()
    for strength in (1.0, 1e5):
        chain = Chain(selection=Selection(strength))
        found = SteeredPlanner(planner, chain, SPACE).plan_to(view, STYLE, wanted)
        assert torch.equal(found.scores == -torch.inf, time_s < least)
        assert (found.scores.gather(1, own_place) > -torch.inf).all()
    contact_s = torch.tensor([[0.5, 0.4, 0.6, 3.0], [5.0, 0.4, 1.0, 0.96]])
    taken = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2)
    expected = [[True, False, True, True], [True, False, True, True]]
    assert no_nearer_contact(contact_s, taken).tolist() == expected


def test_a_neighbourhood_adds_sets_that_are_told_goals_near_the_stated_one(planner, scene):
    asked = goals()
    chain = Chain(Telling(1.0), neighbourhood=Neighbourhood(3, 0.6), selection=Selection(1e5))
    found = SteeredPlanner(planner, chain, SPACE).plan_to(scene, STYLE, asked)
    alone = Chain(Telling(1.0), selection=Selection(1e5))
    own = SteeredPlanner(planner, alone, SPACE).plan_to(scene, STYLE, asked)
    assert found.poses.shape[1] == 3 * ANCHORS
    torch.testing.assert_close(found.poses[:, :ANCHORS], own.poses)
    for number in (1, 2):
        part = found.poses[:, number * ANCHORS : (number + 1) * ANCHORS]
        assert not torch.allclose(part, own.poses, atol=1e-3)
    centre = Goals(torch.full((ROWS, len(SPACE)), 0.5), torch.ones_like(asked.mask))
    still = SteeredPlanner(planner, chain, SPACE).plan_to(scene, STYLE, centre)
    torch.testing.assert_close(still.poses[:, ANCHORS : 2 * ANCHORS], still.poses[:, :ANCHORS])


def test_neighbours_lie_within_their_angle_around_the_centre(planner):
    steered = SteeredPlanner(planner, replace(STRONG, neighbourhood=Neighbourhood(40, 0.4)), SPACE)
    asked = Goals(torch.tensor([[0.8, 0.5, 0.4, 0.5, 0.6]]), torch.ones(1, 5, dtype=torch.bool))
    near = steered.around(asked, seed=0)
    assert len(near) == 40
    assert near[0] is asked
    stated = asked.values - 0.5
    for other in near[1:]:
        moved = other.values - 0.5
        torch.testing.assert_close(moved.norm(), stated.norm())
        cosine = (moved * stated).sum() / stated.norm().square()
        assert cosine >= torch.cos(torch.tensor(0.4)) - 1e-4


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (Chain(Telling(1.0)), 2),
        (Chain(Telling(1.0), guidance=Guidance(2.0)), 4),
        (Chain(Telling(1.0), guidance=Guidance(2.0), neighbourhood=Neighbourhood(3, 0.5)), 12),
        (Chain(particles=ParticleSteering(ANCHORS, 2.0)), 3),
        (Chain(particles=ParticleSteering(3 * ANCHORS, 2.0), guidance=Guidance(2.0)), 18),
        (Chain(selection=Selection(9.0, calibrate=True)), 2),
        (Chain(selection=Selection(9.0, hold=True)), 4),
        (Chain(Telling(1.0), selection=Selection(hold=True)), 2),
    ],
)
def test_calls_are_what_the_decoder_is_really_asked(planner, scene, chain, expected):
    steered, asked = SteeredPlanner(planner, chain, SPACE, denoising_steps=3), 0

    def count(module, inputs, output):
        nonlocal asked
        asked += len(inputs[0])

    handle = planner.decoder.register_forward_hook(count)
    steered.plan_to(scene, STYLE, goals())
    handle.remove()
    assert asked == expected * ROWS
    assert steered.calls == expected


def test_particles_are_drawn_towards_the_goals(planner, scene):
    asked = goals(seed=4)
    chain = Chain(particles=ParticleSteering(4 * ANCHORS, 50.0))
    found = SteeredPlanner(planner, chain, SPACE).plan_to(scene, STYLE, asked)
    assert found.poses.shape[1] == 4 * ANCHORS
    reward = PlanGoals(SPACE)
    gap = -closeness(reward(found.best[:, None], scene), asked)
    own = -closeness(reward(planner.plan(scene, STYLE).best[:, None], scene), asked)
    assert gap.mean() < own.mean()


def test_particles_are_guided_from_no_style_and_weighed_by_the_stated_goals(scene):
    """By hand, set by set: told goals near the stated ones, guided as the planner itself is."""
    planner, asked = shaken(), goals(seed=4)
    planner.guidance = 1.7
    settings = ParticleSteering(2 * ANCHORS, 8.0)
    chain = Chain(Telling(1.0), particles=settings, neighbourhood=Neighbourhood(2, 0.6))
    steered = SteeredPlanner(planner, chain, SPACE, denoising_steps=3)
    found = steered.plan_to(scene, STYLE, asked, seed=6)
    sampler = DiffusionSampler(planner, steps=3)
    away = Under(sampler.predict, no_style(STYLE))
    for number, near in enumerate(steered.around(asked, 6)):
        with torch.no_grad():
            expected = steer(
                sampler,
                scene,
                told(STYLE, near, SPACE.names, strength=1.0),
                GoalCloseness(PlanGoals(SPACE), asked),
                settings,
                predict=GuidedPredict(sampler.predict, away, 1.7),
                seed=6,
            )
        part = slice(number * settings.count, (number + 1) * settings.count)
        torch.testing.assert_close(found.poses[:, part], expected.x, atol=1e-3, rtol=1e-3)


def test_every_set_of_a_neighbourhood_has_the_same_share_of_the_choice(scene):
    planner = shaken()
    planner.selection = PickedBy(safety_gate=0.0, central=False)
    chain = Chain(Telling(1.0), neighbourhood=Neighbourhood(3, 0.8))
    found = SteeredPlanner(planner, chain, SPACE).plan_to(scene, STYLE, goals())
    shares = found.scores.exp().unflatten(1, (3, ANCHORS)).sum(-1)
    torch.testing.assert_close(shares, torch.full((ROWS, 3), 1 / 3))


def test_edits_surround_every_set_with_its_goals(planner, scene):
    opened: list[Goals] = []
    inside = False

    @contextmanager
    def edit(wanted: Goals):
        nonlocal inside
        opened.append(wanted)
        inside = True
        yield
        inside = False

    seen: list[bool] = []
    handle = planner.encoder.register_forward_hook(lambda *_: seen.append(inside))
    chain = Chain(edits=Edits(Path("maps"), 0.5), neighbourhood=Neighbourhood(2, 0.3))
    asked = goals()
    SteeredPlanner(planner, chain, SPACE, edits=edit).plan_to(scene, STYLE, asked)
    handle.remove()
    assert len(opened) == 2
    assert opened[0] is asked
    assert seen == [False, True, True]  # the gate judges the scene as it is
    assert not inside


def test_an_aimed_planner_plans_towards_its_goals_and_drives(planner):
    world = stack([road(speed_mps=9.0), bend(radius_m=60.0, speed_mps=6.0)])
    view = planner_input(world, world.now)
    steered, asked = SteeredPlanner(planner, CHAINS["selected"], SPACE), goals(2)
    aimed, style = AimedPlanner(steered, asked), STYLE.rows(slice(0, 2))
    assert same(aimed.plan(view, style, seed=1), steered.plan_to(view, style, asked, seed=1))
    ride = roll_out(world, aimed, style, duration_s=1.0).ego
    assert ride.poses.isfinite().all()


def test_what_cannot_be_steered_is_refused(planner, scene):
    options: dict[str, Any]
    other = DiffusionPlanner(**{**SMALL, "anchors": ANCHORS + 1})
    for chain, options, words in (
        (Chain(lookahead=Lookahead(2.0)), {}, "chain.lookahead steers semantic IDs only"),
        (Chain(edits=Edits(Path("x"), 1.0)), {}, "chain.edits is asked for but was not opened"),
        (Chain(guidance=Guidance(2.0, Path("x"))), {}, "chain.guidance.negative is asked for"),
        (Chain(selection=Selection(critic_weight=1.0)), {}, "chain.selection.critic is asked for"),
        (Chain(), {"negative": other}, "negative must have the planner's anchors"),
        (
            Chain(particles=ParticleSteering(ANCHORS, 1.0)),
            {"negative": planner},
            "particles can be guided away from no style only",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            SteeredPlanner(planner, chain, SPACE, **options)
    with pytest.raises(ValueError, match=r"goals must be 4 rows of mean_speed, .* got \(3, 5\)"):
        SteeredPlanner(planner, STRONG, SPACE).plan_to(scene, STYLE, goals(3))


def test_a_planner_that_reads_no_style_is_not_guided(scene):
    torch.manual_seed(0)
    blind = DiffusionPlanner(**SMALL, injection=WithoutStyle()).eval()
    blind.guidance = 3.0
    steered = SteeredPlanner(blind, Chain(selection=Selection(5.0)), SPACE)
    assert steered.calls == 2
    assert own_calls(blind) == 2
    asked: list[int] = []
    handle = blind.decoder.register_forward_hook(lambda *called: asked.append(len(called[1][0])))
    blind.plan(scene, STYLE)
    handle.remove()
    assert asked == [ROWS] * 2
