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
    no_collision = torch.ones_like(motion.speed_mps[..., 0])
    first_hit = torch.full_like(no_collision, _NO_HIT, dtype=torch.int64)
    if not len(contacts.ride):
        return Safety(no_collision, first_hit)
    now = (contacts.offset == 0).nonzero().squeeze(1)
    how = (rules, intersections)
    at_fault, counts = _judged(contacts, now, motion, world, others, off_road, how)
    rolls = (motion.speed_mps.abs() >= _STANDING_MPS).reshape(-1)
    seen = rolls.index_select(0, contacts.ride * steps + contacts.step)
    if rules.ignore_initial:
        later = ~_touched_initially(contacts, first_hit.numel() * others.mask.shape[1])
        at_fault, seen = at_fault & later[now], seen & later
    harm = _harm(contacts, now, at_fault, others.kinds).to(no_collision.dtype)
    hits = _hits(contacts, counts, seen)
    return Safety(
        _least(no_collision, contacts.ride[now], harm), _least(first_hit, contacts.ride, hits)
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
    wrong = torch.nn.functional.pad(moved, (1, 0)) * against.to(moved.dtype)
    window = round(_DIRECTION_WINDOW_S / step_s)
    total = torch.nn.functional.pad(wrong.cumsum(-1), (window + 1, 0))
    most = (total[..., window + 1 :] - total[..., : -window - 1]).amax(-1)
    little, much = _DIRECTION_BOUNDS_M
    return 0.5 * ((most < little).to(most.dtype) + (most < much).to(most.dtype))


def _judged(
    contacts: Contacts,
    now: Int[Tensor, " now"],
    motion: Motion,
    world: World,
    others: Others,
    off_road: Bool[Tensor, "batch candidate step"],
    how: tuple[CollisionRules, DrivableArea | None],
) -> tuple[Bool[Tensor, " now"], Bool[Tensor, " contact"]]:
    """Whether contacts at offset 0 would be at fault, and which count as projected collisions."""
    rules, intersections = how
    moment = contacts.ride * motion.poses.shape[2] + contacts.step
    then = contacts.agent * others.mask.shape[2] + contacts.step + contacts.offset
    ego = motion.poses.reshape(-1, 3).index_select(0, moment)
    other = others.poses.reshape(-1, 3).index_select(0, then)
    size = world.ego_size_m.index_select(0, contacts.batch)
    rear_axle, ahead, behind = _bearing(ego, size, other)
    outside = off_road.reshape(-1).index_select(0, moment)
    crossing = outside
    if intersections is not None:
        places = to_map_frame(rear_axle, world.start_poses[contacts.batch])
        crossing = outside | intersections.contains(places, world.map_index[contacts.batch])
    moving = (motion.speed_mps.abs() > _EGO_STOPPED_MPS).reshape(-1).index_select(0, moment)
    stands = _standing(others, rules).reshape(-1).index_select(0, then)
    corners = box_corners(ego[now], size[now])
    other_size = others.sizes_m.reshape(-1, 2).index_select(0, contacts.agent[now])
    front = segment_meets_box(corners[:, 0], corners[:, 3], other[now], other_size)
    certain, possible = (moving & stands)[now], (moving & ~stands & ~behind)[now]
    asked = torch.zeros(off_road.numel(), dtype=torch.int32, device=ego.device)
    asked.index_add_(0, moment, (~behind & ~ahead & ~crossing).int())
    asked.index_add_(0, moment[now], (possible & ~front & ~outside[now]).int())
    straddling = _straddling(asked.reshape(off_road.shape) > 0, motion, world)
    straddles = straddling.reshape(-1).index_select(0, moment)
    at_fault = certain | (possible & (front | (outside | straddles)[now]))
    return at_fault, ahead | ((crossing | straddles) & ~behind)


def _straddling(
    asked: Bool[Tensor, "batch candidate step"], motion: Motion, world: World
) -> Bool[Tensor, "batch candidate step"]:
    """Where the ego is on several lanes, looked at only where asked."""
    batch, candidate, step = asked.nonzero().unbind(1)
    straddles = torch.zeros_like(asked)
    straddles[batch, candidate, step] = on_several_lanes(
        motion.poses[batch, candidate, step], batch, world
    )
    return straddles


def _bearing(
    ego: Float[Tensor, "contact 3"],
    size_m: Float[Tensor, "contact 2"],
    other: Float[Tensor, "contact 3"],
) -> tuple[Float[Tensor, "contact 2"], Bool[Tensor, " contact"], Bool[Tensor, " contact"]]:
    """The rear axles of egos, and whether others are ahead of or behind them."""
    x, y, heading = ego.unbind(-1)
    cos, sin = heading.cos(), heading.sin()
    behind_m = REAR_AXLE_SHARE * size_m[:, 0]
    axle_x, axle_y = x - cos * behind_m, y - sin * behind_m
    offset_x, offset_y = other[:, 0] - axle_x, other[:, 1] - axle_y
    along = offset_x * cos + offset_y * sin
    away = (offset_x * offset_x + offset_y * offset_y).sqrt()
    rear_axle = torch.stack([axle_x, axle_y], -1)
    return rear_axle, along > _AHEAD_COS * away, along < _BEHIND_COS * away


def _standing(others: Others, rules: CollisionRules) -> Bool[Tensor, "batch agent step"]:
    """Who stands when; objects always do."""
    slow = torch.linalg.vector_norm(others.velocities_mps, dim=-1) <= _TRACK_STOPPED_MPS
    if rules.first_velocity:
        first = others.mask.to(torch.uint8).argmax(-1, keepdim=True)
        slow = slow.gather(-1, first).expand_as(slow)
    return slow | ~_is_road_user(others.kinds)[..., None]


def _is_road_user(kinds: Tensor) -> Tensor:
    return (kinds == AGENT_VEHICLE) | (kinds == AGENT_PEDESTRIAN) | (kinds == AGENT_CYCLIST)


def _touched_initially(contacts: Contacts, couples: int) -> Bool[Tensor, " contact"]:
    """Contacts of a ride with whoever touches the ego at its first step."""
    at_start = (contacts.step == 0) & (contacts.offset == 0)
    times = torch.zeros(couples, dtype=torch.int32, device=at_start.device)
    times.index_add_(0, contacts.couple, at_start.int())
    return times.index_select(0, contacts.couple) > 0


def _starts(couple: Tensor) -> Bool[Tensor, " contact"]:
    """Which contacts are the first of their ride and road user."""
    first = torch.ones_like(couple, dtype=torch.bool)
    first[1:] = couple[1:] != couple[:-1]
    return first


def _harm(
    contacts: Contacts,
    now: Int[Tensor, " now"],
    at_fault: Bool[Tensor, " now"],
    kinds: Int[Tensor, "batch agent"],
) -> Float[Tensor, " now"]:
    """What each contact at offset 0 leaves of the score: the first with each road user decides."""
    users = _is_road_user(kinds).reshape(-1).index_select(0, contacts.agent[now])
    decisive = at_fault & _starts(contacts.couple[now])
    return torch.where(decisive, torch.where(users, 0.0, 0.5), 1.0)


def _hits(
    contacts: Contacts, counts: Bool[Tensor, " contact"], seen: Bool[Tensor, " contact"]
) -> Int[Tensor, " contact"]:
    """Offsets of contacts that count, until a seen one with the same road user does not."""
    dropped = (seen & ~counts).long()
    so_far = dropped.cumsum(0)
    before = torch.where(_starts(contacts.couple), so_far - dropped, 0).cummax(0).values
    return torch.where(seen & counts & (so_far == before), contacts.offset, _NO_HIT)


def _least(start: Tensor, ride: Int[Tensor, " contact"], values: Tensor) -> Tensor:
    """The least value of every ride, at most where it starts."""
    return start.reshape(-1).scatter_reduce(0, ride, values, "amin").reshape(start.shape)
