"""Tracks of boxes from what SUMO says of vehicles: front bumpers on lanes.

SUMO moves the middle of the front bumper along lane centres, with a corner where two lanes meet
and at both ends of a lane change. Two steps make a track a car could drive. The path is smoothed
across, not along, so speeds stay as simulated. Then the rear axle is drawn after the bumper without
slipping sideways, as in the kinematic bicycle.
"""

import math

import numpy as np
from jaxtyping import Float

REAR_OVERHANG_SHARE = 0.22
"""Of a car's length, from its rear axle to its rear bumper."""
_MOVING_MPS = 1.0
SMOOTHING_S = 0.5
"""Width of the kernel that smooths paths."""


def heading_from_angle(
    angle_deg: Float[np.ndarray, "*state"],
) -> Float[np.ndarray, "*state"]:
    """Radians counter-clockwise from x, of degrees clockwise from north.

    Args:
        angle_deg: As SUMO writes angles.

    Returns:
        In (-pi, pi].

    Example:
        >>> heading_from_angle(np.array([0.0, 135.0])).round(3).tolist()
        [1.571, -0.785]
    """
    heading_rad = np.radians(90.0 - angle_deg)
    return -((-heading_rad + math.pi) % (2 * math.pi) - math.pi)


def centre_from_front(
    front_m: Float[np.ndarray, "state 2"],
    heading_rad: Float[np.ndarray, " state"],
    length_m: float,
) -> Float[np.ndarray, "state 2"]:
    """Centres of boxes whose front bumpers are given.

    Args:
        front_m: Middle of the front bumper.
        heading_rad: Where the front points.
        length_m: Length of the box.
    """
    ahead = np.stack([np.cos(heading_rad), np.sin(heading_rad)], axis=1)
    return front_m - 0.5 * length_m * ahead


def smoothed(
    values: Float[np.ndarray, "state ..."], width: float
) -> Float[np.ndarray, "state ..."]:
    """A Gaussian mean over neighbouring states.

    Beyond its ends a series is continued by point reflection, so that a straight one stays as it
    is everywhere; of a series shorter than the kernel the kernel's ends are cut off.

    Args:
        values: One per state.
        width: Standard deviation of the kernel, in states, positive.
    """
    if len(values) < 2:
        return values
    reach = min(max(1, round(3 * width)), len(values) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    kernel /= kernel.sum()
    before = 2 * values[0] - values[reach:0:-1]
    after = 2 * values[-1] - values[-2 : -reach - 2 : -1]
    padded = np.concatenate([before, values, after])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    return windows @ kernel


def smooth_path(
    points_m: Float[np.ndarray, "state 2"],
    speed_mps: Float[np.ndarray, " state"],
    step_s: float,
    width_s: float = SMOOTHING_S,
) -> Float[np.ndarray, "state 2"]:
    """A path without corners, driven at the speed that was simulated.

    Every point is moved across the path to its neighbours' mean. Along the path it is moved by
    what the speeds say and the points do not, less the slow part of that: where lanes of different
    length lie side by side, a change of lanes would otherwise be a jump.

    Args:
        points_m: A place per step.
        speed_mps: Speed with which each place was reached from the one before.
        step_s: Seconds from one step to the next.
        width_s: Standard deviation of the Gaussian kernel.
    """
    if len(points_m) < 3:
        return points_m
    width = width_s / step_s
    smooth_m = smoothed(points_m, width)
    ahead = np.gradient(smooth_m, axis=0)
    length_m = np.linalg.norm(ahead, axis=1, keepdims=True)
    ahead = np.divide(ahead, length_m, out=np.zeros_like(ahead), where=length_m > 1e-6)
    aside = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    path_m = points_m + np.sum((smooth_m - points_m) * aside, axis=1, keepdims=True) * aside
    driven_m = np.sum(np.diff(path_m, axis=0) * (ahead[1:] + ahead[:-1]) / 2, axis=1)
    missing_m = np.concatenate([[0.0], np.cumsum(speed_mps[1:] * step_s - driven_m)])
    missing_m -= smoothed(missing_m, width)
    return path_m + missing_m[:, None] * ahead


def drawn_heading(
    front_m: Float[np.ndarray, "state 2"], first_rad: float, reach_m: float
) -> Float[np.ndarray, " state"]:
    """Headings of a car whose front follows a path and draws the rear axle after it.

    Over a straight stretch of length d at an angle, `tan` of half the difference between heading
    and angle shrinks by `exp(-d / reach)`, which is exact.

    Args:
        front_m: Places of the front bumper.
        first_rad: Heading at the first one.
        reach_m: Distance from the front bumper to the rear axle.

    Returns:
        Radians, continuous: not wrapped.
    """
    moves_m = np.diff(front_m, axis=0)
    distances_m = np.hypot(moves_m[:, 0], moves_m[:, 1])
    angles_rad = np.arctan2(moves_m[:, 1], moves_m[:, 0])
    headings_rad = np.empty(len(front_m))
    heading_rad = headings_rad[0] = first_rad
    pairs = zip(distances_m.tolist(), angles_rad.tolist(), strict=True)
    for index, (distance_m, angle_rad) in enumerate(pairs, start=1):
        if distance_m > 1e-6:
            off_rad = math.remainder(heading_rad - angle_rad, 2 * math.pi)
            rest = math.tan(off_rad / 2) * math.exp(-distance_m / reach_m)
            heading_rad += 2 * math.atan(rest) - off_rad
        headings_rad[index] = heading_rad
    return headings_rad


def drivable_boxes(
    front_m: Float[np.ndarray, "state 2"],
    speed_mps: Float[np.ndarray, " state"],
    first_angle_deg: float,
    length_m: float,
    step_s: float,
) -> tuple[Float[np.ndarray, "state 2"], Float[np.ndarray, " state"], Float[np.ndarray, "state 2"]]:
    """Centres, headings and velocities of one vehicle, over at least two states.

    Args:
        front_m: Middle of the front bumper, as SUMO says.
        speed_mps: As SUMO says.
        first_angle_deg: SUMO's angle at the first state.
        length_m: Length of the vehicle.
        step_s: Seconds from one state to the next.

    Returns:
        Centres; headings, continuous; velocities of the centres.
    """
    first_rad = float(heading_from_angle(np.array([first_angle_deg]))[0])
    path_m = smooth_path(front_m, speed_mps, step_s)
    move_m = path_m[1] - path_m[0]
    if np.hypot(*move_m) > _MOVING_MPS * step_s:  # SUMO's angle knows no change of lanes
        first_rad = math.atan2(move_m[1], move_m[0])
    heading_rad = drawn_heading(path_m, first_rad, (1 - REAR_OVERHANG_SHARE) * length_m)
    centre_m = centre_from_front(path_m, heading_rad, length_m)
    return centre_m, heading_rad, np.gradient(centre_m, step_s, axis=0)
