"""Whether a ride is comfortable: six bounds on accelerations, jerks and turning."""

from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.simulation.state import Motion

COMFORT_CHECKS = (
    "longitudinal_acceleration",
    "lateral_acceleration",
    "jerk",
    "longitudinal_jerk",
    "yaw_acceleration",
    "yaw_rate",
)
_SMOOTHING_STEPS = 8
_TURNING_STEPS = 5


@dataclass(frozen=True)
class ComfortBounds:
    """What a passenger accepts; every value must lie strictly inside.

    Attributes:
        jerk_mps3: Change of the size of the acceleration.
        lateral_acceleration_mps2: To either side.
        acceleration_mps2: Forwards.
        braking_mps2: Backwards, positive.
        yaw_acceleration_radps2: To either side.
        longitudinal_jerk_mps3: To either side.
        yaw_rate_radps: To either side.
    """

    jerk_mps3: float
    lateral_acceleration_mps2: float
    acceleration_mps2: float
    braking_mps2: float
    yaw_acceleration_radps2: float
    longitudinal_jerk_mps3: float
    yaw_rate_radps: float


NUPLAN_BOUNDS = ComfortBounds(8.37, 4.89, 2.40, 4.05, 1.93, 4.13, 0.95)
STYLE_BOUNDS = (
    ComfortBounds(5.6, 3.2, 1.6, 2.56, 1.44, 2.88, 0.56),
    ComfortBounds(7.0, 4.0, 2.0, 3.2, 1.8, 3.6, 0.7),
    ComfortBounds(8.4, 4.8, 2.4, 3.84, 2.16, 4.32, 0.84),
)
"""StyleDrive's, in the order of `STYLE_LABELS`."""


def comfort(
    motion: Motion,
    step_s: float,
    *,
    styles: Int[Tensor, " batch"] | None = None,
    lateral: bool = False,
) -> Bool[Tensor, "batch candidate 6"]:
    """Which of `COMFORT_CHECKS` a ride passes; comfortable is one that passes all.

    Accelerations are smoothed by a quadratic over the whole ride, jerks are the derivatives of
    such a quadratic through lightly smoothed accelerations, turning is read off short windows of
    the heading: all of it linear, so it is four small matrices. NAVSIM's vehicle model knows no
    lateral acceleration, so its check never fails and `jerk` is that of the longitudinal part;
    with `lateral` both use speed times yaw rate instead.

    Args:
        motion: Rides, [batch, candidate, step].
        step_s: Seconds from one step to the next.
        styles: Row of `STYLE_BOUNDS` for each scene; None takes nuPlan's bounds.
        lateral: Look at the lateral acceleration.

    Returns:
        A NaN anywhere in a ride fails the checks that see it.

    Source:
        `pdm_comfort_metrics.py` of autonomousvision/navsim v1.1 and of AIR-THU/StyleDrive;
        Savitzky and Golay, 1964, doi:10.1021/ac60214a047.
    """
    steps = motion.speed_mps.shape[-1]
    filters = torch.as_tensor(
        _filters(steps, step_s), dtype=motion.poses.dtype, device=motion.poses.device
    )
    smooth, jerk_filter, turn_filter, turn_change_filter = filters
    heading = motion.poses[..., 2]
    yaw_rate = _turning(heading, turn_filter)
    ahead = motion.acceleration_mps2
    aside = motion.speed_mps * yaw_rate if lateral else torch.zeros_like(ahead)
    size = torch.hypot(ahead, aside) if lateral else ahead.abs()
    signals = torch.stack(
        [
            ahead @ smooth.T,
            aside @ smooth.T,
            size @ jerk_filter.T,
            ahead @ jerk_filter.T,
            _turning(heading, turn_change_filter),
            yaw_rate,
        ],
        -2,
    )
    lower, upper = _bounds(styles, signals)
    return ((signals > lower) & (signals < upper)).all(-1)


def savitzky_golay(
    steps: int, window: int, order: int, derivative: int
) -> Float[np.ndarray, "_ _"]:
    """The filter as a matrix: a polynomial through each window, evaluated at its middle.

    The first and last half window are read off the polynomial through the first and last window.
    With a window of even length the middle lies between two samples.

    Args:
        steps: Length of the signal.
        window: Samples per window, at most `steps`.
        order: Degree of the polynomial.
        derivative: Which derivative, per step.

    Example:
        >>> (savitzky_golay(7, 5, 2, 1) @ np.arange(7.0)).round(6).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    powers = np.arange(order + 1)
    fit = np.linalg.pinv(np.arange(window, dtype=np.float64)[:, None] ** powers)

    def weights(place: float) -> np.ndarray:
        """Weights of a window's samples in the derivative at one place of it."""
        factors = np.array([np.prod(np.arange(p, p - derivative, -1.0)) for p in powers])
        exponents = np.maximum(powers - derivative, 0)
        return (factors * place**exponents) @ fit

    matrix, half = np.zeros((steps, steps)), window // 2
    middle = weights((window - 1) / 2)
    for step in range(steps):
        if step < half:
            matrix[step, :window] = weights(float(step))
        elif step >= steps - half:
            matrix[step, -window:] = weights(float(step - (steps - window)))
        else:
            start = step - (window - 1) // 2
            matrix[step, start : start + window] = middle
    return matrix


@lru_cache(maxsize=8)
def _filters(steps: int, step_s: float) -> Float[np.ndarray, "4 s s"]:
    """Smoothing, jerk of an acceleration, first and second derivative of a heading."""
    smoothing = savitzky_golay(steps, min(_SMOOTHING_STEPS, steps), 2, 0)
    turning = min(_TURNING_STEPS, steps)
    return np.stack(
        [
            savitzky_golay(steps, steps, 2, 0),
            savitzky_golay(steps, steps, 2, 1) @ smoothing / step_s,
            savitzky_golay(steps, turning, 2, 1) / step_s,
            savitzky_golay(steps, turning, 3, 2) / step_s**2,
        ]
    )


def _turning(heading: Tensor, turn_filter: Tensor) -> Tensor:
    """A derivative of headings that may jump by full turns; relative, for the sake of rounding."""
    change = heading.diff(dim=-1)
    change = change - 2 * torch.pi * torch.round(change / (2 * torch.pi))
    relative = torch.nn.functional.pad(change.cumsum(-1), (1, 0))
    return relative @ turn_filter.T


def _bounds(styles: Tensor | None, signals: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds, broadcast against [batch, candidate, check, step]."""
    rows = (NUPLAN_BOUNDS,) if styles is None else STYLE_BOUNDS
    table = torch.tensor([astuple(row) for row in rows], dtype=signals.dtype, device=signals.device)
    jerk, aside, ahead, braking, turn_change, long_jerk, turn = table.unbind(-1)
    upper = torch.stack([ahead, aside, jerk, long_jerk, turn_change, turn], -1)
    lower = torch.stack([-braking, -aside, -jerk, -long_jerk, -turn_change, -turn], -1)
    if styles is None:
        return lower[:, None, :, None], upper[:, None, :, None]
    return lower[styles][:, None, :, None], upper[styles][:, None, :, None]
