"""Drive a path in proposals: lateral offsets that decay, car following lengthwise."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.planner.driver_model import (
    HORIZON_S,
    Ahead,
    needed_braking_mps2,
    next_acceleration,
    preview_s,
    wanted_acceleration,
)
from driving.planner.planner import PLAN_STEP_S, PLAN_STEPS
from driving.planner.road_ahead import RoadAhead
from driving.planner.style_parameters import StyleParameters
from driving.simulation.slowing import slowing_on

STEPS_PER_PLAN_STEP = 2
STEP_S = PLAN_STEP_S / STEPS_PER_PLAN_STEP
STEPS = PLAN_STEPS * STEPS_PER_PLAN_STEP
CORRIDOR_MARGIN_M = 0.2
SETTLE_S = 2.5
SETTLE_M = 6.0
SETTLE_M_PER_M = 3.0
SHORT_MARGIN_S = 1.0
SLOWEST_APPROACH_MPS = 3.0
TRACKING_SLACK_M = 0.5
"""How much later than planned the tracker stops: its speed decays with the time it looks ahead."""
FIRM_SHARE = 0.995
YELLOW_MPS2 = 3.0
"""Yellow lasts long enough for whoever would have to brake harder, whatever the style."""


@dataclass(frozen=True)
class Proposals:
    """What is proposed to every scene.

    Attributes:
        offset_m: Lateral offset to settle at, to the left of the path.
        speed_share: Of the style's desired speed.
        style: Parameters with a last dimension of 1 or of the proposals.
        settle_s: When the offset is to be reached; None takes 2.5 s.
    """

    offset_m: Float[Tensor, "batch candidate"]
    speed_share: Float[Tensor, "batch candidate"]
    style: StyleParameters
    settle_s: Float[Tensor, "batch candidate"] | None = None


@dataclass(frozen=True)
class Lateral:
    """A fifth-degree polynomial from the present offset and slope to an offset that stays.

    Attributes:
        start_m: Offset at present.
        coefficients: Of u, u^3, u^4 and u^5, u being the share of the length.
        length_m: Path length after which the offset is reached.
        end_m: That offset.
    """

    start_m: Float[Tensor, "batch candidate"]
    coefficients: Float[Tensor, "batch candidate 4"]
    length_m: Float[Tensor, "batch candidate"]
    end_m: Float[Tensor, "batch candidate"]

    def at(
        self, along_m: Float[Tensor, "batch candidate *many"]
    ) -> tuple[Float[Tensor, "batch candidate *many"], Float[Tensor, "batch candidate *many"]]:
        """Offset and its slope at arc lengths; the present ones before the ego."""
        more = (1,) * (along_m.ndim - 2)
        length = self.length_m.reshape(*self.length_m.shape, *more)
        share = (along_m / length).clamp(0, 1)
        first, third, fourth, fifth = (
            coefficient.reshape(length.shape) for coefficient in self.coefficients.unbind(-1)
        )
        square = share.square()
        offset = share * (first + square * (third + share * (fourth + share * fifth)))
        slope = first + square * (3 * third + share * (4 * fourth + share * 5 * fifth))
        return self.start_m.reshape(length.shape) + offset, slope / length


def lateral(road: RoadAhead, proposals: Proposals) -> Lateral:
    """The way to each proposal's offset: longer than asked where that is too much sideways.

    The peak of the lateral acceleration, 5.77 metres over the square of the duration, stays below
    half of what the style accepts, for most of it is needed in bends.
    """
    change_m = proposals.offset_m - road.left_m[:, None]
    accepted = proposals.style.lateral_acceleration_mps2 / 2
    asked_s = proposals.settle_s
    if asked_s is None:
        asked_s = torch.full_like(change_m, SETTLE_S)
    duration_s = torch.maximum((5.77 * change_m.abs() / accepted).sqrt(), asked_s)
    length_m = road.speed_mps[:, None] * duration_s
    length_m = torch.maximum(length_m, SETTLE_M + SETTLE_M_PER_M * change_m.abs())
    start_m = road.left_m[:, None].expand_as(change_m)
    return settling(start_m, road.slope[:, None], proposals.offset_m, length_m)


def settling(
    start_m: Float[Tensor, "batch candidate"],
    slope: Float[Tensor, "batch one"],
    end_m: Float[Tensor, "batch candidate"],
    length_m: Float[Tensor, "batch candidate"],
) -> Lateral:
    """The polynomial that begins at an offset with a slope and stays at another after a length."""
    first, change_m = slope * length_m, end_m - start_m
    coefficients = torch.stack(
        (
            first,
            10 * change_m - 6 * first,
            -15 * change_m + 8 * first,
            6 * change_m - 3 * first,
        ),
        -1,
    )
    return Lateral(start_m, coefficients, length_m, end_m)


@dataclass(frozen=True)
class Driven:
    """How proposals drive, every 0.25 s.

    Attributes:
        poses: Centres of the box, with the present.
        along_m: Arc length on the path.
        speed_mps: Along it.
        acceleration_mps2: Asked for in the step before; the ego's own at first.
    """

    poses: Float[Tensor, "batch candidate step 3"]
    along_m: Float[Tensor, "batch candidate step"]
    speed_mps: Float[Tensor, "batch candidate step"]
    acceleration_mps2: Float[Tensor, "batch candidate step"]

    @property
    def plan(self) -> Float[Tensor, "batch candidate time 3"]:
        """The poses at 0.5, 1.0, ... s."""
        return self.poses[:, :, STEPS_PER_PLAN_STEP::STEPS_PER_PLAN_STEP]


def drive(road: RoadAhead, proposals: Proposals) -> Driven:
    """Every proposal driven for four seconds among others that keep their velocity or braking.

    The leader is, at every step, the nearest road user ahead whose box overlaps the corridor of
    the proposal's own way, will within the style's yielding margin, or crosses when the ego would
    be there or less than that margin later; a red light is a leader that stands where its lane
    begins, a yellow one if braking at 3 m/s2 suffices. How hard is accelerated and braked, and
    how abruptly, is said by `driver_model`.
    """
    way = lateral(road, proposals)
    others = _obstacles(road, proposals, way)
    style = proposals.style
    scene_style = _of_scene(style)
    cap = road.speed_cap_mps(scene_style)
    wish = scene_style.speed_factor[:, None] * road.limits_mps
    firm = (cap < FIRM_SHARE * wish).to(cap.dtype)
    ahead_s = HORIZON_S + preview_s(style)
    shape = proposals.offset_m.shape
    along = torch.zeros_like(proposals.offset_m)
    speed = road.speed_mps[:, None].expand(shape)
    acceleration = road.acceleration_mps2[:, None].clamp(-8.0, 8.0).expand(shape)
    history = [(along, speed, acceleration)]
    for step in range(STEPS):
        gap, leader_mps, leader_braking = others.nearest(along, step)
        here = along / road.path.spacing_m
        place = here + speed * ahead_s / road.path.spacing_m
        ahead = Ahead(
            proposals.speed_share * torch.minimum(_between(cap, here), _between(cap, place)),
            torch.maximum(_between(firm, here), _between(firm, place)),
            gap - TRACKING_SLACK_M,
            leader_mps.clamp_min(0),
            leader_braking,
        )
        wanted = wanted_acceleration(style, speed, ahead)
        needed = needed_braking_mps2(style, speed, ahead)
        wanted = next_acceleration(style, acceleration, wanted, needed, STEP_S)
        after = (speed + wanted * STEP_S).clamp_min(0)
        along = along + (speed + after) / 2 * STEP_S
        acceleration, speed = (after - speed) / STEP_S, after
        history.append((along, speed, acceleration))
    along, speed, acceleration = (torch.stack(values, -1) for values in zip(*history, strict=True))
    return Driven(_poses(road, way, along), along, speed, acceleration)


def _of_scene(style: StyleParameters) -> StyleParameters:
    """The style of a scene's first proposal, without the dimension of proposals."""
    return StyleParameters(
        *(getattr(style, name)[..., 0] for name in StyleParameters.__dataclass_fields__)
    )


