"""Safety of rides: collisions at fault, leaving the road, time to collision, driving direction."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.metrics.boxes import box_corners, segment_meets_box
from driving.metrics.contacts import Contacts, Others, find_contacts
from driving.metrics.drivable_area import DrivableArea
from driving.metrics.ego_areas import on_several_lanes, to_map_frame
from driving.simulation.state import Motion
from driving.world import AGENT_CYCLIST, AGENT_PEDESTRIAN, AGENT_VEHICLE, World

REAR_AXLE_SHARE = 1.461 / 5.176
"""How far behind the centre the rear axle is, as a share of the length: NAVSIM's Pacifica."""
_EGO_STOPPED_MPS = 0.05
_TRACK_STOPPED_MPS = 0.005
_STANDING_MPS = 0.005
_AHEAD_COS = math.cos(math.radians(20))
_BEHIND_COS = math.cos(math.radians(150))
_NO_HIT = 10**6
_DIRECTION_WINDOW_S = 1.0
_DIRECTION_BOUNDS_M = (2.0, 6.0)


@dataclass(frozen=True)
class CollisionRules:
    """How contacts are looked for and judged.

    Attributes:
        offsets: Steps by which the ego is driven on.
        thresholds: In how many steps the first contact may not be: for conservative, normal and
            aggressive.
        project_others: Road users drive on after the last step known of them; otherwise
            projections into that time are left out.
        first_velocity: Whether a road user stands is judged by its velocity when first seen, as
            NAVSIM does, instead of at the contact.
        signed_speed: An ego in reverse is driven on backwards; NAVSIM drives it on forwards.
        ignore_initial: Whoever touches the ego at the first step is left out altogether. NAVSIM's
            scorer does not; logs whose boxes overlap need it.
    """

    offsets: tuple[int, ...]
    thresholds: tuple[int, int, int]
    project_others: bool = False
    first_velocity: bool = True
    signed_speed: bool = False
    ignore_initial: bool = False


NAVSIM_RULES = CollisionRules((0, 3, 6, 9), (10, 10, 10))
RELEASED_RULES = CollisionRules((0, 3, 6, 9, 12), (12, 10, 8))
"""StyleDrive's as released. No offset lies between 0.9 and 1.2 s, and 1.2 s is no hit for anyone,
so conservative and normal share a rule in effect."""
FINE_RULES = CollisionRules(
    tuple(range(13)),
    (12, 10, 8),
    project_others=True,
    first_velocity=False,
    signed_speed=True,
    ignore_initial=True,
)
"""StyleDrive's thresholds on every 0.1 s, so that they differ, to the end of the ride."""


