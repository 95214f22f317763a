"""One run of SUMO in this process: drivers in, places over time out."""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from xml.sax.saxutils import quoteattr

from data_prep.errors import InputError
from data_prep.scenes.raw_scene import Light
from data_prep.scenes.traffic_bends import GRID_M, RouteBends, bend_limit
from data_prep.scenes.traffic_networks import MISSING_EXTRA

STEP_S = 0.1
"""Seconds from one step of a simulation to the next."""
_LANE_CHANGE_S = 3.0
_OWN_PARAMETERS = ("jerk_mps3", "lateral_acceleration_mps2")
_LOWEST_PEDAL_MPS2 = 0.2
_LIGHTS: Mapping[str, Light] = {
    **dict.fromkeys("Gg", "green"),
    **dict.fromkeys("y", "yellow"),
    **dict.fromkeys("rus", "red"),
}


@dataclass(frozen=True)
class Driver:
    """One vehicle that enters a simulation.

    Attributes:
        key: Its name.
        edges: Its route.
        depart_s: When it would like to enter.
        length_m: Length of its box.
        width_m: Width of its box.
        parameters: As `traffic_drivers.driver_parameters` gives them.
    """

    key: str
    edges: tuple[str, ...]
    depart_s: float
    length_m: float
    width_m: float
    parameters: Mapping[str, float]


@dataclass
class VehicleLog:
    """What a simulation said of one vehicle, one entry per step from the first recorded one.

    Attributes:
        first_step: The recorded step of the first entry; 0 is the first one that is recorded.
        front_m: Middle of the front bumper.
        speed_mps: Its speed along the lane.
        angle_deg: SUMO's angle at the first entry: clockwise from north.
        lanes: The lane on which it left, or is on, every edge it has driven.
    """

    first_step: int
    angle_deg: float
    front_m: list[tuple[float, float]] = field(default_factory=list)
    speed_mps: list[float] = field(default_factory=list)
    lanes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrafficLog:
    """What a simulation said.

    Attributes:
        vehicles: By the driver's key.
        lights: States by lane, with the recorded step from which each holds.
        collisions: How many collisions SUMO reported while recording.
    """

    vehicles: Mapping[str, VehicleLog]
    lights: Mapping[str, list[tuple[int, Light]]]
    collisions: int


def load_libsumo() -> ModuleType:
    """The simulator.

    Raises:
        InputError: If it is not installed.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it greets when pyarrow is installed
            import libsumo
    except ImportError as error:
        raise InputError(MISSING_EXTRA) from error
    return libsumo


class _Control:
    """What a driver adds to SUMO's own models while driving: bends, and how fast he accelerates."""

    def __init__(self, driver: Driver, bends: RouteBends) -> None:
        self.starts_m = bends.starts_m
        self.acceleration_mps2 = driver.parameters["accel"]
        self.jerk_mps3 = driver.parameters["jerk_mps3"]
        self.pedal_mps2 = self.acceleration_mps2
        self.limit_mps = bend_limit(
            bends.curvature_per_m,
            lateral_acceleration_mps2=driver.parameters["lateral_acceleration_mps2"],
            braking_mps2=driver.parameters["decel"],
            jerk_mps3=self.jerk_mps3,
        ).tolist()

    def bend_limit_mps(self, lane: str, along_m: float) -> float:
        place = int((self.starts_m.get(lane, 0.0) + along_m) / GRID_M)
        return self.limit_mps[min(place, len(self.limit_mps) - 1)]

    def next_pedal_mps2(self, acceleration_mps2: float) -> float:
        """The greatest acceleration of the next step: it grows no faster than the driver's jerk."""
        grown = self.pedal_mps2 + self.jerk_mps3 * STEP_S
        if acceleration_mps2 < 0.05:
            grown = _LOWEST_PEDAL_MPS2
        self.pedal_mps2 = min(grown, self.acceleration_mps2)
        return self.pedal_mps2


def simulate(
    network: Path,
    drivers: Sequence[Driver],
    bends: Mapping[tuple[str, ...], RouteBends],
    *,
    warm_up_steps: int,
    record_steps: int,
    seed: int,
) -> TrafficLog:
    """Run SUMO once, from an empty road.

    Args:
        network: A `.net.xml`; the routes are written beside it.
        drivers: Who enters.
        bends: Per route of a driver.
        warm_up_steps: Steps before recording begins.
        record_steps: Steps that are recorded.
        seed: Of SUMO's own chance.

    Raises:
        InputError: If SUMO is not installed or refuses the traffic.
    """
    libsumo = load_libsumo()
    routes = network.with_name(f"{network.name.partition('.')[0]}.rou.xml")
    routes.write_text(_routes_xml(drivers), encoding="utf-8")
    controls = {driver.key: _Control(driver, bends[driver.edges]) for driver in drivers}
    recorder = _Recorder(libsumo, controls)
    try:
        libsumo.start(["sumo", *_options(network, routes, seed)])
    except libsumo.TraCIException as error:
        raise InputError(f"SUMO refused the traffic on {network.name}: {error}") from error
    try:
        for step in range(warm_up_steps + record_steps):
            libsumo.simulationStep()
            recorder.step(step - warm_up_steps)
    finally:
        libsumo.close()
    return TrafficLog(recorder.vehicles, recorder.lights, recorder.collisions)


