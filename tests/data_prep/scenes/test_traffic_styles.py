"""Every dimension of style moves what its name says, in the simulator.

Drivers differ in one dimension only, so that none borrows from another: lone ones where they can
show it alone, otherwise a population of which half is at either end.
"""

from collections.abc import Mapping

import numpy as np
import pytest

import data_prep.scenes.traffic as traffic
from data_prep.scenes.raw_scene import RawScene
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from data_prep.scenes.traffic import Road, TrafficSource
from data_prep.scenes.traffic_drivers import draw_styles, driver_parameters
from data_prep.scenes.traffic_simulation import STEP_S, Driver, simulate
from data_prep.scenes.traffic_tracks import drivable_boxes

LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def roads(tmp_path_factory) -> dict[str, Road]:
    pytest.importorskip("libsumo", reason="the extra [traffic] is not installed")
    folder = tmp_path_factory.mktemp("roads")
    return {name: Road(name, folder) for name in ("grid", "rural")}


def _driver(key: str, edges: str, depart_s: float, **styles: float) -> Driver:
    values = tuple(styles.get(name, 0.0) for name in STYLE_DIMENSIONS)
    return Driver(key, tuple(edges.split()), depart_s, 4.6, 1.8, driver_parameters(values))


def _run(road: Road, drivers: list[Driver], steps: int) -> Mapping[str, dict[str, np.ndarray]]:
    log = simulate(
        road.network.file, drivers, road.bends, warm_up_steps=0, record_steps=steps, seed=1
    )
    found = {}
    for key, vehicle in log.vehicles.items():
        front_m, speed_mps = np.array(vehicle.front_m), np.array(vehicle.speed_mps)
        centre_m, heading_rad, _ = drivable_boxes(
            front_m, speed_mps, vehicle.angle_deg, 4.6, STEP_S
        )
        acceleration = np.gradient(speed_mps, STEP_S)
        found[key] = {
            "first": np.array([vehicle.first_step]),
            "centre_m": centre_m,
            "speed": speed_mps,
            "acceleration": acceleration,
            "jerk": np.gradient(acceleration, STEP_S),
            "lateral": np.abs(speed_mps * np.gradient(heading_rad, STEP_S)),
        }
    return found


def _alone(road: Road, edges: str, dimension: str, depart_s: float = 0.0) -> list[dict]:
    steps = 900
    return [
        _run(road, [_driver("v", edges, depart_s, **{dimension: level})], steps)["v"]
        for level in LEVELS
    ]


def test_speed_moves_the_speed_on_an_open_road(roads):
    fastest = [run["speed"].max() for run in _alone(roads["rural"], "a_b b_c", "speed")]
    limit_mps = 80 / 3.6
    assert np.array(fastest) / limit_mps == pytest.approx([0.85, 0.925, 1.0, 1.05, 1.1], abs=0.03)


def test_lateral_acceleration_moves_the_speed_in_bends(roads):
    runs = _alone(roads["rural"], "a_b b_c", "lateral_acceleration")
    assert [run["lateral"].max() for run in runs] == pytest.approx([2, 2.5, 3, 3.5, 4], abs=0.3)


def test_braking_moves_the_deceleration_before_bends(roads):
    runs = _alone(roads["rural"], "a_b b_c", "braking")
    hardest = [-run["acceleration"].min() for run in runs]
    assert (np.diff(hardest) > 0.05).all()
    assert hardest[-1] > 1.5 * hardest[0]


def test_acceleration_moves_the_acceleration_after_a_stop(roads):
    runs = _alone(roads["grid"], "w0_n00 n00_n10 n10_e0", "acceleration", depart_s=8.0)
    assert all(run["speed"].min() < 0.1 for run in runs)  # a red light stopped them
    most = [run["acceleration"][run["speed"].argmin() :].max() for run in runs]
    assert (np.diff(most) > 0.1).all()
    assert most[-1] > 1.6 * most[0]


def test_jerk_moves_how_fast_the_pedal_goes_down(roads):
    runs = _alone(roads["grid"], "w0_n00 n00_n10 n10_e0", "jerk", depart_s=8.0)
    most = []
    for run in runs:
        start = int(np.flatnonzero(run["speed"] < 0.1)[-1])
        most.append(run["jerk"][start - 3 : start + 15].max())
    assert (np.diff(most) > 0).all()
    assert most[-1] > 1.4 * most[0]


def test_time_gap_moves_the_distance_to_a_slower_leader(roads):
    gaps_s = []
    for level in LEVELS:
        drivers = [
            _driver("leader", "a_b b_c", 0.0, speed=-1.0),
            _driver("follower", "a_b b_c", 2.0, speed=1.0, time_gap=level),
        ]
        runs = _run(roads["rural"], drivers, 330)
        leader, follower = runs["leader"], runs["follower"]
        shift = int(follower["first"][0] - leader["first"][0])
        at = slice(240 - shift, 280 - shift)
        ahead_m = leader["centre_m"][240:280] - follower["centre_m"][at]
        gap_m = np.linalg.norm(ahead_m, axis=1) - 4.6
        gaps_s.append(float(np.median(gap_m / follower["speed"][at])))
    assert (np.diff(gaps_s) > 0.1).all()
    assert gaps_s[-1] - gaps_s[0] > 0.7


