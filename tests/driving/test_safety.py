"""Collisions, time to collision, leaving the road and driving direction, worked by hand.

The ego is 4 x 2 m, its rear axle 1.129 m behind its centre; others are 4 x 2 m unless said.
"""

import dataclasses

import numpy as np
import pytest
import torch

from driving.metrics.drivable_area import DrivableArea
from driving.metrics.ego_areas import against_traffic, off_road, on_several_lanes
from driving.metrics.safety import (
    FINE_RULES,
    NAVSIM_RULES,
    RELEASED_RULES,
    CollisionRules,
    Safety,
    driving_direction,
    safety,
)
from driving.simulation.state import Motion
from driving.world import (
    AGENT_OTHER,
    AGENT_PEDESTRIAN,
    AGENT_STATIC,
    AGENT_VEHICLE,
    LINE_BOUNDARY,
    LINE_LANE,
    World,
)
from tests.driving.score_scenes import joined, straight, world_of

LEFT_BOUNDARY = [(LINE_BOUNDARY, [(-50.0, 0.5), (150.0, 0.5)])]


def moving(
    x: float, y: float, heading: float, speed: float, *, steps: int = 51, now: float = 0.0
) -> torch.Tensor:
    time = 0.1 * torch.arange(steps, dtype=torch.float64) - now
    turn = torch.tensor(heading, dtype=torch.float64)
    return torch.stack(
        [x + speed * time * turn.cos(), y + speed * time * turn.sin(), turn.expand(steps)], -1
    )[None]


def judge(
    world: World, motion: Motion, rules: CollisionRules = NAVSIM_RULES, *, outside: bool = False
) -> Safety:
    where = torch.full(motion.speed_mps.shape, outside)
    return safety(motion, world, where, rules=rules)


@pytest.mark.parametrize(
    ("kind", "harm"),
    [(AGENT_VEHICLE, 0.0), (AGENT_PEDESTRIAN, 0.0), (AGENT_STATIC, 0.5), (AGENT_OTHER, 0.5)],
)
def test_running_into_somebody_who_stands(kind: int, harm: float) -> None:
    world = world_of(moving(20, 0, 0, 0), kinds=[kind])
    rides = joined(straight(10.0), straight(3.0))  # the second stops short: 12 m of 16 m
    assert judge(world, rides).no_collision.tolist() == [[harm, 1.0]]


def test_the_worst_of_several_contacts_counts() -> None:
    poses = torch.cat([moving(12, 0, 0, 0), moving(30, 0, 0, 0)])
    assert (
        judge(
            world_of(poses, kinds=[AGENT_STATIC, AGENT_VEHICLE]), straight(10.0)
        ).no_collision.item()
        == 0.0
    )
    assert (
        judge(
            world_of(poses, kinds=[AGENT_STATIC, AGENT_VEHICLE]), straight(4.0)
        ).no_collision.item()
        == 0.5
    )


def test_being_run_into_from_behind_is_no_fault() -> None:
    world = world_of(moving(-10, 0, 0, 10.0), kinds=[AGENT_VEHICLE])
    assert judge(world, straight(5.0)).no_collision.item() == 1.0
    assert judge(world, straight(5.0), outside=True).no_collision.item() == 1.0


def test_a_standing_ego_is_never_at_fault() -> None:
    world = world_of(moving(20, 0, np.pi, 10.0), kinds=[AGENT_VEHICLE])
    assert judge(world, straight(0.05)).no_collision.item() == 1.0
    assert judge(world, straight(0.06)).no_collision.item() == 0.0


def test_a_side_contact_is_at_fault_only_where_the_ego_straddles_or_leaves_the_road() -> None:
    beside = moving(0, 4, -0.1, 10.0)  # drifts into the side of an ego as fast as itself
    alone = world_of(beside, kinds=[AGENT_VEHICLE])
    assert judge(alone, straight(10.0)).no_collision.item() == 1.0
    assert judge(alone, straight(10.0), outside=True).no_collision.item() == 0.0
    straddling = world_of(beside, kinds=[AGENT_VEHICLE], lines=LEFT_BOUNDARY)
    assert judge(straddling, straight(10.0)).no_collision.item() == 0.0
    off_side = world_of(
        beside, kinds=[AGENT_VEHICLE], lines=[(LINE_BOUNDARY, [(0.0, 1.1), (9.0, 1.1)])]
    )
    assert judge(off_side, straight(10.0)).no_collision.item() == 1.0
    of_a_lane = world_of(beside, kinds=[AGENT_VEHICLE], lines=[(LINE_LANE, LEFT_BOUNDARY[0][1])])
    assert judge(of_a_lane, straight(10.0)).no_collision.item() == 1.0