class _Recorder:
    def __init__(self, libsumo: ModuleType, controls: Mapping[str, _Control]) -> None:
        self._sumo = libsumo
        self._controls = controls
        self._lanes: dict[str, dict[str, str]] = {}
        self.vehicles: dict[str, VehicleLog] = {}
        self.lights: dict[str, list[tuple[int, Light]]] = {}
        self.collisions = 0

    def step(self, step: int) -> None:
        """Note and steer everybody after a step; negative steps are steered only."""
        vehicle = self._sumo.vehicle
        for key in vehicle.getIDList():
            lane = vehicle.getLaneID(key)
            self._lanes.setdefault(key, {})[lane.rpartition("_")[0]] = lane
            self._steer(key, lane)
            if step >= 0:
                self._note(key, step)
        if step >= 0:
            self.collisions += self._sumo.simulation.getCollidingVehiclesNumber() // 2
            self._note_lights(step)

    def _steer(self, key: str, lane: str) -> None:
        vehicle, control = self._sumo.vehicle, self._controls[key]
        along_m = vehicle.getLanePosition(key)
        vehicle.setMaxSpeed(key, control.bend_limit_mps(lane, along_m))
        before = control.pedal_mps2
        pedal = control.next_pedal_mps2(vehicle.getAcceleration(key))
        if pedal != before:
            vehicle.setAccel(key, pedal)

    def _note(self, key: str, step: int) -> None:
        vehicle = self._sumo.vehicle
        log = self.vehicles.get(key)
        if log is None:
            log = VehicleLog(step, vehicle.getAngle(key), lanes=self._lanes[key])
            self.vehicles[key] = log
        log.front_m.append(vehicle.getPosition(key))
        log.speed_mps.append(vehicle.getSpeed(key))

    def _note_lights(self, step: int) -> None:
        signals = self._sumo.trafficlight
        for key in signals.getIDList():
            links = signals.getControlledLinks(key)
            for state, link in zip(signals.getRedYellowGreenState(key), links, strict=True):
                for _, _, inside in link:
                    light = _LIGHTS.get(state, "unknown")
                    states = self.lights.setdefault(inside, [])
                    if not states or states[-1][1] != light:
                        states.append((step, light))


def _options(network: Path, routes: Path, seed: int) -> list[str]:
    return [
        *("--net-file", str(network), "--route-files", str(routes), "--seed", str(seed)),
        *("--step-length", str(STEP_S), "--lanechange.duration", str(_LANE_CHANGE_S)),
        *("--time-to-teleport", "-1", "--collision.action", "warn"),
        *("--collision.check-junctions", "true", "--collision.mingap-factor", "0"),
        *("--xml-validation", "never", "--xml-validation.net", "never"),
        *("--no-step-log", "true", "--no-warnings", "true", "--duration-log.disable", "true"),
    ]


def _routes_xml(drivers: Sequence[Driver]) -> str:
    lines = ["<routes>"]
    for driver in sorted(drivers, key=lambda driver: driver.depart_s):
        lines.extend(_driver_xml(driver))
    return "\n".join([*lines, "</routes>\n"])


def _driver_xml(driver: Driver) -> Iterator[str]:
    told = {k: v for k, v in driver.parameters.items() if k not in _OWN_PARAMETERS}
    attributes = {
        "id": driver.key,
        "carFollowModel": "EIDM",
        "length": driver.length_m,
        "width": driver.width_m,
        "speedDev": 0,
        "emergencyDecel": 9,
        "taccmax": 0.1,  # seconds of EIDM's own slow start, which the driver's jerk replaces
        "lcKeepRight": 0.5,
        "lcMaxSpeedLatStanding": 0,
        "lcMaxSpeedLatFactor": 0.3,
        **told,
    }
    text = " ".join(f"{name}={quoteattr(str(value))}" for name, value in attributes.items())
    yield f"  <vType {text}/>"
    key = quoteattr(driver.key)
    depart = f'depart="{driver.depart_s:.2f}" departSpeed="max" departLane="best"'
    yield f"  <vehicle id={key} type={key} {depart}>"
    yield f"    <route edges={quoteattr(' '.join(driver.edges))}/>"
    yield "  </vehicle>"
