"""Boxes against shapely, and numbers worked by hand."""

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driving.metrics.boxes import (
    box_corners,
    boxes_overlap,
    clearance,
    segment_meets_box,
    separation,
)


def some_boxes(random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    poses = torch.from_numpy(random.uniform([-4, -3, -9], [4, 3, 9], (60, 3)))
    return poses, torch.from_numpy(random.uniform([0.3, 0.3], [6, 3], (60, 2)))


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_equal_shapely(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, first_size = some_boxes(random)
    second, second_size = some_boxes(random)
    one = shapely.polygons(box_corners(first, first_size).numpy())
    other = shapely.polygons(box_corners(second, second_size).numpy())
    found = clearance(first, first_size, second, second_size).numpy()
    apart = ~shapely.intersects(one, other)
    assert (boxes_overlap(first, first_size, second, second_size).numpy() == ~apart).all()
    np.testing.assert_allclose(
        found[apart], np.asarray(shapely.distance(one, other))[apart], atol=1e-12
    )
    ends = torch.from_numpy(random.uniform(-5, 5, (60, 2, 2)))
    expected = shapely.intersects(one, shapely.linestrings(ends.numpy()))
    meets = segment_meets_box(ends[:, 0], ends[:, 1], first, first_size)
    assert (meets.numpy() == expected).all()
    for inside in np.flatnonzero(~apart)[:3]:
        assert moved_apart(first[inside], first_size[inside], second[inside], second_size[inside])


def moved_apart(
    first: torch.Tensor, first_size: torch.Tensor, second: torch.Tensor, second_size: torch.Tensor
) -> bool:
    """Whether moving by the depth, and not by less, can free a box (along one of eight sides)."""
    depth = -float(clearance(first, first_size, second, second_size))

    def best(step: float) -> float:
        found = []
        for heading in (first[2], second[2]):
            for quarter in range(4):
                turn = heading + quarter * torch.pi / 2
                moved = second + step * torch.stack([turn.cos(), turn.sin(), turn * 0])
                found.append(float(separation(first, first_size, moved, second_size)))
        return max(found)

    return best(depth * 1.0001 + 1e-9) > 0 >= best(depth * 0.999 - 1e-9)


def test_corners_and_clearance_by_hand() -> None:
    pose, size = torch.tensor([1.0, 2.0, torch.pi / 2]), torch.tensor([4.0, 2.0])
    expected = torch.tensor([[0.0, 4.0], [0.0, 0.0], [2.0, 0.0], [2.0, 4.0]])
    torch.testing.assert_close(box_corners(pose, size), expected)
    here, size = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([4.0, 2.0])
    for x, y, value in ((5.0, 0.0, 1.0), (4.0, 0.0, 0.0), (3.0, 0.0, -1.0), (0.5, 1.5, -0.5)):
        other = torch.tensor([x, y, 0.0])
        assert clearance(here, size, other, size).item() == pytest.approx(value, abs=1e-6)
    assert boxes_overlap(here, size, torch.tensor([4.0, 0.0, 0.0]), size)
