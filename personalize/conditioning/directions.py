"""Preferences as unit directions in reward space, around the axis of the task itself.

Axis 0 is the quality of the task (relevance, driving score); what a preference may ask for is how
far to turn from it towards the other axes. The angle is limited, because a policy that was told to
forget the task has no reason to do it.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_ANGLE_RAD = math.pi / 4
_GRID = 4097


def directions_on_cap(
    count: int, dimensions: int, *, largest_angle_rad: float = LARGEST_ANGLE_RAD, seed: int = 0
) -> Float[Tensor, "direction dimension"]:
    """Unit directions spread evenly over the cap around axis 0.

    Evenly means by area: equal pieces of the cap are met equally often. In two dimensions that is
    an angle uniform from minus to plus the largest; in more, large angles are met more often than
    small ones, because there is more of the cap there.

    Args:
        count: Directions to draw.
        dimensions: Of the reward space, at least 2.
        largest_angle_rad: From axis 0, above 0 and at most a quarter turn.
        seed: Of the draw.

    Raises:
        ValueError: If there are fewer than two dimensions or the angle is out of range.

    Source:
        Wang et al., 2024, Directional Preference Alignment, arXiv:2402.18571, which draws angles in
        two dimensions and stays within about 45 degrees of helpfulness; the cap in more is ours.
    """
    if dimensions < 2:
        raise ValueError(f"dimensions must be at least 2, got {dimensions}.")
    _check_angle(largest_angle_rad)
    generator = torch.Generator().manual_seed(seed)
    grid = torch.linspace(0, largest_angle_rad, _GRID, dtype=torch.float64)
    density = grid.sin() ** (dimensions - 2)
    area = torch.cat([grid.new_zeros(1), ((density[1:] + density[:-1]) / 2).cumsum(0)])
    wanted = torch.rand(count, generator=generator, dtype=torch.float64) * area[-1]
    right = torch.searchsorted(area, wanted).clamp(1, _GRID - 1)
    share = (wanted - area[right - 1]) / (area[right] - area[right - 1])
    angle = torch.lerp(grid[right - 1], grid[right], share)
    aside = torch.randn(count, dimensions - 1, generator=generator, dtype=torch.float64)
    aside = torch.nn.functional.normalize(aside, dim=1)
    return torch.cat([angle.cos()[:, None], angle.sin()[:, None] * aside], 1).float()


def directions_at(
    angles_rad: Float[Tensor, " angle"], dimensions: int, *, towards: int = 1
) -> Float[Tensor, "angle dimension"]:
    """`cos(angle)` of the task and `sin(angle)` of one other axis: a sweep.

    Args:
        angles_rad: 0 is the task alone; negative angles ask for less of the other axis.
        dimensions: Of the reward space.
        towards: The other axis, from 1.

    Raises:
        ValueError: If `towards` is no axis beside axis 0.

    Example:
        >>> directions_at(torch.tensor([0.0, math.pi / 2]), 3, towards=2).round(decimals=3)
        tensor([[1., 0., 0.],
                [-0., 0., 1.]])
    """
    if not 1 <= towards < dimensions:
        raise ValueError(f"towards must be from 1 to {dimensions - 1}, got {towards}.")
    found = angles_rad.new_zeros(len(angles_rad), dimensions)
    found[:, 0], found[:, towards] = angles_rad.cos(), angles_rad.sin()
    return found


def combined(
    directions: Float[Tensor, "*row term dimension"], weights: Float[Tensor, "*row term"]
) -> Float[Tensor, "*row dimension"]:
    """Weighted sum of several directions, as a unit direction again.

    Terms of weight 0 change nothing; a sum that cancels says nothing and becomes the task's axis.

    Example:
        >>> combined(torch.eye(2), torch.tensor([1.0, 1.0]))
        tensor([0.7071, 0.7071])
    """
    total = (directions * weights[..., None]).sum(-2)
    length = total.norm(dim=-1, keepdim=True)
    task = torch.zeros_like(total)
    task[..., 0] = 1
    return torch.where(length > 1e-6, total / length.clamp_min(1e-6), task)


def angles_to_task(directions: Float[Tensor, "*row dimension"]) -> Float[Tensor, "*row"]:
    """Angle of every direction to axis 0 in radians, from 0 to pi; any length will do."""
    return torch.atan2(directions[..., 1:].norm(dim=-1), directions[..., 0])


def within_cap(
    directions: Float[Tensor, "*row dimension"], *, largest_angle_rad: float = LARGEST_ANGLE_RAD
) -> Float[Tensor, "*row dimension"]:
    """Unit directions turned back to the edge of the cap where they lie outside it.

    The turn is the shortest one, so what is asked of the other axes keeps its proportions. The
    direction opposite to the task has no shortest turn; it becomes the task's axis.

    Raises:
        ValueError: If the angle is not above 0 and at most a quarter turn.
    """
    _check_angle(largest_angle_rad)
    aside = directions[..., 1:]
    length = aside.norm(dim=-1, keepdim=True)
    angle = angles_to_task(directions)[..., None].clamp_max(largest_angle_rad)
    angle = torch.where(length > 1e-9, angle, 0.0)
    return torch.cat([angle.cos(), angle.sin() * aside / length.clamp_min(1e-9)], -1)


def _check_angle(angle_rad: float) -> None:
    if not 0 < angle_rad <= math.pi / 2:
        raise ValueError(f"largest_angle_rad must be above 0 and at most pi/2, got {angle_rad:g}.")
