"""What rule-based planners know of a scene: the path ahead, who is beside it, and where to stop."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.planner.planner import PlannerInput
from driving.planner.style_parameters import StyleParameters
from driving.simulation.frames import wrapped
from driving.simulation.kinematics import STEP_S, STEPS_PER_PLAN_STEP, present_motion
from driving.simulation.path import Path, path_of, path_through
from driving.simulation.slowing import lost_speed_mps2
from driving.world import AGENT_STATIC, AGENT_VEHICLE, LIGHT_RED, LIGHT_YELLOW

PLACES = 80
SPACING_M = 2.0
FALLBACK_SPEED_MPS = 15.0
SHARPEST_CURVATURE_PER_M = 0.2
PASSED_LINE_M = 1.0
PARALLEL_RAD = 0.35


@dataclass(frozen=True)
class Neighbours:
    """The other road users in coordinates of the path, at present.

    Attributes:
        along_m: Arc length of the centre; the ego's is 0.
        left_m: Distance of the centre from the path, positive on the left.
        along_mps: Velocity along the path.
        left_mps: Velocity to the left of it.
        braking_mps2: By how much vehicles that go the way of the path have slowed over the last
            half second, at most 6; 0 for all others and for those who do not slow.
        half_length_m: Half the box's extent along the path.
        half_width_m: Half its extent across.
        mask: Who is there.
        is_parallel: Vehicles that go the way of the path.
    """

    along_m: Float[Tensor, "batch agent"]
    left_m: Float[Tensor, "batch agent"]
    along_mps: Float[Tensor, "batch agent"]
    left_mps: Float[Tensor, "batch agent"]
    braking_mps2: Float[Tensor, "batch agent"]
    half_length_m: Float[Tensor, "batch agent"]
    half_width_m: Float[Tensor, "batch agent"]
    mask: Bool[Tensor, "batch agent"]
    is_parallel: Bool[Tensor, "batch agent"]


@dataclass(frozen=True)
class WayAhead:
    """The path to follow, and how the ego stands on it.

    Attributes:
        path: From the ego's foot on it onwards.
        is_route: Where it is the route.
        left_m: How far the ego is to the left of the path.
        heading_rad: Its heading relative to the path, within -pi and pi.
    """

    path: Path
    is_route: Bool[Tensor, " batch"]
    left_m: Float[Tensor, " batch"]
    heading_rad: Float[Tensor, " batch"]


@dataclass(frozen=True)
class RoadAhead:
    """The scene along the path to follow.

    Attributes:
        path: From the ego's foot on it onwards.
        limits_mps: At the path's points; where none is known, what traffic does.
        left_m: How far the ego is to the left of the path.
        slope: Tangent of its heading relative to the path, within -0.6 and 0.6.
        speed_mps: Of the ego, not negative.
        acceleration_mps2: Of the ego.
        size_m: Its length and width.
        neighbours: The others.
        red_m: Arc length where the first lane with a red light begins; `inf` if none.
        yellow_m: Likewise for yellow.
    """

    path: Path
    limits_mps: Float[Tensor, "batch place"]
    left_m: Float[Tensor, " batch"]
    slope: Float[Tensor, " batch"]
    speed_mps: Float[Tensor, " batch"]
    acceleration_mps2: Float[Tensor, " batch"]
    size_m: Float[Tensor, "batch 2"]
    neighbours: Neighbours
    red_m: Float[Tensor, " batch"]
    yellow_m: Float[Tensor, " batch"]

    def speed_cap_mps(self, style: StyleParameters) -> Float[Tensor, "batch place"]:
        """The most a style drives at every point: limits, bends, and braking in time for both."""
        window = torch.nn.functional.avg_pool1d(
            self.path.curvature_per_m.abs()[:, None], 3, 1, 1, count_include_pad=False
        )[:, 0]
        bend = style.lateral_acceleration_mps2[:, None] / window.clamp_min(1e-4)
        square = torch.minimum(bend, (style.speed_factor[:, None] * self.limits_mps).square())
        braking = 2 * style.braking_mps2[:, None] * self.path.along_m
        reachable = (square + braking).flip(-1).cummin(-1).values.flip(-1) - braking
        return reachable.clamp_min(0).sqrt()


def road_ahead(scene: PlannerInput) -> RoadAhead:
    """The path of a scene and everything in its coordinates.

    The path is the route from the ego's foot on it; without a route it is the arc that the ego's
    yaw rate describes, straight after a quarter turn. Where no limit is known the desired speed is
    that of traffic: the fastest of 15 m/s, the ego's own past and the vehicles going its way.
    """
    motion = present_motion(
        scene.ego_history[..., -STEPS_PER_PLAN_STEP - 1 :, :],
        scene.ego_history_mask[..., -STEPS_PER_PLAN_STEP - 1 :],
        scene.ego_size_m[:, 0],
    )
    start_m, ends_m = _foot(scene)
    way = _way(scene, start_m)
    path = way.path
    neighbours = _neighbours(scene, path)
    return RoadAhead(
        path=path,
        limits_mps=_limits(scene, neighbours, start_m[:, None] + path.along_m, ends_m),
        left_m=way.left_m,
        slope=way.heading_rad.clamp(-0.54, 0.54).tan(),
        speed_mps=motion.speed_mps[:, -1].clamp_min(0),
        acceleration_mps2=motion.acceleration_mps2[:, -1],
        size_m=scene.ego_size_m,
        neighbours=neighbours,
        red_m=_stop(scene, LIGHT_RED, start_m, ends_m),
        yellow_m=_stop(scene, LIGHT_YELLOW, start_m, ends_m),
    )


def way_ahead(scene: PlannerInput) -> WayAhead:
    """The route from the ego's foot on it; without a route the arc that its yaw rate describes."""
    return _way(scene, _foot(scene)[0])


