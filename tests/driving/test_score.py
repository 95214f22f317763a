"""The scores against the slow loop with shapely, in float64 and float32, on lopsided scenes."""

import dataclasses
from dataclasses import fields

import numpy as np
import pytest
import torch

from driving.metrics.drivable_area import DrivableArea
from driving.metrics.score import Scores, pdm_score, style_pdm_score
from driving.simulation.state import Motion
from driving.world import AGENT_VEHICLE, World
from tests.driving.score_scenes import joined, only, random_rides, random_world, straight, world_of
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
@pytest.mark.parametrize("seed", range(6))
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


def test_float32_gives_the_same_verdicts_but_for_touching_boxes() -> None:
    """Over many rides next to none differs; continuous scores agree to a tenth of a millimetre."""
    random = np.random.default_rng(11)
    world, maps = random_world(random, 24, 12)
    rides = random_rides(random, 24, 10)
    area = DrivableArea.from_polygons(maps)
    styles = torch.arange(24) % 3
    exact = style_pdm_score(world, rides, area, styles, only(rides, 0), version="fine")
    coarse_world, coarse = single(world, torch.float32), single(rides, torch.float32)
    found = style_pdm_score(coarse_world, coarse, area, styles, only(coarse, 0), version="fine")
    assert found.score.dtype == torch.float32
    for name in DISCRETE:
        assert (getattr(found, name) == getattr(exact, name)).double().mean() > 0.99, name
    torch.testing.assert_close(found.progress_m.double(), exact.progress_m, atol=1e-4, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_same_verdicts() -> None:
    random = np.random.default_rng(12)
    world, maps = random_world(random, 24, 12)
    rides, area = random_rides(random, 24, 10), DrivableArea.from_polygons(maps)
    here = pdm_score(world, rides, area)
    moved = Motion(**{field.name: getattr(rides, field.name).to("cuda") for field in fields(rides)})
    there = pdm_score(world.to("cuda"), moved, area.to("cuda"))
    for name in DISCRETE:
        assert torch.equal(getattr(there, name).cpu(), getattr(here, name)), name
    torch.testing.assert_close(there.score.cpu(), here.score, atol=1e-9, rtol=0)


def test_a_batch_gives_what_its_scenes_and_candidates_give_alone() -> None:
    world, rides, maps, styles, _ = case(3)
    area = DrivableArea.from_polygons(maps)
    chosen = torch.from_numpy(styles)
    human = only(rides, 0)
    together = style_pdm_score(world, rides, area, chosen, human)
    for row in range(2):
        for candidate in range(3):
            one = Motion(
                **{
                    field.name: getattr(rides, field.name)[row : row + 1, candidate : candidate + 1]
                    for field in fields(rides)
                }
            )
            alone_human = Motion(
                **{field.name: getattr(human, field.name)[row : row + 1] for field in fields(human)}
            )
            alone = style_pdm_score(
                world.rows(slice(row, row + 1)), one, area, chosen[row : row + 1], alone_human
            )
            for field in fields(alone):
                expected = getattr(together, field.name)[row, candidate]
                torch.testing.assert_close(
                    getattr(alone, field.name)[0, 0], expected, msg=field.name
                )


def test_padding_changes_nothing_wherever_it_stands() -> None:
    world, rides, maps, _, _ = case(5)
    area = DrivableArea.from_polygons(maps)
    known = pdm_score(world, rides, area)
    padded = padding_of(world)
    order = torch.randperm(padded.agent_poses.shape[1], generator=torch.Generator().manual_seed(0))
    shuffled = dataclasses.replace(
        padded,
        agent_poses=padded.agent_poses[:, order],
        agent_velocities_mps=padded.agent_velocities_mps[:, order],
        agent_mask=padded.agent_mask[:, order],
        agent_sizes_m=padded.agent_sizes_m[:, order],
        agent_kinds=padded.agent_kinds[:, order],
    )
    found = pdm_score(shuffled, rides, area)
    for field in fields(known):
        assert torch.equal(getattr(found, field.name), getattr(known, field.name)), field.name


def padding_of(world: World) -> World:
    """The world with empty road users, lines and route places behind the others."""

    def more(value: torch.Tensor, axis: int) -> torch.Tensor:
        shape = list(value.shape)
        shape[axis] = 4
        return torch.cat([value, value.new_zeros(shape)], axis)

    names = [
        field.name
        for field in fields(world)
        if field.name.startswith(("agent_", "line_", "route_"))
    ]
    return dataclasses.replace(world, **{name: more(getattr(world, name), 1) for name in names})


def test_parts_are_kept_where_the_product_is_nothing() -> None:
    world, rides, maps, _, _ = case(0)
    scores = pdm_score(world, rides, DrivableArea.from_polygons([[] for _ in maps]))
    assert (scores.score == 0).all()
    assert (scores.drivable_area == 0).all()
    assert (scores.progress_m > 0).any()
    assert (scores.comfort == 1).any()


def test_score_by_hand() -> None:
    """Nobody around: 5 of 12 for the time to collision, 2 for comfort, 5 times progress."""
    far = torch.tensor([[[500.0, 0.0, 0.0]]]).expand(1, 51, 3)
    world = world_of(far, kinds=[AGENT_VEHICLE])
    road = np.array([[-9.0, -5.0], [99.0, -5.0], [99.0, 5.0], [-9.0, 5.0]])
    area = DrivableArea.from_polygons([[road]])
    rides = joined(straight(10.0), straight(5.0), straight(30.0), straight(0.0))
    best = torch.tensor([50.0], dtype=torch.float64)
    scores = pdm_score(world, rides, area, reference_progress_m=best)
    assert scores.progress_m[0].tolist() == pytest.approx([40, 20, 120, 0])
    assert scores.progress[0].tolist() == pytest.approx([0.8, 0.4, 0, 0])
    assert scores.score[0].tolist() == pytest.approx([11 / 12, 9 / 12, 0, 7 / 12])
    styled = style_pdm_score(world, rides, area, torch.tensor([1]), only(straight(9.5), 0))
    assert styled.progress[0].tolist() == pytest.approx([1 - 1.2 * (2 / 6) ** 2, 0, 0, 0])
    assert styled.score[0, 0].item() == pytest.approx((7 + 5 * (1 - 1.2 / 9)) / 12)


def test_an_empty_world_is_a_safe_one() -> None:
    world = world_of(torch.zeros(0, 51, 3), kinds=[], route=[])
    road = np.array([[-9.0, -5.0], [99.0, -5.0], [99.0, 5.0], [-9.0, 5.0]])
    scores = pdm_score(world, straight(10.0), DrivableArea.from_polygons([[road]]))
    assert scores.score.item() == 1.0
    assert scores.first_hit_s.item() == torch.inf
    assert scores.progress_m.item() == pytest.approx(40)


def test_scores_are_ordinary_tensors_without_gradients() -> None:
    """They may be weighed in a loss that is differentiated, though made in inference mode."""
    world, rides, maps, styles, _ = case(4)
    poses = rides.poses.clone().requires_grad_()
    area = DrivableArea.from_polygons(maps)
    for scores in (
        pdm_score(world, dataclasses.replace(rides, poses=poses), area),
        style_pdm_score(world, rides, area, torch.from_numpy(styles), only(rides, 0)),
    ):
        for field in fields(scores):
            value = getattr(scores, field.name)
            assert not value.is_inference()
            assert not value.requires_grad
        weight = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
        (weight.exp() * scores.score).sum().backward()
        assert weight.grad is not None
