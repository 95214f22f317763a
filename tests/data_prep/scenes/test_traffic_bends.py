"""Limits in bends, worked by hand."""

import math

import numpy as np
import pytest

from data_prep.scenes.traffic_bends import bend_limit, curvature_of


def test_a_circle_has_the_curvature_of_its_radius_in_either_direction():
    angle_rad = np.linspace(0.0, 2.0, 60)
    line_m = 50.0 * np.stack([np.cos(angle_rad), np.sin(angle_rad)], axis=1)
    for way in (line_m, line_m[::-1]):
        curvature_per_m = curvature_of(way)
        assert len(curvature_per_m) == pytest.approx(100, abs=1)
        assert curvature_per_m[15:-15] == pytest.approx(1 / 50.0, rel=0.03)


def test_a_straight_line_with_repeated_points_is_straight():
    line_m = np.array([[0.0, 0.0], [10.0, 10.0], [10.0, 10.0], [30.0, 30.0]])
    assert curvature_of(line_m) == pytest.approx(0.0, abs=1e-9)


def test_speed_in_a_bend_keeps_lateral_acceleration_and_braking_before_it_is_comfortable():
    curvature_per_m = np.zeros(400)
    curvature_per_m[200:260] = 1 / 50.0
    limit_mps = bend_limit(
        curvature_per_m, lateral_acceleration_mps2=2.0, braking_mps2=1.5, jerk_mps3=50.0
    )
    assert limit_mps[200:260] == pytest.approx(10.0)  # sqrt(2 * 50)
    assert limit_mps[100] == pytest.approx(math.sqrt(100 + 2 * 1.5 * 100))
    assert limit_mps[300] > 100


def test_a_smaller_jerk_rounds_the_corner_of_the_limit_and_never_raises_it_in_the_bend():
    curvature_per_m = np.zeros(400)
    curvature_per_m[200:260] = 1 / 50.0
    told = {"lateral_acceleration_mps2": 2.0, "braking_mps2": 2.0}
    sharp = bend_limit(curvature_per_m, jerk_mps3=100.0, **told)
    round_ = bend_limit(curvature_per_m, jerk_mps3=2.0, **told)
    assert (round_[150:280] <= sharp[150:280] + 1e-9).all()
    assert round_[200:260] == pytest.approx(10.0)
    bend = slice(150, 215)
    assert np.abs(np.diff(round_[bend] ** 2 / 2, n=2)).max() < 0.5
    assert np.abs(np.diff(sharp[bend] ** 2 / 2, n=2)).max() > 1.0
