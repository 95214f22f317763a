"""Lanes beside the path, and whether a style would change to them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.planner.planner import PlannerInput
from driving.planner.road_ahead import RoadAhead
from driving.planner.style_parameters import StyleParameters
from driving.simulation.car_following import CarFollowing
from driving.simulation.frames import wrapped
from driving.world import LINE_EDGE, LINE_LANE

NEAREST_LANE_M, FARTHEST_LANE_M = 2.2, 5.0
PARALLEL_RAD = 0.35
BEHIND_M = -10.0
SHORTEST_LANE_M = 20.0
PIECE_M, PIECES = 10.0, 16
LANE_TIME_S = 2.0
TOUCH_M = 0.2
FOLLOWER = (1.5, 2.0, 1.4, 2.0)
"""What the one behind is taken for: a normal driver's time gap, standstill gap, a and b."""


@dataclass(frozen=True)
class Lines:
    """Points of the map's lines in coordinates of the path.

    Attributes:
        along_m: Arc length.
        left_m: To the left of the path.
        is_lane: Points of lane centres that run the way of the path.
        is_edge: Points of road edges.
    """

    along_m: Float[Tensor, "batch spot"]
    left_m: Float[Tensor, "batch spot"]
    is_lane: Bool[Tensor, "batch spot"]
    is_edge: Bool[Tensor, "batch spot"]


def lines_beside(scene: PlannerInput, road: RoadAhead) -> Lines:
    """Every point of the scene's lines beside the path."""
    beside = road.path.beside(scene.lines.flatten(1, 2))
    steps = scene.lines.diff(dim=2)
    steps = torch.cat((steps, steps[:, :, -1:]), 2)
    there = scene.line_mask[:, :, 1:] & scene.line_mask[:, :, :-1]
    there = torch.cat((there, torch.zeros_like(there[:, :, :1])), 2).flatten(1)
    direction = torch.atan2(steps[..., 1], steps[..., 0]).flatten(1)
    same_way = wrapped(direction - beside.heading_rad).abs() < PARALLEL_RAD
    kinds = scene.line_kinds[..., None].expand(scene.line_mask.shape).flatten(1)
    mask = scene.line_mask.flatten(1)
    return Lines(
        beside.along_m,
        beside.left_m,
        there & same_way & (kinds == LINE_LANE),
        mask & (kinds == LINE_EDGE),
    )


def lane_offset(
    lines: Lines, road: RoadAhead, *, side: int, ahead_s: float = LANE_TIME_S
) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """How far to the side the next lane runs, and whether there is one.

    A lane is there if points of lane centres that run the same way lie 2.2 to 5 m to that side
    from about the ego to 2 s (at least 20 m) ahead, and somewhere in every ten metres between. Of a
    lane that is asked for farther than the own one is seen, no more is asked than is seen.

    Args:
        lines: In coordinates of the path.
        road: The path.
        side: 1 for left, -1 for right.
        ahead_s: Instead of the 2 s.

    Returns:
        The mean offset, positive on the left, 0 where there is no lane; and where there is one.
    """
    apart = side * lines.left_m
    ahead = (lines.along_m > BEHIND_M) & (lines.along_m < road.path.along_m[-1])
    found = lines.is_lane & (apart > NEAREST_LANE_M) & (apart < FARTHEST_LANE_M) & ahead
    needed_m = torch.minimum(road.speed_mps * ahead_s, _seen_m(lines)).clamp_min(SHORTEST_LANE_M)
    last = torch.where(found, lines.along_m, -torch.inf).amax(-1)
    first = torch.where(found, lines.along_m, torch.inf).amin(-1)
    there = (last > needed_m) & (first < needed_m / 2)
    there = there & _unbroken(found, lines.along_m, needed_m)
    mean = torch.where(found, lines.left_m, 0.0).sum(-1) / found.sum(-1).clamp_min(1)
    return torch.where(there, mean, 0.0), there


def _seen_m(lines: Lines) -> Float[Tensor, " batch"]:
    """How far ahead the own lane is among the lines."""
    own = lines.is_lane & (lines.left_m.abs() < NEAREST_LANE_M)
    return torch.where(own, lines.along_m, -torch.inf).amax(-1) - PIECE_M / 2


