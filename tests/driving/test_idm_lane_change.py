"""Lane changes by MOBIL: where they pay, that they are finished, and how abrupt they are."""

from dataclasses import replace

import pytest
import torch

from data_prep.scenes.style_dimensions import STYLE_LABELS
from driving.planner.idm_lane_change import IdmLaneChange, present_lane, settle_s
from driving.planner.road_ahead import road_ahead
from driving.planner.style_parameters import style_parameters
from driving.simulation.rollout import roll_out
from tests.driving.small_worlds import (
    LANE_M,
    Mover,
    no_condition,
    present_input,
    preset,
    road,
    slow_leader_and_free_lane,
    stack,
    straight_road,
)

THERE = torch.tensor([[True, True, False]])
OFFSETS = torch.tensor([[0.0, LANE_M, 0.0]])


def test_lanes_are_changed_where_it_pays_and_nobody_is_cut_off():
    scene = present_input(
        stack(
            [
                slow_leader_and_free_lane(leader_mps=6.0),
                slow_leader_and_free_lane(leader_mps=6.0, rear_gap_m=6.0),
                slow_leader_and_free_lane(leader_mps=6.0, rear_gap_m=30.0),
                slow_leader_and_free_lane(leader_mps=20.0),
                straight_road(),
            ]
        )
    )
    went = [
        (IdmLaneChange().plan(scene, preset(name, 5)).best[:, -1, 1] > 1).tolist()
        for name in STYLE_LABELS
    ]
    assert [one[0] for one in went] == [False, True, True]  # 4 s are too short for six
    assert [one[2] for one in went] == [False, False, True]
    for one in went:
        assert not one[1]
        assert not one[3]
        assert not one[4]


@pytest.mark.parametrize("name", STYLE_LABELS[1:])
def test_a_change_is_finished_and_never_taken_back(name):
    world = slow_leader_and_free_lane(leader_mps=8.0)
    found = roll_out(world, IdmLaneChange(), preset(name), duration_s=6.0)
    left = found.ego.poses[0, :, 1]
    arrived = int((left > LANE_M - 0.4).int().argmax())
    assert arrived > 20
    assert left[: arrived + 1].diff().min() > -0.02
    assert left.max() < LANE_M + 0.4
    gap = (found.agent_poses[0, 0, :, :2] - found.ego.poses[0, :, :2]).abs()
    assert ((gap[:, 0] > 4.7) | (gap[:, 1] > 1.95)).all()


def test_assertive_changes_are_quicker():
    world = slow_leader_and_free_lane(leader_mps=7.0)
    peaks = [0.0]  # the conservative one stays
    for name in STYLE_LABELS[1:]:
        found = roll_out(world, IdmLaneChange(), preset(name), duration_s=8.0).ego
        peaks.append((found.speed_mps * found.poses[..., 2].sin()).amax().item())
    assert peaks[0] < peaks[1] < peaks[2]


def test_the_lane_of_the_route_is_returned_to():
    """The ego is in the left one of two lanes; the right one is the route's, and free."""
    world = road(lanes=2, lateral_m=-LANE_M)
    found = roll_out(world, IdmLaneChange(), no_condition(), duration_s=8.0)
    assert found.ego.poses[0, -1, 1].item() == pytest.approx(-LANE_M, abs=0.3)
    slow = road(lanes=2, lateral_m=-LANE_M, movers=[Mover(25.0, -LANE_M, speed_mps=5.0)])
    stays = roll_out(slow, IdmLaneChange(), no_condition(), duration_s=2.0)
    assert stays.ego.poses[0, :, 1].abs().max() < 0.3


def test_what_is_left_of_a_change():
    found = road_ahead(present_input(straight_road()))
    style = style_parameters(preset("normal")).per_proposal()
    whole, half = torch.tensor([[LANE_M]]), torch.tensor([[LANE_M / 2]])
    assert settle_s(found, style, whole).item() == pytest.approx(4.5)
    assert settle_s(found, style, half).item() == pytest.approx(2.25, abs=0.15)
    assert settle_s(found, style, whole * 0).item() == 1.0


def test_the_lane_on_the_way_to_is_read_off_the_movement():
    found = road_ahead(present_input(straight_road(speed_mps=10.0)))
    assert present_lane(found, OFFSETS, THERE)[0].item() == 0
    begun = replace(found, left_m=torch.tensor([0.3]), slope=torch.tensor([0.1]))
    lane, under_way = present_lane(begun, OFFSETS, THERE)
    assert lane.item() == 1
    assert under_way.item()
    back = replace(found, left_m=torch.tensor([3.2]), slope=torch.tensor([-0.1]))
    assert present_lane(back, OFFSETS, THERE)[0].item() == 0
    arrived = replace(found, left_m=torch.tensor([3.4]), slope=torch.tensor([0.0]))
    lane, under_way = present_lane(arrived, OFFSETS, THERE)
    assert lane.item() == 1
    assert not under_way.item()
