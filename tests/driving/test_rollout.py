"""The closed loop: what it writes, what it may see, who reacts, and gates."""

from dataclasses import replace

import pytest
import torch

from driving.planner.constant_velocity import ConstantVelocity
from driving.planner.idm import Idm
from driving.planner.planner import Planner, PlannerInput, Plans, StyleCondition
from driving.simulation.agents import advance, traffic_of
from driving.simulation.rollout import first_state, predicted, roll_out, step
from driving.world import World
from tests.driving.small_worlds import (
    FUTURE,
    PAST,
    Mover,
    behind_leader,
    bend,
    crossing_pedestrian,
    no_condition,
    road,
    slow_leader_and_free_lane,
    stack,
    straight_road,
)


class Two(Planner):
    """A slow candidate, a fast one that is best, and one that does not count."""

    def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
        time_s = torch.arange(1, 9) * 0.5
        x = torch.stack((6 * time_s, 12 * time_s, 3 * time_s))
        poses = torch.stack((x, 0 * x, 0 * x), -1).expand(len(scene.route), -1, -1, -1)
        scores = torch.tensor([0.5, 1.0, -torch.inf]).expand(len(poses), -1)
        return Plans(poses, scores)


class Seeds(Planner):
    """Remembers the seeds it was asked with."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
        self.seen.append(seed)
        return ConstantVelocity().plan(scene, style)


def changed_future(world: World, after: int) -> World:
    """The same world with another log after a step."""
    poses, ego = world.agent_poses.clone(), world.ego_poses.clone()
    poses[:, :, after + 1 :] += 50.0
    ego[:, after + 1 :] -= 30.0
    return replace(world, agent_poses=poses, ego_poses=ego)


def test_constant_velocity_repeats_a_log_of_constant_velocity():
    world = straight_road()
    found = roll_out(world, ConstantVelocity(), no_condition(), duration_s=8.0)
    torch.testing.assert_close(found.ego.poses, world.ego_poses[:, PAST:], atol=1e-2, rtol=0)
    assert found.plans.shape == (1, 16, 8, 3)
    assert found.plans[0, 3, 0].tolist() == pytest.approx([20.0, 0.0, 0.0], abs=1e-2)


def test_what_happened_stands_in_place_of_the_log():
    world = stack([behind_leader(), bend(), crossing_pedestrian()])
    found = roll_out(world, Idm(), no_condition(3), duration_s=3.0, reactive=True)
    after = found.as_world(world)
    assert after.ego_poses.shape[1] == PAST + 31 == after.agent_mask.shape[2]
    assert after.route_lights.shape[2] == after.line_lights.shape[2] == PAST + 31
    assert after.now == PAST
    torch.testing.assert_close(after.ego_poses[:, : PAST + 1], world.ego_poses[:, : PAST + 1])
    torch.testing.assert_close(after.ego_poses[:, PAST:], found.ego.poses)
    torch.testing.assert_close(after.ego_speed_mps[:, PAST:], found.ego.speed_mps)
    torch.testing.assert_close(after.agent_poses[:, :, PAST:], found.agent_poses)
    assert after.ego_mask.all()


def test_no_planner_sees_the_logged_future():
    world = behind_leader()
    seen = roll_out(world, Idm(), no_condition(), duration_s=1.0)
    # plans at 0 and 0.5 s: nothing after half a second may count
    other = roll_out(changed_future(world, PAST + 5), Idm(), no_condition(), duration_s=1.0)
    assert torch.equal(seen.ego.poses, other.ego.poses)
    earlier = roll_out(changed_future(world, PAST + 4), Idm(), no_condition(), duration_s=1.0)
    assert not torch.equal(seen.ego.poses, earlier.ego.poses)


def test_the_world_that_is_given_stays_as_it_is():
    world = behind_leader()
    before = {name: getattr(world, name).clone() for name in ("ego_poses", "agent_poses")}
    roll_out(world, Idm(), no_condition(), duration_s=1.0, reactive=True)
    assert all(torch.equal(getattr(world, name), value) for name, value in before.items())


def test_a_batch_is_rolled_out_like_its_rows():
    worlds = [behind_leader(), bend(), slow_leader_and_free_lane(rear_gap_m=9.0)]
    together = roll_out(stack(worlds), Idm(), no_condition(3), duration_s=2.0, reactive=True)
    for row, world in enumerate(worlds):
        alone = roll_out(world, Idm(), no_condition(), duration_s=2.0, reactive=True)
        torch.testing.assert_close(alone.ego.poses[0], together.ego.poses[row], atol=1e-3, rtol=0)
        count = world.agent_poses.shape[1]
        torch.testing.assert_close(
            alone.agent_poses[0], together.agent_poses[row, :count], atol=1e-3, rtol=0
        )


def test_step_is_a_function_of_state_and_plan():
    state = first_state(behind_leader(), reactive=True)
    plan = torch.zeros(1, 8, 3)
    plan[0, :, 0] = torch.arange(1, 9) * 4.0
    first, second = step(state, plan), step(state, plan)
    assert first.step == PAST + 5
    assert state.step == PAST
    assert torch.equal(first.ego.poses, second.ego.poses)
    assert first.ego.poses.shape == (1, 6, 3)
    assert torch.equal(first.world.ego_poses[:, PAST : PAST + 6], first.ego.poses)


def test_every_planning_has_a_seed_of_its_own():
    planner = Seeds()
    roll_out(straight_road(), planner, no_condition(), duration_s=1.5, seed=7)
    assert planner.seen == [7, 8, 9]


def test_a_gate_forbids_the_best_and_the_next_best_is_driven():
    asked = []

    def slow_only(world, motion):
        asked.append((world, motion))
        return motion.speed_mps[..., -1] < 8

    world = road(movers=[Mover(30.0, speed_mps=5.0)])
    free = roll_out(world, Two(), no_condition(), duration_s=0.5)
    gated = roll_out(world, Two(), no_condition(), duration_s=0.5, gate=slow_only)
    nothing = roll_out(
        world,
        Two(),
        no_condition(),
        duration_s=0.5,
        gate=lambda _, motion: motion.speed_mps[..., 0] > 99,
    )
    assert free.plans[0, 0, 0, 0] == 6.0
    assert gated.plans[0, 0, 0, 0] == 3.0
    assert torch.equal(nothing.plans, free.plans)
    seen, motion = asked[0]
    assert motion.poses.shape == (1, 3, 41, 3)
    assert seen.now == PAST
    assert seen.agent_poses.shape[2] == PAST + 41


def test_a_gate_expects_constant_velocity_and_not_the_log():
    world = road(movers=[Mover(30.0, speed_mps=5.0)])
    braked = world.agent_poses.clone()
    braked[:, :, PAST + 1 :] = braked[:, :, PAST : PAST + 1]
    seen = predicted(replace(world, agent_poses=braked), PAST)
    assert seen.agent_poses[0, 0, PAST + 40, 0].item() == pytest.approx(50.0)
    assert seen.ego_poses[0, PAST + 40, 0].item() == pytest.approx(40.0)
    assert seen.route_lights.shape[-1] == PAST + 41


def test_a_gate_expects_who_slows_to_go_on_slowing():
    world = road(movers=[Mover(30.0, speed_mps=5.0), Mover(60.0, speed_mps=5.0)])
    velocities = world.agent_velocities_mps.clone()
    velocities[:, 0, PAST - 5, 0] = 6.5  # 3 m/s2 over the last half second
    velocities[:, 1, PAST - 5, 0] = 4.0  # gathers speed: expected to keep it
    seen = predicted(replace(world, agent_velocities_mps=velocities), PAST)
    slowing, other = seen.agent_poses[0, :, :, 0]
    start = world.agent_poses[0, 0, PAST, 0].item()
    assert slowing[PAST + 10].item() == pytest.approx(start + 5.0 - 1.5, abs=1e-4)
    assert slowing[PAST + 40].item() == pytest.approx(start + 25 / 6, abs=1e-4)  # stands by then
    assert seen.agent_velocities_mps[0, 0, PAST + 10, 0].item() == pytest.approx(2.0, abs=1e-4)
    assert seen.agent_velocities_mps[0, 0, PAST + 40].abs().max().item() == pytest.approx(0.0)
    assert (other[PAST + 40] - other[PAST]).item() == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize(
    ("duration_s", "message"),
    [
        (0.3, "duration_s must be a multiple of 0.5, got 0.3"),
        (0.0, "duration_s must be a multiple of 0.5, got 0"),
        (20.0, "duration_s is 20 but the world has only 8 s of future"),
    ],
)
def test_durations_that_do_not_fit_are_named(duration_s, message):
    with pytest.raises(ValueError, match=message):
        roll_out(straight_road(), Idm(), no_condition(), duration_s=duration_s)


def test_worlds_of_other_steps_or_too_little_past_are_named():
    with pytest.raises(ValueError, match=r"steps of 0.1 s; the world has 0.5 s"):
        first_state(replace(straight_road(), step_s=0.5), reactive=False)
    with pytest.raises(ValueError, match="build it with more history"):
        first_state(replace(straight_road(), now=5), reactive=False)


# Those who react


def test_a_follower_who_reacts_does_not_hit_an_ego_that_stands():
    world = straight_road(speed_mps=0.0)
    behind = road(speed_mps=0.0, movers=[Mover(-40.0, speed_mps=12.0)])
    assert world.agent_poses.shape[1] == 0
    for reactive in (False, True):
        found = roll_out(
            behind, ConstantVelocity(), no_condition(), duration_s=8.0, reactive=reactive
        )
        gap = -found.agent_poses[0, 0, :, 0] - 2.4 - 2.3
        assert (gap.min() > 0.5) == reactive
    assert found.agent_velocities_mps[0, 0, -1].norm() < 0.5
    assert found.agent_mask.all()


def test_who_has_nobody_ahead_keeps_the_speed_of_its_log():
    world = road(movers=[Mover(30.0, 3.5, 0.2, 9.0)])
    found = roll_out(world, ConstantVelocity(), no_condition(), duration_s=6.0, reactive=True)
    expected = world.agent_poses[:, :, PAST : PAST + 61]
    torch.testing.assert_close(found.agent_poses, expected, atol=0.02, rtol=0)


def test_parked_vehicles_and_pedestrians_are_replayed():
    world = stack([road(movers=[Mover(30.0, 3.0)]), crossing_pedestrian()])
    traffic = traffic_of(world)
    assert not traffic.reacts.any()
    found = roll_out(world, ConstantVelocity(), no_condition(2), duration_s=2.0, reactive=True)
    assert torch.equal(found.agent_poses, world.agent_poses[:, :, PAST : PAST + 21])


def test_who_stood_at_the_end_of_its_log_stops_there():
    world = road(movers=[Mover(30.0, 3.5, speed_mps=8.0)])
    poses, velocities = world.agent_poses.clone(), world.agent_velocities_mps.clone()
    time_s = torch.arange(FUTURE + 1) * 0.1
    poses[0, 0, PAST:, 0] = 30 + torch.where(time_s < 4, 8 * time_s - time_s**2, 16.0)
    velocities[0, 0, PAST:, 0] = (8 - 2 * time_s).clamp_min(0)
    world = replace(world, agent_poses=poses, agent_velocities_mps=velocities)
    found = roll_out(world, ConstantVelocity(), no_condition(), duration_s=8.0, reactive=True)
    assert found.agent_poses[0, 0, -1, 0].item() == pytest.approx(46.0, abs=1.5)
    assert found.agent_velocities_mps[0, 0, -1, 0] < 1.0


def test_a_column_starts_one_after_the_other_and_keeps_its_order():
    world = road(movers=[Mover(10.0 + 8 * place, 3.5, speed_mps=6.0) for place in range(4)])
    traffic, now = traffic_of(world), world
    for interval in range(8):
        traffic, now = advance(traffic, now, PAST + 5 * interval, 5)
    x = now.agent_poses[0, :, PAST + 40, 0].sort().values
    assert (x.diff() > 4.6).all()
    assert x[0] < 34.0 - 4.0  # too close at first, so the last fell back
    assert x[3].item() == pytest.approx(34.0 + 24.0, abs=0.5)


def test_agents_that_are_not_seen_yet_come_as_logged():
    world = road(movers=[Mover(30.0, 3.5, speed_mps=8.0)])
    mask = world.agent_mask.clone()
    mask[:, :, : PAST + 10] = False
    world = replace(world, agent_mask=mask)
    found = roll_out(world, ConstantVelocity(), no_condition(), duration_s=2.0, reactive=True)
    assert torch.equal(found.agent_mask, mask[:, :, PAST : PAST + 21])
