"""A kinematic bicycle and the LQR tracker that drives it along a plan, for any number at once.

Poses of plans and motions are those of the centre of the box. The bicycle turns about its rear
axle, so it is moved there and back inside this file.
"""

import math
from dataclasses import dataclass, fields
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.planner.planner import PLAN_STEP_S
from driving.simulation.frames import ahead_by, unwrapped, wrapped
from driving.simulation.state import Motion

STEP_S = 0.1
STEPS_PER_PLAN_STEP = round(PLAN_STEP_S / STEP_S)
WHEELBASE_PER_LENGTH = 3.089 / 5.176
REAR_AXLE_PER_LENGTH = 1.461 / 5.176
"""How far behind the centre of the box the rear axle lies. Both are those of nuPlan's Pacifica."""
MAX_STEERING_RAD = math.pi / 3
ACCELERATION_LAG_S = 0.2
STEERING_LAG_S = 0.05

LOOKAHEAD = 10
Q_LONGITUDINAL, R_LONGITUDINAL = 10.0, 1.0
Q_LATERAL_ERROR, Q_HEADING_ERROR, R_LATERAL = 1.0, 10.0, 1.0
JERK_PENALTY = 1e-4
CURVATURE_RATE_PENALTY = 1e-2
INITIAL_CURVATURE_PENALTY = 1e-10
STOP_GAIN = 0.5
STOP_SPEED_MPS = 0.2


@dataclass(frozen=True)
class Reference:
    """What the tracker follows, every 0.1 s from the present on.

    Attributes:
        rear_poses: Of the rear axle.
        speed_mps: Fitted to the displacements; the last value stands twice.
        curvature_per_m: Fitted to the changes of heading; the last value stands twice.
    """

    rear_poses: Float[Tensor, "*batch step 3"]
    speed_mps: Float[Tensor, "*batch step"]
    curvature_per_m: Float[Tensor, "*batch step"]


def plan_to_reference(
    plan_poses: Float[Tensor, "*batch time 3"],
    length_m: Float[Tensor, "*#batch"],
    start: Float[Tensor, "*#batch 3"] | None = None,
) -> Reference:
    """A plan at 0.5 s as a reference at 0.1 s with its speeds and curvatures.

    Poses in between are linear. Speeds are the least-squares fit to the displacements along the
    heading that penalises jerk, curvatures the fit to the changes of heading, given these speeds,
    that penalises their rate of change: nuPlan's profiles, here without a solver. The first fit is
    one constant matrix, because the cosine and sine of the heading drop out of its normal
    equations; the second, in curvatures instead of their rates, is tridiagonal.

    Args:
        plan_poses: Centres of the box at 0.5, 1.0, ... s.
        length_m: Of the vehicle.
        start: Its pose at present, in the frame of the plan; the origin if not given.

    Source:
        `tracker_utils.py` of nuplan-devkit and its copy in NAVSIM.
    """
    if start is None:
        start = torch.zeros_like(plan_poses[..., 0, :])
    start = start.expand_as(plan_poses[..., 0, :])
    knots = torch.cat((start[..., None, :], plan_poses), -2)
    knots = torch.cat((knots[..., :2], unwrapped(knots[..., 2])[..., None]), -1)
    knots = ahead_by(knots, -REAR_AXLE_PER_LENGTH * length_m[..., None])
    share = torch.arange(STEPS_PER_PLAN_STEP, device=knots.device, dtype=knots.dtype)
    share = share[:, None] / STEPS_PER_PLAN_STEP
    between = knots[..., :-1, None, :] + share * knots.diff(dim=-2)[..., None, :]
    poses = torch.cat((between.flatten(-3, -2), knots[..., -1:, :]), -2)
    moved, heading = poses.diff(dim=-2), poses[..., :-1, 2]
    along_m = moved[..., 0] * heading.cos() + moved[..., 1] * heading.sin()
    fit = _speed_fit(along_m.shape[-1], along_m.device, along_m.dtype)
    speed_mps = along_m @ fit.T
    curvature_per_m = _curvature_fit(moved[..., 2], speed_mps)
    return Reference(poses, _last_twice(speed_mps), _last_twice(curvature_per_m))


def _last_twice(values: Float[Tensor, "*batch piece"]) -> Float[Tensor, "*batch step"]:
    return torch.cat((values, values[..., -1:]), -1)


