"""Rewards of driving by hand, transitions from samples, and `driving critic` to an artifact."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from data_prep.artifact import create_artifact, read_manifest
from data_prep.errors import InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.__main__ import main
from driving.critic_data import (
    Driven,
    DrivingRewards,
    _ended,
    _Source,
    _stride,
    driven,
    transitions,
    write_driving_critic,
)
from driving.critic_reader import critic_context, plan_features, style_features
from driving.evaluation.judge import logged_ride
from driving.load import load_planner
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.ego_mlp import EgoMlp
from driving.planner.going_on import going_on
from driving.planner.planner import StyleCondition
from driving.simulation.frames import unwrapped
from personalize.rewards.stored_critic import read_critic
from tests.driving.planning_artifacts import write_planning_artifacts

SIZES = {"width": 16, "heads": 2, "feedforward": 16, "anchors": 3, "encoder_layers": 1,
         "decoder_layers": 1}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts, and a checkpoint of a planner with drawn weights."""
    folder = tmp_path_factory.mktemp("critic")
    data = {name: str(path) for name, path in write_planning_artifacts(folder).items()}
    torch.manual_seed(0)
    weights = DiffusionPlanner(**SIZES).state_dict()  # pyright: ignore[reportArgumentType]
    kind = f"{DiffusionPlanner.__module__}.{DiffusionPlanner.__qualname__}"
    with create_artifact(
        folder / "run",
        kind="checkpoint",
        command="test",
        configuration={
            "model": {"planner": {"class_path": kind, "init_args": SIZES}},
            "data": data,
        },
        inputs={},
    ) as writer:
        named = {f"planner.{name}": value.contiguous() for name, value in weights.items()}
        save_file(named, writer.path("weights.safetensors"))
        writer.write_json("style", {"dimensions": list(STYLE_DIMENSIONS)})
    return folder


@pytest.fixture(scope="module")
def source(root: Path) -> _Source:
    return _Source.of(load_planner(root / "run"), "before", 20)


def test_rewards_of_a_steady_drive(source: _Source):
    world, _, _ = source.world(source.samples("train")[:3])
    ride = logged_ride(world, steps=10)
    speed = world.ego_speed_mps[:, world.now]
    found = DrivingRewards()(world, ride, source.area)
    assert found.tolist() == pytest.approx((speed / 15).tolist(), abs=1e-3)
    twice = DrivingRewards(progress=2.0, speed_mps=1.0)(world, ride, source.area)
    assert twice.tolist() == pytest.approx([2.0] * 3, abs=1e-3)


def test_what_strains_and_what_meets_something_costs(source: _Source):
    world, _, _ = source.world(source.samples("train")[:2])
    ride = logged_ride(world, steps=10)
    plain = DrivingRewards()(world, ride, source.area)
    braked = type(ride)(
        ride.poses,
        ride.speed_mps,
        torch.full_like(ride.acceleration_mps2, -2.0),
        ride.steering_rad,
        ride.steering_rate_radps,
    )
    # half of 4 m/s2, squared, times 0.5
    assert (plain - DrivingRewards()(world, braked, source.area)).tolist() == pytest.approx(
        [0.125] * 2, abs=1e-3
    )
    aside = ride.poses.clone()
    aside[..., 1] += 60.0
    off = type(ride)(
        aside,
        ride.speed_mps,
        ride.acceleration_mps2,
        ride.steering_rad,
        ride.steering_rate_radps,
    )
    lost = (plain - DrivingRewards()(world, off, source.area)).tolist()
    assert all(value >= 1.0 - 1e-3 for value in lost)


def test_a_turn_is_no_jump_of_the_heading():
    heading = torch.tensor([[3.1, -3.1, -3.0]])
    assert unwrapped(heading)[0].tolist() == pytest.approx([3.1, 3.1832, 3.2832], abs=1e-3)