@pytest.mark.parametrize(("x", "y", "harm"), [(-2.1, 1.2, 0.0), (-2.2, 0.5, 1.0)])
def test_behind_begins_at_150_degrees_from_the_rear_axle(x: float, y: float, harm: float) -> None:
    """129 and 155 degrees: a side contact off the road, and one from behind."""
    world = world_of(moving(x, y, 0.0, 3.0), kinds=[AGENT_PEDESTRIAN], sizes=(0.6, 0.6))
    found = judge(world, straight(3.0), outside=True)
    assert found.no_collision.item() == harm
    assert found.time_to_collision(NAVSIM_RULES).item() == harm


def test_the_first_contact_with_a_road_user_decides() -> None:
    """It bumps into the ego from behind, then is passed through and met head on."""
    poses = moving(-8, 0, 0, 20.0)
    poses[:, 20:, 0] = 40.0
    world = world_of(poses, kinds=[AGENT_VEHICLE], velocities=torch.full((1, 51, 2), 5.0))
    assert judge(world, straight(10.0)).no_collision.item() == 1.0
    later = torch.arange(51) >= 20
    alone = dataclasses.replace(world, agent_mask=later[None, None])
    assert judge(alone, straight(10.0)).no_collision.item() == 0.0


def test_whoever_is_not_there_is_not_hit() -> None:
    seen = torch.ones(1, 51, dtype=torch.bool)
    seen[:, 5:] = False
    world = world_of(moving(20, 0, 0, 0), kinds=[AGENT_VEHICLE], mask=seen)
    found = judge(world, straight(10.0))
    assert found.no_collision.item() == 1.0
    assert found.time_to_collision(NAVSIM_RULES).item() == 1.0


def test_standing_is_judged_when_first_seen_or_at_the_contact() -> None:
    poses = moving(0, 3.0, 0, 0)  # beside the ego, which drifts into it from the side
    velocities = torch.zeros(1, 51, 2)
    velocities[:, :1, 0] = 9.0
    world = world_of(poses, kinds=[AGENT_VEHICLE], velocities=velocities)
    ride = straight(3.0, start=(-1.0, -2.0), heading=np.pi / 2 - 0.4)
    backwards = Motion(
        ride.poses - torch.tensor([0.0, 0.0, np.pi]), -ride.speed_mps, ride.acceleration_mps2,
        ride.steering_rad, ride.steering_rate_radps,
    )  # fmt: skip
    assert judge(world, backwards).no_collision.item() == 1.0
    at_contact = dataclasses.replace(NAVSIM_RULES, first_velocity=False)
    assert judge(world, backwards, at_contact).no_collision.item() == 0.0


def test_boxes_that_overlap_at_the_start() -> None:
    world = world_of(moving(1, 0, 0, 0), kinds=[AGENT_VEHICLE])
    assert judge(world, straight(10.0)).no_collision.item() == 0.0
    ignoring = dataclasses.replace(NAVSIM_RULES, ignore_initial=True)
    found = judge(world, straight(10.0), ignoring)
    assert found.no_collision.item() == 1.0
    assert found.time_to_collision(ignoring).item() == 1.0


