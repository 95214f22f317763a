"""Boxes from front bumpers: conversions worked by hand, and paths a car could drive."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from data_prep.scenes.traffic_tracks import (
    REAR_OVERHANG_SHARE,
    centre_from_front,
    drawn_heading,
    drivable_boxes,
    heading_from_angle,
    smooth_path,
    smoothed,
)


def test_angles_clockwise_from_north_become_headings_from_x():
    angles = np.array([0.0, 45.0, 90.0, 180.0, 270.0, 300.0])
    right = np.radians([90.0, 45.0, 0.0, -90.0, 180.0, 150.0])
    assert heading_from_angle(angles) == pytest.approx(right)


def test_the_centre_lies_half_a_length_behind_the_bumper():
    front_m = np.array([[10.0, 5.0], [10.0, 5.0]])
    centre_m = centre_from_front(front_m, np.array([0.0, math.pi / 2]), 4.0)
    assert centre_m == pytest.approx(np.array([[8.0, 5.0], [10.0, 3.0]]))


@given(slope=some.floats(-3, 3), count=some.integers(2, 40), width=some.floats(0.5, 6.0))
def test_smoothing_leaves_a_straight_series_as_it_is(slope: float, count: int, width: float):
    series = 3.0 + slope * np.arange(count)
    assert smoothed(series, width) == pytest.approx(series, abs=1e-9)


def test_smoothing_weighs_neighbours_by_a_gaussian():
    series = np.zeros(21)
    series[10] = 1.0
    weights = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    assert smoothed(series, 2.0)[4:17] == pytest.approx(weights / weights.sum())


def _change_of_lanes(step_s: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """30 m/s along x; from 3 s to 6 s, 3.6 m to the left at an even rate, as SUMO does it."""
    time_s = np.arange(0.0, 9.0, step_s)
    across_m = np.clip((time_s - 3.0) / 3.0, 0.0, 1.0) * 3.6
    return np.stack([30.0 * time_s, across_m], axis=1), np.full(len(time_s), 30.0)


def test_a_change_of_lanes_has_bounded_lateral_acceleration():
    front_m, speed_mps = _change_of_lanes()
    raw = np.abs(np.diff(front_m[:, 1], n=2) / 0.01).max()
    path_m = smooth_path(front_m, speed_mps, 0.1)
    smooth = np.abs(np.diff(path_m[:, 1], n=2) / 0.01).max()
    # a corner of 1.2 m/s, spread by a Gaussian of 0.5 s: 1.2 / (0.5 sqrt(2 pi)) = 0.96
    assert raw == pytest.approx(12.0)
    assert smooth == pytest.approx(0.96, abs=0.05)
    assert path_m[[0, -1], 1] == pytest.approx([0.0, 3.6], abs=1e-3)


def test_a_jump_along_the_path_is_spread_and_not_across_kept():
    speed_mps = np.full(60, 20.0)
    front_m = np.stack([2.0 * np.arange(60.0), np.zeros(60)], axis=1)
    front_m[30:, 0] += 0.5
    moved_mps = np.diff(smooth_path(front_m, speed_mps, 0.1)[:, 0]) / 0.1
    assert np.diff(front_m[:, 0]).max() / 0.1 == pytest.approx(25.0)
    assert moved_mps.min() + 1e-9 >= 20.0
    assert moved_mps.max() == pytest.approx(20.4, abs=0.05)  # 0.5 / (0.5 sqrt(2 pi)) more


def test_the_rear_axle_follows_a_circle_inside_the_bumper():
    radius_m, reach_m, step_rad = 20.0, 3.9, 0.02
    angle_rad = np.arange(0.0, 3.0, step_rad)
    front_m = radius_m * np.stack([np.cos(angle_rad), np.sin(angle_rad)], axis=1)
    heading_rad = drawn_heading(front_m, math.pi / 2, reach_m)
    lag_rad = angle_rad[-1] - step_rad / 2 + math.pi / 2 - heading_rad[-1]
    # in the end the rear axle goes round at sqrt(R^2 - D^2): the bumper steers asin(D / R) inwards
    assert lag_rad == pytest.approx(math.asin(reach_m / radius_m) - step_rad / 2, abs=0.012)
    rear_m = front_m - reach_m * np.stack([np.cos(heading_rad), np.sin(heading_rad)], axis=1)
    inner_m = math.sqrt(radius_m**2 - reach_m**2)
    assert np.hypot(*rear_m[-1]) == pytest.approx(inner_m, abs=0.01)


def test_a_standing_car_keeps_its_heading_and_a_turned_one_swings_in_by_the_exact_law():
    assert drawn_heading(np.zeros((5, 2)), 0.7, 4.0) == pytest.approx(np.full(5, 0.7))
    along_m = np.stack([np.arange(0.0, 9.0), np.zeros(9)], axis=1)
    heading_rad = drawn_heading(along_m, 1.0, 4.0)
    exact_rad = 2 * np.arctan(math.tan(0.5) * np.exp(-np.arange(9) / 4.0))
    assert heading_rad == pytest.approx(exact_rad)


def test_boxes_of_a_change_of_lanes_do_not_slip():
    front_m, speed_mps = _change_of_lanes()
    centre_m, heading_rad, velocity_mps = drivable_boxes(front_m, speed_mps, 90.0, 4.5, 0.1)
    back_m = (0.5 - REAR_OVERHANG_SHARE) * 4.5
    ahead = np.stack([np.cos(heading_rad), np.sin(heading_rad)], axis=1)
    rear_m = centre_m - back_m * ahead
    moves_m = np.diff(rear_m, axis=0)
    middle = ahead[1:] + ahead[:-1]
    slip = moves_m[:, 0] * middle[:, 1] - moves_m[:, 1] * middle[:, 0]
    assert np.abs(slip).max() < 2e-3
    assert np.hypot(*velocity_mps.T) == pytest.approx(np.full(len(front_m), 30.0), abs=0.1)
    assert centre_m[0] == pytest.approx([-2.25, 0.0], abs=1e-3)
