"""What a ride is worth: displacement, PDM scores and the style it shows, one row per sample."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.evaluation.tables import DISPLACEMENTS
from driving.metrics.displacement import displacement_errors
from driving.metrics.drivable_area import DrivableArea
from driving.metrics.ego_areas import off_road
from driving.metrics.progress import progress_along_route
from driving.metrics.safety import CollisionRules, safety
from driving.metrics.score import Scores, pdm_score, style_pdm_score
from driving.planner.planner import PLAN_STEP_S, PLAN_STEPS, Planner, PlannerInput, StyleCondition
from driving.simulation.kinematics import plan_to_reference, present_motion, track
from driving.simulation.state import Motion
from driving.world import World

RIDE_STEPS = 40
END_M = 20.0
"""Steps that scores are defined on: four seconds."""
TOUCHES = CollisionRules(offsets=(0,), thresholds=(1, 1, 1))
"""Contacts as they happen, none projected; who is at fault is judged as in NAVSIM."""


@dataclass(frozen=True)
class Yardstick:
    """What rides in a batch of worlds are measured by.

    Attributes:
        area: Where one may drive.
        labels: Row of `STYLE_LABELS` by which SM-PDMS judges a sample.
        human: What the log did, [batch, step].
        gated_progress_m: Of PDM's ride, 0 where it fails a gate.
        progress_m: Of PDM's ride.
    """

    area: DrivableArea
    labels: Int[Tensor, " batch"]
    human: Motion
    gated_progress_m: Float[Tensor, " batch"]
    progress_m: Float[Tensor, " batch"]


def yardstick(
    world: World,
    scene: PlannerInput,
    area: DrivableArea,
    labels: Int[Tensor, " batch"],
    proposer: Planner,
) -> Yardstick:
    """The yardstick of some worlds.

    Args:
        world: With four seconds of logged future.
        scene: The planners' view of its present.
        area: Where one may drive.
        labels: The style of the log.
        proposer: Planner whose ride NAVSIM's progress is relative to: PDM's.
    """
    gated, progress = reference_progress(world, scene, area, proposer)
    return Yardstick(area, labels, logged_ride(world), gated, progress)


def reference_progress(
    world: World, scene: PlannerInput, area: DrivableArea, proposer: Planner
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Metres along the route of a proposer's ride in four seconds: 0 where it fails a gate; all."""
    unasked = StyleCondition(
        values=torch.zeros(len(world.ego_poses), 8, device=world.ego_poses.device),
        mask=torch.zeros(len(world.ego_poses), 8, dtype=torch.bool, device=world.ego_poses.device),
    )
    best = proposer.plan(scene, unasked).best
    ride = one_candidate(tracked(scene, best))
    scores = pdm_score(world, ride, area)
    progress = progress_along_route(ride, world)[:, 0]
    gate = (scores.no_collision * scores.drivable_area)[:, 0]
    return progress * gate, progress


def tracked(scene: PlannerInput, plan: Float[Tensor, "batch time 3"]) -> Motion:
    """How the ego drives that follows a plan for four seconds, [batch, step]."""
    length_m = scene.ego_size_m[:, 0]
    start = present_motion(scene.ego_history, scene.ego_history_mask, length_m)
    return track(start, plan_to_reference(plan, length_m), length_m, steps=RIDE_STEPS)


def logged_ride(world: World, *, steps: int = RIDE_STEPS) -> Motion:
    """The log's own driving as a ride, [batch, step]; its wheels are not known: straight."""
    window = slice(world.now, world.now + steps + 1)
    speed = world.ego_speed_mps[:, window]
    (acceleration,) = torch.gradient(speed, spacing=world.step_s, dim=-1)
    nothing = torch.zeros_like(speed)
    return Motion(world.ego_poses[:, window], speed, acceleration, nothing, nothing)


def beginning(ride: Motion) -> Motion:
    """The first four seconds of a ride, which scores are defined on."""
    steps = slice(0, RIDE_STEPS + 1)
    return Motion(*(getattr(ride, name)[:, steps] for name in Motion.__dataclass_fields__))


def one_candidate(ride: Motion) -> Motion:
    """A ride per scene as one candidate per scene."""
    return Motion(
        ride.poses[:, None],
        ride.speed_mps[:, None],
        ride.acceleration_mps2[:, None],
        ride.steering_rad[:, None],
        ride.steering_rate_radps[:, None],
    )


