"""Comfort: filters against scipy, and every bound just kept and just broken."""

import numpy as np
import pytest
import torch
from scipy.signal import savgol_filter

from driving.metrics.comfort import COMFORT_CHECKS, STYLE_BOUNDS, comfort, savitzky_golay
from driving.simulation.state import Motion

TIME = 0.1 * torch.arange(41, dtype=torch.float64)


@pytest.mark.parametrize(
    ("steps", "window", "order", "derivative"),
    [(41, 41, 2, 0), (41, 8, 2, 0), (41, 41, 2, 1), (41, 5, 2, 1), (41, 5, 3, 2), (12, 8, 2, 0)],
)
def test_filters_equal_scipy(steps: int, window: int, order: int, derivative: int) -> None:
    signal = np.random.default_rng(0).normal(size=steps)
    expected = np.asarray(savgol_filter(signal, window, order, deriv=derivative))
    np.testing.assert_allclose(
        savitzky_golay(steps, window, order, derivative) @ signal, expected, atol=1e-12
    )


def ride(
    *, acceleration: torch.Tensor, heading: torch.Tensor, speed: torch.Tensor | None = None
) -> Motion:
    poses = torch.stack([TIME * 0, TIME * 0, heading], -1)
    zero = torch.zeros_like(TIME)
    speed = zero + 10 if speed is None else speed
    values = (poses, speed, acceleration, zero, zero)
    return Motion(*(value[None, None] for value in values))


def failed(motion: Motion, style: int | None, *, lateral: bool = False) -> list[str]:
    styles = None if style is None else torch.tensor([style])
    checks = comfort(motion, 0.1, styles=styles, lateral=lateral)[0, 0]
    return [name for name, good in zip(COMFORT_CHECKS, checks.tolist(), strict=True) if not good]


BOUNDS = {None: (2.40, 4.05, 0.95, 1.93), 0: (1.6, 2.56, 0.56, 1.44), 1: (2.0, 3.2, 0.7, 1.8),
          2: (2.4, 3.84, 0.84, 2.16)}  # fmt: skip


@pytest.mark.parametrize("style", [None, 0, 1, 2])
def test_bounds_on_constant_acceleration_and_turning(style: int | None) -> None:
    ahead, braking, turn, turn_change = BOUNDS[style]
    zero = torch.zeros_like(TIME)
    for acceleration, value in (
        (zero + ahead, "longitudinal_acceleration"),
        (zero - braking, None),
    ):
        name = "longitudinal_acceleration" if value is None else value
        assert failed(ride(acceleration=acceleration * 0.999, heading=zero), style) == []
        assert failed(ride(acceleration=acceleration * 1.001, heading=zero), style) == [name]
    assert failed(ride(acceleration=zero, heading=TIME * turn * 0.999), style) == []
    assert failed(ride(acceleration=zero, heading=TIME * turn * -1.001), style) == ["yaw_rate"]
    change = 0.5 * turn_change * ((TIME - 2) * 0.2) ** 2 * 25  # up to 2 s times the bound in rate
    assert "yaw_acceleration" in failed(ride(acceleration=zero, heading=change * 1.001), style)
    assert "yaw_acceleration" not in failed(ride(acceleration=zero, heading=change * 0.999), style)


@pytest.mark.parametrize(("style", "bound"), [(None, 4.13), (0, 2.88), (1, 3.6), (2, 4.32)])
def test_bounds_on_constant_jerk(style: int | None, bound: float) -> None:
    """Light smoothing over eight steps looks half a step ahead, which tilts the ends by some %."""
    zero = torch.zeros_like(TIME)
    steady = bound * (TIME - 2.0)
    checks = failed(ride(acceleration=steady * 1.001, heading=zero), style)
    assert "longitudinal_jerk" in checks
    assert "longitudinal_jerk" not in failed(ride(acceleration=steady * 0.95, heading=zero), style)


@pytest.mark.parametrize(("style", "bound"), [(None, 8.37), (0, 5.6), (1, 7.0), (2, 8.4)])
def test_bounds_on_the_jerk_of_the_size(style: int | None, bound: float) -> None:
    rising = bound * TIME
    assert "jerk" in failed(ride(acceleration=rising * 1.001, heading=TIME * 0), style)
    assert "jerk" not in failed(ride(acceleration=rising * 0.95, heading=TIME * 0), style)


def test_lateral_acceleration_is_speed_times_yaw_rate_where_asked_for() -> None:
    zero = torch.zeros_like(TIME)
    for factor, expected in ((0.999, []), (1.001, ["lateral_acceleration"])):
        turning = ride(acceleration=zero, heading=TIME * 0.4 * factor)
        assert failed(turning, 1) == []
        assert failed(turning, 1, lateral=True) == expected


def test_headings_may_jump_by_full_turns_and_nan_is_no_comfort() -> None:
    zero = torch.zeros_like(TIME)
    wrapped = torch.atan2((TIME * 0.6).sin() * -1, (TIME * 0.6).cos() * -1)
    assert failed(ride(acceleration=zero, heading=wrapped), 1) == []
    broken = zero.clone()
    broken[3] = torch.nan
    assert "longitudinal_acceleration" in failed(ride(acceleration=broken, heading=zero), 1)


def test_styles_differ_in_every_bound_by_a_fifth() -> None:
    conservative, normal, aggressive = STYLE_BOUNDS
    for name in vars(normal):
        assert getattr(conservative, name) == pytest.approx(0.8 * getattr(normal, name))
        assert getattr(aggressive, name) == pytest.approx(1.2 * getattr(normal, name))
