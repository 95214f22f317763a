"""What rule-based planners do on small worlds, and that styles are ordered."""

import math
from dataclasses import replace

import pytest
import torch

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS, STYLE_LABELS
from driving.planner.constant_velocity import ConstantVelocity
from driving.planner.follow import Proposals, drive, lateral
from driving.planner.idm import Idm
from driving.planner.lane_change import lane_offset, lines_beside, rear_braking_mps2
from driving.planner.pdm import Pdm, teach
from driving.planner.planner import Planner, StyleCondition
from driving.planner.proposal_score import time_to_collision
from driving.planner.road_ahead import road_ahead
from driving.planner.style_parameters import style_parameters
from driving.simulation.rollout import Rollout, roll_out
from driving.simulation.state import Motion
from driving.world import AGENT_PEDESTRIAN, LIGHT_YELLOW, World
from tests.driving.small_worlds import (
    LANE_M,
    Mover,
    behind_leader,
    bend,
    condition,
    crossing_pedestrian,
    no_condition,
    present_input,
    preset,
    red_light,
    road,
    slow_leader_and_free_lane,
    stack,
    straight_road,
    without_route,
)

RULES = [Idm, Pdm]


def in_all_styles(world: World, planner: Planner, **options) -> dict[str, Rollout]:
    """One batched rollout of every row in conservative, normal and aggressive."""
    count = len(world.sample_ids)
    together = stack([world, world, world])
    styles = [preset(name, count) for name in STYLE_LABELS]
    asked = StyleCondition(
        torch.cat([style.values for style in styles]), torch.cat([style.mask for style in styles])
    )
    whole = roll_out(together, planner, asked, **options)
    return {
        name: Rollout(
            Motion(*(getattr(whole.ego, field)[rows] for field in Motion.__dataclass_fields__)),
            whole.agent_poses[rows],
            whole.agent_velocities_mps[rows],
            whole.agent_mask[rows],
            whole.plans[rows],
            whole.replan_s,
        )
        for name, rows in zip(
            STYLE_LABELS,
            (slice(0, count), slice(count, 2 * count), slice(2 * count, None)),
            strict=True,
        )
    }


def gaps_m(rollout: Rollout, half_lengths_m: float = 2.4 + 2.3) -> torch.Tensor:
    """Bumper to bumper on a straight road."""
    return rollout.agent_poses[:, 0, :, 0] - rollout.ego.poses[..., 0] - half_lengths_m


# The path and those beside it


def test_the_road_ahead_begins_at_the_foot_of_the_ego():
    scene = present_input(road(lateral_m=1.2, movers=[Mover(20.0, 4.7, speed_mps=6.0)]))
    found = road_ahead(scene)
    assert found.left_m.item() == pytest.approx(-1.2, abs=1e-4)
    assert found.path.points[0, 0].tolist() == pytest.approx([0.0, 1.2], abs=1e-4)
    others = found.neighbours
    assert others.along_m.item() == pytest.approx(20.0, abs=1e-3)
    assert others.left_m.item() == pytest.approx(3.5, abs=1e-3)
    assert others.along_mps.item() == pytest.approx(6.0)
    assert (others.half_length_m.item(), others.half_width_m.item()) == pytest.approx((2.3, 0.95))
    assert others.is_parallel.item()


def test_a_crossing_pedestrian_in_coordinates_of_the_path():
    others = road_ahead(present_input(crossing_pedestrian(ahead_m=30.0, wait_s=3.0))).neighbours
    assert others.left_m.item() == pytest.approx(-4.2, abs=1e-3)
    assert others.left_mps.item() == pytest.approx(1.4)
    assert others.along_mps.item() == pytest.approx(0.0, abs=1e-5)
    assert not others.is_parallel.item()


def test_limits_are_those_of_the_route_or_of_traffic():
    known = road_ahead(present_input(straight_road(limit_mps=8.0)))
    assert known.limits_mps.unique().tolist() == [8.0]
    unknown = road_ahead(present_input(straight_road(limit_mps=None)))
    assert unknown.limits_mps.unique().tolist() == [15.0]
    fast = behind_leader(limit_mps=None, leader_mps=31.0)
    assert road_ahead(present_input(fast)).limits_mps.unique().tolist() == [31.0]