def driven_world(world: World, ride: Motion) -> World:
    """The world with the ego's logged future replaced by a ride; beyond it nothing is known."""
    steps = ride.speed_mps.shape[1]
    poses, speed = world.ego_poses.clone(), world.ego_speed_mps.clone()
    mask = world.ego_mask.clone()
    poses[:, world.now : world.now + steps] = ride.poses
    speed[:, world.now : world.now + steps] = ride.speed_mps
    mask[:, world.now : world.now + steps] = True
    mask[:, world.now + steps :] = False
    return replace(world, ego_poses=poses, ego_speed_mps=speed, ego_mask=mask)


def displacements(
    plan: Float[Tensor, "batch time 3"], world: World
) -> dict[str, Float[Tensor, " batch"]]:
    """Distances of a plan to the log at the plan's own times."""
    stride = round(PLAN_STEP_S / world.step_s)
    times = world.now + stride * torch.arange(1, PLAN_STEPS + 1)
    errors = displacement_errors(plan, world.ego_poses[:, times], world.ego_mask[:, times])
    found = {f"ade_{second}s_m": errors.average_m[:, second - 1] for second in (1, 2, 3, 4)}
    found |= {"fde_4s_m": errors.final_m[:, -1], "style_l2_m": errors.style_l2_m}
    found |= {"missed": errors.missed[:, -1].float()}
    return {name: found[name] for name, _ in DISPLACEMENTS}


def scored(world: World, ride: Motion, by: Yardstick) -> dict[str, Float[Tensor, " batch"]]:
    """PDM scores of the first four seconds of a ride with all their parts; safety of all of it.

    Args:
        world: Whose agents are where they were while the ego drove.
        ride: The ride, [batch, step], of at least four seconds.
        by: The yardstick.
    """
    candidate = one_candidate(beginning(ride))
    plain = pdm_score(world, candidate, by.area, reference_progress_m=by.gated_progress_m)
    released, fine = (
        style_pdm_score(
            world,
            candidate,
            by.area,
            by.labels,
            by.human,
            reference_progress_m=by.progress_m,
            version=version,
        )
        for version in ("released", "fine")
    )
    human_m = progress_along_route(one_candidate(by.human), world)
    columns = {
        "pdms": plain.score,
        "sm_pdms_released": released.score,
        "sm_pdms_fine": fine.score,
        "no_collision": plain.no_collision,
        "drivable_area": plain.drivable_area,
        "driving_direction": plain.driving_direction,
        "time_to_collision": plain.time_to_collision,
        "comfort": plain.comfort,
        "progress": plain.progress,
        **_of_style(released, "released"),
        "progress_released": released.progress,
        **_of_style(fine, "fine"),
        "progress_m": plain.progress_m,
        "human_progress_m": human_m,
    }
    columns |= whole_ride_safety(world, ride, by.area)
    return {name: values[:, 0].float() for name, values in columns.items()}


def whole_ride_safety(
    world: World, ride: Motion, area: DrivableArea
) -> dict[str, Float[Tensor, "batch 1"]]:
    """The two gates of the PDM score from the first to the last step of a ride, however long.

    Once the ego is where the known lanes end there is no road that it could stay on: from there on
    nobody is outside.
    """
    candidate = one_candidate(ride)
    outside = off_road(candidate, world, area)
    found = safety(candidate, world, outside, rules=TOUCHES, intersections=area.intersections)
    left = outside & ~past_the_map(world, ride)[:, None]
    return {
        "no_collision_ride": found.no_collision,
        "drivable_area_ride": (~left.any(-1)).to(ride.poses.dtype),
    }


def past_the_map(world: World, ride: Motion) -> Bool[Tensor, "batch step"]:
    """From when on a ride is where its route ends because the map does.

    A route that fills its places goes on beyond them; without a route nothing is said to end.
    """
    count = world.route_mask.sum(-1)
    ends = (count > 1) & ~world.route_mask[:, -1]
    row = torch.arange(len(count), device=count.device)
    last = world.route_points[row, (count - 1).clamp_min(0)]
    before = world.route_points[row, (count - 2).clamp_min(0)]
    ahead = torch.nn.functional.normalize(last - before, dim=-1)
    offset = ride.poses[..., :2] - last[:, None]
    along = (offset * ahead[:, None]).sum(-1) + world.ego_size_m[:, :1] / 2
    near = offset.norm(dim=-1) < END_M
    past = ends[:, None] & near & (along > 0)
    return past.cummax(-1).values


def _of_style(scores: Scores, version: str) -> Mapping[str, Tensor]:
    return {
        f"time_to_collision_{version}": scores.time_to_collision,
        f"comfort_{version}": scores.comfort,
    }