def _let_only(monkeypatch: pytest.MonkeyPatch, dimension: str) -> None:
    """From now on half of all drivers are at one end of a dimension, half at the other.

    Their other dimensions are independent.
    """
    pytest.importorskip("libsumo", reason="the extra [traffic] is not installed")

    def drawn(count: int, generator: np.random.Generator, _: float) -> np.ndarray:
        styles = draw_styles(count, generator, 0.0)
        styles[:, STYLE_DIMENSIONS.index(dimension)] = generator.choice([-1.0, 1.0], count)
        return styles

    monkeypatch.setattr(traffic, "draw_styles", drawn)


def _population(road: str, duration_s: float, seed: int) -> RawScene:
    scene = next(TrafficSource((road,), 1, duration_s, seed).scenes())
    assert isinstance(scene, RawScene)
    assert scene.notes["collisions"] == 0
    return scene


def test_lane_change_assertiveness_moves_how_often_lanes_are_changed(monkeypatch):
    _let_only(monkeypatch, "lane_change_assertiveness")
    scene = _population("motorway", 120.0, 4)
    lanes = {line.key: line.points_m for line in scene.map.lines if line.kind == "lane_centre"}
    dimension = STYLE_DIMENSIONS.index("lane_change_assertiveness")
    bold, counts = [], []
    for track in scene.tracks:
        route = scene.routes[track.key]
        if not (route[0].startswith("a_b") and route[-1].startswith("e_f")):
            continue
        centre_m = np.stack([track.x_m, track.y_m], axis=1)[::5]
        off_m = np.stack([_offset(lanes[f"c_d_{index}"], centre_m) for index in range(3)])
        near = off_m.min(axis=0) < 2.0
        if near.sum() >= 10:
            changes = np.count_nonzero(np.diff(off_m.argmin(axis=0)[near]))
            bold.append(scene.driver_styles[track.key].values[dimension] > 0)
            counts.append(changes)
    often, seldom = np.array(counts)[bold], np.array(counts)[np.invert(bold)]
    assert min(len(often), len(seldom)) > 30
    assert often.mean() > 2 * seldom.mean()


def _offset(line_m: np.ndarray, places_m: np.ndarray) -> np.ndarray:
    along_m = np.linalg.norm(np.diff(line_m, axis=0), axis=1).cumsum()
    dense = np.arange(0.0, along_m[-1], 1.0)
    points_m = np.stack(
        [np.interp(dense, [0.0, *along_m], line_m[:, axis]) for axis in (0, 1)], axis=1
    )
    return np.linalg.norm(places_m[:, None] - points_m[None], axis=2).min(axis=1)


def test_yielding_margin_moves_the_gap_taken_on_entering_a_roundabout(monkeypatch):
    _let_only(monkeypatch, "yielding_margin")
    scene = _population("roundabout", 300.0, 4)
    ring_m = np.concatenate(
        [
            line.points_m
            for line in scene.map.lines
            if line.area == "roundabout" and line.kind == "lane_centre"
        ]
    )
    middle_m = (ring_m.max(axis=0) + ring_m.min(axis=0)) / 2
    polar = []
    for track in scene.tracks:
        offset_m = np.stack([track.x_m, track.y_m], axis=1) - middle_m
        radius_m = np.hypot(*offset_m.T)
        angle_rad = np.arctan2(offset_m[:, 1], offset_m[:, 0])
        polar.append((track.key, np.round(track.time_s / STEP_S), radius_m < 26.5, angle_rad))
    dimension = STYLE_DIMENSIONS.index("yielding_margin")
    careful, gaps_s = [], []
    for key, steps, inside, angle_rad in polar:
        entered = np.flatnonzero(~inside[:-1] & inside[1:])
        if not len(entered):
            continue
        at = entered[0]
        gap_s = min(
            _passes_s(angle_rad[at], steps[at], other[1:]) for other in polar if other[0] != key
        )
        if gap_s < 8.0:
            careful.append(scene.driver_styles[key].values[dimension] > 0)
            gaps_s.append(gap_s)
    long_s, short_s = np.array(gaps_s)[careful], np.array(gaps_s)[np.invert(careful)]
    assert min(len(long_s), len(short_s)) >= 10
    # the shortest gap a driver takes is his own; how much longer one is, is chance
    assert np.quantile(long_s, 0.1) > np.quantile(short_s, 0.1) + 0.8


def _passes_s(angle_rad: float, step: float, other: tuple) -> float:
    """Seconds from a step until another vehicle on the ring passes an angle."""
    steps, inside, angles_rad = other
    before = np.mod(angle_rad - angles_rad + np.pi, 2 * np.pi) - np.pi
    passes = (before[:-1] > 0) & (before[:-1] < 1) & (before[1:] <= 0) & inside[1:] & inside[:-1]
    later_s = (steps[:-1][passes] - step) * STEP_S
    return float(later_s[later_s > 0].min(initial=np.inf))