@pytest.mark.parametrize(
    ("gap_m", "navsim", "released", "fine"),
    [
        (3.0, 0, (0, 0, 0), (0, 0, 0)),  # 0.3 s
        (6.0, 0, (0, 0, 0), (0, 0, 0)),
        (7.5, 0, (0, 0, 1), (0, 0, 1)),  # hit at 0.8 s, seen at 0.9 s
        (8.5, 0, (0, 0, 1), (0, 0, 1)),
        (9.5, 1, (1, 1, 1), (0, 1, 1)),  # hit at 1.0 s, seen at 1.2 s: nobody's fault
        (10.5, 1, (1, 1, 1), (0, 1, 1)),
        (11.5, 1, (1, 1, 1), (1, 1, 1)),
        (20.0, 1, (1, 1, 1), (1, 1, 1)),
    ],
)
def test_time_to_collision_by_style(
    gap_m: float, navsim: int, released: tuple, fine: tuple
) -> None:
    """Somebody stands ahead of an ego of which only the first step is looked at."""
    ride = straight(10.0, steps=1)
    world = world_of(moving(4.0 + gap_m, 0, 0, 0), kinds=[AGENT_VEHICLE])
    for rules, expected in ((RELEASED_RULES, released), (FINE_RULES, fine)):
        found = judge(world, ride, rules)
        for style in range(3):
            value = found.time_to_collision(rules, torch.tensor([style])).item()
            assert value == expected[style], (rules, style)
    assert judge(world, ride).time_to_collision(NAVSIM_RULES).item() == navsim


def test_somebody_beside_counts_only_where_the_ego_straddles() -> None:
    """A pedestrian walks into the side of the ego's projection, 90 degrees off."""
    poses = moving(2.0, 4.0, -np.pi / 2, 3.0)
    for lines, value in (([], 1.0), (LEFT_BOUNDARY, 0.0)):
        world = world_of(poses, kinds=[AGENT_VEHICLE], lines=lines)
        found = judge(world, straight(0.5))
        assert found.time_to_collision(NAVSIM_RULES).item() == value


def test_a_road_user_that_did_not_count_is_left_out_later() -> None:
    """It touches the side first, then stands ahead; alone the second part would count."""
    poses = moving(0.0, 2.0, 0, 1.0)
    poses[:, 10:, 0], poses[:, 10:, 1] = 16.0, 0.0
    world = world_of(poses, kinds=[AGENT_VEHICLE], velocities=torch.ones(1, 51, 2))
    assert judge(world, straight(5.0)).time_to_collision(NAVSIM_RULES).item() == 1.0
    seen = (torch.arange(51) >= 10)[None, None]
    alone = dataclasses.replace(world, agent_mask=seen)
    assert judge(alone, straight(5.0)).time_to_collision(NAVSIM_RULES).item() == 0.0


def test_a_single_contact_that_did_not_count_is_enough() -> None:
    """One step beside the ego, out of reach for a second, then ahead."""
    poses = moving(0.0, 1.9, 0, 1.0)
    poses[:, 1:10, 1], poses[:, 10:, 0], poses[:, 10:, 1] = 90.0, 16.0, 0.0
    world = world_of(poses, kinds=[AGENT_VEHICLE], velocities=torch.ones(1, 51, 2))
    ride = straight(5.0)
    assert judge(world, ride).time_to_collision(NAVSIM_RULES).item() == 1.0


def test_projections_past_the_last_step_are_left_out_or_driven_on() -> None:
    """A wall 9 m ahead of where the ride ends; the world ends with the ride, or later."""
    poses = moving(53.0, 0, 0, 0)  # the front is at 42 m in the end, the wall's rear at 51 m
    short = world_of(poses[:, :41], kinds=[AGENT_VEHICLE])
    long = world_of(poses, kinds=[AGENT_VEHICLE])
    assert judge(short, straight(10.0)).first_hit.item() > 100
    assert judge(long, straight(10.0)).first_hit.item() == 9
    assert judge(short, straight(10.0), FINE_RULES).first_hit.item() == 9


def test_an_ego_in_reverse_is_driven_on_forwards_or_backwards() -> None:
    world = world_of(moving(6.5, 0, 0, 0), kinds=[AGENT_VEHICLE])
    reverse = straight(-10.0)
    assert judge(world, reverse).first_hit.item() == 3
    assert judge(world, reverse, FINE_RULES).first_hit.item() > 100


def test_a_standing_ego_has_no_time_to_collision() -> None:
    world = world_of(moving(4.5, 0, np.pi, 5.0), kinds=[AGENT_VEHICLE])
    assert judge(world, straight(0.0049)).first_hit.item() > 100
    assert judge(world, straight(0.0051)).first_hit.item() == 0


