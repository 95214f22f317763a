"""How hard a driver of a style wants to accelerate, and how fast that may change."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from driving.planner.style_parameters import StyleParameters
from driving.simulation.car_following import HARDEST_BRAKING_MPS2, SHORTEST_GAP_M

EASING_MPS2 = 0.8
"""How hard a driver slows who only wants to be slower or farther behind: foot off the pedal."""
HORIZON_S = 1.0
LONGEST_PREVIEW_S = 1.5
EMERGENCY_JERK_MPS3 = 12.0
LEAST_URGENT_MPS2, URGENT_MPS2 = 1.5, 1.0
SPARE, URGENT_SPARE = 1.15, 1.6
"""How much more than the necessary braking is done at most, and where that is uncomfortable."""
KEPT_SHARE = 0.35
"""Of the gap, that counts as room to brake in even where a style would rather keep all of it."""
SHORTEST_ROOM_M = 0.3
NEAR, NEAREST = 0.5, 0.25
"""Shares of the wanted gap below which opening it is more than easing, and as hard as braking."""


@dataclass(frozen=True)
class Ahead:
    """What lies ahead of a driver at one moment.

    Attributes:
        desired_mps: Speed that the road and the style ask for where the driver will soon be.
        firm: 1 where a bend or a lower limit asks for it, 0 where only the driver's own wish does.
        gap_m: To the leader, bumper to bumper; `inf` without one.
        leader_mps: The leader's speed along the path; 0 of one who comes towards the ego, whom no
            braking avoids.
        leader_braking_mps2: How hard the leader brakes.
    """

    desired_mps: Float[Tensor, "batch candidate"]
    firm: Float[Tensor, "batch candidate"]
    gap_m: Float[Tensor, "batch candidate"]
    leader_mps: Float[Tensor, "batch candidate"]
    leader_braking_mps2: Float[Tensor, "batch candidate"]


def preview_s(style: StyleParameters) -> Tensor:
    """How much earlier a driver acts whose jerk is low: half the time to build up the braking."""
    return (style.braking_mps2 / (2 * style.jerk_mps3)).clamp_max(LONGEST_PREVIEW_S)


def wanted_acceleration(
    style: StyleParameters, speed_mps: Float[Tensor, "batch candidate"], ahead: Ahead
) -> Float[Tensor, "batch candidate"]:
    """The smaller of what the road and what the leader ask for.

    On the road the Intelligent Driver Model's free term accelerates, and a wish to be slower eases
    off, or brakes comfortably for bends and lower limits. Behind a leader its braking strategy
    counts, but never more than what the leader makes necessary and a little more: whoever only
    has a shorter gap than wanted eases off until it opens.

    Taking the smaller instead of the sum makes the gap at rest `s0 + v T` at any speed, so that
    time gap and speed can be asked for apart.

    Source:
        Treiber, Hennecke and Helbing (2000), doi:10.1103/PhysRevE.62.1805; the minimum: IDM+ of
        Schakel, van Arem and Netten (IEEE ITSC 2010); what the leader makes
        necessary: the constant-acceleration heuristic of Kesting, Treiber and Helbing (2010),
        arXiv:0912.3613. That opening a gap is easing off, and the 0.8 m/s2, are ours.
    """
    return torch.minimum(_on_the_road(style, speed_mps, ahead), _behind(style, speed_mps, ahead))


def _on_the_road(style: StyleParameters, speed_mps: Tensor, ahead: Ahead) -> Tensor:
    ratio = speed_mps / ahead.desired_mps.clamp_min(0.1)
    free = (style.acceleration_mps2 * (1 - ratio**4)).clamp_min(0)
    missing = (ahead.desired_mps - speed_mps) / (HORIZON_S + preview_s(style))
    slowest = EASING_MPS2 + ahead.firm * (style.braking_mps2 - EASING_MPS2).clamp_min(0)
    return torch.maximum(torch.minimum(free, missing), -slowest)


def _behind(style: StyleParameters, speed_mps: Tensor, ahead: Ahead) -> Tensor:
    closing_mps = torch.where(ahead.gap_m.isfinite(), speed_mps - ahead.leader_mps, 0.0)
    soon_m = ahead.gap_m - closing_mps.clamp_min(0) * preview_s(style)
    soon_m = torch.maximum(soon_m, KEPT_SHARE * ahead.gap_m).clamp_min(SHORTEST_GAP_M)
    at_rest_m = style.standstill_gap_m + speed_mps * style.time_gap_s
    comfortable = (style.acceleration_mps2 * style.braking_mps2).sqrt()
    dynamic_m = speed_mps * closing_mps / (2 * comfortable)
    wanted_m = torch.maximum(at_rest_m + dynamic_m, style.standstill_gap_m)
    idm = style.acceleration_mps2 * (1 - (wanted_m / soon_m).square())
    share = ((NEAR - ahead.gap_m / at_rest_m) / (NEAR - NEAREST)).clamp(0, 1)
    opening = EASING_MPS2 + share * (style.braking_mps2 - EASING_MPS2).clamp_min(0)
    needed = needed_braking_mps2(style, speed_mps, ahead)
    urgent = _urgency(style, needed)
    least = torch.maximum((SPARE + urgent * (URGENT_SPARE - SPARE)) * needed, opening)
    return torch.maximum(idm, -least).clamp_min(-HARDEST_BRAKING_MPS2)


def needed_braking_mps2(
    style: StyleParameters, speed_mps: Float[Tensor, "batch candidate"], ahead: Ahead
) -> Float[Tensor, "batch candidate"]:
    """Constant braking that leaves the style's gap to the leader, who brakes on as now.

    0 if none is needed. Where that gap would leave less than 0.35 of the present one to brake in,
    these 0.35 are used up.
    """
    rest_m = style.standstill_gap_m + ahead.leader_mps.clamp_min(0) * style.time_gap_s
    return _needed(speed_mps, torch.maximum(ahead.gap_m - rest_m, KEPT_SHARE * ahead.gap_m), ahead)


def _needed(speed_mps: Tensor, room_m: Tensor, ahead: Ahead) -> Tensor:
    """Constant braking that uses up so much room."""
    room_m = room_m.clamp_min(SHORTEST_ROOM_M)
    closing_mps = (speed_mps - ahead.leader_mps).clamp_min(0)
    braking = ahead.leader_braking_mps2
    stops_first = ahead.leader_mps * closing_mps <= 2 * room_m * braking
    until_rest = braking * speed_mps.square()
    until_rest = until_rest / (ahead.leader_mps.square() + 2 * room_m * braking).clamp_min(1e-3)
    until_equal = braking + closing_mps.square() / (2 * room_m)
    needed = torch.where(stops_first & (braking > 0), until_rest, until_equal)
    return torch.where(ahead.gap_m.isfinite(), needed, 0.0)


def _urgency(style: StyleParameters, needed_mps2: Tensor) -> Tensor:
    """From 0 where the style's braking (at least 1.5 m/s2) suffices, to 1 for 1 m/s2 more."""
    usual = style.braking_mps2.clamp_min(LEAST_URGENT_MPS2)
    return ((needed_mps2 - usual) / URGENT_MPS2).clamp(0, 1)


