"""The gate forbids what would hit somebody or leave the road, and nothing else."""

from pathlib import Path

import polars as pl
import torch

from data_prep.artifact import read_artifact
from driving.evaluation.gate import SafetyGate
from driving.planner_input import planner_input
from driving.samples import SampleRules, choose_samples
from driving.scene_store import SceneStore
from driving.simulation.kinematics import plan_to_reference, present_motion, track
from driving.simulation.rollout import predicted
from driving.simulation.state import Motion
from tests.driving.small_scenes import write_small_scenes


def test_a_gate_looks_at_every_candidate(tmp_path: Path) -> None:
    """Track 0 drives 10 m/s, 25 m behind a leader of equal speed, in the left one of two lanes."""
    store = SceneStore.read(write_small_scenes(tmp_path / "scenes"))
    samples = choose_samples(read_artifact(store.folder, kind="scenes"), SampleRules())
    world = store.world(samples.filter(pl.col("sample_id") == 0), history_s=1.0, future_s=4.0)
    scene = planner_input(world, world.now)
    times = torch.arange(1, 9) * 0.5
    steady = torch.stack([10 * times, 0 * times, 0 * times], -1)
    racing = torch.stack([10 * times + 2.5 * times**2, 0 * times, 0 * times], -1)
    leaving = torch.stack([10 * times, 1.5 * times, 0.15 + 0 * times], -1)
    plans = torch.stack([steady, racing, leaving])[None]
    length_m = scene.ego_size_m[:, :1]
    now = present_motion(scene.ego_history, scene.ego_history_mask, scene.ego_size_m[:, 0])
    now = Motion(*(getattr(now, name)[:, None] for name in Motion.__dataclass_fields__))
    rides = track(now, plan_to_reference(plans, length_m), length_m)
    gate = SafetyGate(store.drivable_area())
    assert gate(predicted(world, world.now), rides).tolist() == [[True, False, False]]
