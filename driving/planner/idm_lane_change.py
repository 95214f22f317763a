"""Rule-based: the Intelligent Driver Model on the own lane and those beside it, chosen by MOBIL."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.planner.follow import SETTLE_S, Driven, Proposals, drive
from driving.planner.lane_change import (
    Lines,
    keeps_the_road,
    lane_offset,
    lines_beside,
    rear_braking_mps2,
)
from driving.planner.planner import (
    PLAN_STEP_S,
    PLAN_STEPS,
    Planner,
    PlannerInput,
    Plans,
    StyleCondition,
)
from driving.planner.road_ahead import RoadAhead, road_ahead
from driving.planner.style_parameters import StyleParameters, style_parameters

LANE_AHEAD_S = 5.0
LOOK_SIDEWAYS_S = 2.0
UNDER_WAY_M, UNDER_WAY_MPS = 0.3, 0.2
ROUTE_BIAS_MPS2 = 0.2
SLOWEST_CHANGE_MPS = 4.0
UNBEARABLE_MPS2 = 4.0
LANE_M = 3.5
SHORTEST_SETTLE_S = 1.0
CLEAR_BEHIND_S = 0.5
SHARES = 41


class IdmLaneChange(Planner):
    """`Idm` that also changes to the lanes beside the route's, and back.

    Three proposals: the route's lane and the lanes to either side of it, each driven by the
    Intelligent Driver Model. Which lane the ego is in, or on its way to, is read off where it is
    and how it moves sideways, so that planning anew goes on with a change under way. A change
    begins where MOBIL allows and favours it in the style; the route's lane is favoured by 0.2
    m/s2, which is the bias of MOBIL's rule for asymmetric traffic. One that is under way is only
    given up where the one behind could not bear it and the line is not yet crossed.

    Args:
        speed_factor_cap: Most that any style drives over the limit; 1.0 keeps it.

    Source:
        Kesting, Treiber and Helbing (2007), doi:10.3141/1999-10, with the new follower only, and
        with mean accelerations over the plan in place of those at present.
    """

    def __init__(self, *, speed_factor_cap: float = 1.1) -> None:
        self.speed_factor_cap = speed_factor_cap

    def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
        """Three candidates: the route's lane, the one to the left and the one to the right."""
        parameters = style_parameters(style, speed_factor_cap=self.speed_factor_cap)
        parameters = parameters.per_proposal()
        road = road_ahead(scene)
        lines = lines_beside(scene, road)
        offsets, there = _lanes(lines, road)
        own, under_way = present_lane(road, offsets, there)
        proposals = Proposals(
            offsets,
            torch.ones_like(offsets),
            parameters,
            settle_s=_settle_s(road, parameters, offsets),
        )
        driven = drive(road, proposals)
        gain = gains_mps2(road, parameters, driven, offsets, own)
        open_to = there & keeps_the_road(lines, road, offsets)
        free = open_to & is_clear(road, parameters, offsets)
        chosen = _choice(road, (gain, offsets), (own, under_way), free)
        place = torch.arange(3, device=chosen.device)
        scores = (place == chosen[:, None]).to(offsets.dtype)
        open_to = open_to | (place == chosen[:, None])
        return Plans(driven.plan, scores.masked_fill(~open_to, -torch.inf))


def _lanes(
    lines: Lines, road: RoadAhead
) -> tuple[Float[Tensor, "batch candidate"], Bool[Tensor, "batch candidate"]]:
    """Offsets of the route's lane and those beside it, and which of them are there."""
    left, has_left = lane_offset(lines, road, side=1, ahead_s=LANE_AHEAD_S)
    right, has_right = lane_offset(lines, road, side=-1, ahead_s=LANE_AHEAD_S)
    always = torch.ones_like(has_left)
    return (
        torch.stack((torch.zeros_like(left), left, right), -1),
        torch.stack((always, has_left, has_right), -1),
    )