def test_bends_and_limits_are_braked_for_in_time():
    style = style_parameters(preset("normal"))
    found = road_ahead(present_input(bend(radius_m=30.0, limit_mps=30.0)))
    cap = found.speed_cap_mps(style)[0]
    assert cap[20].item() == pytest.approx(math.sqrt(3.0 * 30.0), rel=0.03)
    slower = replace(found, limits_mps=torch.where(found.path.along_m < 40, 14.0, 5.0)[None])
    slower = replace(slower, path=road_ahead(present_input(straight_road())).path)
    cap = slower.speed_cap_mps(style)[0]
    assert cap[20].item() == pytest.approx(5.0)
    assert cap[15].item() == pytest.approx(math.sqrt(25 + 2 * 2.0 * 10))


def test_a_short_tight_bend_is_as_tight_as_it_is():
    found = road_ahead(present_input(straight_road(limit_mps=30.0)))
    curvature = found.path.curvature_per_m.clone()
    curvature[:, 20:23] = 0.1
    found = replace(found, path=replace(found.path, curvature_per_m=curvature))
    style = style_parameters(preset("normal"))
    cap = found.speed_cap_mps(style)[0]
    assert cap[21].item() == pytest.approx(math.sqrt(3.0 / 0.1), rel=1e-4)
    assert cap[10] > cap[21]


def test_without_a_route_the_yaw_rate_bends_the_way():
    scene = present_input(without_route(straight_road()))
    history = scene.ego_history.clone()
    time_s = torch.arange(-10, 1) * 0.1
    turned = 0.3 * time_s  # 10 m/s and 0.3 rad/s: a radius of 33.3 m
    history[0, :, 0], history[0, :, 1] = 33.3 * turned.sin(), 33.3 * (1 - turned.cos())
    history[0, :, 2] = turned
    plan = Idm().plan(replace(scene, ego_history=history), no_condition()).best[0]
    off_m = (plan[:, :2] - torch.tensor([0.0, 33.3])).norm(dim=-1) - 33.3
    assert off_m.abs().max() < 0.3
    assert plan[-1, 2] > 0.9


def test_offset_and_slope_at_both_ends_of_the_lateral_way():
    found = road_ahead(present_input(road(lateral_m=-0.8)))
    found = replace(found, slope=torch.tensor([0.1]))
    style = style_parameters(preset("normal")).per_proposal()
    way = lateral(found, Proposals(torch.tensor([[-1.0]]), torch.ones(1, 1), style))
    offset, slope = way.at(torch.stack((way.length_m * 0, way.length_m * 1e-4, way.length_m), -1))
    assert offset[0, 0].tolist() == pytest.approx([0.8, 0.8, -1.0], abs=1e-3)
    assert slope[0, 0].tolist() == pytest.approx([0.1, 0.1, 0.0], abs=1e-3)


# What they do


def test_constant_velocity_goes_straight_on():
    plan = ConstantVelocity().plan(present_input(bend()), no_condition()).best[0]
    assert plan[:, 0].tolist() == pytest.approx([5.0 * step for step in range(1, 9)])
    assert plan[:, 1:].abs().max() == 0


@pytest.mark.parametrize("planner", RULES)
def test_they_stop_before_a_red_light_and_for_pedestrians(planner):
    standing = [Mover(35.0, side, 0.0, 0.0, AGENT_PEDESTRIAN, 0.6, 0.6) for side in (-2, 0, 2)]
    world = stack([red_light(ahead_m=40.0), road(movers=standing)])
    for found in in_all_styles(world, planner(), duration_s=8.0).values():
        fronts = found.ego.poses[:, -1, 0] + 2.4
        assert fronts[0] < 40.0
        assert fronts[1] < 35.0 - 0.3
        assert found.ego.speed_mps[:, -1].abs().max() < 0.7
        assert fronts.min() > 28.0


def test_yellow_is_stopped_for_where_comfortable_and_a_passed_light_is_passed():
    far, near, passed = (red_light(ahead_m=ahead) for ahead in (60.0, 14.0, 0.0))
    yellow = [
        replace(world, route_lights=(world.route_lights > 0) * LIGHT_YELLOW)
        for world in (far, near)
    ]
    plans = Idm().plan(present_input(stack([*yellow, passed])), preset("normal", 3)).best
    free = Idm().plan(present_input(straight_road()), preset("normal")).best[0, -1, 0]
    assert plans[0, -1, 0] < free - 3
    assert plans[1, -1, 0].item() == pytest.approx(free.item(), abs=0.1)
    assert plans[2, -1, 0].item() == pytest.approx(free.item(), abs=0.1)


