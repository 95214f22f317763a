"""The vehicle ahead on the ego's own path, and how the ego keeps its distance from it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d, pad

from driving.simulation.frames import wrapped
from driving.style.kinematic_measures import distance_travelled
from driving.style.lane_frame import foot_on, nearest_segment
from driving.style.measures import Column
from driving.world import AGENT_CYCLIST, AGENT_VEHICLE, World

AHEAD_POINTS = 24
AHEAD_SPACING_M = 3.0
PATH_STRIDE = 2
ROUTE_REACH_M = 2.5
MOST_ANGLE_RAD = torch.pi / 3
STEADY_S = 3.5
STEADY_ACCELERATION_MPS2 = 0.75
STEADY_SPEED_DIFFERENCE_MPS = 1.52
SLOWEST_FOLLOWING_MPS = 2.0
SLOWEST_CLOSING_MPS = 0.1
FREE_GAP_S = 3.0
FREE_ACCELERATION_MPS2 = 0.5
FREE_LATERAL_MPS2 = 1.0
SHORTEST_FREE_S = 1.0


@dataclass(frozen=True)
class Leader:
    """The vehicle ahead of the ego at every step.

    Attributes:
        gap_m: From the ego's front bumper to the leader's rear bumper; 0 without a leader.
        speed_mps: The leader's speed along the path.
        mask: Where there is a leader.
    """

    gap_m: Float[Tensor, "batch step"]
    speed_mps: Float[Tensor, "batch step"]
    mask: Bool[Tensor, "batch step"]


def leader(world: World, poses: Float[Tensor, "batch step 3"], *, first: int) -> Leader:
    """The nearest vehicle or cyclist ahead on the way the ego really drives.

    The way is what the ego drives in the window, continued for 72 m along its route (at the ego's
    distance beside it) where it ends within 2.5 m of one, else straight on. Somebody is on it whose
    centre is nearer to it than half of both widths and who points within 60 degrees of it: crossing
    traffic, oncoming traffic and neighbours in other lanes are no leaders. So somebody who is
    ahead in a lane that the ego is about to leave is none either.

    Args:
        world: Who else is there.
        poses: The ego over the window.
        first: Step of the world at which the window begins.
    """
    steps = slice(first, first + poses.shape[1])
    travelled = distance_travelled(poses[..., :2])
    path, arc = _path(world, poses, travelled)
    batch, agents = world.agent_mask.shape[:2]
    count = poses.shape[1]
    points = world.agent_poses[:, :, steps, :2].reshape(batch, agents * count, 2)
    always = torch.ones(batch, 1, path.shape[1] - 1, dtype=torch.bool, device=path.device)
    distance, nearest = nearest_segment(points, path[:, :-1], path[:, 1:], always)
    distance = distance.view(batch, agents, count)
    chosen = foot_on(points, path[:, :-1], path[:, 1:], nearest)
    begin = path.gather(1, nearest[..., None].expand(-1, -1, 2))
    along = arc.gather(1, nearest) + (chosen - begin).norm(dim=-1)
    along = along.view(batch, agents, count)
    pieces = path.diff(dim=1)
    direction = torch.atan2(pieces[..., 1], pieces[..., 0]).gather(1, nearest)
    direction = direction.view(batch, agents, count)

    widths = (world.ego_size_m[:, None, 1] + world.agent_sizes_m[..., 1]) / 2
    drives = (world.agent_kinds == AGENT_VEHICLE) | (world.agent_kinds == AGENT_CYCLIST)
    turned = wrapped(world.agent_poses[:, :, steps, 2] - direction).abs()
    ahead = along - travelled[:, None]
    mask = world.agent_mask[:, :, steps] & drives[..., None] & (distance <= widths[..., None])
    mask = mask & (turned <= MOST_ANGLE_RAD) & (ahead > 0)
    half_lengths = (world.ego_size_m[:, None, 0] + world.agent_sizes_m[..., 0]) / 2
    gap, who = torch.where(mask, ahead, torch.inf).min(1)
    there = gap.isfinite()
    gap = torch.where(there, gap, 0.0) - half_lengths.gather(1, who)
    velocity = world.agent_velocities_mps[:, :, steps]
    speed = velocity[..., 0] * direction.cos() + velocity[..., 1] * direction.sin()
    speed = speed.gather(1, who[:, None])[:, 0]
    return Leader(
        torch.where(there, gap.clamp_min(0.0), 0.0), torch.where(there, speed, 0.0), there
    )


def _path(
    world: World, poses: Float[Tensor, "batch step 3"], travelled: Float[Tensor, "batch step"]
) -> tuple[Float[Tensor, "batch vertex 2"], Float[Tensor, "batch vertex"]]:
    """The ego's way as a polyline, and how far along it every vertex is."""
    last = poses.shape[1] - 1
    kept = sorted({*range(0, last, PATH_STRIDE), last})
    ahead = _ahead(world, poses[:, -1])
    path = torch.cat([poses[:, kept, :2], ahead], 1)
    further = torch.cat([poses[:, -1:, :2], ahead], 1).diff(dim=1).norm(dim=-1).cumsum(-1)
    arc = torch.cat([travelled[:, kept], travelled[:, -1:] + further], 1)
    return path, arc