def _between(
    values: Float[Tensor, "batch place"], position: Float[Tensor, "batch candidate"]
) -> Float[Tensor, "batch candidate"]:
    last = values.shape[-1] - 1
    index = position.floor().clamp(0, last - 1).long()
    first, second = values.gather(-1, index), values.gather(-1, index + 1)
    return first + (position - index).clamp(0, 1) * (second - first)


def _poses(
    road: RoadAhead, way: Lateral, along_m: Float[Tensor, "batch candidate step"]
) -> Float[Tensor, "batch candidate step 3"]:
    on_path = road.path.at(along_m.flatten(1)).unflatten(1, along_m.shape[1:])
    curvature = road.path.curvature_at(along_m.flatten(1)).unflatten(1, along_m.shape[1:])
    offset, slope = way.at(along_m)
    heading = on_path[..., 2]
    x = on_path[..., 0] - offset * heading.sin()
    y = on_path[..., 1] + offset * heading.cos()
    stretch = (1 - curvature * offset).clamp_min(0.2)
    return torch.stack((x, y, heading + torch.atan2(slope, stretch)), -1)


@dataclass(frozen=True)
class _Obstacles:
    """Rear ends ahead, for every scene, proposal, road user and step."""

    rear_m: Float[Tensor, "batch one agent step"]
    centre_m: Float[Tensor, "batch one agent step"]
    along_mps: Float[Tensor, "batch one agent step"]
    braking_mps2: Float[Tensor, "batch one agent step"]
    blocks: Bool[Tensor, "batch candidate agent step"]
    stop_m: Float[Tensor, "batch candidate"]
    front_m: Float[Tensor, "batch one"]

    def nearest(
        self, along_m: Float[Tensor, "batch candidate"], step: int
    ) -> tuple[
        Float[Tensor, "batch candidate"],
        Float[Tensor, "batch candidate"],
        Float[Tensor, "batch candidate"],
    ]:
        """Gap to the leader, its speed and its braking; `inf`, 0 and 0 without one."""
        stop = self.stop_m - along_m - self.front_m
        if self.rear_m.shape[2] == 0:
            return stop, torch.zeros_like(stop), torch.zeros_like(stop)
        ahead = self.centre_m[..., step] > along_m[..., None]
        gaps = self.rear_m[..., step] - (along_m + self.front_m)[..., None]
        gaps = torch.where(self.blocks[..., step] & ahead, gaps, torch.inf)
        gap, leader = gaps.min(-1)
        is_light = gap >= stop
        speed_mps = _of(self.along_mps[..., step], leader).masked_fill(is_light, 0.0)
        braking = _of(self.braking_mps2[..., step], leader).masked_fill(is_light, 0.0)
        return torch.minimum(gap, stop), speed_mps, braking