@cache
def _speed_fit(count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix that turns displacements into fitted speeds."""
    speeds = torch.ones(count, count, dtype=torch.float64).tril() * STEP_S
    speeds[:, 0] = 1.0  # of the initial speed and the accelerations
    jerks = torch.zeros(count - 2, count, dtype=torch.float64)
    rows = torch.arange(count - 2)
    jerks[rows, rows + 1], jerks[rows, rows + 2] = -1.0, 1.0
    moved = speeds * STEP_S
    normal = moved.T @ moved + JERK_PENALTY * jerks.T @ jerks
    return (speeds @ torch.linalg.solve(normal, moved.T)).to(device, dtype)


def _curvature_fit(
    turned_rad: Float[Tensor, "*batch piece"], speed_mps: Float[Tensor, "*batch piece"]
) -> Float[Tensor, "*batch piece"]:
    """Curvatures whose change is penalised: a tridiagonal system, solved by elimination."""
    moved = (speed_mps * STEP_S).double()
    coupling = CURVATURE_RATE_PENALTY / STEP_S**2
    neighbours = torch.full_like(moved, 2.0)
    neighbours[..., 0] = neighbours[..., -1] = 1.0
    diagonal = (moved.square() + coupling * neighbours).unbind(-1)
    right = (moved * turned_rad.double()).unbind(-1)
    pivots = [diagonal[0] + INITIAL_CURVATURE_PENALTY]
    values = [right[0]]
    for step in range(1, len(right)):
        factor = coupling / pivots[-1]
        pivots.append(diagonal[step] - coupling * factor)
        values.append(right[step] + factor * values[-1])
    solved = [values[-1] / pivots[-1]]
    for value, pivot in zip(values[-2::-1], pivots[-2::-1], strict=True):
        solved.append((value + coupling * solved[-1]) / pivot)
    return torch.stack(solved[::-1], -1).to(turned_rad.dtype)


def track(
    initial: Motion, reference: Reference, length_m: Float[Tensor, "*#batch"], *, steps: int = 40
) -> Motion:
    """How a vehicle drives that follows a reference with lags and a limited steering angle.

    At every step of 0.1 s a linear-quadratic regulator chooses an acceleration, to have the speed
    that the reference has in one second, and then a steering rate, to have no lateral and heading
    error in one second; both are held for that second in its model. Near standstill a proportional
    controller takes over and the wheels stay as they are. The bicycle is integrated by Euler.

    Args:
        initial: The vehicle so far; its last step is the present.
        reference: From the present on; beyond its end the last values are held.
        length_m: Of the vehicle; wheelbase and rear axle follow in proportion.
        steps: How many steps of 0.1 s to drive.

    Returns:
        The present and `steps` further steps. Acceleration is that of the rear axle along the
        heading; the steering rate is the one before the limit of the steering angle.

    Source:
        `LQRTracker` and `KinematicBicycleModel` of nuplan-devkit with its default gains.
    """
    length_m = length_m.expand_as(reference.speed_mps[..., 0])
    shape = length_m.shape
    centre = initial.poses[..., -1, :].expand(*shape, 3)
    start = ahead_by(centre, -REAR_AXLE_PER_LENGTH * length_m)
    now = _Vehicle(
        start[..., 0],
        start[..., 1],
        start[..., 2],
        initial.speed_mps[..., -1].expand(shape),
        initial.acceleration_mps2[..., -1].expand(shape),
        initial.steering_rad[..., -1].expand(shape),
        initial.steering_rate_radps[..., -1].expand(shape),
    )
    wheelbase_m = WHEELBASE_PER_LENGTH * length_m
    driven = [now]
    for step in range(steps):
        commands = _commands(now, _ahead(reference, step), wheelbase_m)
        now = _driven(now, commands, wheelbase_m)
        driven.append(now)
    x, y, heading, *others = (
        torch.stack([getattr(vehicle, field.name) for vehicle in driven], -1)
        for field in fields(_Vehicle)
    )
    rear = torch.stack((x, y, heading), -1)
    return Motion(ahead_by(rear, REAR_AXLE_PER_LENGTH * length_m[..., None]), *others)


@dataclass(frozen=True)
class _Vehicle:
    """The bicycle at one moment, by its rear axle."""

    x_m: Float[Tensor, "*batch"]
    y_m: Float[Tensor, "*batch"]
    heading_rad: Float[Tensor, "*batch"]
    speed_mps: Float[Tensor, "*batch"]
    acceleration_mps2: Float[Tensor, "*batch"]
    steering_rad: Float[Tensor, "*batch"]
    steering_rate_radps: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class _Ahead:
    """The part of a reference that one decision looks at."""

    pose: Float[Tensor, "*batch 3"]
    speed_mps: Float[Tensor, "*batch"]
    curvatures_per_m: Float[Tensor, "*batch ahead"]


def _ahead(reference: Reference, step: int) -> _Ahead:
    last = reference.speed_mps.shape[-1] - 1
    curvatures = reference.curvature_per_m[..., step : step + LOOKAHEAD]
    missing = LOOKAHEAD - curvatures.shape[-1]
    if missing:
        held = reference.curvature_per_m[..., -1:].expand(*curvatures.shape[:-1], missing)
        curvatures = torch.cat((curvatures, held), -1)
    return _Ahead(
        reference.rear_poses[..., min(step, last), :],
        reference.speed_mps[..., min(step + LOOKAHEAD, last)],
        curvatures,
    )


def _commands(
    now: _Vehicle, ahead: _Ahead, wheelbase_m: Float[Tensor, "*batch"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Acceleration and steering rate that the regulator asks for."""
    slow_mps = torch.maximum(ahead.speed_mps, now.speed_mps)
    stopping = slow_mps <= STOP_SPEED_MPS
    missing_mps = ahead.speed_mps - now.speed_mps
    horizon_s = LOOKAHEAD * STEP_S
    gain = horizon_s * Q_LONGITUDINAL / (horizon_s**2 * Q_LONGITUDINAL + R_LONGITUDINAL)
    acceleration = missing_mps * torch.where(stopping, STOP_GAIN, gain)
    rate = _steering_rate(now, ahead, acceleration, wheelbase_m)
    return acceleration, torch.where(stopping, 0.0, rate)


def _steering_rate(
    now: _Vehicle,
    ahead: _Ahead,
    acceleration_mps2: Float[Tensor, "*batch"],
    wheelbase_m: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """The rate that, held for one second, best removes lateral and heading error at its end.

    In every step the lateral error grows by (metres moved) times the heading error, that one by
    (metres moved) times (steering angle / wheelbase - curvature): sums of sums, so no matrices.
    """
    count = torch.arange(LOOKAHEAD, device=wheelbase_m.device, dtype=wheelbase_m.dtype)
    speed_mps = now.speed_mps[..., None] + acceleration_mps2[..., None] * (count * STEP_S)
    moved_m = speed_mps * STEP_S
    x_m, y_m, direction_rad = ahead.pose.unbind(-1)
    lateral_m = (now.y_m - y_m) * direction_rad.cos() - (now.x_m - x_m) * direction_rad.sin()
    heading_rad = wrapped(now.heading_rad - direction_rad)
    steered = now.steering_rad / wheelbase_m
    turned = moved_m * (steered[..., None] - ahead.curvatures_per_m)
    before = turned.cumsum(-1) - turned  # what has been turned before each step
    lateral_end = lateral_m + (moved_m * (heading_rad[..., None] + before)).sum(-1)
    heading_end = wrapped(heading_rad + turned.sum(-1))
    response = moved_m * (count * STEP_S) / wheelbase_m[..., None]  # of the heading to the rate
    response_before = response.cumsum(-1) - response
    lateral_gain = (moved_m * response_before).sum(-1)
    heading_gain = response.sum(-1)
    wanted = lateral_gain * Q_LATERAL_ERROR * lateral_end
    wanted = wanted + heading_gain * Q_HEADING_ERROR * heading_end
    weight = lateral_gain.square() * Q_LATERAL_ERROR + heading_gain.square() * Q_HEADING_ERROR
    return -wanted / (weight + R_LATERAL)


def _driven(
    now: _Vehicle,
    commands: tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]],
    wheelbase_m: Float[Tensor, "*batch"],
) -> _Vehicle:
    """The bicycle one step later."""
    acceleration, rate = commands
    follow = STEP_S / (STEP_S + ACCELERATION_LAG_S)
    acceleration = now.acceleration_mps2 + follow * (acceleration - now.acceleration_mps2)
    rate = rate * STEP_S / (STEP_S + STEERING_LAG_S)
    moved_m = now.speed_mps * STEP_S
    steering = (now.steering_rad + rate * STEP_S).clamp(-MAX_STEERING_RAD, MAX_STEERING_RAD)
    return _Vehicle(
        now.x_m + moved_m * now.heading_rad.cos(),
        now.y_m + moved_m * now.heading_rad.sin(),
        now.heading_rad + moved_m * now.steering_rad.tan() / wheelbase_m,
        now.speed_mps + acceleration * STEP_S,
        acceleration,
        steering,
        rate,
    )


