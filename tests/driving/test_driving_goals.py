"""Goals of plans: worked out by hand, against the measures of styles, and their laws."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.evaluation.judge import driven_world, one_candidate, tracked
from driving.goal_measures import GOAL_NAMES, foreseen, looked_at, measured
from driving.goals import PlanGoals, driven_candidates, driven_goals, plan_space, told
from driving.planner.planner import StyleCondition
from driving.planner_input import planner_input
from driving.simulation.state import Motion
from driving.style.features import measure
from driving.world import AGENT_PEDESTRIAN, AGENT_STATIC, AGENT_VEHICLE, World
from personalize.steering.goals import Goals
from tests.driving.planner_fixtures import no_style, padded_scene, random_futures, random_style
from tests.driving.small_worlds import Mover, behind_leader, bend, road, stack

LIMITS = {
    "mean_speed": (0.0, 20.0),
    "time_gap": (0.5, 5.0),
    "peak_acceleration": (0.0, 3.0),
    "peak_jerk": (0.0, 6.0),
    "peak_lateral_acceleration": (0.0, 4.0),
    "progress": (-10.0, 10.0),
    "clearance": (0.0, 15.0),
}


def straight_ride(speed_mps: float, acceleration_mps2: float = 0.0) -> Motion:
    """One ride along x, without tracker."""
    time_s = 0.1 * torch.arange(41)
    speed = speed_mps + acceleration_mps2 * time_s
    x = speed_mps * time_s + acceleration_mps2 * time_s.square() / 2
    poses = torch.stack([x, torch.zeros(41), torch.zeros(41)], -1)
    nothing = torch.zeros(1, 1, 41)
    return Motion(poses[None, None], speed[None, None], nothing, nothing, nothing)


def values_of(world: World, ride: Motion) -> dict[str, float]:
    found = driven_goals(world, ride)
    return dict(zip(GOAL_NAMES, found.raw[0, 0].tolist(), strict=True))


def candidates(rows: int, count: int = 5, seed: int = 3) -> Tensor:
    return random_futures(rows * count, seed=seed).unflatten(0, (rows, count))


def crowd() -> World:
    """Three worlds in which everybody keeps velocity."""
    return stack(
        [
            road(speed_mps=9.0, movers=[Mover(25.0, speed_mps=7.0), Mover(8.0, 3.5, math.pi)]),
            bend(radius_m=60.0, speed_mps=6.0),
            behind_leader(gap_m=12.0, leader_mps=5.0, speed_mps=8.0),
        ]
    )


def test_by_hand_a_ride_at_constant_speed_behind_a_slower_car():
    # 10 m/s behind 8 m/s: the gap of 20 m is 16 m at 2 s and 12 m at 4 s
    found = values_of(behind_leader(gap_m=20.0, leader_mps=8.0), straight_ride(10.0))
    assert found["mean_speed"] == pytest.approx(10.0, abs=1e-4)
    assert found["time_gap"] == pytest.approx(1.2, abs=1e-3)
    assert found["clearance"] == pytest.approx(12.0, abs=1e-3)
    assert found["progress"] == pytest.approx(0.0, abs=1e-3)
    for name in ("peak_acceleration", "peak_jerk", "peak_lateral_acceleration"):
        assert found[name] == pytest.approx(0.0, abs=2e-2), name


def test_by_hand_a_ride_that_speeds_up():
    found = values_of(road(), straight_ride(10.0, 1.5))
    assert found["mean_speed"] == pytest.approx(13.0, abs=1e-3)
    assert found["peak_acceleration"] == pytest.approx(1.5, abs=1e-2)
    assert found["progress"] == pytest.approx(12.0, abs=1e-2)  # 52 m, at 10 m/s 40 m
    assert found["clearance"] == 15.0


def test_braking_is_no_acceleration_and_falls_behind():
    found = values_of(road(), straight_ride(10.0, -2.0))
    assert found["peak_acceleration"] == 0.0
    assert found["progress"] == pytest.approx(-16.0, abs=1e-2)


def test_in_a_bend_the_lateral_acceleration_is_speed_squared_over_the_radius():
    world = bend(radius_m=50.0, speed_mps=10.0)
    poses = world.ego_poses[:, world.now : world.now + 41][None]
    nothing = torch.zeros(1, 1, 41)
    ride = Motion(poses, torch.full((1, 1, 41), 10.0), nothing, nothing, nothing)
    assert values_of(world, ride)["peak_lateral_acceleration"] == pytest.approx(2.0, rel=0.02)


def test_who_follows_nobody_has_no_time_gap():
    alone = driven_goals(road(), straight_ride(10.0))
    place = GOAL_NAMES.index("time_gap")
    assert not alone.mask[0, 0, place]
    assert alone.raw[0, 0, place] == 6.0
    others = [name for name in GOAL_NAMES if name != "time_gap"]
    assert all(alone.mask[0, 0, GOAL_NAMES.index(name)] for name in others)
    standing = driven_goals(behind_leader(leader_mps=0.0, speed_mps=0.0), straight_ride(0.0))
    assert not standing.mask[0, 0, place]


def test_a_gap_before_two_seconds_does_not_count():
    # a car 6 m ahead that pulls away: 1.5 s of gap at 2 s, more later, less before
    world = behind_leader(gap_m=6.0, leader_mps=12.0, speed_mps=8.0)
    assert values_of(world, straight_ride(8.0))["time_gap"] == pytest.approx(14.0 / 8, abs=1e-3)


def test_clearance_is_of_anybody_and_begins_after_the_present():
    beside = Mover(-3.0, 4.0, kind=AGENT_PEDESTRIAN, length_m=0.6, width_m=0.6)
    away_m = 4.0 - 0.3 - 1.0
    found = values_of(road(movers=[beside]), straight_ride(10.0))["clearance"]
    rear_m = 4.0 - 2.4  # after 0.4 s at 10 m/s; at present the ego is right beside the pedestrian
    assert found == pytest.approx(math.hypot(away_m, rear_m + 3.0 - 0.3), abs=1e-3)
    ahead = road(movers=[Mover(30.0)])
    assert values_of(ahead, straight_ride(10.0))["clearance"] == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_the_measures_are_those_of_styles(seed: int):
    world = crowd()
    scene = planner_input(world, world.now)
    plan = random_futures(3, seed=seed)
    ride = tracked(scene, plan)
    found = driven_goals(world, one_candidate(ride))
    oracle = measure(driven_world(world, ride))
    for goal, name in (
        ("mean_speed", "mean_speed_mps"),
        ("peak_acceleration", "peak_acceleration_mps2"),
        ("peak_jerk", "peak_jerk_mps3"),
        ("peak_lateral_acceleration", "peak_lateral_acceleration_mps2"),
    ):
        mine = found.raw[:, 0, GOAL_NAMES.index(goal)]
        torch.testing.assert_close(mine, oracle.column(name)[0], atol=2e-4, rtol=1e-4)


def test_candidates_are_driven_as_single_plans_are():
    world = crowd()
    scene = planner_input(world, world.now)
    poses = candidates(3)
    many = driven_candidates(scene, poses)
    for number in range(poses.shape[1]):
        one = tracked(scene, poses[:, number])
        torch.testing.assert_close(many.poses[:, number], one.poses, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(many.speed_mps[:, number], one.speed_mps, atol=1e-4, rtol=1e-4)


def test_what_is_foreseen_is_what_happens_where_everybody_keeps_velocity():
    world = crowd()
    scene = planner_input(world, world.now)
    rides = driven_candidates(scene, candidates(3))
    guess, truth = measured(rides, foreseen(scene)), driven_goals(world, rides)
    assert torch.equal(guess.mask, truth.mask)
    torch.testing.assert_close(guess.raw, truth.raw, atol=0.02, rtol=1e-3)


def test_what_cannot_move_is_not_foreseen_to():
    world = road(movers=[Mover(30.0, 4.0, speed_mps=5.0, kind=AGENT_VEHICLE)])
    scene = planner_input(world, world.now)
    moving = foreseen(scene).agent_poses[0, 0, -1, 0]
    fixed = replace(scene, agent_kinds=torch.full_like(scene.agent_kinds, AGENT_STATIC))
    assert moving.item() == pytest.approx(50.0, abs=1e-3)
    assert foreseen(fixed).agent_poses[0, 0, -1, 0].item() == pytest.approx(30.0, abs=1e-4)


def test_the_others_are_looked_at_every_four_tenths_of_a_second():
    world = looked_at(crowd())
    assert world.step_s == pytest.approx(0.4)
    assert world.agent_poses.shape[2] == 11
    full = crowd()
    same = full.agent_poses[:, :, full.now + 40]
    torch.testing.assert_close(world.agent_poses[:, :, -1], same)


@settings(deadline=None, derandomize=True, max_examples=3)
@given(seed=st.integers(0, 1000))
def test_a_row_depends_on_itself_alone_and_candidates_may_change_places(seed: int):
    world = crowd()
    scene = planner_input(world, world.now)
    reward, poses = PlanGoals(plan_space(LIMITS)), candidates(3, seed=seed)
    found = reward(poses, scene)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(poses.shape[1]))
    torch.testing.assert_close(reward(poses[:, order], scene), found[:, order])
    for row in range(3):
        one = slice(row, row + 1)
        torch.testing.assert_close(
            reward(poses[one], scene.rows(one)), found[one], atol=1e-5, rtol=1e-5
        )
    torch.testing.assert_close(reward(poses, padded_scene(scene)), found, atol=1e-5, rtol=1e-5)
    assert found.isfinite().all()
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_left_and_right_are_alike():
    world = crowd()
    scene = planner_input(world, world.now)
    flip = {
        "ego_history": torch.tensor([1.0, -1.0, -1.0, 1.0]),
        "agents": torch.tensor([1.0, -1.0, -1.0, 1.0, -1.0]),
        "lines": torch.tensor([1.0, -1.0]),
        "route": torch.tensor([1.0, -1.0]),
    }
    mirrored = replace(scene, **{name: getattr(scene, name) * sign for name, sign in flip.items()})
    poses = candidates(3)
    reward = PlanGoals(plan_space(LIMITS))
    there = reward(poses * torch.tensor([1.0, -1.0, -1.0]), mirrored)
    torch.testing.assert_close(there, reward(poses, scene), atol=1e-4, rtol=1e-4)


def test_a_space_of_some_goals_has_their_columns_in_order():
    few = {name: LIMITS[name] for name in ("clearance", "mean_speed")}
    whole, some = PlanGoals(plan_space(LIMITS)), PlanGoals(plan_space(few))
    assert some.names == ("mean_speed", "clearance")
    world = crowd()
    scene = planner_input(world, world.now)
    poses = candidates(3)
    columns = [GOAL_NAMES.index(name) for name in some.names]
    torch.testing.assert_close(some(poses, scene), whole(poses, scene)[..., columns])


def test_other_units_change_nothing():
    raw = torch.tensor([[3.0, 7.5], [12.0, 20.0]])
    space = plan_space({"mean_speed": (2.0, 16.0), "clearance": (0.0, 15.0)})
    factor = torch.tensor([3.6, 100.0])
    other = plan_space({"mean_speed": (7.2, 57.6), "clearance": (0.0, 1500.0)})
    torch.testing.assert_close(other.normalized(raw * factor), space.normalized(raw))


def test_bad_limits_and_rides_are_refused():
    with pytest.raises(ValueError, match="there is no goal haste of plans; known are mean_speed"):
        plan_space({"haste": (0.0, 1.0)})
    with pytest.raises(ValueError, match="limits of progress must ascend, got 2 and 1"):
        plan_space({"progress": (2.0, 1.0)})
    short = Motion(*(value[:, :, :31] for value in vars(straight_ride(5.0)).values()))
    with pytest.raises(ValueError, match="rides must have 41 steps, got 31"):
        driven_goals(road(), short)


NAMES = tuple(LIMITS)


def goals(**values: float) -> Goals:
    found = torch.zeros(1, len(NAMES))
    mask = torch.zeros(1, len(NAMES), dtype=torch.bool)
    for name, value in values.items():
        found[0, NAMES.index(name)], mask[0, NAMES.index(name)] = value, True
    return Goals(found, mask)


def told_values(style: StyleCondition) -> dict[str, float]:
    return {
        name: round(float(style.values[0, number]), 4)
        for number, name in enumerate(STYLE_DIMENSIONS)
        if style.mask[0, number]
    }


def test_goals_are_told_as_styles():
    asked = goals(time_gap=0.0, peak_jerk=1.0, clearance=0.75, peak_lateral_acceleration=0.5)
    assert told_values(told(no_style(1), asked, NAMES, strength=0.8)) == {
        "time_gap": -0.8,
        "jerk": 0.8,
        "lateral_acceleration": 0.0,
        "yielding_margin": 0.4,
    }
    both = goals(mean_speed=1.0, progress=0.5, peak_acceleration=0.25)
    assert told_values(told(no_style(1), both, NAMES, strength=1.0)) == {
        "speed": 0.5,
        "acceleration": -0.5,
    }


def test_a_persons_own_style_stays_where_nothing_is_asked():
    own = random_style(1, seed=4)
    found = told(own, goals(mean_speed=0.9), NAMES, strength=0.5)
    assert found.values[0, 0].item() == pytest.approx(0.4)
    assert found.mask[0, 0]
    assert torch.equal(found.values[:, 1:], own.values[:, 1:])
    assert torch.equal(found.mask[:, 1:], own.mask[:, 1:])
    assert told(own, goals(mean_speed=0.9), NAMES, strength=0.0) is own