def _of(
    values: Float[Tensor, "batch one agent"], leader: Int[Tensor, "batch candidate"]
) -> Float[Tensor, "batch candidate"]:
    return values.expand(*leader.shape, -1).gather(-1, leader[..., None])[..., 0]


def _obstacles(road: RoadAhead, proposals: Proposals, way: Lateral) -> _Obstacles:
    others = road.neighbours
    time_s = torch.arange(STEPS, device=road.speed_mps.device) * STEP_S
    braking = others.braking_mps2[..., None]
    moved_m, along_mps, until_s = slowing_on(others.along_mps[..., None], braking, time_s)
    centre = others.along_m[..., None] + moved_m
    left = others.left_m[..., None] + others.left_mps[..., None] * time_s
    corridor, _ = way.at(centre[:, None].expand(-1, way.start_m.shape[1], -1, -1))
    apart = left[:, None] - corridor
    style_s = proposals.style.yielding_margin_s.expand(way.start_m.shape)[..., None]
    parallel = others.is_parallel[:, None]
    margin_s = torch.where(parallel, style_s.clamp_max(SHORT_MARGIN_S), style_s)
    later = apart + (others.left_mps[:, None] * margin_s)[..., None]
    nearest = torch.where(apart * later < 0, 0.0, torch.minimum(apart.abs(), later.abs()))
    reach = (others.half_width_m + road.size_m[:, 1:] / 2 + CORRIDOR_MARGIN_M)[:, None, :, None]
    conflicts = _conflicts(road, centre, apart.abs() < reach, style_s) & ~parallel[..., None]
    counts = others.mask & (others.along_m > 0)
    front = road.size_m[:, :1] / 2
    return _Obstacles(
        rear_m=(centre - others.half_length_m[..., None])[:, None],
        centre_m=centre[:, None],
        along_mps=along_mps[:, None],
        braking_mps2=torch.where(until_s < time_s, 0.0, braking)[:, None],
        blocks=((nearest < reach) | conflicts) & counts[:, None, :, None],
        stop_m=_stop_m(road, proposals.style, front).expand(way.start_m.shape),
        front_m=front,
    )


def _conflicts(
    road: RoadAhead,
    centre_m: Float[Tensor, "batch agent step"],
    inside: Bool[Tensor, "batch candidate agent step"],
    margin_s: Float[Tensor, "batch candidate one"],
) -> Bool[Tensor, "batch candidate agent step"]:
    """Who would be met by an ego of constant speed: until they have left the corridor.

    Somebody inside the corridor is met unless the ego has cleared that place by the margin
    earlier, or reaches it only after they have left.
    """
    others = road.neighbours
    time_s = torch.arange(STEPS, device=centre_m.device) * STEP_S
    speed_mps = road.speed_mps.clamp_min(SLOWEST_APPROACH_MPS)[:, None, None]
    half_m = (others.half_length_m + road.size_m[:, :1] / 2)[..., None]
    arrives_s = ((centre_m - half_m) / speed_mps)[:, None]
    clears_s = ((centre_m + half_m) / speed_mps)[:, None] + margin_s[..., None]
    met = (inside & (arrives_s <= time_s) & (time_s <= clears_s)).any(-1, keepdim=True)
    still_comes = inside.flip(-1).int().cummax(-1).values.flip(-1).bool()
    return met & still_comes


def _stop_m(
    road: RoadAhead, style: StyleParameters, front_m: Float[Tensor, "batch one"]
) -> Float[Tensor, "batch candidate"]:
    """Where to stop for a light, `inf` for nowhere."""
    yellow = road.yellow_m[:, None]
    needed = road.speed_mps[:, None].square() / (2 * (yellow - front_m).clamp_min(0.1))
    yellow = torch.where(needed < YELLOW_MPS2, yellow, torch.inf)
    return torch.minimum(road.red_m[:, None], yellow)
