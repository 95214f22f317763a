"""Which ego boxes, now or driven on at constant speed, touch which road users, and when."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from driving.metrics.boxes import boxes_overlap
from driving.simulation.state import Motion
from driving.world import World


@dataclass(frozen=True)
class Others:
    """The road users from the present on.

    Attributes:
        poses: Their boxes' centres and headings.
        velocities_mps: Along x and y.
        mask: Where they are there.
        sizes_m: Length and width.
        kinds: One of `AGENT_...`.
    """

    poses: Float[Tensor, "batch agent step 3"]
    velocities_mps: Float[Tensor, "batch agent step 2"]
    mask: Bool[Tensor, "batch agent step"]
    sizes_m: Float[Tensor, "batch agent 2"]
    kinds: Int[Tensor, "batch agent"]

    @classmethod
    def of(cls, world: World, *, extra_steps: int = 0) -> "Others":
        """The road users of a world; those there at its last step drive on for some steps more."""
        poses, velocities = world.agent_poses[:, :, world.now :], world.agent_velocities_mps
        velocities, mask = velocities[:, :, world.now :], world.agent_mask[:, :, world.now :]
        if extra_steps:
            ahead_s = world.step_s * torch.arange(
                1, extra_steps + 1, dtype=poses.dtype, device=poses.device
            )
            last = poses[:, :, -1:].expand(-1, -1, extra_steps, -1)
            places = last[..., :2] + velocities[:, :, -1:] * ahead_s[:, None]
            poses = torch.cat([poses, torch.cat([places, last[..., 2:]], -1)], 2)
            velocities = torch.cat(
                [velocities, velocities[:, :, -1:].expand(-1, -1, extra_steps, -1)], 2
            )
            mask = torch.cat([mask, mask[:, :, -1:].expand(-1, -1, extra_steps)], 2)
        return cls(poses, velocities, mask, world.agent_sizes_m, world.agent_kinds)


@dataclass(frozen=True)
class Contacts:
    """Touching boxes, ordered by scene, candidate, road user, step and offset.

    Attributes:
        batch: Which scene.
        ride: Which ride of all scenes: scene x candidates + candidate.
        agent: Which road user of all scenes: scene x agents + agent.
        couple: Which ride with which road user: ride x agents + agent.
        step: At which step the ego is driven on.
        offset: By how many steps.
    """

    batch: Int[Tensor, " contact"]
    ride: Int[Tensor, " contact"]
    agent: Int[Tensor, " contact"]
    couple: Int[Tensor, " contact"]
    step: Int[Tensor, " contact"]
    offset: Int[Tensor, " contact"]


def find_contacts(
    motion: Motion,
    travel_mps: Float[Tensor, "batch candidate step"],
    ego_size_m: Float[Tensor, "batch 2"],
    others: Others,
    offsets: tuple[int, ...],
    *,
    step_s: float,
) -> Contacts:
    """Contacts of ego boxes with road users.

    At every step the ego is driven on straight, at constant speed, for every offset, and compared
    with where the others then are; offset 0 is the ego itself. Steps after the last that is known
    of the others are left out.

    Almost all pairs are far apart. So first the rectangle a whole ride passes over is compared
    with that of every road user, then those of one step's projections, then the circles around
    the boxes, and only the rest by their separating axes. What is left is gathered into lists
    each time, and a GPU is waited for: their lengths are not known before.

    Args:
        motion: Rides, [batch, candidate, step].
        travel_mps: Speed at which they are driven on.
        ego_size_m: Length and width.
        others: The road users, over the same steps and possibly more.
        offsets: Steps to drive on, increasing.
        step_s: Seconds from one step to the next.
    """
    poses = motion.poses
    steps, reach = poses.shape[2], offsets[-1]
    heading = poses[..., 2]
    travel = torch.stack([heading.cos(), heading.sin()], -1) * (step_s * travel_mps)[..., None]
    ego_radius = 0.5 * torch.linalg.vector_norm(ego_size_m, dim=-1)
    agent_radius = 0.5 * torch.linalg.vector_norm(others.sizes_m, dim=-1)
    places = _places(others, steps + reach)
    couple, ride, agent, step = _near_steps(
        _ego_bounds(poses[..., :2], poses[..., :2] + reach * travel, ego_radius),
        _agent_bounds(places, agent_radius, steps),
    )
    batch = ride // poses.shape[1]
    ahead = torch.tensor(offsets, device=poses.device)
    moment = ride * steps + step
    start = poses.reshape(-1, 3).index_select(0, moment)
    moved = travel.reshape(-1, 2).index_select(0, moment)[:, None] * ahead[:, None].to(poses.dtype)
    middle = (start[:, None, :2] + moved).reshape(-1, 2)
    then = (agent * (steps + reach) + step)[:, None] + ahead
    x, y = (places.reshape(-1, 2).index_select(0, then.reshape(-1)) - middle).unbind(-1)
    radius = ego_radius.index_select(0, batch) + agent_radius.reshape(-1).index_select(0, agent)
    close = (x * x + y * y).reshape(then.shape) <= (radius * radius * (1 + 1e-5))[:, None]
    which, offset = close.nonzero().unbind(1)

    start_heading = start[:, 2:].index_select(0, which)
    ego = torch.cat([middle[which * len(offsets) + offset], start_heading], -1)
    other = agent.index_select(0, which) * others.poses.shape[2] + step.index_select(0, which)
    touching = boxes_overlap(
        ego,
        ego_size_m.index_select(0, batch.index_select(0, which)),
        others.poses.reshape(-1, 3).index_select(0, other + ahead[offset]),
        others.sizes_m.reshape(-1, 2).index_select(0, agent.index_select(0, which)),
    )
    chosen = touching.nonzero().squeeze(1)
    which, offset = which[chosen], offset[chosen]
    return Contacts(
        *(value.index_select(0, which) for value in (batch, ride, agent, couple, step)),
        offset=ahead[offset],
    )


def _places(others: Others, steps: int) -> Float[Tensor, "batch agent step 2"]:
    """Where everybody is for so many steps; infinitely far where nobody is known to be."""
    seen = others.mask[:, :, :steps, None]
    places = torch.where(seen, others.poses[:, :, :steps, :2], torch.inf)
    missing = steps - places.shape[2]
    return F.pad(places, (0, 0, 0, missing), value=torch.inf) if missing else places


def _ego_bounds(
    places: Float[Tensor, "batch candidate step 2"],
    ends: Float[Tensor, "batch candidate step 2"],
    radius: Float[Tensor, " batch"],
) -> Float[Tensor, "4 batch candidate step"]:
    """Least x and y, then least -x and -y, of circles driven on; infinite where not a number."""
    low = torch.minimum(places, ends) - radius[:, None, None, None]
    high = torch.maximum(places, ends) + radius[:, None, None, None]
    bounds = torch.cat([low, -high], -1).movedim(-1, 0).contiguous()
    return torch.where(bounds.isnan(), torch.inf, bounds)


def _agent_bounds(
    places: Float[Tensor, "batch agent known 2"],
    radius: Float[Tensor, "batch agent"],
    steps: int,
) -> Float[Tensor, "4 batch agent step"]:
    """Most x and y, then most -x and -y, of every road user's circle in each step's projections."""
    x, y = places.unbind(-1)
    signed = torch.stack([x, y, -x, -y])
    signed = torch.where(x.isinf(), -torch.inf, signed + radius[..., None])
    window = places.shape[2] - steps + 1
    rows = F.max_pool1d(signed.reshape(-1, 1, signed.shape[-1]), window, stride=1)
    return rows.reshape(4, *radius.shape, steps)


def _near_steps(
    ego: Float[Tensor, "4 batch candidate step"], other: Float[Tensor, "4 batch agent step"]
) -> tuple[Int[Tensor, " pair"], ...]:
    """Couples of a ride and a road user, which these are, and steps at which their bounds meet."""
    candidates, agents = ego.shape[2], max(other.shape[2], 1)
    whole = ego.amin(-1)[..., None] <= other.amax(-1)[:, :, None]
    couple = _all_four(whole).reshape(-1).nonzero().squeeze(1)
    ride = couple // agents
    agent = ride // candidates * agents + couple % agents
    near = ego.flatten(1, 2).index_select(1, ride) <= other.flatten(1, 2).index_select(1, agent)
    which, step = _all_four(near).nonzero().unbind(1)
    return couple[which], ride[which], agent[which], step


def _all_four(flags: Bool[Tensor, "4 *pair"]) -> Bool[Tensor, "*pair"]:  # noqa: F821
    """Where all are true; much quicker than `all` along the first axis."""
    return flags[0] & flags[1] & flags[2] & flags[3]
