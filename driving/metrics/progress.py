"""How far a ride gets along its route, and what NAVSIM and StyleDrive make of it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.simulation.state import Motion
from driving.world import World

_DEVIATION_WEIGHT = 1.2
_HUMAN_BOUNDS_M = (10.0, 24.0, 40.0)
_TOLERANCES_M = (3.0, 5.0, 6.0, 7.0)


def place_on_route(
    points_m: Float[Tensor, "batch candidate 2"],
    route_points: Float[Tensor, "batch place 2"],
    route_mask: Bool[Tensor, "batch place"],
) -> Float[Tensor, "batch candidate"]:
    """Metres along the route to the place nearest to each point; the first of equals.

    Worked out in float64: next to a corner of the route two pieces are almost equally near, and in
    float32 the wrong one would win by millimetres.

    Args:
        points_m: In the frame of the route.
        route_points: The route's centre line.
        route_mask: Which points are there; a prefix.

    Returns:
        From 0 at the first point to the route's length. 0 where fewer than two points are known.
    """
    if route_points.shape[1] < 2:
        return points_m.new_zeros(points_m.shape[:2])
    known = route_mask[:, None, 1:]
    route, points = route_points.double()[:, None], points_m.double()
    start_x, start_y = route[:, :, :-1].unbind(-1)
    along_x, along_y = route.diff(dim=2).unbind(-1)
    squared = torch.where(known, along_x * along_x + along_y * along_y, 0)
    lengths = squared.sqrt()
    x, y = points[:, :, 0:1] - start_x, points[:, :, 1:2] - start_y
    share = ((x * along_x + y * along_y) / squared.clamp_min(1e-12)).clamp(0, 1)
    away = (x - share * along_x).square() + (y - share * along_y).square()
    nearest = torch.where(known, away, torch.inf).argmin(-1, keepdim=True)
    along = share * lengths + (lengths.cumsum(-1) - lengths)
    return along.gather(-1, nearest).squeeze(-1).to(points_m.dtype)


def progress_along_route(motion: Motion, world: World) -> Float[Tensor, "batch candidate"]:
    """Metres along the route from the first to the last step; going back counts as 0.

    Where the route has fewer than two points it is the length of the way driven.

    Args:
        motion: Rides, [batch, candidate, step].
        world: Whose route it is.
    """
    points = motion.poses[..., :2]
    ends = torch.cat([points[:, :, 0], points[:, :, -1]], 1)
    first, last = place_on_route(ends, world.route_points, world.route_mask).chunk(2, 1)
    driven = torch.linalg.vector_norm(points.diff(dim=2), dim=-1).sum(-1)
    known = world.route_mask[:, 1:].any(-1, keepdim=True)
    return torch.where(known, (last - first).clamp_min(0), driven)


def ego_progress(
    progress_m: Float[Tensor, "batch candidate"],
    gate: Float[Tensor, "batch candidate"],
    reference_progress_m: Float[Tensor, " batch"],
    *,
    least_m: float = 5.0,
) -> Float[Tensor, "batch candidate"]:
    """NAVSIM's: the share of the best ride's progress, where there is any to speak of.

    Args:
        progress_m: Of every candidate.
        gate: Its no-collision times drivable-area score, by which progress is multiplied first.
        reference_progress_m: Of the best proposal, likewise multiplied. A candidate that gets
            farther is its own reference.
        least_m: Where neither gets farther than this, every ride through the gate scores 1.

    Returns:
        0 to 1.
    """
    gated = progress_m * gate
    best = torch.maximum(gated, reference_progress_m[:, None])
    return torch.where(best > least_m, gated / best.clamp_min(1e-9), (gate != 0).to(gated.dtype))


def style_ego_progress(
    progress_m: Float[Tensor, "batch candidate"],
    human_progress_m: Float[Tensor, " batch"],
    reference_progress_m: Float[Tensor, " batch"],
    *,
    least_m: float = 3.0,
) -> Float[Tensor, "batch candidate"]:
    """StyleDrive's: 1 for the human's progress, less the farther from it, in either direction.

    1 - 1.2 d^2, at least 0, where d is the difference over a tolerance of 3 m if the human gets
    less than 10 m far, 5 m if less than 24 m, 6 m if less than 40 m and else 7 m. The requested
    style plays no part.

    Args:
        progress_m: Of every candidate.
        human_progress_m: Of the human.
        reference_progress_m: Of the best proposal.
        least_m: Where neither a candidate nor the human nor the reference gets farther, it is 1.
    """
    bounds = progress_m.new_tensor(_HUMAN_BOUNDS_M)
    tolerance = progress_m.new_tensor(_TOLERANCES_M)[
        torch.bucketize(human_progress_m, bounds, right=True)
    ]
    deviation = (progress_m - human_progress_m[:, None]) / tolerance[:, None]
    best = torch.maximum(human_progress_m, reference_progress_m)[:, None]
    moves = torch.maximum(progress_m, best) > least_m
    return torch.where(moves, (1 - _DEVIATION_WEIGHT * deviation.square()).clamp_min(0), 1.0)
