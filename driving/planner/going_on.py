"""Where an ego goes that goes on as now: along its way, at its present speed.

Learned planners tell trajectories as changes to this, lengthwise and sideways, so that a bend is no
change and a network that says nothing stays on the road.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from driving.planner.follow import SETTLE_M, SETTLE_M_PER_M, SETTLE_S, settling
from driving.planner.planner import PLAN_STEP_S, PLAN_STEPS, PlannerInput
from driving.planner.road_ahead import way_ahead
from driving.simulation.frames import wrapped
from driving.simulation.path import Path, path_of

STEEPEST_RAD = 0.54
FARTHEST_M, MOST_TURNED_RAD = 8.0, 1.0
"""Who is further from the route, or turned more against it, is not on it."""


@dataclass(frozen=True)
class GoingOn:
    """The way and where on it the ego is at 0.5, 1.0, ..., 4.0 s from now.

    Attributes:
        path: The route from the ego's foot on it; straight on where there is none or the ego is
            not on it.
        along_m: Arc length, at the present speed.
        left_m: Distance from the path, which settles from the present one to 0.
        turned_rad: Heading relative to the path, which follows from that.
    """

    path: Path
    along_m: Float[Tensor, "batch time"]
    left_m: Float[Tensor, "batch time"]
    turned_rad: Float[Tensor, "batch time"]

    def poses(
        self, changes: Float[Tensor, "batch candidate time 3"]
    ) -> Float[Tensor, "batch candidate time 3"]:
        """Poses in the frame of the ego.

        Args:
            changes: Metres further along the path, metres further to its left, and radians.
        """
        along = self.along_m[:, None] + changes[..., 0]
        left = self.left_m[:, None] + changes[..., 1]
        x, y, heading = self.path.at(along.flatten(1)).unflatten(1, along.shape[1:]).unbind(-1)
        ahead = heading + self.turned_rad[:, None] + changes[..., 2]
        return torch.stack((x - left * heading.sin(), y + left * heading.cos(), ahead), -1)

    def changes(
        self, poses: Float[Tensor, "batch candidate time 3"]
    ) -> Float[Tensor, "batch candidate time 3"]:
        """The changes of poses; undone by `poses` to within centimetres, in bends decimetres."""
        beside = self.path.beside(poses[..., :2].flatten(1, 2))
        along, left, heading = (
            values.unflatten(1, poses.shape[1:3])
            for values in (beside.along_m, beside.left_m, beside.heading_rad)
        )
        turned = poses[..., 2] - heading - self.turned_rad[:, None]
        return torch.stack(
            (along - self.along_m[:, None], left - self.left_m[:, None], wrapped(turned)), -1
        )


def going_on(scene: PlannerInput) -> GoingOn:
    """How the ego of every scene goes on.

    It settles on the middle of its way within 2.5 s, slowly driven within 6 m and 3 m more for
    every metre aside, on the fifth-degree polynomial that begins with its offset and heading.

    Example:
        A straight route and 10 m/s: half a second on, the ego is 5 m further.
    """
    path, offset_m, heading_rad = _way(scene)
    speed_mps = scene.ego_history[:, -1, 3].clamp_min(0)
    seconds = PLAN_STEP_S * torch.arange(
        1, PLAN_STEPS + 1, dtype=speed_mps.dtype, device=speed_mps.device
    )
    along = speed_mps[:, None] * seconds
    length = torch.maximum(speed_mps * SETTLE_S, SETTLE_M + SETTLE_M_PER_M * offset_m.abs())
    gentle = heading_rad.clamp(-STEEPEST_RAD, STEEPEST_RAD)
    start = offset_m[:, None]
    aside = settling(start, gentle.tan()[:, None], torch.zeros_like(start), length[:, None])
    left, slope = (values[:, 0] for values in aside.at(along[:, None]))
    share = (along / length[:, None]).clamp(0, 1)
    turned = slope.atan() + (heading_rad - gentle)[:, None] * (1 - share)
    return GoingOn(path, along, left, turned)


def _way(
    scene: PlannerInput,
) -> tuple[Path, Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The path, how far the ego is to its left, and its heading relative to it."""
    way = way_ahead(scene)
    near = (way.left_m.abs() < FARTHEST_M) & (way.heading_rad.abs() < MOST_TURNED_RAD)
    follows = way.is_route & near
    ahead = way.path.along_m.to(way.left_m.dtype)
    straight = torch.stack((ahead, torch.zeros_like(ahead)), -1)
    points = torch.where(follows[:, None, None], way.path.points, straight)
    return (
        path_of(points, way.path.spacing_m),
        torch.where(follows, way.left_m, 0.0),
        torch.where(follows, way.heading_rad, 0.0),
    )
