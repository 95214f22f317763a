"""The benchmark of scores: why devices differ, what two processes took, and what it needs."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.score import best_wall, devices_agree
from benchmarks.score_agreement import NUDGE, agreement, nudges
from benchmarks.score_scenes import town
from driving.metrics.drivable_area import DrivableArea
from driving.metrics.score import Scores, pdm_score
from driving.simulation.state import Motion
from driving.world import AGENT_VEHICLE, World
from tests.driving.score_scenes import joined, straight, world_of

ROOT = Path(__file__).parents[2]
ROAD = np.array([[-9.0, -1.5], [99.0, -1.5], [99.0, 5.0], [-9.0, 5.0]])
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"polars", "shapely", "lightning", "beartype", "pyarrow", "scipy"}:
            raise ImportError(f"{name} is not for this machine")
sys.meta_path.insert(0, Blocker())
"""


def test_two_processes_take_from_the_first_begin_to_the_last_end() -> None:
    first, second = [(0.0, 3.0), (10.0, 12.0)], [(1.0, 4.0), (9.5, 11.0)]
    assert best_wall(first, second) == pytest.approx(2.5)
    assert best_wall(second, first) == pytest.approx(2.5)


def scored() -> tuple[World, Motion, DrivableArea, Scores]:
    """One scene: a ride within 10 micrometres of the road's edge, two in the middle of it."""
    world = world_of(torch.tensor([[[500.0, 0.0, 0.0]]]).expand(1, 51, 3), kinds=[AGENT_VEHICLE])
    rides = joined(straight(10.0, start=(0.0, -0.49999)), straight(10.0), straight(5.0))
    area = DrivableArea.from_polygons([[ROAD]], dtype=torch.float64)
    return world, rides, area, pdm_score(world, rides, area)


def flipped(scores: Scores, ride: int) -> Scores:
    """Another verdict on the drivable area for one ride."""
    changed = scores.drivable_area.clone()
    changed[0, ride] = 1 - changed[0, ride]
    return replace(scores, drivable_area=changed)


def test_a_verdict_that_hangs_on_a_tenth_of_a_millimetre_is_a_boundary_case() -> None:
    world, rides, area, scores = scored()
    for ride, reason in ((0, "boundary"), (1, "unexplained")):
        found = agreement(
            scores,
            flipped(scores, ride),
            world,
            rides,
            lambda some, few: pdm_score(some, few, area),
        )
        assert [(one.scene, one.ride, one.why) for one in found["different"]] == [(0, ride, reason)]
        assert found["different"][0].values == {"drivable_area": (1.0, 0.0)}
        assert found["why"][reason] == 1
        assert found["same"]["drivable_area"] == pytest.approx(2 / 3)
        assert found["same"]["comfort"] == 1.0


def test_progress_may_follow_from_another_ride_of_the_scene_only() -> None:
    world, rides, area, scores = scored()
    off = scores.progress + torch.tensor([[0.0, 0.0, 2e-4]])
    for other, reasons in (
        (replace(scores, progress=off), {2: "unexplained"}),
        (replace(flipped(scores, 0), progress=off), {0: "boundary", 2: "follows"}),
    ):
        found = agreement(scores, other, world, rides, lambda some, few: pdm_score(some, few, area))
        assert {one.ride: one.why for one in found["different"]} == reasons
    slight = replace(scores, progress=scores.progress + 0.9e-4)
    found = agreement(scores, slight, world, rides, lambda some, few: pdm_score(some, few, area))
    assert found["different"] == []
    assert found["largest"]["progress"] == pytest.approx(0.9e-4)


def test_nudges_stay_within_a_tenth_of_a_millimetre() -> None:
    _, rides, _, _ = scored()
    near = nudges(rides, 2)
    away = (near.poses - rides.poses[:, 2:3]).abs()
    assert away[..., :2].amax() <= NUDGE
    assert away[..., :2].amax() > 0.9 * NUDGE
    assert away[..., 2].amax() <= 1e-6
    assert (away[0, 0] == 0).all()
    assert torch.equal(near.steering_rad, rides.steering_rad[:, 2:3].expand_as(near.steering_rad))


def test_a_device_agrees_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    maps = [town(2)]
    options = argparse.Namespace(scenes=[3], candidates=4, agents=6)
    found = devices_agree(maps, DrivableArea.from_polygons(maps), options, other="cpu")
    for result in found.values():
        assert result["rides"] == 12
        assert result["different"] == []
        assert set(result["same"].values()) == {1.0}
        assert set(result["largest"].values()) == {0.0}
    assert capsys.readouterr().out.count("0 of 12 rides differ") == len(
        json.loads(json.dumps(found))
    )


def test_runs_without_libraries_that_only_the_loop_needs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    command = [
        sys.executable, "benchmarks/score.py", "--device", "cpu", "--loop-scenes", "0",
        "--no-two-cores", "--scenes", "1", "--turns", "1", "--json",
    ]  # fmt: skip
    paths = f"{tmp_path}{os.pathsep}{ROOT}"
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [(row["version"], row["how"]) for row in rows] == [
        (version, "one thread") for version in ("navsim", "released", "fine")
    ]