def _ahead(world: World, pose: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch vertex 2"]:
    """Points every 3 m beyond a pose: along the route where it is near, else straight on."""
    reach = AHEAD_SPACING_M * torch.arange(
        1, AHEAD_POINTS + 1, device=pose.device, dtype=pose.dtype
    )
    heading = torch.stack([pose[:, 2].cos(), pose[:, 2].sin()], -1)
    straight = pose[:, None, :2] + reach[:, None] * heading[:, None]
    route, there = world.route_points, world.route_mask
    if route.shape[1] < 2:
        return straight
    usable = there[:, :-1] & there[:, 1:]
    distances, nearests = nearest_segment(
        pose[:, None, :2], route[:, :-1], route[:, 1:], usable[:, None]
    )
    feet = foot_on(pose[:, None, :2], route[:, :-1], route[:, 1:], nearests)
    distance, nearest, foot = distances[:, 0], nearests[:, 0], feet[:, 0]
    pieces = torch.where(usable[..., None], route.diff(dim=1), 0.0)
    lengths = pieces.norm(dim=-1)
    row = torch.arange(len(pose), device=pose.device)
    before = lengths.cumsum(-1) - lengths
    at = before[row, nearest] + (foot - route[row, nearest]).norm(dim=-1)
    wanted = at[:, None] + reach
    place = torch.searchsorted(before.contiguous(), wanted.contiguous(), right=True) - 1
    final = (usable.sum(-1, keepdim=True) - 1).clamp_min(0)
    place = place.clamp_min(0).minimum(final)
    unit = pieces / lengths.clamp_min(1e-6)[..., None]
    step = unit.gather(1, place[..., None].expand(-1, -1, 2))
    rest = wanted - before.gather(1, place)
    normal = torch.stack([-step[..., 1], step[..., 0]], -1)
    own = unit[row, nearest]
    beside = pose[:, :2] - foot
    offset = own[:, 0] * beside[:, 1] - own[:, 1] * beside[:, 0]
    along = route.gather(1, place[..., None].expand(-1, -1, 2)) + rest[..., None] * step
    along = along + offset[:, None, None] * normal
    facing = (own * heading).sum(-1) > 0
    follows = (distance <= ROUTE_REACH_M) & facing
    return torch.where(follows[:, None, None], along, straight)


def steady_time_gap(
    ahead: Leader,
    speed_mps: Float[Tensor, "batch step"],
    acceleration_mps2: Float[Tensor, "batch step"],
    *,
    step_s: float,
) -> Column:
    """Mean time gap over stretches in which the ego follows somebody steadily.

    A stretch lasts 3.5 s; throughout it there is a leader and the ego is faster than 2 m/s (below,
    the gap says how one queues, not how one follows); in its mean the ego's acceleration is at most
    0.75 m/s2 either way and the speeds differ by at most 1.52 m/s. The bounds hold for means
    because in logs taken from video the noise of single steps exceeds them: step by step, 2 % of
    the NGSIM windows would pass. A time gap runs from the front bumper to the rear bumper; a
    headway would contain the leader's length.

    Args:
        ahead: The leader.
        speed_mps: The ego's speed.
        acceleration_mps2: Its change.
        step_s: Seconds from one step to the next.

    Source:
        The filter of Parashar et al., 2025; the lower bound on the speed and the means are ours.
    """
    length = round(STEADY_S / step_s) + 1
    if length > speed_mps.shape[-1]:
        return torch.zeros_like(speed_mps[:, 0]), torch.zeros_like(ahead.mask[:, 0])
    follows = ahead.mask & (speed_mps > SLOWEST_FOLLOWING_MPS)
    signals = torch.stack([acceleration_mps2, speed_mps - ahead.speed_mps], 1)
    mean = avg_pool1d(signals, length, stride=1).abs()
    bounds = mean.new_tensor([STEADY_ACCELERATION_MPS2, STEADY_SPEED_DIFFERENCE_MPS])
    begins = (mean <= bounds[:, None]).all(1) & follows.unfold(-1, length, 1).all(-1)
    counted = stretched(begins, length)
    gap_s = torch.where(counted, ahead.gap_m / speed_mps.clamp_min(SLOWEST_FOLLOWING_MPS), 0.0)
    number = counted.sum(-1)
    return gap_s.sum(-1) / number.clamp_min(1), number > 0


def free_driving(
    ahead: Leader,
    speed_mps: Float[Tensor, "batch step"],
    acceleration_mps2: Float[Tensor, "batch step"],
    lateral_mps2: Float[Tensor, "batch step"],
    *,
    step_s: float,
) -> Bool[Tensor, "batch step"]:
    """Steps at which the ego drives at the speed it wants.

    There nobody is ahead within 3 s, the ego is faster than 2 m/s, its acceleration is at most
    0.5 m/s2 either way and its lateral acceleration at most 1 m/s2. A window with less than 1 s of
    such steps has none.
    """
    alone = ~ahead.mask | (ahead.gap_m > FREE_GAP_S * speed_mps)
    free = alone & (speed_mps > SLOWEST_FOLLOWING_MPS)
    free = free & (acceleration_mps2.abs() <= FREE_ACCELERATION_MPS2)
    free = free & (lateral_mps2.abs() <= FREE_LATERAL_MPS2)
    enough = free.sum(-1, keepdim=True) * step_s >= SHORTEST_FREE_S
    return free & enough


def stretched(begins: Bool[Tensor, "batch start"], length: int) -> Bool[Tensor, "batch step"]:
    """Steps that lie in a stretch of so many steps that begins at one of the true places.

    Example:
        >>> stretched(torch.tensor([[True, False, False]]), 2).tolist()
        [[True, True, False, False]]
    """
    padded = pad(begins.to(torch.float32)[:, None], (length - 1, length - 1))
    return max_pool1d(padded, length, stride=1)[:, 0] > 0


def smallest_time_to_collision(ahead: Leader, speed_mps: Float[Tensor, "batch step"]) -> Column:
    """Smallest quotient of gap and closing speed, over the steps at which the ego closes in."""
    closing = speed_mps - ahead.speed_mps
    closes = ahead.mask & (closing > SLOWEST_CLOSING_MPS)
    time_s = torch.where(closes, ahead.gap_m / closing.clamp_min(SLOWEST_CLOSING_MPS), torch.inf)
    smallest = time_s.amin(-1)
    return torch.where(smallest.isfinite(), smallest, 0.0), closes.any(-1)


def smallest_gap(ahead: Leader) -> Column:
    """Smallest gap over the steps with a leader."""
    smallest = torch.where(ahead.mask, ahead.gap_m, torch.inf).amin(-1)
    return torch.where(smallest.isfinite(), smallest, 0.0), ahead.mask.any(-1)
