"""Our planners in nuPlan's own closed loop, as an `AbstractPlanner` of nuplan-devkit.

The devkit is not on the package index. Take its source from github.com/motional/nuplan-devkit,
install what it needs and put the source on the path::

    pip install "personalize[nuplan]" geopandas pyogrio pyquaternion rasterio pandas pyarrow
    pip install opencv-python-headless matplotlib pillow scipy sympy tqdm pytest psutil
    pip install requests retry aiofiles aioboto3 boto3
    pip install --no-deps --editable nuplan-devkit

(not in editable mode it lacks its YAML files). Its `requirements.txt` cannot be met on Python 3.11
and need not be. With NumPy 2.4 or newer one line breaks, which stops its LQR tracker, and with it
every closed loop: in `nuplan/planning/simulation/controller/tracker/lqr.py`, at the end of
`_lateral_lqr_controller`, `return float(steering_rate_cmd)` must become
`return float(steering_rate_cmd.item())`.

In the devkit's configuration a planner is then, for example::

    our_planner:
      _target_: driving.simulation.nuplan.nuplan_planner
      planner:
        _target_: driving.planner.pdm.Pdm
      maps: /data/nuplan/maps
      style:
        time_gap: 0.8
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from data_prep.errors import InputError
from data_prep.scenes.nuplan import open_maps
from data_prep.scenes.nuplan_frames import KINDS
from data_prep.scenes.raw_scene import AGENT_KINDS, Light
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.planner.planner import PLAN_STEP_S, Planner, StyleCondition
from driving.planner_input import planner_input
from driving.simulation.nuplan_view import (
    History,
    RearMotion,
    RoadView,
    longer_plan,
    newest,
    rear_motion,
    route_ahead,
    stacked_tracks,
)

HORIZON_S = 8.0
_US_PER_S = 1e6
_LIGHTS: Mapping[str, Light] = {"GREEN": "green", "YELLOW": "yellow", "RED": "red"}


def nuplan_planner(
    planner: Planner,
    maps: str | Path,
    *,
    style: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Any:  # noqa: ANN401  (the devkit's AbstractPlanner)
    """A planner of ours that nuplan-devkit can simulate and score.

    It plans four seconds, which go on at the last speed to eight, for the rear axle.

    Args:
        planner: Any of ours.
        maps: Folder of nuPlan's maps, the same that the devkit uses.
        style: Asked for, -1 to 1 by name of `STYLE_DIMENSIONS`; of others nothing is asked.
        seed: Of the first plan; each further one adds 1.

    Raises:
        InputError: If nuplan-devkit cannot be imported.
        ValueError: If a dimension is unknown or a value out of range.
    """
    return _planner_class()(NuPlanDriver(planner, Path(maps), style=style, seed=seed))


def style_condition(style: Mapping[str, float]) -> StyleCondition:
    """A style for one scene.

    Args:
        style: -1 to 1 by name of `STYLE_DIMENSIONS`.

    Raises:
        ValueError: If a dimension is unknown or a value out of range.
    """
    for name, value in style.items():
        if name not in STYLE_DIMENSIONS:
            raise ValueError(f"{name!r} is no style dimension; there are {STYLE_DIMENSIONS}.")
        if not -1.0 <= value <= 1.0:
            raise ValueError(f"the style dimension {name} must lie in -1 to 1, got {value}.")
    values = torch.tensor([[float(style.get(name, 0.0)) for name in STYLE_DIMENSIONS]])
    return StyleCondition(values, torch.tensor([[name in style for name in STYLE_DIMENSIONS]]))


class NuPlanDriver:
    """A planner of ours with its map and route; knows the devkit's objects by their attributes."""

    def __init__(
        self,
        planner: Planner,
        maps: Path,
        *,
        style: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        """Keep what is needed; nothing is read before `start`.

        Args:
            planner: Any of ours.
            maps: Folder of nuPlan's maps.
            style: Asked for.
            seed: Of the first plan.
        """
        self.planner = planner
        self._maps, self._seed = maps, seed
        self._condition = style_condition(style or {})

    def start(self, map_name: str, roadblocks: list[str]) -> None:
        """Begin to drive a scenario.

        Args:
            map_name: Of the location.
            roadblocks: The route.

        Raises:
            InputError: If there is no such map.
        """
        self._whole = open_maps(self._maps).location(map_name)
        self._roadblocks = list(roadblocks)
        self._view: RoadView | None = None
        self._plan_count = 0

    def plan(self, history: History) -> Float[np.ndarray, "time 3"]:
        """Poses of the box's centre every 0.5 s for eight seconds, in its frame at present.

        Args:
            history: Up to now.
        """
        place = history.states[0, -1, :2]
        if self._view is None or not self._view.covers(place):
            self._view = RoadView.around(self._whole, self._roadblocks, place)
        world = self._view.world(history)
        scene = planner_input(world, world.now)
        with torch.inference_mode():
            plans = self.planner.plan(scene, self._condition, seed=self._seed + self._plan_count)
        self._plan_count += 1
        poses = plans.best[0].double().numpy()
        count = round(HORIZON_S / PLAN_STEP_S)
        return longer_plan(poses, route_ahead(world), count=count)


def read_history(current: Any) -> History:  # noqa: ANN401  (the devkit's PlannerInput)
    """The devkit's history and lights as arrays.

    Args:
        current: Its `PlannerInput`.
    """
    egos, observations = current.history.ego_states, current.history.observations
    places = newest([ego.time_us / _US_PER_S - egos[-1].time_us / _US_PER_S for ego in egos])
    ego = np.full((len(places), 5), np.nan)
    seen: list[Mapping[str, tuple[float, ...]] | None] = []
    for at, place in enumerate(places):
        if place is None:
            seen.append(None)
            continue
        ego[at] = _ego_state(egos[place])
        objects = observations[place].tracked_objects.tracked_objects
        seen.append({each.track_token: _state(each) for each in objects})
    keys, states, mask = stacked_tracks(seen, ego)
    now = observations[-1].tracked_objects.tracked_objects
    by_key = {each.track_token: each for each in now}
    boxes = [egos[-1].car_footprint, *(by_key[key].box for key in keys)]
    kinds = [_kind(by_key[key]) for key in keys]
    return History(
        states=states,
        mask=mask,
        sizes_m=np.array([(box.length, box.width) for box in boxes], dtype=np.float64),
        kinds=np.array([AGENT_KINDS.index("vehicle"), *kinds], dtype=np.int64),
        lights={
            str(light.lane_connector_id): _LIGHTS.get(light.status.name, "unknown")
            for light in current.traffic_light_data or ()
        },
    )


def _ego_state(ego: Any) -> tuple[float, ...]:  # noqa: ANN401
    """Pose and velocity of the box's centre in the map's frame."""
    pose, velocity = ego.center, ego.dynamic_car_state.center_velocity_2d
    cosine, sine = np.cos(pose.heading), np.sin(pose.heading)
    x = velocity.x * cosine - velocity.y * sine
    return pose.x, pose.y, pose.heading, x, velocity.x * sine + velocity.y * cosine


def _state(each: Any) -> tuple[float, ...]:  # noqa: ANN401
    velocity = getattr(each, "velocity", None)  # what stands has none
    x, y = (0.0, 0.0) if velocity is None else (velocity.x, velocity.y)
    return each.center.x, each.center.y, each.center.heading, x, y


def _kind(each: Any) -> int:  # noqa: ANN401
    return AGENT_KINDS.index(KINDS.get(each.tracked_object_type.name.lower(), "other"))


@cache
def _planner_class() -> type:
    try:
        state_types = import_module("nuplan.common.actor_state.state_representation")
        ego_state_type = import_module("nuplan.common.actor_state.ego_state").EgoState
        simulation = "nuplan.planning.simulation"
        observations = import_module(f"{simulation}.observation.observation_type")
        base: Any = import_module(f"{simulation}.planner.abstract_planner").AbstractPlanner
        trajectories = import_module(f"{simulation}.trajectory.interpolated_trajectory")
    except ImportError as error:
        raise InputError(
            f"nuplan-devkit cannot be imported ({error}); driving/simulation/nuplan.py says how "
            "to install it from source beside the extra [nuplan]."
        ) from error

    def state(ego: Any, motion: RearMotion, at: int) -> Any:  # noqa: ANN401
        """One state of the plan; the steering is what turns a bicycle so."""
        vehicle = ego.car_footprint.vehicle_parameters
        speed, rate = float(motion.speed_mps[at]), float(motion.yaw_rate_radps[at])
        acceleration = float(motion.acceleration_mps2[at])
        return ego_state_type.build_from_rear_axle(
            rear_axle_pose=state_types.StateSE2(*map(float, motion.poses[at])),
            rear_axle_velocity_2d=state_types.StateVector2D(speed, 0.0),
            rear_axle_acceleration_2d=state_types.StateVector2D(acceleration, 0.0),
            tire_steering_angle=float(np.arctan(vehicle.wheel_base * rate / max(speed, 1.0))),
            time_point=state_types.TimePoint(ego.time_us + round(at * PLAN_STEP_S * _US_PER_S)),
            vehicle_parameters=vehicle,
            angular_vel=rate,
        )

    class OurNuPlanPlanner(base):
        """A `NuPlanDriver` behind the devkit's interface."""

        requires_scenario = False

        def __init__(self, driver: NuPlanDriver) -> None:
            self._driver = driver

        def name(self) -> str:
            """Name of our planner."""
            return type(self._driver.planner).__name__

        def observation_type(self) -> type:
            """Boxes of others, not pictures."""
            return observations.DetectionsTracks

        def initialize(self, initialization: Any) -> None:  # noqa: ANN401
            """Begin to drive a scenario."""
            route = initialization.route_roadblock_ids
            self._driver.start(initialization.map_api.map_name, route)

        def compute_planner_trajectory(self, current_input: Any) -> Any:  # noqa: ANN401
            """States of the rear axle for eight seconds, the first of which is the present."""
            ego = current_input.history.ego_states[-1]
            poses = self._driver.plan(read_history(current_input))
            frame = np.array([ego.center.x, ego.center.y, ego.center.heading])
            motion = rear_motion(poses, frame)
            states = [state(ego, motion, at) for at in range(1, len(motion.poses))]
            return trajectories.InterpolatedTrajectory([ego, *states])

    return OurNuPlanPlanner
