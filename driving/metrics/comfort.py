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
    accelerations, headings = (
        torch.as_tensor(both, dtype=motion.poses.dtype, device=motion.poses.device)
        for both in _filters(motion.speed_mps.shape[-1], step_s)
    )
    ahead = motion.acceleration_mps2
    smooth, long_jerk = _filtered(ahead, accelerations)
    yaw_rate, yaw_acceleration = _filtered(_relative(motion.poses[..., 2]), headings)
    if lateral:
        aside = motion.speed_mps * yaw_rate
        smooth_aside, _ = _filtered(aside, accelerations)
        _, jerk = _filtered(torch.hypot(ahead, aside), accelerations)
    else:
        smooth_aside = torch.zeros_like(ahead)
        _, jerk = _filtered(ahead.abs(), accelerations)
    signals = torch.stack([smooth, smooth_aside, jerk, long_jerk, yaw_acceleration, yaw_rate], -2)
    bounds = torch.as_tensor(
        _bounds(styled=styles is not None), dtype=signals.dtype, device=signals.device
    )
    lower, upper = (bounds if styles is None else bounds[:, styles])[..., None, :, None]
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
def _filters(
    steps: int, step_s: float
) -> tuple[Float[np.ndarray, "steps both"], Float[np.ndarray, "steps both"]]:
    """Smoothing and jerk of accelerations, yaw rate and its change of headings; transposed."""
    smoothing = savitzky_golay(steps, min(_SMOOTHING_STEPS, steps), 2, 0)
    turning = min(_TURNING_STEPS, steps)
    smooth = savitzky_golay(steps, steps, 2, 0)
    jerk = savitzky_golay(steps, steps, 2, 1) @ smoothing / step_s
    yaw_rate = savitzky_golay(steps, turning, 2, 1) / step_s
    yaw_acceleration = savitzky_golay(steps, turning, 3, 2) / step_s**2
    return np.concatenate([smooth, jerk]).T, np.concatenate([yaw_rate, yaw_acceleration]).T


def _filtered(signal: Tensor, both: Tensor) -> tuple[Tensor, ...]:
    """A signal through two filters that stand side by side."""
    return (signal @ both).chunk(2, -1)


def _relative(heading: Tensor) -> Tensor:
    """Headings less the first, for the sake of rounding, without jumps by full turns."""
    change = heading.diff(dim=-1)
    change = change - 2 * torch.pi * torch.round(change / (2 * torch.pi))
    return torch.nn.functional.pad(change.cumsum(-1), (1, 0))


@lru_cache(maxsize=2)
def _bounds(*, styled: bool) -> Float[np.ndarray, "2 row 6"]:
    """Lower and upper bounds in the order of the checks, for nuPlan or for every style."""
    rows = STYLE_BOUNDS if styled else (NUPLAN_BOUNDS,)
    table = np.array([astuple(row) for row in rows])
    jerk, aside, ahead, braking, turn_change, long_jerk, turn = table.T
    upper = np.stack([ahead, aside, jerk, long_jerk, turn_change, turn], -1)
    lower = -np.stack([braking, aside, jerk, long_jerk, turn_change, turn], -1)
    return np.stack([lower, upper])
