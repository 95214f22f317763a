"""Savitzky-Golay smoothing and differentiation as fixed linear weights."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

WINDOW_STEPS = 15
POLYNOMIAL_ORDER = 2


@lru_cache(maxsize=64)
def smoothing_weights(
    steps: int, derivative: int, *, window: int = WINDOW_STEPS, order: int = POLYNOMIAL_ORDER
) -> Float[np.ndarray, "step source"]:
    """Weights that turn a signal into its smoothed self or one of its derivatives, per step.

    Row `i` is the value (or derivative) at step `i` of the polynomial that fits the `window` steps
    around it best; near the ends the window stays inside, so the polynomial is read off its centre.

    Args:
        steps: Length of the signal.
        derivative: 0 for the value, 1 for the slope per step, 2 for the curvature per step squared.
        window: Steps a polynomial is fitted to; odd; the whole signal where that is shorter.
        order: Degree of the polynomial.

    Raises:
        ValueError: If the signal is too short for the polynomial or the window is even.

    Source:
        Savitzky and Golay, 1964, doi:10.1021/ac60214a047; ends as in SciPy's `mode="interp"`.
    """
    if window % 2 == 0:
        raise ValueError(f"window must be odd, got {window}.")
    window = min(window, steps if steps % 2 else steps - 1)
    if window <= order:
        raise ValueError(f"a signal of {steps} steps is too short for degree {order}.")
    half = window // 2
    places = np.arange(window) - half
    fit = np.linalg.pinv(np.vander(places, order + 1, increasing=True).astype(np.float64))
    weights = np.zeros((steps, steps))
    for step in range(steps):
        first = min(max(step - half, 0), steps - window)
        at = step - first - half
        powers = np.array([_power(at, degree, derivative) for degree in range(order + 1)])
        weights[step, first : first + window] = powers @ fit
    return weights


def _power(at: int, degree: int, derivative: int) -> float:
    """The derivative of `t ** degree` at a place."""
    if degree < derivative:
        return 0.0
    factor = float(np.prod(np.arange(degree - derivative + 1, degree + 1)))
    return factor * float(at) ** (degree - derivative)


def smoothed(
    signal: Float[Tensor, "*batch step"], *, step_s: float, derivative: int = 0
) -> Float[Tensor, "*batch step"]:
    """The signal, or a derivative of it by time, after a parabola was fitted around every step.

    The window is 15 steps, 1.5 s at 0.1 s. Noise floor: white noise of standard deviation s in a
    speed leaves 0.6 s (in m/s2 per m/s) in the acceleration at the middle of the signal and 2.3 s
    at its first and last step, and 3.1 s (m/s3) in the jerk everywhere. Positions taken from video
    (NGSIM) have speeds good to about 0.2 m/s: accelerations below 0.15 m/s2 (0.5 at the ends) and
    jerks below 0.6 m/s3 say nothing there.

    Args:
        signal: What is smoothed; angles must be unwrapped.
        step_s: Seconds from one step to the next.
        derivative: 0, 1 or 2.
    """
    weights = torch.as_tensor(
        smoothing_weights(signal.shape[-1], derivative), dtype=signal.dtype, device=signal.device
    )
    return signal @ weights.mT / step_s**derivative


def unwrapped(angle_rad: Float[Tensor, "*batch step"]) -> Float[Tensor, "*batch step"]:
    """The same angles without jumps of a full turn from one step to the next.

    Example:
        >>> unwrapped(torch.tensor([3.0, -3.0])).sub(3.0).mul(100).round().tolist()
        [0.0, 28.0]
    """
    change = angle_rad.diff(dim=-1)
    turns = torch.round(change / (2 * torch.pi)).cumsum(-1)
    start = torch.zeros_like(angle_rad[..., :1])
    return angle_rad - 2 * torch.pi * torch.cat([start, turns], -1)