def next_acceleration(
    style: StyleParameters,
    acceleration_mps2: Float[Tensor, "batch candidate"],
    wanted_mps2: Float[Tensor, "batch candidate"],
    needed_mps2: Float[Tensor, "batch candidate"],
    step_s: float,
) -> Float[Tensor, "batch candidate"]:
    """The acceleration one step later: it changes by the style's jerk, faster where it must.

    A brake that is harder than comfortable is also released faster, where nothing needs it.

    Args:
        style: Whose jerk.
        acceleration_mps2: As it is.
        wanted_mps2: As it should be.
        needed_mps2: Braking that avoids the leader: as it exceeds the comfortable one, the jerk
            grows to 12 m/s3.
        step_s: Seconds to the next step.
    """
    urgent = _urgency(style, needed_mps2)
    down = style.jerk_mps3 + urgent * (EMERGENCY_JERK_MPS3 - style.jerk_mps3)
    relief = ((-acceleration_mps2 - style.braking_mps2) / URGENT_MPS2).clamp(0, 1)
    relief = relief * (1 - needed_mps2 / style.braking_mps2).clamp_min(0)
    up = style.jerk_mps3 + relief * (EMERGENCY_JERK_MPS3 - style.jerk_mps3)
    lowest = acceleration_mps2 - down * step_s
    highest = acceleration_mps2 + up * step_s
    return torch.minimum(torch.maximum(wanted_mps2, lowest), highest)
