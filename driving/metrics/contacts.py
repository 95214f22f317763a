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
        candidate: Which ride.
        agent: Which road user.
        step: At which step the ego is driven on.
        offset: By how many steps.
    """

    batch: Int[Tensor, " contact"]
    candidate: Int[Tensor, " contact"]
    agent: Int[Tensor, " contact"]
    step: Int[Tensor, " contact"]
    offset: Int[Tensor, " contact"]

    def chosen(self, which: Bool[Tensor, " contact"] | Int[Tensor, " some"]) -> "Contacts":
        """Some of them."""
        return Contacts(
            self.batch[which],
            self.candidate[which],
            self.agent[which],
            self.step[which],
            self.offset[which],
        )


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

    Almost all pairs are far apart. So first the rectangle an ego box passes over in one step's
    projections is compared with that of the road user in the same time, then the circles around
    the boxes, and only the rest by their separating axes. What is left is gathered into lists
    twice, and each time a GPU is waited for: their lengths are not known before.

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
    per_step = torch.stack([heading.cos(), heading.sin()], -1) * (step_s * travel_mps)[..., None]
    ego_radius = 0.5 * torch.linalg.vector_norm(ego_size_m, dim=-1)
    low, high = _windows(others, steps, reach)
    ends = poses[..., :2] + reach * per_step
    reach_m = ego_radius[:, None, None, None]
    ego_low = torch.minimum(poses[..., :2], ends) - reach_m
    ego_high = torch.maximum(poses[..., :2], ends) + reach_m
    near = torch.ones((), dtype=torch.bool, device=poses.device)
    for axis in (0, 1):
        near = near & (ego_low[:, :, None, :, axis] <= high[:, None, ..., axis])
        near = near & (ego_high[:, :, None, :, axis] >= low[:, None, ..., axis])
    batch, candidate, agent, step = near.nonzero().unbind(1)

    ahead = torch.tensor(offsets, device=poses.device)
    known = others.poses.shape[2]
    then = step[:, None] + ahead
    row = batch * others.poses.shape[1] + agent
    place = row[:, None] * known + then.clamp_max(known - 1)
    there = others.mask.reshape(-1)[place] & (then < known)
    ride = (batch * poses.shape[1] + candidate) * steps + step
    other = others.poses.reshape(-1, 3)[place]
    start, travel = poses.reshape(-1, 3)[ride], per_step.reshape(-1, 2)[ride]
    middle = start[:, None, :2] + travel[:, None] * ahead[:, None]
    agent_radius = 0.5 * torch.linalg.vector_norm(others.sizes_m, dim=-1)
    radius = ego_radius[batch] + agent_radius.reshape(-1)[row]
    gap = other[..., :2] - middle
    close = there & ((gap * gap).sum(-1) <= (radius * radius * (1 + 1e-5))[:, None])
    pair, which = close.nonzero().unbind(1)

    ego = torch.cat([middle[pair, which], start[pair, 2:]], -1)
    touching = boxes_overlap(
        ego, ego_size_m[batch[pair]], other[pair, which], others.sizes_m.reshape(-1, 2)[row[pair]]
    ).nonzero()
    pair, which = pair[touching.squeeze(1)], which[touching.squeeze(1)]
    return Contacts(batch[pair], candidate[pair], agent[pair], step[pair], ahead[which])


def _windows(others: Others, steps: int, reach: int) -> tuple[Tensor, Tensor]:
    """Bounds of every road user's circle over the steps from each one to `reach` later."""
    infinity = torch.full((), torch.inf, dtype=others.poses.dtype, device=others.poses.device)
    places = others.poses[:, :, : steps + reach, :2]
    mask = others.mask[:, :, : steps + reach, None]
    missing = steps + reach - places.shape[2]
    radius = 0.5 * torch.linalg.vector_norm(others.sizes_m, dim=-1)[..., None, None]
    bounds = []
    for value in (-places, places):
        seen = torch.where(mask, value + radius, -infinity)
        seen = F.pad(seen, (0, 0, 0, missing), value=-torch.inf)
        rows = seen.transpose(2, 3).reshape(-1, 2, steps + reach)
        most = F.max_pool1d(rows, reach + 1, stride=1)
        bounds.append(most.reshape(*places.shape[:2], 2, steps).transpose(2, 3))
    return -bounds[0], bounds[1]
