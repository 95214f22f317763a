"""Tracks on a fixed clock: hand-worked values, gaps that stay, and the shorter arc."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.scenes.raw_scene import AgentKind, RawTrack
from data_prep.scenes.resample import resampled


def track(time, x, y=None, heading=None, velocity=None, kind: AgentKind = "vehicle"):
    time = np.asarray(time, float)
    return RawTrack(
        "a",
        kind,
        4.5,
        1.8,
        time,
        np.asarray(x, float),
        np.zeros_like(time) if y is None else np.asarray(y, float),
        np.zeros_like(time) if heading is None else np.asarray(heading, float),
        None if velocity is None else np.asarray(velocity, float),
    )


def test_two_hertz_is_filled_in():
    steps = resampled(track([0.0, 0.5, 1.0], [0.0, 5.0, 20.0], velocity=[[8, 1], [12, 1], [40, 1]]))
    np.testing.assert_array_equal(steps.step, np.arange(11))
    np.testing.assert_allclose(steps.position_m[:, 0], [0, 1, 2, 3, 4, 5, 8, 11, 14, 17, 20])
    np.testing.assert_allclose(steps.velocity_mps[2], [9.6, 1.0])
    np.testing.assert_allclose(steps.velocity_mps[6], [17.6, 1.0])


def test_gaps_stay_gaps():
    steps = resampled(track([0.0, 0.1, 0.2, 1.0, 1.1], [0, 1, 2, 10, 11]))
    np.testing.assert_array_equal(steps.step, [0, 1, 2, 10, 11])
    np.testing.assert_allclose(steps.position_m[:, 0], [0, 1, 2, 10, 11])
    np.testing.assert_allclose(steps.velocity_mps[:, 0], 10.0)


def test_headings_turn_along_the_shorter_arc():
    steps = resampled(track([0.0, 0.4], [0, 1], heading=[3.0, -3.0]))
    turn = 2 * np.pi - 6.0
    expected = np.array([3.0, 3.0 + turn / 4, -np.pi, -3.0 - turn / 4, -3.0])
    np.testing.assert_allclose(np.cos(steps.heading_rad - expected), 1.0, atol=1e-12)
    assert (steps.heading_rad > -np.pi).all()
    assert (steps.heading_rad <= np.pi).all()


def test_half_a_turn_is_plus_pi():
    steps = resampled(track([0.0, 0.1], [0, 1], heading=[-np.pi, 3 * np.pi]))
    np.testing.assert_allclose(steps.heading_rad, [np.pi, np.pi])


def test_velocity_is_the_central_difference():
    steps = resampled(track([0.0, 0.1, 0.2], [0.0, 1.0, 4.0], [0.0, 0.0, 1.0]))
    np.testing.assert_allclose(steps.velocity_mps, [[10, 0], [20, 5], [30, 10]])


def test_an_uneven_clock_is_laid_on_the_steps():
    steps = resampled(track([0.04, 0.17, 0.31], [0.4, 1.7, 3.1]))
    np.testing.assert_array_equal(steps.step, [1, 2, 3])
    np.testing.assert_allclose(steps.position_m[:, 0], [1.0, 2.0, 3.0])


def test_jitter_does_not_cost_the_ends():
    steps = resampled(track([0.001, 0.1, 0.199], [0.0, 1.0, 2.0]))
    np.testing.assert_array_equal(steps.step, [0, 1, 2])
    np.testing.assert_allclose(steps.position_m[:, 0], [0.0, 1.0, 2.0])


def test_a_lone_state_has_no_velocity():
    assert resampled(track([0.3], [1.0])).step.size == 0
    np.testing.assert_array_equal(resampled(track([0.3], [1.0], velocity=[[2, 0]])).step, [3])
    static = resampled(track([0.3], [1.0], kind="static"))
    np.testing.assert_array_equal(static.velocity_mps, [[0.0, 0.0]])


def test_durations_must_be_positive():
    with pytest.raises(ValueError, match="durations must be positive, got 0 s"):
        resampled(track([0.0], [0.0]), step_s=0)


@given(
    dt=st.sampled_from([0.02, 0.1, 0.25, 0.5]),
    start=st.floats(0, 5),
    speed=st.floats(-30, 30),
    turn=st.floats(-1, 1),
    step_s=st.sampled_from([0.05, 0.1, 0.5]),
)
def test_straight_motion_is_kept_by_any_clock(dt, start, speed, turn, step_s):
    time = start + np.arange(12) * dt
    steps = resampled(track(time, speed * time, -2 * speed * time, turn * time), step_s=step_s)
    at = np.clip(steps.step * step_s, time[0], time[-1])
    assert steps.step.size >= int(11 * dt / step_s) - 1
    np.testing.assert_allclose(steps.position_m[:, 0], speed * at, atol=1e-9)
    np.testing.assert_allclose(steps.position_m[:, 1], -2 * speed * at, atol=1e-9)
    np.testing.assert_allclose(np.cos(steps.heading_rad - turn * at), 1.0, atol=1e-9)
    expected = np.tile([speed, -2 * speed], (len(at), 1))  # a coarse clock may have no step
    np.testing.assert_allclose(steps.velocity_mps, expected, atol=1e-6)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20))
def test_a_track_on_the_steps_is_unchanged(gaps):
    step = np.cumsum(gaps)
    position = np.sqrt(step)
    velocity = np.stack([np.cos(step), np.sin(step)], axis=1)
    one = track(step * 0.1, position, position**2, np.cos(step), velocity)
    steps = resampled(one)
    held = np.isin(steps.step, step)
    np.testing.assert_array_equal(steps.step[held], step)
    np.testing.assert_allclose(steps.position_m[held, 0], position, atol=1e-9)
    np.testing.assert_allclose(steps.velocity_mps[held], velocity, atol=1e-7)
    between = [
        s for low, g in zip(step, gaps[1:], strict=False) if g <= 5 for s in range(low + 1, low + g)
    ]
    np.testing.assert_array_equal(steps.step[~held], between)


def test_copies_are_independent():
    one = track([0.0, 0.1], [0, 1])
    before = replace(one, x_m=one.x_m.copy())
    resampled(one).position_m[:] = 9
    np.testing.assert_array_equal(one.x_m, before.x_m)
