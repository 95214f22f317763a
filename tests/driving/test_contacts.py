"""Contacts against every box with every box, without any of the short cuts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from driving.metrics.boxes import boxes_overlap
from driving.metrics.contacts import Others, find_contacts
from driving.simulation.state import Motion
from driving.world import World
from tests.driving.score_scenes import random_rides, random_world

STEP_S = 0.1


def case(seed: int) -> tuple[Motion, World]:
    """A lopsided crowd: five scenes, four rides, sixteen road users, the last ride not a number."""
    random = np.random.default_rng(seed)
    world, _ = random_world(random, 5, 16, future=51 if seed % 2 else 43, spread=6.0)
    rides = random_rides(random, 5, 4)
    poses = rides.poses.clone()
    poses[:, -1, 20, 0] = torch.nan
    return replace(rides, poses=poses), world


def every_contact(
    motion: Motion, travel: torch.Tensor, size: torch.Tensor, others: Others, offsets: list[int]
) -> list[tuple[int, ...]]:
    """Scene, candidate, road user, step, offset of all touching boxes, in this order."""
    found = []
    batch, candidates, steps = motion.speed_mps.shape
    agents, known = others.mask.shape[1:]
    heading = motion.poses[..., 2]
    for offset in offsets:
        last = min(steps, known - offset)
        ego = motion.poses.clone()
        ego[..., 0] += offset * STEP_S * travel * heading.cos()
        ego[..., 1] += offset * STEP_S * travel * heading.sin()
        shape = (batch, candidates, agents, last)
        one = ego[:, :, None, :last].expand(*shape, 3)
        other = others.poses[:, None, :, offset : offset + last].expand(*shape, 3)
        sizes = size[:, None, None, None].expand(*shape, 2)
        touching = boxes_overlap(
            one, sizes, other, others.sizes_m[:, None, :, None].expand(*shape, 2)
        )
        touching &= others.mask[:, None, :, offset : offset + last]
        found += [(*place, offset) for place in touching.nonzero().tolist()]
    return sorted(found)


@pytest.mark.parametrize("offsets", [(0, 3, 6, 9), tuple(range(13))])
@pytest.mark.parametrize("extra_steps", [0, 12])
@pytest.mark.parametrize("seed", range(4))
def test_equals_all_pairs(seed: int, extra_steps: int, offsets: tuple[int, ...]) -> None:
    motion, world = case(seed)
    others = Others.of(world, extra_steps=extra_steps)
    travel = motion.speed_mps.abs() if seed % 2 else motion.speed_mps
    found = find_contacts(motion, travel, world.ego_size_m, others, offsets, step_s=STEP_S)
    candidates, agents = motion.poses.shape[1], others.poses.shape[1]
    rows = torch.stack(
        [
            found.batch, found.ride % candidates, found.agent % agents, found.step, found.offset,
        ], -1,
    )  # fmt: skip
    expected = every_contact(motion, travel, world.ego_size_m, others, list(offsets))
    assert len(expected) > 40
    assert [tuple(row) for row in rows.tolist()] == expected
    assert torch.equal(found.ride // candidates, found.batch)
    assert torch.equal(found.agent // agents, found.batch)
    assert torch.equal(found.couple, found.ride * agents + found.agent % agents)


def test_a_step_that_is_no_number_hides_no_other_step() -> None:
    motion, world = case(1)
    found = find_contacts(
        motion, motion.speed_mps, world.ego_size_m, Others.of(world), (0, 3), step_s=STEP_S
    )
    broken = found.ride % 4 == 3
    assert broken.any()
    assert not (found.step[broken] == 20).any()


def test_nobody_around_is_no_contact() -> None:
    motion, world = case(0)
    others = Others.of(world)
    nobody = Others(
        others.poses[:, :0], others.velocities_mps[:, :0], others.mask[:, :0],
        others.sizes_m[:, :0], others.kinds[:, :0],
    )  # fmt: skip
    unseen = replace(others, mask=others.mask & False)
    for empty in (nobody, unseen):
        found = find_contacts(
            motion, motion.speed_mps, world.ego_size_m, empty, (0, 3), step_s=STEP_S
        )
        assert len(found.ride) == 0
