"""One scenario of the small nuPlan in nuplan-devkit's own closed loop; needs the devkit."""

from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import torch

from data_prep.artifact import read_artifact
from data_prep.scenes.nuplan import NuPlanSource
from data_prep.scenes.prepare import SceneDestination, SceneRules, write_scenes
from data_prep.scenes.tables import MAPS
from driving.metrics.score import pdm_score
from driving.scene_store import SceneStore
from driving.simulation.frames import to_frame
from driving.simulation.state import Motion
from tests.data_prep.scenes.synthetic_nuplan import START_US, frame_token
from tests.data_prep.scenes.synthetic_nuplan_map import LOCATION, TURN_RAD, on_road

SIMULATION, METRICS = "planning.simulation", "planning.metrics.evaluation_metrics.common"
START_S = 2.5


def devkit(module):
    """A module of the devkit."""
    return import_module(f"nuplan.{module}")


def mend_tracker(monkeypatch):
    """One line of the devkit breaks with NumPy 2.4: `float` of an array of one element."""
    tracker = devkit(f"{SIMULATION}.controller.tracker.lqr")
    monkeypatch.setattr(tracker, "float", lambda value: np.asarray(value).item(), raising=False)


def scenario(database: Path, maps: Path, *, duration_s: float):
    """A part of the small log, from 2.5 s on."""
    frame = round(START_S * 20)
    builder = "planning.scenario_builder.nuplan_db"
    extraction = devkit(f"{builder}.nuplan_scenario_utils").ScenarioExtractionInfo
    return devkit(f"{builder}.nuplan_scenario").NuPlanScenario(
        data_root=str(database.parent),
        log_file_load_path=str(database),
        initial_lidar_token=frame_token(frame),
        initial_lidar_timestamp=START_US + frame * 50_000,
        scenario_type="following_lane_with_lead",
        map_root=str(maps),
        map_version="nuplan-maps-v1.0",
        map_name=LOCATION,
        scenario_extraction_info=extraction("small", duration_s, 0.0, 0.5),
        ego_vehicle_parameters=_vehicle(),
    )


def drive(case, planner):
    """The history of a whole scenario with the devkit's tracker, bicycle and replayed traffic."""
    controllers = f"{SIMULATION}.controller"
    tracker = devkit(f"{controllers}.tracker.lqr").LQRTracker(
        q_longitudinal=np.array([10.0]),
        r_longitudinal=np.array([1.0]),
        q_lateral=np.array([1.0, 10.0, 0.0]),
        r_lateral=np.array([1.0]),
        discretization_time=0.1,
        tracking_horizon=10,
        jerk_penalty=1e-4,
        curvature_rate_penalty=1e-2,
        stopping_proportional_gain=0.5,
        stopping_velocity=0.2,
    )
    motion_model = devkit(f"{controllers}.motion_model.kinematic_bicycle")
    bicycle = motion_model.KinematicBicycleModel(_vehicle())
    controller = devkit(f"{controllers}.two_stage_controller").TwoStageController
    observation = devkit(f"{SIMULATION}.observation.tracks_observation").TracksObservation
    clock = devkit(f"{SIMULATION}.simulation_time_controller.step_simulation_time_controller")
    setup = devkit(f"{SIMULATION}.simulation_setup").SimulationSetup(
        time_controller=clock.StepSimulationTimeController(case),
        observations=observation(case),
        ego_controller=controller(case, tracker, bicycle),
        scenario=case,
    )
    simulation = devkit(f"{SIMULATION}.simulation").Simulation(setup)
    planner.initialize(simulation.initialize())
    while simulation.is_simulation_running():
        simulation.propagate(planner.compute_trajectory(simulation.get_planner_input()))
    return simulation.history


def devkit_scores(case, history):
    """The devkit's own verdicts: comfort, drivable area and collisions, 0 to 1."""
    lanes = _metric("ego_lane_change", "EgoLaneChange")("lanes", "dynamics", max_fail_rate=0.3)
    bounds = [
        _metric("ego_jerk", "EgoJerk")("a", "dynamics", 8.37),
        _metric("ego_lat_acceleration", "EgoLatAcceleration")("b", "dynamics", 4.89),
        _metric("ego_lon_acceleration", "EgoLonAcceleration")("c", "dynamics", -4.05, 2.40),
        _metric("ego_lon_jerk", "EgoLonJerk")("d", "dynamics", 4.13),
        _metric("ego_yaw_acceleration", "EgoYawAcceleration")("e", "dynamics", 1.93),
        _metric("ego_yaw_rate", "EgoYawRate")("f", "dynamics", 0.95),
    ]
    for metric in (lanes, *bounds):
        metric.compute(history, case)
    area = _metric("drivable_area_compliance", "DrivableAreaCompliance")
    collisions = _metric("no_ego_at_fault_collisions", "EgoAtFaultCollision")
    verdicts = {
        "comfort": _metric("ego_is_comfortable", "EgoIsComfortable")("g", "violations", *bounds),
        "drivable_area": area("h", "violations", lanes, 0.3),
        "no_collision": collisions("i", "dynamics", lanes),
    }
    return {
        name: float(metric.compute(history, case)[0].metric_score)
        for name, metric in verdicts.items()
    }


def driven(history) -> np.ndarray:
    """Seconds, place of the box's centre on the road, heading on it and speed, row by row."""
    egos = [sample.ego_state for sample in history.data]
    time_s = [(ego.time_us - egos[0].time_us) / 1e6 for ego in egos]
    speed = [ego.dynamic_car_state.rear_axle_velocity_2d.x for ego in egos]
    places = on_road([(ego.center.x, ego.center.y) for ego in egos])
    return np.c_[time_s, places, [ego.center.heading - TURN_RAD for ego in egos], speed]


def _vehicle():
    return devkit("common.actor_state.vehicle_parameters").get_pacifica_parameters()


def _metric(module, name):
    return getattr(devkit(f"{METRICS}.{module}"), f"{name}Statistics")


def our_scores(folder: Path, database: Path, maps: Path, history):
    """Our PDMS's verdicts on the same drive in the same traffic, from the prepared log."""
    write_scenes(NuPlanSource([database], maps), SceneRules(), SceneDestination(folder))
    store = SceneStore.read(folder)
    ego = store.scenes["ego_track_id"][0]
    moment = {"scene_id": 0, "track_id": ego, "step": round(START_S * 10), "sample_id": 0}
    rows = len(history.data)
    world = store.world(pl.DataFrame([moment]), history_s=1.0, future_s=rows / 10 + 0.9)
    egos = [sample.ego_state for sample in history.data]
    origin = read_artifact(folder, kind="scenes").table(MAPS)
    at = np.array([(ego.center.x, ego.center.y, ego.center.heading) for ego in egos])
    at[:, :2] -= [origin["origin_x_m"][0], origin["origin_y_m"][0]]
    poses = to_frame(torch.from_numpy(at)[None], world.start_poses).float()[None]
    moves = [ego.dynamic_car_state for ego in egos]
    along = [
        [move.rear_axle_velocity_2d.x for move in moves],
        [move.rear_axle_acceleration_2d.x for move in moves],
        [ego.tire_steering_angle for ego in egos],
        [move.tire_steering_rate for move in moves],
    ]
    motion = Motion(poses, *torch.tensor(along, dtype=torch.float32)[:, None, None])
    area = store.drivable_area()
    scores = pdm_score(world, motion, area)
    names = ("comfort", "drivable_area", "no_collision")
    return {name: getattr(scores, name).item() for name in names}