def test_a_pedestrian_is_yielded_to_within_the_margin_of_the_style():
    """He is 3.9 s from the corridor: too late for two seconds' margin now, not for 2 s later."""
    world = crossing_pedestrian(ahead_m=60.0, wait_s=6.0)
    asked = [condition([0.0] * 7 + [value]) for value in (-1.0, 1.0)]
    plans = [Idm().plan(present_input(world), style).best[0, :, 0] for style in asked]
    assert plans[1][-1] < plans[0][-1] - 1.0


def test_the_gap_at_rest_is_the_equilibrium_of_the_model():
    world = behind_leader(gap_m=23.0, leader_mps=10.0, limit_mps=20.0)
    found = roll_out(world, Idm(), no_condition(), duration_s=8.0)
    model = style_parameters(no_condition()).car_following
    wanted = model.equilibrium_gap_m(found.ego.speed_mps[0, -1], torch.tensor(20.0))
    assert gaps_m(found)[0, -1].item() == pytest.approx(wanted.item(), abs=2.5)


def test_a_lateral_offset_is_removed_in_closed_loop():
    found = roll_out(road(lateral_m=1.0), Idm(), no_condition(), duration_s=6.0)
    assert found.ego.poses[0, -1, 1].item() == pytest.approx(1.0, abs=0.1)
    assert found.ego.poses[0, :, 1].max() < 1.15


def test_a_leader_stays_one_where_it_was_at_first():
    """The plan ends well beyond where the leader was, and still follows at its speed."""
    world = behind_leader(gap_m=12.0, leader_mps=9.0, speed_mps=9.0)
    plan = Idm().plan(present_input(world), preset("aggressive")).best[0]
    assert plan[-1, 0] > 12.0 + 2.4 + 2.3 + 10
    assert (plan[-1, 0] - plan[-2, 0]).item() / 0.5 == pytest.approx(9.0, abs=0.6)


@pytest.mark.parametrize(("style", "jerk"), [("conservative", 0.5), ("aggressive", 4.0)])
@pytest.mark.parametrize("speed_mps", [3.0, 5.0])
def test_acceleration_changes_by_the_jerk_of_the_style(style, jerk, speed_mps):
    found = road_ahead(present_input(straight_road(speed_mps=speed_mps, limit_mps=8.0)))
    parameters = style_parameters(preset(style)).per_proposal()
    driven = drive(found, Proposals(torch.zeros(1, 1), torch.ones(1, 1), parameters))
    changes = driven.acceleration_mps2.diff(dim=-1)
    assert changes.abs().max().item() == pytest.approx(jerk * 0.25, rel=1e-4)


def test_a_braking_leader_is_expected_to_brake_on():
    steady = behind_leader(gap_m=20.0, leader_mps=10.0)
    scene = present_input(steady)
    agents = scene.agents.clone()
    agents[0, 0, -6:, 3] = torch.linspace(12.5, 10.0, 6)  # 5 m/s^2
    braking = replace(scene, agents=agents)
    assert road_ahead(braking).neighbours.braking_mps2.item() == pytest.approx(5.0)
    assert road_ahead(scene).neighbours.braking_mps2.item() == 0
    plans = [Idm().plan(one, no_condition()).best[0] for one in (scene, braking)]
    assert plans[1][-1, 0] < plans[0][-1, 0] - 5
    # the leader comes to rest after 2 s and 10 m, with its rear at 32.4 m
    assert plans[1][-1, 0] + 2.4 < 32.4


def test_crossing_traffic_is_met_early_or_passed():
    """He is inside from 2.1 to 3.9 s; the ego would reach that place after 2.76 or 0.8 s."""
    crossing = Mover(32.4, -12.0, math.pi / 2, 4.0)
    plans = {}
    for name, ahead in (("meets", 32.4), ("passes", 7.0)):
        scene = present_input(road(movers=[replace(crossing, x_m=ahead)]))
        plans[name] = Idm().plan(scene, preset("aggressive")).best[0, :, 0]
    free = Idm().plan(present_input(straight_road()), preset("aggressive")).best[0, :, 0]
    assert plans["meets"][1] < free[1] - 0.2
    assert plans["meets"][5] + 2.4 < 32.4 - 0.9
    assert plans["passes"].tolist() == pytest.approx(free.tolist(), abs=0.01)