@dataclass(frozen=True)
class Safety:
    """What contacts say of rides.

    Attributes:
        no_collision: 1 without a collision at fault, 0.5 with one with an object, 0 with one with
            a road user.
        first_hit: Steps to the nearest projected contact that counts, over the whole ride; a
            huge number where there is none.
    """

    no_collision: Float[Tensor, "batch candidate"]
    first_hit: Int[Tensor, "batch candidate"]

    def time_to_collision(
        self, rules: CollisionRules, styles: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch candidate"]:
        """1 where the nearest contact is no nearer than the style's threshold, else 0."""
        thresholds = torch.tensor(rules.thresholds, device=self.first_hit.device)
        least = thresholds[1] if styles is None else thresholds[styles][:, None]
        return (self.first_hit >= least).to(self.no_collision.dtype)


def safety(
    motion: Motion,
    world: World,
    off_road: Bool[Tensor, "batch candidate step"],
    *,
    rules: CollisionRules,
    intersections: DrivableArea | None = None,
) -> Safety:
    """Collisions at fault and the nearest projected one.

    A contact is at fault if the ego moves and the other stands, or the other meets the ego's front
    bumper, or it comes from the side while the ego straddles a lane boundary or leaves the road;
    never if it comes from behind. The first contact with a road user decides. For projected
    contacts the other must be ahead (within 20 degrees), or, while the ego straddles or is off
    the road or in an intersection, not behind (more than 150 degrees); after one that does not
    count, the road user is left out. Angles are seen from the rear axle.

    Args:
        motion: Rides, [batch, candidate, step].
        world: Over the same steps from its present on.
        off_road: Where a corner of the box is off the road.
        rules: Which of the published variants.
        intersections: Areas of intersections on the same maps.

    Raises:
        ValueError: If the world ends before the rides do.

    Source:
        `pdm_scorer.py` and `pdm_scorer_utils.py` of autonomousvision/navsim v1.1.
    """
    steps = motion.speed_mps.shape[2]
    if world.agent_poses.shape[2] - world.now < steps:
        raise ValueError(
            f"world must have at least {steps} steps from its present on, as the motion has, "
            f"got {world.agent_poses.shape[2] - world.now}."
        )
    others = Others.of(world, extra_steps=rules.offsets[-1] if rules.project_others else 0)
    travel = motion.speed_mps if rules.signed_speed else motion.speed_mps.abs()
    contacts = find_contacts(
        motion, travel, world.ego_size_m, others, rules.offsets, step_s=world.step_s
    )
    group = (contacts.batch * motion.speed_mps.shape[1] + contacts.candidate) * others.mask.shape[
        1
    ] + contacts.agent
    if rules.ignore_initial:
        at_start = (contacts.step == 0) & (contacts.offset == 0)
        kept = (~torch.isin(group, group[at_start])).nonzero().squeeze(1)
        contacts, group = contacts.chosen(kept), group[kept]
    at_fault, counts = _judged(contacts, motion, world, others, off_road, (rules, intersections))
    shape = motion.speed_mps.shape[:2]
    return Safety(
        _no_collision(contacts, group, at_fault, others.kinds, motion.speed_mps.new_ones(shape)),
        _first_hit(contacts, group, counts, motion),
    )


def driving_direction(
    against: Bool[Tensor, "batch candidate step"], motion: Motion, step_s: float
) -> Float[Tensor, "batch candidate"]:
    """1, 0.5 or 0 for less than 2 m, less than 6 m, or more driven against the traffic in 1 s.

    Args:
        against: At which steps the centre is in a lane that runs the other way.
        motion: Rides, [batch, candidate, step].
        step_s: Seconds from one step to the next.
    """
    moved = torch.linalg.vector_norm(motion.poses[..., :2].diff(dim=2), dim=-1)
    wrong = torch.nn.functional.pad(moved, (1, 0)) * against
    window = round(_DIRECTION_WINDOW_S / step_s)
    total = torch.nn.functional.pad(wrong.cumsum(-1), (window + 1, 0))
    most = (total[..., window + 1 :] - total[..., : -window - 1]).amax(-1)
    little, much = _DIRECTION_BOUNDS_M
    return 0.5 * ((most < little).to(most.dtype) + (most < much).to(most.dtype))


def _judged(
    contacts: Contacts,
    motion: Motion,
    world: World,
    others: Others,
    off_road: Tensor,
    how: tuple[CollisionRules, DrivableArea | None],
) -> tuple[Bool[Tensor, " contact"], Bool[Tensor, " contact"]]:
    """Whether contacts would be at fault, and whether they count as a projected collision."""
    rules, intersections = how
    batch, candidate, step = contacts.batch, contacts.candidate, contacts.step
    ego = motion.poses[batch, candidate, step]
    then = step + contacts.offset
    other = others.poses[batch, contacts.agent, then]
    size, other_size = world.ego_size_m[batch], others.sizes_m[batch, contacts.agent]
    direction = torch.stack([ego[:, 2].cos(), ego[:, 2].sin()], -1)
    rear_axle = ego[:, :2] - direction * (REAR_AXLE_SHARE * size[:, :1])
    offset = other[:, :2] - rear_axle
    along, away = (offset * direction).sum(-1), torch.linalg.vector_norm(offset, dim=-1)
    ahead, behind = along > _AHEAD_COS * away, along < _BEHIND_COS * away
    corners = box_corners(ego, size)
    front = segment_meets_box(corners[:, 0], corners[:, 3], other, other_size)
    moving = motion.speed_mps[batch, candidate, step].abs() > _EGO_STOPPED_MPS
    stands = _stands(contacts, others, rules)
    outside = off_road[batch, candidate, step]
    crossing = outside
    if intersections is not None:
        places = to_map_frame(rear_axle, world.start_poses[batch])
        crossing = outside | intersections.contains(places, world.map_index[batch])
    aside = (contacts.offset == 0) & moving & ~stands & ~front & ~outside
    unsure = (~behind & (aside | (~ahead & ~crossing))).nonzero().squeeze(1)
    ride = (batch * motion.poses.shape[1] + candidate) * motion.poses.shape[2] + step
    distinct, number = ride[unsure].unique(return_inverse=True)
    at = distinct // (motion.poses.shape[1] * motion.poses.shape[2])
    straddles = on_several_lanes(motion.poses.reshape(-1, 3)[distinct], at, world)
    straddling = torch.zeros_like(moving).index_copy(0, unsure, straddles[number])
    at_fault = moving & (stands | (~behind & (front | outside | straddling)))
    return at_fault, ahead | ((crossing | straddling) & ~behind)


def _stands(contacts: Contacts, others: Others, rules: CollisionRules) -> Bool[Tensor, " contact"]:
    """Whether the road users of contacts stand; objects always do."""
    kinds = others.kinds[contacts.batch, contacts.agent]
    if rules.first_velocity:
        when = others.mask.to(torch.uint8).argmax(-1)[contacts.batch, contacts.agent]
    else:
        when = contacts.step + contacts.offset
    velocity = others.velocities_mps[contacts.batch, contacts.agent, when]
    return ~_is_road_user(kinds) | (
        torch.linalg.vector_norm(velocity, dim=-1) <= _TRACK_STOPPED_MPS
    )


def _is_road_user(kinds: Tensor) -> Tensor:
    return (kinds == AGENT_VEHICLE) | (kinds == AGENT_PEDESTRIAN) | (kinds == AGENT_CYCLIST)


def _starts(group: Tensor) -> Bool[Tensor, " contact"]:
    """Which contacts are the first of their ride and road user."""
    first = torch.ones_like(group, dtype=torch.bool)
    first[1:] = group[1:] != group[:-1]
    return first


def _no_collision(
    contacts: Contacts, group: Tensor, at_fault: Tensor, kinds: Tensor, ones: Tensor
) -> Float[Tensor, "batch candidate"]:
    """The worst of the first contacts with each road user."""
    now = (contacts.offset == 0).nonzero().squeeze(1)
    decisive = now[_starts(group[now]) & at_fault[now]]
    chosen = contacts.chosen(decisive)
    harm = torch.where(_is_road_user(kinds[chosen.batch, chosen.agent]), 0.0, 0.5).to(ones.dtype)
    ride = chosen.batch * ones.shape[1] + chosen.candidate
    return ones.reshape(-1).scatter_reduce(0, ride, harm, "amin").reshape(ones.shape)


def _first_hit(
    contacts: Contacts, group: Tensor, counts: Tensor, motion: Motion
) -> Int[Tensor, "batch candidate"]:
    """The least offset of contacts that count, until one with the same road user does not."""
    shape = motion.speed_mps.shape[:2]
    speed = motion.speed_mps[contacts.batch, contacts.candidate, contacts.step].abs()
    moving = (speed >= _STANDING_MPS).nonzero().squeeze(1)
    contacts, group, counts = contacts.chosen(moving), group[moving], counts[moving]
    dropped = (~counts).long()
    so_far = dropped.cumsum(0)
    before = torch.where(_starts(group), so_far - dropped, 0)
    if len(before):
        before = before.cummax(0).values
    valid = (counts & (so_far == before)).nonzero().squeeze(1)
    ride = (contacts.batch * shape[1] + contacts.candidate)[valid]
    none = torch.full((shape[0] * shape[1],), _NO_HIT, device=group.device)
    return none.scatter_reduce(0, ride, contacts.offset[valid], "amin").reshape(shape)