def present_lane(
    road: RoadAhead,
    offsets_m: Float[Tensor, "batch candidate"],
    there: Bool[Tensor, "batch candidate"],
) -> tuple[Int[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """The lane that the ego is in or on its way to, and whether it is on its way.

    That is the lane nearest to where it would be after two seconds.
    """
    sideways_mps = road.speed_mps * road.slope
    soon_m = road.left_m + LOOK_SIDEWAYS_S * sideways_mps
    away = torch.where(there, (offsets_m - soon_m[:, None]).abs(), torch.inf)
    lane = away.argmin(-1)
    off_m = offsets_m.gather(-1, lane[:, None])[:, 0] - road.left_m
    moving = (sideways_mps.abs() > UNDER_WAY_MPS) & (sideways_mps * off_m > 0)
    return lane, (off_m.abs() > UNDER_WAY_M) & moving


def settle_s(
    road: RoadAhead, style: StyleParameters, offsets_m: Float[Tensor, "batch candidate"]
) -> Float[Tensor, "batch candidate"]:
    """How long the rest of a change takes: a share of the style's duration.

    It is the share that is left of a fifth-degree polynomial across a lane of 3.5 m from where it
    has that distance to go.
    """
    share = torch.linspace(0, 1, SHARES, device=offsets_m.device)
    to_go = 1 - share**3 * (10 - 15 * share + 6 * share.square())
    rest = ((offsets_m - road.left_m[:, None]).abs() / LANE_M).clamp_max(1)
    passed = (to_go > rest[..., None]).sum(-1) / (SHARES - 1)
    return (style.change_s * (1 - passed)).clamp_min(SHORTEST_SETTLE_S)


def _settle_s(road: RoadAhead, style: StyleParameters, offsets_m: Tensor) -> Tensor:
    """That of a change until the line is crossed, then the usual one."""
    near = (offsets_m - road.left_m[:, None]).abs() < LANE_M / 2
    return torch.where(near, SETTLE_S, settle_s(road, style, offsets_m))


def gains_mps2(
    road: RoadAhead,
    style: StyleParameters,
    driven: Driven,
    offsets_m: Float[Tensor, "batch candidate"],
    own: Int[Tensor, " batch"],
) -> Float[Tensor, "batch candidate"]:
    """MOBIL's incentive of every lane over the own one, less what must be gained at least.

    The own acceleration that is gained, less the politeness times what the new follower loses,
    less the threshold, plus the bias where the route's lane is gained. `-inf` where the new
    follower or the ego would brake harder than the style calls safe.
    """
    along = driven.along_m[..., -1]
    mean = 2 * along / (PLAN_STEPS * PLAN_STEP_S) ** 2
    gain = mean - mean.gather(-1, own[:, None])
    loss = rear_braking_mps2(road, offsets_m)
    on_route = (torch.arange(offsets_m.shape[1], device=own.device) == 0).to(gain.dtype)
    bias = ROUTE_BIAS_MPS2 * (on_route - on_route[own][:, None])
    gain = gain + bias - style.politeness * loss - style.change_gain_mps2
    hardest = -driven.acceleration_mps2[..., 1:].amin(-1)
    limit = torch.maximum(hardest.gather(-1, own[:, None]), style.safe_braking_mps2)
    safe = (loss < style.safe_braking_mps2) & (hardest <= limit)
    return torch.where(safe, gain, -torch.inf)


def is_clear(
    road: RoadAhead, style: StyleParameters, offsets_m: Float[Tensor, "batch candidate"]
) -> Bool[Tensor, "batch candidate"]:
    """Whether nobody in a lane is alongside the ego, or nearer than half a second behind it.

    Between the boxes there must at least be the style's standstill gap, ahead and behind.
    """
    others = road.neighbours
    reach = others.half_width_m[:, None] + road.size_m[:, 1:, None] / 2
    beside = (others.left_m[:, None] - offsets_m[..., None]).abs() < reach
    gap = others.along_m.abs() - others.half_length_m - road.size_m[:, :1] / 2
    follows = others.along_m < 0
    needed = torch.where(follows, others.along_mps.clamp_min(0) * CLEAR_BEHIND_S, 0.0)
    near = gap[:, None] < needed[:, None] + style.standstill_gap_m[..., None]
    return ~(beside & near & others.mask[:, None]).any(-1)


def _choice(
    road: RoadAhead,
    gain_and_offset: tuple[Float[Tensor, "batch candidate"], Float[Tensor, "batch candidate"]],
    present: tuple[Int[Tensor, " batch"], Bool[Tensor, " batch"]],
    open_to: Bool[Tensor, "batch candidate"],
) -> Int[Tensor, " batch"]:
    """The lane to drive to: the own one, unless another one is open, near and worth it."""
    gain, offsets = gain_and_offset
    own, under_way = present
    own_offset = offsets.gather(-1, own[:, None])
    next_to = (offsets - own_offset).abs() < 1.5 * LANE_M
    place = torch.arange(3, device=own.device)
    other = open_to & next_to & (place != own[:, None])
    other = other & ~under_way[:, None] & (road.speed_mps > SLOWEST_CHANGE_MPS)[:, None]
    best, lane = torch.where(other, gain, -torch.inf).max(-1)
    chosen = torch.where(best > 0, lane, own)
    still_out = (offsets - road.left_m[:, None]).abs().gather(-1, own[:, None])[:, 0] > LANE_M / 2
    behind = rear_braking_mps2(road, own_offset)[:, 0]
    gives_up = under_way & still_out & (behind > UNBEARABLE_MPS2)
    back = torch.where(open_to, (offsets - road.left_m[:, None]).abs(), torch.inf).argmin(-1)
    return torch.where(gives_up, back, chosen)