def _unbroken(
    found: Bool[Tensor, "batch spot"],
    along_m: Float[Tensor, "batch spot"],
    needed_m: Float[Tensor, " batch"],
) -> Bool[Tensor, " batch"]:
    """Whether a point was found in every ten metres from the first one to the farthest needed."""
    first = torch.where(found, along_m, torch.inf).amin(-1)
    part = (along_m / PIECE_M).floor().clamp(0, PIECES - 1).long()
    filled = torch.zeros(len(along_m), PIECES, device=along_m.device)
    filled = filled.scatter_reduce(1, part, (found & (along_m >= 0)).to(filled.dtype), "amax")
    starts_m = torch.arange(PIECES, device=along_m.device) * PIECE_M
    counts = (starts_m >= first[:, None]) & (starts_m + PIECE_M <= needed_m[:, None])
    return ((filled > 0) | ~counts).all(-1)


def keeps_the_road(
    lines: Lines, road: RoadAhead, offset_m: Float[Tensor, "batch candidate"]
) -> Bool[Tensor, "batch candidate"]:
    """Whether no road edge of the next 2 s (at least 20 m) lies where the box would pass.

    An offset of 0 follows the route and is never forbidden.
    """
    reach_m = (road.speed_mps * LANE_TIME_S).clamp_min(SHORTEST_LANE_M)
    near = lines.is_edge & (lines.along_m > 0) & (lines.along_m < reach_m[:, None])
    half = road.size_m[:, 1:, None] / 2 + TOUCH_M
    lowest = offset_m.clamp_max(0)[..., None] - half
    highest = offset_m.clamp_min(0)[..., None] + half
    left = lines.left_m[:, None]
    hit = near[:, None] & (left > lowest) & (left < highest)
    return ~hit.any(-1) | (offset_m == 0)


def rear_braking_mps2(
    road: RoadAhead, offset_m: Float[Tensor, "batch candidate"]
) -> Float[Tensor, "batch candidate"]:
    """How hard the next vehicle behind would brake for the ego at an offset, by IDM.

    Somebody alongside would have no gap at all, which is more braking than any style accepts.
    """
    others = road.neighbours
    reach = others.half_width_m[:, None] + road.size_m[:, 1:, None] / 2
    beside = (others.left_m[:, None] - offset_m[..., None]).abs() < reach
    behind = others.mask & (others.along_m < road.size_m[:, :1] / 2) & (others.along_mps > 0)
    gap = -others.along_m - others.half_length_m - road.size_m[:, :1] / 2
    gap = torch.where(beside & behind[:, None], gap[:, None], torch.inf)
    gap = torch.nn.functional.pad(gap, (0, 1), value=torch.inf)
    nearest, follower = gap.min(-1)
    speeds = torch.nn.functional.pad(others.along_mps, (0, 1))
    speed = speeds[:, None].expand(gap.shape).gather(-1, follower[..., None])[..., 0]
    model = CarFollowing(*(torch.full_like(speed, value) for value in FOLLOWER))
    desired = speed.clamp_min(1.0)
    wanted = model.acceleration(speed, desired, nearest, road.speed_mps[:, None])
    return torch.where(nearest.isfinite(), -wanted, 0.0).clamp_min(0)


def may_change(
    road: RoadAhead,
    style: StyleParameters,
    offset_m: Float[Tensor, "batch candidate"],
    gain_mps2: Float[Tensor, "batch candidate"],
) -> Bool[Tensor, "batch candidate"]:
    """MOBIL: the one behind need not brake too hard, and it is worth it in spite of that.

    Args:
        road: The scene.
        style: With a last dimension of 1.
        offset_m: Of the lane to change to.
        gain_mps2: Mean acceleration that is gained by changing.

    Source:
        Kesting, Treiber and Helbing (2007), doi:10.3141/1999-10, with the new follower only.
    """
    loss = rear_braking_mps2(road, offset_m)
    worth = gain_mps2 > style.change_gain_mps2 + style.politeness * loss
    return (loss < style.safe_braking_mps2) & worth
