"""CommonRoad obstacles as tracks."""

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from data_prep.scenes.raw_scene import AgentKind, RawTrack

_KINDS: dict[str, AgentKind] = {
    "car": "vehicle",
    "truck": "vehicle",
    "bus": "vehicle",
    "taxi": "vehicle",
    "motorcycle": "vehicle",
    "priorityVehicle": "vehicle",
    "parkedVehicle": "vehicle",
    "bicycle": "cyclist",
    "pedestrian": "pedestrian",
    "constructionZone": "static",
    "roadBoundary": "static",
    "building": "static",
    "pillar": "static",
    "median_strip": "static",
}


def shape_offsets(root: ET.Element) -> dict[int, tuple[float, float, float]]:
    """Where a rectangle lies off its obstacle's position: x, y, angle; commonroad-io drops it."""
    found = {}
    for obstacle in [*root.iter("obstacle"), *root.iter("dynamicObstacle")]:
        rectangle = obstacle.find("shape/rectangle")
        if rectangle is None:
            continue
        shift = (
            float(rectangle.findtext("center/x", "0")),
            float(rectangle.findtext("center/y", "0")),
            float(rectangle.findtext("orientation", "0")),
        )
        if any(shift):
            found[int(obstacle.get("id", "0"))] = shift
    return found


def moving_track(
    obstacle: Any,  # noqa: ANN401
    step_s: float,
    offset: tuple[float, float, float] | None,
) -> RawTrack:
    """A track of one obstacle; without a trajectory of exact states it has no states."""
    states = _exact_states(obstacle)
    length_m, width_m, shift = _size(obstacle.obstacle_shape)
    x_shift, y_shift, turn = offset or (shift, 0.0, 0.0)
    heading = np.array([float(state.orientation) for state in states]) + turn
    position = np.array([state.position[:2] for state in states], float).reshape(-1, 2)
    cos, sin = np.cos(heading - turn), np.sin(heading - turn)
    return RawTrack(
        key=str(obstacle.obstacle_id),
        kind=_KINDS.get(str(obstacle.obstacle_type.value), "other"),
        length_m=length_m,
        width_m=width_m,
        time_s=np.array([state.time_step for state in states], float) * step_s,
        x_m=position[:, 0] + cos * x_shift - sin * y_shift,
        y_m=position[:, 1] + sin * x_shift + cos * y_shift,
        heading_rad=heading,
        velocity_mps=_velocity(states),
    )


def _exact_states(obstacle: Any) -> list[Any]:  # noqa: ANN401
    """Initial and later states, or none of them where one is a set of possible values."""
    trajectory = getattr(obstacle.prediction, "trajectory", None)
    states = [obstacle.initial_state, *(trajectory.state_list if trajectory is not None else ())]
    exact = all(
        isinstance(state.time_step, int)
        and isinstance(state.position, np.ndarray)
        and isinstance(state.orientation, int | float)
        for state in states
    )
    return states if exact and trajectory is not None else []


def _velocity(states: Sequence[Any]) -> np.ndarray | None:
    """Velocity in the global frame, or None where a state states none.

    A point-mass state gives its components along x and y, any other state along and across its
    orientation.
    """
    rows = []
    for state in states:
        along, across = getattr(state, "velocity", None), getattr(state, "velocity_y", None)
        if not isinstance(along, int | float):
            return None
        across = float(across) if isinstance(across, int | float) else 0.0
        name = type(state).__name__
        if name == "ExtendedPMState":  # its velocity_y is computed, not read
            across = 0.0
        if name == "PMState":
            rows.append((float(along), across))
            continue
        cos, sin = np.cos(state.orientation), np.sin(state.orientation)
        rows.append((along * cos - across * sin, along * sin + across * cos))
    return np.array(rows, float).reshape(-1, 2)


def _size(shape: Any) -> tuple[float, float, float]:  # noqa: ANN401
    """Length, width, and how far along its axis the centre lies from the position."""
    shift = -float(getattr(shape, "origin_x_shift", 0.0))
    if hasattr(shape, "radius"):
        return 2 * float(shape.radius), 2 * float(shape.radius), shift
    if hasattr(shape, "truck_dims"):
        return float(shape.truck_dims.length), float(shape.truck_dims.width), shift
    if hasattr(shape, "length"):
        return float(shape.length), float(shape.width), shift
    if hasattr(shape, "vertices"):
        corners = np.array([tuple(one)[:2] for one in shape.vertices], float)
        low, high = corners.min(axis=0), corners.max(axis=0)
        return float(high[0] - low[0]), float(high[1] - low[1]), float((low[0] + high[0]) / 2)
    return 0.0, 0.0, 0.0  # unknown shape: refused for its size


def standing_track(obstacle: Any, step_s: float, steps: int) -> RawTrack:  # noqa: ANN401
    """A static obstacle, seen at every step of the scene."""
    state = obstacle.initial_state
    length_m, width_m, shift = _size(obstacle.obstacle_shape)
    heading = float(state.orientation)
    seen = np.ones(steps)
    return RawTrack(
        key=str(obstacle.obstacle_id),
        kind=_KINDS.get(str(obstacle.obstacle_type.value), "static"),
        length_m=length_m,
        width_m=width_m,
        time_s=np.arange(steps) * step_s,
        x_m=seen * (state.position[0] + np.cos(heading) * shift),
        y_m=seen * (state.position[1] + np.sin(heading) * shift),
        heading_rad=seen * heading,
        velocity_mps=np.zeros((steps, 2)),
    )
