"""The tracker and the bicycle for one vehicle, with the matrices written out, in NumPy."""

import numpy as np

STEP_S = 0.1
HORIZON = 10


def wrap(angle: float) -> float:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def interpolate(rear_knots: np.ndarray) -> np.ndarray:
    """Poses every 0.1 s between knots every 0.5 s."""
    times = np.arange(len(rear_knots)) * 0.5
    fine = np.arange(5 * (len(rear_knots) - 1) + 1) * STEP_S
    columns = [np.interp(fine, times, rear_knots[:, axis]) for axis in (0, 1)]
    columns.append(np.interp(fine, times, np.unwrap(rear_knots[:, 2])))
    return np.stack(columns, 1)


def speed_profile(poses: np.ndarray) -> np.ndarray:
    """Initial speed and accelerations by least squares on x and y, stacked."""
    moved = np.diff(poses[:, :2], axis=0)
    count = len(moved)
    design = np.zeros((2 * count, count))
    for step, heading in enumerate(poses[:-1, 2]):
        for axis, part in enumerate((np.cos(heading), np.sin(heading))):
            design[2 * step + axis, 0] = part * STEP_S
            design[2 * step + axis, 1 : step + 1] = part * STEP_S**2
    jerk = np.zeros((count - 2, count))
    for row in range(count - 2):
        jerk[row, row + 1], jerk[row, row + 2] = -1, 1
    normal = design.T @ design + 1e-4 * jerk.T @ jerk
    solved = np.linalg.pinv(normal) @ design.T @ moved.flatten()
    return solved[0] + np.concatenate(([0], np.cumsum(solved[1:] * STEP_S)))


def curvature_profile(poses: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Initial curvature and its rates by least squares on the changes of heading."""
    turned = np.array([wrap(change) for change in np.diff(poses[:, 2])])
    count = len(turned)
    design = np.tri(count)
    design[:, 0] = speed * STEP_S
    for step in range(1, count):
        design[step, 1:] *= speed[step] * STEP_S**2
    penalty = 1e-2 * np.eye(count)
    penalty[0, 0] = 1e-10
    solved = np.linalg.pinv(design.T @ design + penalty) @ design.T @ turned
    return solved[0] + np.concatenate(([0], np.cumsum(solved[1:] * STEP_S)))


def commands(
    state: np.ndarray, pose: np.ndarray, speed: float, curvatures: np.ndarray, wheelbase: float
) -> tuple[float, float]:
    """Acceleration and steering rate; the state is x, y, heading, speed, acceleration, steering."""
    if speed <= 0.2 and state[3] <= 0.2:
        return -0.5 * (state[3] - speed), 0.0
    acceleration = 10.0 * (speed - state[3]) / (10.0 + 1.0)
    x, y = state[:2] - pose[:2]
    error = np.array(
        [-x * np.sin(pose[2]) + y * np.cos(pose[2]), wrap(state[2] - pose[2]), state[5]]
    )
    transition, gain, affine = np.eye(3), np.zeros((3, 1)), np.zeros(3)
    for step in range(HORIZON):
        velocity = state[3] + step * STEP_S * acceleration
        matrix = np.eye(3)
        matrix[0, 1] = velocity * STEP_S
        matrix[1, 2] = velocity * STEP_S / wheelbase
        transition = matrix @ transition
        gain = matrix @ gain + np.array([[0], [0], [STEP_S]])
        affine = matrix @ affine + np.array([0, -velocity * curvatures[step] * STEP_S, 0])
    end = transition @ error + affine
    end[1], end[2] = wrap(end[1]), wrap(end[2])
    cost = np.diag([1.0, 10.0, 0.0])
    rate = -np.linalg.inv(gain.T @ cost @ gain + np.eye(1)) @ gain.T @ cost @ end
    return acceleration, float(rate[0])


def propagate(
    state: np.ndarray, acceleration: float, rate: float, wheelbase: float
) -> tuple[np.ndarray, float]:
    """The bicycle 0.1 s later and the steering rate it really had."""
    x, y, heading, speed, lagged, steering = state
    lagged = lagged + STEP_S / (STEP_S + 0.2) * (acceleration - lagged)
    aimed = steering + STEP_S * rate
    steered = steering + STEP_S / (STEP_S + 0.05) * (aimed - steering)
    after = np.array(
        [
            x + speed * np.cos(heading) * STEP_S,
            y + speed * np.sin(heading) * STEP_S,
            heading + speed * np.tan(steering) / wheelbase * STEP_S,
            speed + lagged * STEP_S,
            lagged,
            np.clip(steered, -np.pi / 3, np.pi / 3),
        ]
    )
    return after, (steered - steering) / STEP_S


def simulate(start: np.ndarray, plan: np.ndarray, length: float) -> np.ndarray:
    """States (by the rear axle) over 4 s; start and plan are given by the centre of the box."""
    back, wheelbase = 1.461 / 5.176 * length, 3.089 / 5.176 * length
    knots = np.concatenate((start[None, :3], plan))
    knots = knots - back * np.stack((np.cos(knots[:, 2]), np.sin(knots[:, 2]), 0 * knots[:, 2]), 1)
    poses = interpolate(knots)
    speed = speed_profile(poses)
    curvature = curvature_profile(poses, speed)
    state = start.copy()
    state[:2] -= back * np.array([np.cos(start[2]), np.sin(start[2])])
    states = [state]
    for step in range(len(poses) - 1):
        last = min(step + HORIZON, len(speed) - 1)
        ahead = np.array([curvature[min(step + index, last)] for index in range(HORIZON)])
        state, _ = propagate(
            state, *commands(state, poses[step], speed[last], ahead, wheelbase), wheelbase
        )
        states.append(state)
    return np.stack(states)