# Order of styles


@pytest.fixture(scope="module")
def leaders() -> World:
    settings = [
        (gap, leader, speed)
        for gap in (12.0, 30.0)
        for leader in (5.0, 9.0, 14.0)
        for speed in (8.0, 12.0)
    ]
    return stack(
        [
            behind_leader(gap_m=gap, leader_mps=leader, speed_mps=speed)
            for gap, leader, speed in settings
        ]
    )


@pytest.mark.parametrize("planner", RULES)
def test_gaps_shrink_and_speed_grows_from_conservative_to_aggressive(planner, leaders):
    calm, normal, eager = in_all_styles(leaders, planner(), duration_s=4.0).values()
    for less, more in ((calm, normal), (normal, eager)):
        # a low jerk costs some of the gap behind somebody who is nearer than any style wants
        assert (gaps_m(more).amin(-1) <= gaps_m(less).amin(-1) + 1.7).all()
        assert (gaps_m(more).amin(-1) <= gaps_m(less).amin(-1) + 0.05).float().mean() > 0.8
        time_gaps = [gaps_m(one) / one.ego.speed_mps.clamp_min(0.5) for one in (less, more)]
        shorter = time_gaps[1].mean(-1) - time_gaps[0].mean(-1)
        assert (shorter <= 0.2).all()
        assert (shorter <= 0.02).float().mean() > 0.8
        faster = more.ego.speed_mps.mean(-1) - less.ego.speed_mps.mean(-1)
        assert (faster >= -0.6).all()
        assert (faster >= -0.02).float().mean() > 0.8
    for one in (calm, normal, eager):
        assert gaps_m(one).min() > 0.5
    assert (eager.ego.speed_mps.mean(-1) - calm.ego.speed_mps.mean(-1)).mean() > 0.5


@pytest.mark.parametrize("planner", RULES)
def test_peaks_grow_from_conservative_to_aggressive(planner):
    world = stack(
        [
            straight_road(speed_mps=speed, limit_mps=limit)
            for speed in (0.0, 5.0, 9.0)
            for limit in (13.0, 22.0)
        ]
    )
    calm, normal, eager = in_all_styles(world, planner(), duration_s=4.0).values()
    for less, more in ((calm, normal), (normal, eager)):
        peaks = [one.ego.acceleration_mps2.amax(-1) for one in (less, more)]
        assert (peaks[1] > peaks[0] + 0.05).all()
        assert (more.ego.speed_mps.mean(-1) > less.ego.speed_mps.mean(-1)).all()
    assert calm.ego.acceleration_mps2.max() < 1.0
    assert eager.ego.acceleration_mps2.max() < 2.05


def test_lateral_acceleration_in_bends_grows_with_the_style():
    world = bend(radius_m=35.0, speed_mps=8.0)
    peaks = []
    for one in in_all_styles(world, Idm(), duration_s=8.0).values():
        turn = one.ego.poses[..., 2].diff(dim=-1) / 0.1
        settled = (turn * one.ego.speed_mps[..., 1:])[..., 40:]  # the bend begins at once
        peaks.append(settled.amax().item())
    assert peaks == pytest.approx([2.0, 3.0, 4.0], rel=0.12)


@pytest.mark.parametrize(
    ("dimension", "measure"),
    [
        ("speed", lambda one: one.ego.speed_mps[:, -1]),
        ("acceleration", lambda one: one.ego.acceleration_mps2.amax(-1)),
    ],
)
def test_one_dimension_moves_its_own_measure(dimension, measure):
    world = stack([straight_road(speed_mps=9.0, limit_mps=12.0)] * 5)
    values = torch.zeros(5, len(STYLE_DIMENSIONS))
    values[:, STYLE_DIMENSIONS.index(dimension)] = torch.linspace(-1, 1, 5)
    style = StyleCondition(values, torch.ones_like(values, dtype=torch.bool))
    found = measure(roll_out(world, Idm(), style, duration_s=6.0))
    assert (found.diff() > 0.02).all()


# Proposals