def _way(scene: PlannerInput, start_m: Float[Tensor, " batch"]) -> WayAhead:
    has_route = scene.route_mask[:, :2].all(-1) & (scene.route_mask.shape[1] > 1)
    route = path_through(
        scene.route, scene.route_mask, start_m=start_m, count=PLACES, spacing_m=SPACING_M
    )
    points = torch.where(has_route[:, None, None], route.points, _arc(scene).points)
    path = path_of(points, SPACING_M)
    ego = path.beside(torch.zeros_like(points[:, :1]))
    return WayAhead(path, has_route, ego.left_m[:, 0], wrapped(-ego.heading_rad[:, 0]))


def _foot(
    scene: PlannerInput,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch place"]]:
    """Arc length of the ego's foot on the route, and of every route point."""
    start, there = scene.route[:, :-1], scene.route_mask[:, 1:]
    step = torch.where(there[..., None], scene.route.diff(dim=1), 0.0)
    length = step.norm(dim=-1)
    ends = torch.cat((torch.zeros_like(length[:, :1]), length.cumsum(-1)), -1)
    unit = step / length.clamp_min(1e-6)[..., None]
    ahead = -(start * unit).sum(-1)
    inside = torch.minimum(ahead.clamp_min(0), length)
    distance = (start + inside[..., None] * unit).norm(dim=-1)
    nearest = distance.masked_fill(~there, torch.inf).argmin(-1, keepdim=True)
    return (ends[:, :-1] + ahead).gather(-1, nearest)[:, 0] * there.any(-1), ends


def _arc(scene: PlannerInput) -> Path:
    """The way on with the yaw rate of the last half second."""
    span = slice(-STEPS_PER_PLAN_STEP - 1, None)
    history, mask = scene.ego_history[:, span], scene.ego_history_mask[:, span]
    moved = (history[:, 1:, :2] - history[:, :-1, :2]).norm(dim=-1).sum(-1)
    known = mask.all(-1) & (moved > 0.5)
    turned = wrapped(history[:, -1, 2] - history[:, 0, 2])
    curvature = torch.where(known, turned / moved.clamp_min(0.5), 0.0)
    curvature = curvature.clamp(-SHARPEST_CURVATURE_PER_M, SHARPEST_CURVATURE_PER_M)
    middle = (torch.arange(PLACES - 1, device=moved.device) + 0.5) * SPACING_M
    heading = (curvature[:, None] * middle).clamp(-math.pi / 2, math.pi / 2)
    steps = SPACING_M * torch.stack((heading.cos(), heading.sin()), -1)
    return path_of(torch.cat((torch.zeros_like(steps[:, :1]), steps.cumsum(1)), 1), SPACING_M)


def _neighbours(scene: PlannerInput, path: Path) -> Neighbours:
    now = scene.agents[:, :, -1]
    beside = path.beside(now[..., :2])
    cosine, sine = beside.heading_rad.cos(), beside.heading_rad.sin()
    along_mps = cosine * now[..., 3] + sine * now[..., 4]
    left_mps = cosine * now[..., 4] - sine * now[..., 3]
    turned = wrapped(now[..., 2] - beside.heading_rad)
    across, ahead = turned.sin().abs(), turned.cos().abs()
    length, width = scene.agent_sizes_m[..., 0], scene.agent_sizes_m[..., 1]
    still = scene.agent_kinds == AGENT_STATIC
    parallel = (turned.abs() < PARALLEL_RAD) & (scene.agent_kinds == AGENT_VEHICLE)
    return Neighbours(
        along_m=beside.along_m,
        left_m=beside.left_m,
        along_mps=torch.where(still, 0.0, along_mps),
        left_mps=torch.where(still, 0.0, left_mps),
        half_length_m=(length * ahead + width * across) / 2,
        half_width_m=(length * across + width * ahead) / 2,
        mask=scene.agent_mask[:, :, -1],
        braking_mps2=torch.where(parallel, _braking(scene), 0.0),
        is_parallel=parallel,
    )


def _braking(scene: PlannerInput) -> Float[Tensor, "batch agent"]:
    """Loss of speed over the last half second, where it was seen."""
    span = min(STEPS_PER_PLAN_STEP, scene.agents.shape[2] - 1)
    if span == 0:
        return torch.zeros_like(scene.agents[:, :, 0, 0])
    speed = scene.agents[:, :, (-1 - span, -1), 3:].norm(dim=-1)
    seen = scene.agent_mask[:, :, (-1 - span, -1)].all(-1)
    return lost_speed_mps2(speed[..., 0], speed[..., 1], seen, span * STEP_S)


def _limits(
    scene: PlannerInput,
    neighbours: Neighbours,
    along_m: Float[Tensor, "batch path"],
    ends_m: Float[Tensor, "batch place"],
) -> Float[Tensor, "batch path"]:
    """The limit at points of the path, that of the route point before."""
    last = (scene.route_mask.sum(-1, keepdim=True) - 1).clamp_min(0)
    index = torch.searchsorted(ends_m.contiguous(), along_m.contiguous(), right=True) - 1
    index = torch.minimum(index.clamp_min(0), last)
    same_way = neighbours.mask & neighbours.is_parallel
    traffic = torch.where(same_way, neighbours.along_mps, 0.0)
    traffic = torch.nn.functional.pad(traffic, (0, 1)).amax(-1)
    own = torch.where(scene.ego_history_mask, scene.ego_history[..., 3], 0.0).amax(-1)
    usual = torch.maximum(traffic, own).clamp_min(FALLBACK_SPEED_MPS)
    known = scene.route_limit_mask.gather(-1, index)
    return torch.where(known, scene.route_limits_mps.gather(-1, index), usual[:, None])


def _stop(
    scene: PlannerInput,
    light: int,
    start_m: Float[Tensor, " batch"],
    ends_m: Float[Tensor, "batch place"],
) -> Float[Tensor, " batch"]:
    """Where the first lane of a light begins that the ego's front has not entered yet."""
    shown = (scene.route_lights == light) & scene.route_mask
    begins = shown[:, 1:] & ~shown[:, :-1]
    along_m = ends_m[:, 1:] - start_m[:, None]
    ahead = along_m > scene.ego_size_m[:, :1] / 2 - PASSED_LINE_M
    return torch.where(begins & ahead, along_m, torch.inf).amin(-1)