def test_samples_of_a_driver_are_joined_where_they_follow():
    samples = pl.DataFrame({"driver_id": [0, 0, 0, 1, 1], "step": [10, 12, 16, 10, 12]})
    assert _stride(samples) == 2
    assert _ended(samples, 2).tolist() == [False, True, True, False, True]
    assert _stride(samples[:1]) == 1
    row = torch.arange(5.0)[:, None]
    log = Driven(row, row + 10, row + 20, row[:, 0], row[:, None] + 30)
    found = transitions(log, _ended(samples, 2), discount=0.5)
    assert found.next_state[:, 0].tolist() == [1, 1, 2, 4, 4]
    assert found.next_preference[:, 0].tolist() == [11, 11, 12, 14, 14]
    assert found.to_go.tolist() == [0.5, 1.0, 2.0, 5.0, 4.0]
    assert found.candidates.shape == (5, 1, 1)


def test_features_of_plans_are_changes_to_going_on(source: _Source):
    _, scene, _ = source.world(source.samples("train")[:2])
    still = going_on(scene).poses(torch.zeros(2, 1, 8, 3))
    assert plan_features(scene, still).abs().max() < 0.05
    changed = torch.zeros(2, 1, 8, 3)
    changed[..., 0] = 1.5
    found = plan_features(scene, going_on(scene).poses(changed)).unflatten(2, (8, 3))
    assert torch.allclose(found[..., 0], torch.full((2, 1, 8), 1.5), atol=0.05)


def test_features_of_styles_keep_what_is_open_apart():
    style = StyleCondition(torch.tensor([[0.5, 0.0]]), torch.tensor([[True, False]]))
    assert style_features(style).tolist() == [[0.5, 0.0, 1.0, 0.0]]


def test_what_was_driven_stands_beside_what_could_have_been(source: _Source):
    samples = source.samples("train")
    log = driven(source, samples, stride=2, seed=0)
    assert len(log.state) == samples.height == 20
    assert log.candidates.shape == (20, 3 + 8, 24)
    assert log.preference.shape == (20, 16)
    again = driven(source, samples, stride=2, seed=0)
    assert torch.equal(log.candidates, again.candidates)
    # those who keep their speed drive what going on as now would
    assert log.action.abs().max() < 1.0
    _, scene, style = source.world(samples[:3])
    context = critic_context(source.encoder, scene, style)
    assert torch.allclose(context.state, log.state[:3], atol=1e-5)
    assert torch.allclose(context.preference, log.preference[:3])


def test_the_door_writes_a_critic_for_its_checkpoint(root: Path, tmp_path: Path):
    command = ["critic", "--checkpoint", str(root / "run"), "--steps", "2", "--width", "8"]
    out = str(tmp_path / "critic")
    assert main([*command, "--maximum-samples", "10", "--out", out]) == 0
    stored = read_critic(tmp_path / "critic")
    critic = stored.for_checkpoint(read_manifest(root / "run").content_hash)
    assert critic.sizes["action"] == 24
    facts = stored.facts
    assert facts["rows"] == 10
    for name in ("pdms_planner", "pdms_critic", "pdms_mean"):
        assert 0 <= facts[name] <= facts["pdms_best"] + 1e-4
    assert 0 <= facts["log_above_spoiled"] <= 1


def test_errors(root: Path, tmp_path: Path, source: _Source):
    for wrong in ({"steps": 0}, {"width": 0}, {"discount": 1.0}):
        with pytest.raises(InputError, match="--steps and --width must be at least 1"):
            write_driving_critic(
                checkpoint=root / "run",
                out=tmp_path / "out",
                **wrong,  # pyright: ignore[reportArgumentType]
            )
    with pytest.raises(InputError, match="no sample of the split nowhere"):
        source.samples("nowhere")
    loaded = replace(load_planner(root / "run"), planner=EgoMlp(width=8))
    with pytest.raises(InputError, match="holds EgoMlp, which encodes no scenes"):
        _Source.of(loaded, "none", None)