def test_a_lane_beside_the_path_is_found_on_its_side():
    scene = present_input(slow_leader_and_free_lane())
    found = road_ahead(scene)
    lines = lines_beside(scene, found)
    offset, there = lane_offset(lines, found, side=1)
    assert there.item()
    assert offset.item() == pytest.approx(LANE_M, abs=1e-3)
    assert not lane_offset(lines, found, side=-1)[1].item()


def test_how_hard_the_one_behind_would_brake():
    """20 m gap, 14 m/s behind 10 m/s: s* = 2 + 21 + 14 x 4 / (2 sqrt(2.8)); 1.4 (s*/20)^2."""
    scene = present_input(slow_leader_and_free_lane(rear_gap_m=20.0))
    found = rear_braking_mps2(road_ahead(scene), torch.tensor([[LANE_M, 0.0]]))
    wanted = 2 + 14 * 1.5 + 14 * 4 / (2 * math.sqrt(1.4 * 2.0))
    assert found[0, 0].item() == pytest.approx(1.4 * (wanted / 20) ** 2, rel=1e-3)
    assert found[0, 1].item() == 0


def test_lanes_are_changed_where_it_pays_and_the_gap_is_the_styles():
    scene = present_input(
        stack(
            [
                slow_leader_and_free_lane(),
                *(slow_leader_and_free_lane(rear_gap_m=gap) for gap in (8.0, 32.0)),
            ]
        )
    )
    went = [Pdm().plan(scene, preset(name, 3)).best[:, -1, 1] > 2 for name in STYLE_LABELS]
    assert [one.tolist() for one in went] == [
        [True, False, False],
        [True, False, False],
        [True, False, True],
    ]


def test_nobody_changes_over_the_edge_or_without_a_reason():
    scene = present_input(stack([straight_road(), slow_leader_and_free_lane(leader_mps=20.0)]))
    found = Pdm().plan(scene, preset("aggressive", 2))
    assert found.best[..., 1].abs().max() < 0.1
    assert found.scores.isneginf()[0, 15:].all()  # no lane to either side
    assert found.poses.shape[1] == 25


def test_time_to_collision_by_hand():
    """15.3 m between bumpers at 10 m/s against 4 m/s; a walker beside; one behind; one standing."""
    movers = [Mover(20.0, speed_mps=4.0), Mover(10.0, 3.0), Mover(-8.0, speed_mps=30.0)]
    scene = present_input(road(movers=movers))
    still = torch.zeros(1, 2, 3)
    speed = torch.tensor([[[10.0], [0.0]]])
    motion = Motion(still[:, :, None], speed, 0 * speed, 0 * speed, 0 * speed)
    found = time_to_collision(scene, motion)
    assert found[0, 0].item() == pytest.approx((20 - 2.4 - 2.3) / 6)
    assert found[0, 1].item() == math.inf


def test_time_to_collision_with_crossing_traffic():
    """The walker's side reaches the ego's at -1.3 m after 2 s, when the ego has reached him."""
    walker = Mover(22.0, -1.4 * 3.0, math.pi / 2, 1.4, AGENT_PEDESTRIAN, 0.6, 0.6)
    speed = torch.tensor([[[10.0]]])
    motion = Motion(torch.zeros(1, 1, 1, 3), speed, 0 * speed, 0 * speed, 0 * speed)
    found = time_to_collision(present_input(road(movers=[walker])), motion)
    assert found.item() == pytest.approx((4.2 - 1.3) / 1.4, rel=1e-3)


def test_the_teacher_drives_one_scene_in_several_styles():
    scene = present_input(stack([behind_leader(), straight_road()]))
    styles = [preset(name, 2) for name in STYLE_LABELS]
    taught = teach(Pdm(), scene, styles, torch.zeros(2, 3, 3))
    assert taught.shape == (2, 3, 8, 3)
    assert (taught[:, :, -1, 0].diff(dim=1) > 0.3).all()
    alone = Pdm().plan(scene, styles[2]).best
    torch.testing.assert_close(taught[:, 2], alone, atol=1e-3, rtol=0)


def test_proposals_never_drive_backwards():
    found = road_ahead(present_input(behind_leader(gap_m=1.0, leader_mps=0.0, speed_mps=3.0)))
    style = style_parameters(preset("normal")).per_proposal()
    driven = drive(found, Proposals(torch.zeros(1, 1), torch.ones(1, 1), style))
    assert (driven.along_m.diff(dim=-1) >= 0).all()
    assert driven.speed_mps[..., -1].item() == 0
