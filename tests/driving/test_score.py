"""The scores against the slow loop with shapely, in float64 and float32, on lopsided scenes."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from driving.metrics.drivable_area import DrivableArea
from driving.metrics.score import Scores, pdm_score, style_pdm_score
from driving.simulation.state import Motion
from driving.world import World
from tests.driving.score_scenes import only, random_rides, random_world
from tests.oracles.shapely_scorer import score_rides

DISCRETE = (
    "no_collision", "drivable_area", "driving_direction", "time_to_collision", "comfort",
    "comfort_checks",
)  # fmt: skip
CONTINUOUS = ("score", "progress", "progress_m")


def single(record, dtype: torch.dtype):
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return type(record)(
        **{
            name: value.to(dtype)
            if isinstance(value, torch.Tensor)
            and value.is_floating_point()
            and name != "start_poses"
            else value
            for name, value in values.items()
        }
    )


def case(seed: int, *, future: int = 51) -> tuple[World, Motion, list, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    world, maps = random_world(random, 2, 9, future=future)
    rides = random_rides(random, 2, 3, gentle=random.uniform(0.3, 2))
    return world, rides, maps, random.integers(0, 3, 2), random.uniform(0, 60, 2)


def compare(found: Scores, expected: dict[str, np.ndarray], tolerance: float) -> None:
    for name in DISCRETE:
        assert (getattr(found, name).numpy() == expected[name]).all(), name
    for name in CONTINUOUS:
        np.testing.assert_allclose(
            getattr(found, name).numpy(), expected[name], atol=tolerance, err_msg=name
        )
    np.testing.assert_allclose(
        found.first_hit_s.numpy(), expected["first_hit"] * 0.1, rtol=1e-6, err_msg="first hit"
    )


@pytest.mark.parametrize("version", ["navsim", "released", "fine"])
@pytest.mark.parametrize("seed", range(8))
def test_equals_the_slow_loop(version: str, seed: int) -> None:
    world, rides, maps, styles, reference = case(seed, future=51 if seed % 2 else 43)
    crossings = [polygons[3:7] for polygons in maps] if seed % 3 == 0 else None
    area = DrivableArea.from_polygons(maps, dtype=torch.float64, intersections=crossings)
    given_reference = torch.from_numpy(reference) if seed % 5 else None
    given_numbers = reference if seed % 5 else None
    if version == "navsim":
        found = pdm_score(world, rides, area, reference_progress_m=given_reference)
        expected = score_rides(
            world, rides, maps, version, reference=given_numbers, intersections=crossings
        )
    else:
        human = only(rides, 1)
        which = "fine" if version == "fine" else "released"
        found = style_pdm_score(
            world, rides, area, torch.from_numpy(styles), human,
            reference_progress_m=given_reference, version=which,
        )  # fmt: skip
        expected = score_rides(
            world, rides, maps, version, styles=styles, human=human, reference=given_numbers,
            intersections=crossings,
        )  # fmt: skip
    compare(found, expected, 1e-6)