def present_motion(
    history: Float[Tensor, "*batch step 4"],
    mask: Bool[Tensor, "*batch step"],
    length_m: Float[Tensor, "*#batch"],
) -> Motion:
    """The state of a vehicle at present, of which poses and speeds were observed.

    Acceleration and yaw rate are means over up to the last 0.5 s, 0 where there is no history; the
    steering angle is the one that turns the bicycle at that rate, 0 below 1 m/s.

    Args:
        history: x, y, heading and speed every 0.1 s; the last one is the present.
        mask: Where it was seen.
        length_m: Of the vehicle.

    Returns:
        A motion of one step.
    """
    span = min(STEPS_PER_PLAN_STEP, history.shape[-2] - 1)
    now = history[..., -1, :]
    if span == 0:
        zero = torch.zeros_like(now[..., :1])
        return Motion(now[..., None, :3], now[..., 3:], zero, zero, zero)
    then = history[..., -1 - span, :]
    seen = mask[..., -1 - span] & mask[..., -1]
    duration_s = span * STEP_S
    acceleration = torch.where(seen, (now[..., 3] - then[..., 3]) / duration_s, 0.0)
    yaw_rate = torch.where(seen, wrapped(now[..., 2] - then[..., 2]) / duration_s, 0.0)
    speed = now[..., 3]
    curvature = torch.where(speed.abs() < 1.0, 0.0, yaw_rate / speed.abs().clamp_min(1.0))
    steering = (WHEELBASE_PER_LENGTH * length_m * curvature).atan()
    return Motion(
        now[..., None, :3],
        speed[..., None],
        acceleration[..., None],
        steering.clamp(-MAX_STEERING_RAD, MAX_STEERING_RAD)[..., None],
        torch.zeros_like(speed)[..., None],
    )