def test_a_world_that_ends_before_the_ride_is_refused() -> None:
    world = world_of(moving(6.5, 0, 0, 0, steps=40), kinds=[AGENT_VEHICLE])
    with pytest.raises(ValueError, match="at least 41 steps"):
        judge(world, straight(1.0))


def test_leaving_the_road_with_one_corner() -> None:
    road = np.array([[-5.0, -1.5], [60.0, -1.5], [60.0, 3.0], [-5.0, 3.0]])
    area = DrivableArea.from_polygons([[road]])
    world = world_of(moving(90, 0, 0, 0), kinds=[AGENT_VEHICLE])
    rides = joined(straight(10.0), straight(10.0, start=(0, -0.6)), straight(15.0))
    outside = off_road(rides, world, area)
    assert outside.any(-1).tolist() == [[False, True, True]]
    assert int(outside[0, 2].int().argmax()) == 39  # 2 m + 1.5 m a step passes 60 m
    turned = dataclasses.replace(
        world, start_poses=torch.tensor([[0.0, 0.0, np.pi / 2]], dtype=torch.float64)
    )
    assert off_road(straight(10.0), turned, area).any()


def test_straddling_looks_at_boundaries_of_the_own_sample() -> None:
    world = world_of(moving(90, 0, 0, 0), kinds=[AGENT_VEHICLE], lines=LEFT_BOUNDARY)
    poses = torch.tensor([[0.0, 0.0, 0.0], [0.0, -0.6, 0.0], [0.0, -0.6, 0.3]]).double()
    assert on_several_lanes(poses, torch.zeros(3, dtype=torch.long), world).tolist() == [
        True, False, True,
    ]  # fmt: skip
    hidden = dataclasses.replace(world, line_mask=world.line_mask & False)
    assert not on_several_lanes(poses, torch.zeros(3, dtype=torch.long), hidden).any()


@pytest.mark.parametrize(("speed", "value"), [(1.8, 1.0), (1.85, 0.5), (5.4, 0.5), (5.5, 0.0)])
def test_driving_in_a_lane_that_runs_the_other_way(speed: float, value: float) -> None:
    """Eleven steps count within a second: 1.1 times the speed in metres."""
    oncoming = [(LINE_LANE, [(float(x), 3.5) for x in range(100, -20, -4)])]
    world = world_of(moving(90, 0, 0, 0), kinds=[AGENT_VEHICLE], lines=oncoming)
    for y, expected in ((3.5, value), (0.0, 1.0), (7.0, 1.0)):
        ride = straight(speed, start=(0.0, y))
        against = against_traffic(ride, world)
        found = driving_direction(against, ride, 0.1).item()
        assert found == expected
    along = straight(speed, start=(90.0, 3.5), heading=np.pi)
    assert not against_traffic(along, world).any()


@pytest.mark.parametrize(("lines", "value"), [([], 1.0), (LEFT_BOUNDARY, 0.0)])
def test_somebody_ahead_under_the_box_is_a_fault_only_on_several_lanes(
    lines: list, value: float
) -> None:
    """A pedestrian keeps pace inside the box and never meets the bumper."""
    poses = moving(0.8, 0.0, 0.0, 5.0)
    world = world_of(poses, kinds=[AGENT_PEDESTRIAN], sizes=(0.4, 0.4), lines=lines)
    assert judge(world, straight(5.0)).no_collision.item() == value


@pytest.mark.parametrize("there", [True, False])
def test_only_places_of_the_route_that_are_there_excuse_a_lane(there: bool) -> None:
    oncoming = [(float(x), 3.5) for x in range(100, -20, -4)]
    world = world_of(
        moving(90, 0, 0, 0), kinds=[AGENT_VEHICLE], lines=[(LINE_LANE, oncoming)], route=oncoming
    )
    known = dataclasses.replace(world, route_mask=world.route_mask & there)
    ride = straight(5.0, start=(0.0, 3.5))
    assert bool(against_traffic(ride, known).any()) is not there
