"""Samples, worlds and planner inputs: hand-known numbers on a small scene."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from data_prep.scenes.raw_scene import ROAD_CLASSES
from data_prep.scenes.tables import MAP_LINES
from driving.evaluation.judge import driven_world, logged_ride
from driving.lane_facts import find_lane_facts, total_turn
from driving.map_store import MapStore, cut_line, lane_cost, resample
from driving.planner_input import into_frame, out_of_frame, planner_input
from driving.samples import SampleRules, choose_samples
from driving.scene_store import SceneStore
from driving.simulation.state import Motion
from driving.world import (
    AGENT_PEDESTRIAN,
    LIGHT_GREEN,
    LIGHT_NONE,
    LIGHT_RED,
    LINE_CROSSWALK,
    LINE_LANE,
    World,
)
from driving.world_builder import WorldSize
from tests.driving.small_scenes import LINES, STEPS, line, write_small_scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_scenes(tmp_path_factory.mktemp("small") / "scenes")


@pytest.fixture(scope="module")
def samples(folder: Path) -> pl.DataFrame:
    return choose_samples(read_artifact(folder, kind="scenes"), SampleRules())


@pytest.fixture(scope="module")
def world(folder: Path, samples: pl.DataFrame) -> World:
    return SceneStore.read(folder).world(samples, history_s=1.0, future_s=4.0)


def test_samples_are_moments_with_a_whole_past_and_future(samples: pl.DataFrame) -> None:
    found = samples.select("track_id", "step").rows()
    # 81 steps: the present runs from 10 to 40; track 2 is seen from step 10 on; 3 parks
    assert found == [(t, s) for t in (0, 1) for s in (10, 20, 30, 40)] + [
        (2, s) for s in (20, 30, 40)
    ]
    assert samples["driver_id"].to_list() == [0] * 4 + [1] * 4 + [2] * 3
    assert samples["sample_id"].to_list() == list(range(11))


def test_rules_choose_other_moments(folder: Path) -> None:
    scenes = read_artifact(folder, kind="scenes")
    own = choose_samples(scenes, SampleRules(recorded_egos_only=True, stride_s=2.0))
    assert own.select("track_id", "step").rows() == [(0, 10), (0, 30)]
    parked = choose_samples(scenes, SampleRules(minimum_distance_m=0.0))
    assert 3 in parked["track_id"]
    with pytest.raises(InputError, match="seen for 1 s and moved on for 60 s"):
        choose_samples(scenes, SampleRules(future_s=60.0))
    with pytest.raises(InputError, match="ask for less"):
        choose_samples(scenes, SampleRules(tokens_only=True))


def test_a_world_stands_in_the_frame_of_its_ego(world: World) -> None:
    assert world.now == 10
    assert world.start_poses[0].tolist() == pytest.approx([0.0, 15.0, math.pi / 2])
    ego = world.ego_poses[0]
    assert ego[10].tolist() == pytest.approx([0.0, 0.0, 0.0])
    assert ego[50, :2].tolist() == pytest.approx([40.0, 0.0], abs=1e-5)  # 4 s at 10 m/s, ahead
    assert ego[0, :2].tolist() == pytest.approx([-10.0, 0.0], abs=1e-5)
    assert world.ego_speed_mps[0].tolist() == pytest.approx([10.0] * 51)


def test_agents_come_nearest_first_and_in_the_frame(world: World) -> None:
    # at step 10: 2 is 3.5 m right and level (3+12 = 15), 1 is 25 m ahead, 3 is 75 m ahead
    now = world.agent_poses[0, :, 10]
    assert now[0].tolist() == pytest.approx([0.0, -3.5, 0.0], abs=1e-5)
    assert now[1].tolist() == pytest.approx([25.0, 0.0, 0.0], abs=1e-5)
    assert now[2].tolist() == pytest.approx([75.0, -3.5, 0.0], abs=1e-5)
    assert world.agent_velocities_mps[0, 0, 10].tolist() == pytest.approx([12.0, 0.0], abs=1e-5)
    # 4 is only seen from step 40 on: after those that are present, masked until then
    assert world.agent_kinds[0, 3] == AGENT_PEDESTRIAN
    assert world.agent_mask[0, 3].tolist() == [False] * 40 + [True] * 11
    assert not world.agent_mask[0, 4:].any()
    assert not world.agent_poses[~world.agent_mask].any()


def test_lines_keep_kind_limit_and_light(world: World) -> None:
    lanes = (world.line_kinds[0] == LINE_LANE) & world.line_mask[0].any(-1)
    assert {round(v, 3) for v in world.line_limits_mps[0][lanes].tolist()} == {0.0, 8.0, 10.0, 15.0}
    assert (world.line_kinds[0] == LINE_CROSSWALK).any()
    lit = world.line_limits_mps[0] == 10.0
    shown = world.line_lights[0][lit & lanes]
    assert (shown[:, :30] == LIGHT_RED).all()
    assert (shown[:, 30:] == LIGHT_GREEN).all()
    assert (world.line_lights[0][~lit] == LIGHT_NONE).all()


def test_a_route_runs_from_behind_the_ego_along_its_lanes(world: World) -> None:
    route, mask = world.route_points[0], world.route_mask[0]
    assert route[0].tolist() == pytest.approx([-10.0, 0.0], abs=1e-5)  # ego at y = 15
    assert torch.diff(route[mask][:, 0]).tolist() == pytest.approx([2.5] * (mask.sum() - 1))
    assert (world.route_limits_mps[0][mask][:30] == 15.0).all()
    far = route[:, 0] > 86  # the lane ends at y = 100: 85 m ahead
    assert (world.route_limits_mps[0][far & mask] == 10.0).all()
    assert (world.route_lights[0][far & mask][:, 0] == LIGHT_RED).all()
    assert not mask.new_tensor(world.route_mask[4].tolist()).any()  # track 1 has no route


def test_a_route_turns_where_its_lanes_turn(world: World) -> None:
    # track 2, step 20: at (3.5, 27), heading north; the exit ends at (60, 110): right of it
    route, mask = world.route_points[8], world.route_mask[8]
    assert route[mask][-1].tolist() == pytest.approx([83.0, -56.5], abs=2.5)


def lanes() -> MapStore:
    return MapStore(pl.DataFrame(LINES, schema=MAP_LINES.polars))


def test_a_path_begins_in_the_ego_s_own_lane_and_gives_no_lane_change_away() -> None:
    north = math.pi / 2
    assert lanes().path([0, 2], np.array([3.4, 50.0]), north) == [1, 3]
    assert lanes().path([0, 2], np.array([0.1, 50.0]), north) == [0, 2]
    assert lanes().path([1, 4], np.array([0.1, 50.0]), north) == [0, 4]  # the exit must be taken
    assert lanes().path([1, 4], np.array([20.0, 110.0]), 0.0) == [4]
    assert lanes().path([], np.array([0.0, 0.0]), 0.0) == []
    assert lanes().path([99], np.array([0.0, 0.0]), 0.0) == []


def test_lane_cost_counts_distance_and_direction() -> None:
    points = np.array([[0.0, 0.0], [0.0, 10.0]])
    assert lane_cost(points, np.array([2.0, 5.0]), math.pi / 2) == pytest.approx(2.0)
    assert lane_cost(points, np.array([2.0, 5.0]), -math.pi / 2) == pytest.approx(
        2.0 + 10 * math.pi
    )


def test_lines_are_cut_into_pieces_that_share_their_ends() -> None:
    parts = cut_line(np.array([[0.0, 0.0], [100.0, 0.0]]), closed=False)
    assert [len(part) for part in parts] == [10, 10, 10, 10, 5]
    assert all((a[-1] == b[0]).all() for a, b in itertools.pairwise(parts))
    ring = cut_line(np.array([[0.0, 0.0], [5.0, 0.0], [5.0, 5.0], [0.0, 5.0]]), closed=True)
    assert ring[0][0].tolist() == ring[-1][-1].tolist() == [0.0, 0.0]
    assert resample(np.array([[0.0, 0.0], [0.1, 0.0]]), 2.5).tolist() == [[0.0, 0.0], [0.1, 0.0]]


@given(st.floats(-3, 3), st.floats(-50, 50), st.floats(-50, 50))
def test_frames_are_left_as_they_were_entered(angle: float, x: float, y: float) -> None:
    frame = torch.tensor([[x, y, angle]], dtype=torch.float64)
    points = torch.tensor([[[1.0, 2.0], [-30.0, 7.0]]], dtype=torch.float64)
    torch.testing.assert_close(out_of_frame(into_frame(points, frame), frame), points)
    ahead = torch.tensor([[[x + math.cos(angle), y + math.sin(angle)]]], dtype=torch.float64)
    torch.testing.assert_close(into_frame(ahead, frame)[0, 0], points.new_tensor([1.0, 0.0]))


def test_a_planner_sees_the_present_from_the_ego_s_place(world: World) -> None:
    seen = planner_input(world, 10)
    assert seen.ego_history.shape == (11, 11, 4)
    assert seen.ego_history[0, -1].tolist() == pytest.approx([0, 0, 0, 10.0], abs=1e-5)
    assert seen.ego_history[0, 0].tolist() == pytest.approx([-10.0, 0, 0, 10.0], abs=1e-5)
    assert seen.agents[0, 0, -1].tolist() == pytest.approx([0, -3.5, 0, 12.0, 0], abs=1e-5)
    assert seen.agent_mask[0, :, -1].sum() == 3  # the pedestrian is not there yet
    assert seen.agent_mask[0, 0].sum() == 1  # track 2 was first seen at the present
    assert seen.route[0, 0].tolist() == pytest.approx([-10.0, 0.0], abs=1e-4)
    assert not seen.route_mask[4].any()


def test_a_planner_sees_a_later_step_as_the_sample_that_begins_there(world: World) -> None:
    """Track 0 at step 20, seen by the sample of step 10 and by that of step 20."""
    later, own = planner_input(world, 20).rows(slice(0, 1)), planner_input(world, 10)
    own = own.rows(slice(1, 2))
    for name in ("ego_history", "agents", "agent_mask", "agent_sizes_m", "route", "route_lights"):
        torch.testing.assert_close(
            getattr(later, name).double(), getattr(own, name).double(), atol=1e-4, rtol=0
        )
    assert later.lines[0, 0].norm() < 40


def test_a_planner_sees_nothing_of_the_future(world: World) -> None:
    later = replace(
        world,
        ego_poses=_after(world.ego_poses, 1, 77.0),
        agent_poses=_after(world.agent_poses, 2, 77.0),
        agent_mask=_after(world.agent_mask, 2, False),
        line_lights=_after(world.line_lights, 2, 0),
    )
    before, after = planner_input(world, 10), planner_input(later, 10)
    for name, value in before.__dict__.items():
        assert torch.equal(value, getattr(after, name)), name


def _after(values: torch.Tensor, axis: int, filled: float) -> torch.Tensor:
    """Everything after step 10 replaced."""
    steps = torch.arange(values.shape[axis]) > 10
    shape = [1] * values.ndim
    shape[axis] = -1
    return values.masked_fill(steps.reshape(shape), filled)


def test_a_planner_needs_a_past(world: World) -> None:
    with pytest.raises(ValueError, match="less than 10 steps before it"):
        planner_input(world, 9)


def test_a_small_world_holds_what_is_nearest(folder: Path, samples: pl.DataFrame) -> None:
    store = SceneStore.read(folder, size=WorldSize(agents=1, lines=3, places=8))
    small = store.world(samples, history_s=1.0, future_s=4.0)
    assert small.agent_poses.shape[1] == 1
    assert small.agent_poses[0, 0, 10].tolist() == pytest.approx([0.0, -3.5, 0.0], abs=1e-5)
    assert small.line_points.shape[1] == 3
    assert small.route_points.shape[1] == 8
    assert planner_input(small, 10).agents.shape[1] == 1


def test_rows_come_in_the_order_asked(folder: Path, samples: pl.DataFrame, world: World) -> None:
    store = SceneStore.read(folder)
    turned = store.world(samples.reverse(), history_s=1.0, future_s=4.0)
    assert torch.equal(turned.ego_poses, world.ego_poses.flip(0))
    assert torch.equal(turned.sample_ids, world.sample_ids.flip(0))
    assert STEPS == 81


def test_facts_stand_beside_the_lines_and_the_route(
    folder: Path, samples: pl.DataFrame, world: World
) -> None:
    facts = SceneStore.read(folder).facts(samples)
    lit = facts.line_has_signal[0]
    assert lit.any()
    assert (world.line_limits_mps[0][torch.from_numpy(lit)] == 10.0).all()
    assert facts.route_line_ids[0].tolist()[:3] == [0, 0, 0]
    assert set(facts.route_line_ids[8].tolist()) == {1, 4, -1}
    assert (facts.route_line_ids[4] == -1).all()
    assert not facts.route_merges.any()
    assert ROAD_CLASSES[facts.route_road_classes[0, 0]] == "urban"


def test_lanes_that_lead_into_one_are_a_merge_and_the_bent_one_is_its_side() -> None:
    lines = [
        line(0, "lane_centre", [(0, 0), (50, 0)], successors=(2,)),
        line(1, "lane_centre", [(0, -20), (30, -20), (50, 0)], successors=(2,)),
        line(2, "lane_centre", [(50, 0), (99, 0)]),
    ]
    facts = find_lane_facts(pl.DataFrame(lines, schema=MAP_LINES.polars))
    assert facts.merges == {2}
    assert facts.sides == {1}
    assert total_turn(np.array([[0.0, 0], [1, 0], [1, 1]])) == pytest.approx(math.pi / 2)


def test_a_sample_s_future_ends_with_the_track(folder: Path) -> None:
    every = choose_samples(read_artifact(folder, kind="scenes"), SampleRules(stride_s=0.1))
    own = every.filter(pl.col("track_id") == 0)["step"]
    assert (own.min(), own.max()) == (10, 40)  # of 81 steps, one second before and four after


def test_the_history_of_an_ego_that_turned_is_seen_from_its_present_heading(world: World) -> None:
    steps = torch.arange(world.ego_poses.shape[1], dtype=torch.float32)
    turning = torch.stack([torch.zeros_like(steps), torch.zeros_like(steps), 0.1 * steps], -1)
    seen = planner_input(replace(world, ego_poses=turning.expand(11, -1, -1).clone()), 20)
    assert seen.ego_history[0, :, 2].tolist() == pytest.approx(
        [-0.1 * back for back in range(10, -1, -1)], abs=1e-5
    )


def test_beyond_a_ride_nothing_is_known_of_the_ego(world: World) -> None:
    ride = logged_ride(world)
    short = Motion(**{name: value[:, :31] for name, value in vars(ride).items()})
    driven = driven_world(world, short)
    assert driven.ego_mask[:, :41].all()
    assert not driven.ego_mask[:, 41:].any()
    assert torch.equal(driven.ego_poses[:, 10:41], short.poses)
