"""Simulated traffic: drivers of known style on four kinds of road."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_prep.errors import InputError
from data_prep.scenes.raw_scene import (
    Light,
    RawDriverStyle,
    RawLight,
    RawMap,
    RawScene,
    RawTrack,
    RejectedInput,
)
from data_prep.scenes.source import SceneSource
from data_prep.scenes.traffic_bends import RouteBends
from data_prep.scenes.traffic_drivers import (
    SHARED_CORRELATION,
    draw_styles,
    driver_parameters,
    nearest_preset,
)
from data_prep.scenes.traffic_map import RoadNetwork
from data_prep.scenes.traffic_networks import build_network
from data_prep.scenes.traffic_roads import ROADS
from data_prep.scenes.traffic_simulation import STEP_S, Driver, TrafficLog, VehicleLog, simulate
from data_prep.scenes.traffic_tracks import drivable_boxes

WARM_UP_S = 60.0
_MARGIN_STEPS = 20
"""Recorded before and after a scene, so that smoothing has neighbours at its ends."""
_SHORTEST_TRACK_STEPS = 10


class TrafficSource(SceneSource):
    """Scenes from SUMO; every driver's true style is known.

    Every scene is a run of its own with other drivers. The roads take turns.

    Args:
        roads: Names of `traffic_roads.ROADS`.
        scenes: How many scenes.
        duration_s: How long each lasts.
        seed: Same seed, same scenes.

    Raises:
        InputError: If a road is unknown or named twice, or a number is out of range.
    """

    name = "traffic"

    def __init__(self, roads: tuple[str, ...], scenes: int, duration_s: float, seed: int) -> None:
        unknown = [road for road in roads if road not in ROADS]
        if unknown or not roads or len(set(roads)) != len(roads):
            raise InputError(
                f"roads must be some of {', '.join(ROADS)}, each once, got {', '.join(roads)!r}."
            )
        if scenes < 1 or seed < 0:
            raise InputError(
                f"scenes must be at least 1 and the seed not negative, got {scenes} and {seed}."
            )
        if not 1.0 <= duration_s <= 3600.0:
            raise InputError(f"a scene must last 1 to 3600 seconds, got {duration_s:g}.")
        self.roads = roads
        self.scene_count = scenes
        self.steps = round(duration_s / STEP_S)
        self.seed = seed

    def files(self) -> Sequence[Path]:
        """None: nothing is read."""
        return ()

    def scenes(self) -> Iterator[RawScene | RejectedInput]:
        """Simulate one scene after another.

        Raises:
            InputError: If SUMO is not installed.
        """
        with tempfile.TemporaryDirectory() as folder:
            roads = [Road(name, Path(folder)) for name in self.roads]
            for index in range(self.scene_count):
                road = roads[index % len(roads)]
                yield self._scene(index, road)

    def _scene(self, index: int, road: "Road") -> RawScene:
        generator = np.random.default_rng((self.seed, index))
        warm_up = round(WARM_UP_S / STEP_S) - _MARGIN_STEPS
        record = self.steps + 1 + 2 * _MARGIN_STEPS
        drivers, styles = draw_drivers(road, (warm_up + record) * STEP_S, generator)
        log = simulate(
            road.network.file,
            drivers,
            road.bends,
            warm_up_steps=warm_up,
            record_steps=record,
            seed=int(generator.integers(2**31)),
        )
        return self._to_scene(index, road, drivers, styles, log)

    def _to_scene(
        self,
        index: int,
        road: "Road",
        drivers: Sequence[Driver],
        styles: dict[str, RawDriverStyle],
        log: TrafficLog,
    ) -> RawScene:
        tracks, routes = [], {}
        for driver in drivers:
            vehicle = log.vehicles.get(driver.key)
            track = None if vehicle is None else self._track(driver, vehicle)
            if vehicle is not None and track is not None:
                tracks.append(track)
                routes[driver.key] = road.network.lane_path(driver.edges, vehicle.lanes)
        name = road.network.plan.name
        key = f"{name} {index:05d} of seed {self.seed}"
        return RawScene(
            key=key,
            recording_key=key,
            file="",
            location=f"simulated {name}",
            map=road.map,
            tracks=tuple(tracks),
            lights=self._lights(road, log),
            routes=routes,
            driver_styles={track.key: styles[track.key] for track in tracks},
            simulated=True,
            notes={"simulator": "SUMO", "seed": self.seed, "collisions": log.collisions},
        )

    def _track(self, driver: Driver, vehicle: VehicleLog) -> RawTrack | None:
        front_m = np.array(vehicle.front_m)
        steps = vehicle.first_step + np.arange(len(front_m)) - _MARGIN_STEPS
        inside = (steps >= 0) & (steps <= self.steps)
        if int(inside.sum()) < _SHORTEST_TRACK_STEPS:
            return None
        centre_m, heading_rad, velocity_mps = drivable_boxes(
            front_m, np.array(vehicle.speed_mps), vehicle.angle_deg, driver.length_m, STEP_S
        )
        return RawTrack(
            driver.key,
            "vehicle",
            driver.length_m,
            driver.width_m,
            steps[inside] * STEP_S,
            centre_m[inside, 0],
            centre_m[inside, 1],
            heading_rad[inside],
            velocity_mps[inside],
        )

    def _lights(self, road: "Road", log: TrafficLog) -> tuple[RawLight, ...]:
        lights = []
        for lane in sorted(log.lights.keys() & road.network.lane_keys):
            states = log.lights[lane]
            begun = [state for state in states if state[0] <= _MARGIN_STEPS][-1:]
            later = [
                state for state in states if _MARGIN_STEPS < state[0] <= _MARGIN_STEPS + self.steps
            ]
            times_s = [0.0] * len(begun) + [(step - _MARGIN_STEPS) * STEP_S for step, _ in later]
            shown: tuple[Light, ...] = tuple(light for _, light in (*begun, *later))
            lights.append(RawLight(lane, np.array(times_s), shown))
        return tuple(lights)


class Road:
    """A road that is ready to be simulated.

    Args:
        name: One of `traffic_roads.ROADS`.
        folder: Existing folder for SUMO's files.
    """

    def __init__(self, name: str, folder: Path) -> None:
        plan = ROADS[name]()
        self.network = RoadNetwork(build_network(plan, folder), plan)
        self.map: RawMap = self.network.map()
        self.bends: dict[tuple[str, ...], RouteBends] = {
            flow.edges: self.network.bends(flow.edges) for flow in plan.flows
        }


def draw_drivers(
    road: Road,
    until_s: float,
    generator: np.random.Generator,
    shared_correlation: float = SHARED_CORRELATION,
) -> tuple[list[Driver], dict[str, RawDriverStyle]]:
    """Who enters a road, in order of time, and their styles by key.

    Args:
        road: Where.
        until_s: When the last one may enter.
        generator: Where chance comes from.
        shared_correlation: As in `draw_styles`.
    """
    entries: list[tuple[float, tuple[str, ...]]] = []
    for flow in road.network.plan.flows:
        count = generator.poisson(flow.vehicles_per_hour * until_s / 3600)
        entries.extend((float(at_s), flow.edges) for at_s in generator.uniform(0, until_s, count))
    entries.sort(key=lambda entry: entry[0])
    values = draw_styles(len(entries), generator, shared_correlation)
    lengths_m = generator.uniform(4.0, 5.2, len(entries)).round(2)
    widths_m = (0.16 * lengths_m + 1.1 + generator.uniform(-0.05, 0.05, len(entries))).round(2)
    drivers, styles = [], {}
    for index, (depart_s, edges) in enumerate(entries):
        key = f"v{index:04d}"
        value = tuple(float(number) for number in values[index].round(4))
        parameters = driver_parameters(value)
        styles[key] = RawDriverStyle(nearest_preset(value), value, parameters)
        size = (float(lengths_m[index]), float(widths_m[index]))
        drivers.append(Driver(key, edges, depart_s, *size, parameters))
    return drivers, styles
