"""What a passenger sees of a ride: the scene it begins in, and who is ahead second by second."""

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.scenes.raw_scene import LIGHTS
from driving.simulation.state import Motion
from driving.style.leader import leader
from driving.world import LIGHT_NONE, World

EVERY_STEPS = 10
"""A look every second."""
LIGHT_NEAR_M = 100.0
"""A light farther ahead says nothing of how one drives now."""


def start_facts(world: World) -> dict[str, pl.Series]:
    """The columns of `driving.evaluation.tables.START`, and `start_light`, for every sample.

    Nothing after the present is looked at: who is ahead is looked for on the route.
    """
    lately = world.ego_poses[:, world.now - 1 : world.now + 1]
    ahead = leader(world, lately, first=world.now - 1)
    there = ahead.mask[:, -1]
    limit, known = _at_ego(world)
    distance, light = _next_light(world)
    return {
        "start_limit_mps": _column(limit, known),
        "start_gap_m": _column(ahead.gap_m[:, -1], there),
        "start_leader_mps": _column(ahead.speed_mps[:, -1], there),
        "start_light_m": _column(distance, light != LIGHT_NONE),
        "start_light": pl.Series([LIGHTS[state] for state in light.tolist()], dtype=pl.String),
    }


def course(world: World, ride: Motion) -> dict[str, pl.Series]:
    """The list columns of `driving.evaluation.tables.COURSE`, of every ride.

    Args:
        world: Whose agents are where they were while the ego drove; its ego drove the ride.
        ride: The ride, from the present on.
    """
    ahead = leader(world, ride.poses, first=world.now)
    driven = ride.poses[..., :2].diff(dim=1).norm(dim=-1).cumsum(-1)
    return {
        "driven_m": _lists(driven[:, EVERY_STEPS - 1 :: EVERY_STEPS]),
        "gap_m": _lists(torch.where(ahead.mask, ahead.gap_m, torch.nan)[:, ::EVERY_STEPS]),
        "leader_mps": _lists(torch.where(ahead.mask, ahead.speed_mps, torch.nan)[:, ::EVERY_STEPS]),
    }


def _lists(values: Float[Tensor, "batch second"]) -> pl.Series:
    return pl.Series(values.tolist(), dtype=pl.List(pl.Float32))


def _at_ego(world: World) -> tuple[Float[Tensor, " batch"], Tensor]:
    """Speed limit at the point of the route next to the ego, and where it is known."""
    nearest = _away(world).argmin(-1, keepdim=True)
    known = world.route_limit_mask.gather(1, nearest)[:, 0]
    return world.route_limits_mps.gather(1, nearest)[:, 0], known


def _next_light(world: World) -> tuple[Float[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Distance along the route to the next light that shows something, and what it shows."""
    pieces = world.route_points.diff(dim=1).norm(dim=-1)
    along = torch.cat([torch.zeros_like(pieces[:, :1]), pieces.cumsum(-1)], -1)
    own = along.gather(1, _away(world).argmin(-1, keepdim=True))
    distance = along - own
    shown = world.route_lights[..., world.now]
    seen = world.route_mask & (shown != LIGHT_NONE) & (distance >= 0) & (distance <= LIGHT_NEAR_M)
    found, place = torch.where(seen, distance, torch.inf).min(-1)
    light = shown.gather(1, place[:, None])[:, 0]
    return found, torch.where(found.isfinite(), light, LIGHT_NONE)


def _away(world: World) -> Float[Tensor, "batch place"]:
    """Distance of every point of the route from the ego as it begins."""
    away = (world.route_points - world.ego_poses[:, None, world.now, :2]).norm(dim=-1)
    return torch.where(world.route_mask, away, torch.inf)


def _column(values: Tensor, known: Tensor) -> pl.Series:
    given = np.where(known.numpy(), values.numpy(), np.nan).astype(np.float32)
    return pl.Series(given).fill_nan(None)
