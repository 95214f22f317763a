"""What long rides show: windows, their mean style, lanes near them, the scene they begin in."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from driving.evaluation.driven_style import mean_style, measured, window_firsts
from driving.evaluation.judge import (
    driven_world,
    logged_ride,
    one_candidate,
    past_the_map,
    whole_ride_safety,
)
from driving.evaluation.passenger import course, start_facts
from driving.metrics.score import pdm_score
from driving.scene_store import SceneStore
from driving.style.features import measure
from driving.world import LIGHT_RED
from tests.driving.small_scenes import write_small_scenes

STEPS = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SceneStore:
    return SceneStore.read(write_small_scenes(tmp_path_factory.mktemp("long") / "scenes"))


@pytest.fixture(scope="module")
def world(store: SceneStore):
    samples = pl.DataFrame({"sample_id": [0], "scene_id": [0], "track_id": [0], "step": [10]})
    return store.world(samples, history_s=1.0, future_s=7.0)


@pytest.mark.parametrize("steps", [40, 45, 80, 90, 120])
def test_windows_cover_a_ride_from_end_to_end(steps: int) -> None:
    firsts = window_firsts(steps)
    assert (firsts[0], firsts[-1]) == (0, steps - 40)
    assert max(np.diff(firsts), default=0) <= 40
    assert len(firsts) == -(-steps // 40)


def test_a_style_is_the_mean_over_the_windows_that_show_it() -> None:
    first = (np.array([[0.4, 0.6, 0.0]]), np.array([[True, True, False]]))
    second = (np.array([[0.2, 0.0, 0.0]]), np.array([[True, False, False]]))
    values, mask = mean_style([first, second])
    assert values[0].tolist() == pytest.approx([0.3, 0.6, 0.0])
    assert mask[0].tolist() == [True, True, False]


def test_lanes_far_from_a_ride_measure_nothing(world) -> None:
    driven = driven_world(world, logged_ride(world, steps=STEPS))
    whole, windows = measured(driven, STEPS)
    assert torch.equal(whole.values, measure(driven, steps=STEPS).values)
    assert torch.equal(whole.mask, measure(driven, steps=STEPS).mask)
    later = measure(driven, first=driven.now + 20)
    assert torch.equal(windows[1].values, later.values)
    assert len(windows) == 2
    assert whole.column("distance_m")[0].item() == pytest.approx(60.0, abs=0.1)  # 10 m/s for 6 s
    assert whole.column("speed_to_limit")[1].all()


def test_safety_looks_at_the_whole_ride(world, store: SceneStore) -> None:
    ride = logged_ride(world, steps=STEPS)
    area = store.drivable_area()
    poses = ride.poses.clone()
    poses[:, 50:, 1] += 30.0  # leaves the road after five seconds
    away = replace(ride, poses=poses)
    found = whole_ride_safety(world, away, area)
    assert found["drivable_area_ride"].item() == 0.0
    assert whole_ride_safety(world, ride, area)["drivable_area_ride"].item() == 1.0
    plain = pdm_score(world, one_candidate(ride), area)
    assert whole_ride_safety(world, ride, area)["no_collision_ride"].item() == (
        plain.no_collision.item()
    )
    late = world.agent_poses.clone()
    late[:, 0, world.now + 55, :] = ride.poses[:, 55]  # somebody on the ego after 5.5 s
    hit = replace(world, agent_poses=late)
    assert whole_ride_safety(hit, ride, area)["no_collision_ride"].item() < 1.0


def test_nobody_is_off_the_road_where_the_map_ends(world, store: SceneStore) -> None:
    ride = logged_ride(world, steps=STEPS)
    assert not past_the_map(world, ride).any()  # the route goes on beyond the ride
    ends = world.route_mask.clone()
    beyond = world.route_points[..., 0] > 41.0  # the ego's centre is at 40 m after four seconds
    ends &= ~beyond
    short = replace(world, route_mask=ends)
    past = past_the_map(short, ride)[0]
    last_m = world.route_points[0, ends[0], 0].max()
    front_m = ride.poses[0, :, 0] + world.ego_size_m[0, 0] / 2
    assert past.tolist() == (front_m > last_m).tolist()
    assert past.any()
    held = int(ends.sum())  # a route cut where its places end is not the end of the map
    cut = {
        name: value[:, :held] for name, value in vars(world).items() if name.startswith("route_")
    }
    assert not past_the_map(replace(world, **cut), ride).any()
    poses = ride.poses.clone()
    poses[:, 50:, 1] += 3.0  # off the lane, but only where no lane is known any more
    away = replace(ride, poses=poses)
    area = store.drivable_area()
    assert whole_ride_safety(short, away, area)["drivable_area_ride"].item() == 1.0
    assert whole_ride_safety(world, away, area)["drivable_area_ride"].item() == 0.0


def test_a_passenger_sees_the_limit_the_one_ahead_and_the_light(world) -> None:
    found = start_facts(world)
    assert found["start_limit_mps"].to_list() == [15.0]
    assert found["start_gap_m"].item() == pytest.approx(25.0 - 4.5, abs=0.1)
    assert found["start_leader_mps"].item() == pytest.approx(10.0, abs=0.1)
    assert found["start_light"].to_list() == ["red"]  # green only later
    assert found["start_light_m"].item() == pytest.approx(85.0, abs=2.5)
    behind = torch.zeros_like(world.route_lights)
    behind[:, :4] = LIGHT_RED
    dark = start_facts(replace(world, route_lights=behind))
    assert dark["start_light"].to_list() == ["unknown"]
    assert dark["start_light_m"].to_list() == [None]
    later = world.agent_poses.clone()
    later[:, :, world.now + 1 :] += 50.0
    assert start_facts(replace(world, agent_poses=later))["start_gap_m"].equals(
        found["start_gap_m"]
    )  # the future says nothing


def test_a_course_is_looked_at_every_second(world) -> None:
    ride = logged_ride(world, steps=STEPS)
    found = course(driven_world(world, ride), ride)
    assert found["driven_m"].to_list()[0] == pytest.approx([10.0 * n for n in range(1, 7)], abs=0.1)
    assert len(found["gap_m"][0]) == 7
    assert found["gap_m"][0][0] == pytest.approx(start_facts(world)["start_gap_m"].item(), abs=0.1)
