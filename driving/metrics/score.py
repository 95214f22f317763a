"""Scores of rides: NAVSIM's PDM score and StyleDrive's variant of it, with all their parts."""

from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.metrics.comfort import comfort
from driving.metrics.drivable_area import DrivableArea
from driving.metrics.ego_areas import against_traffic, off_road
from driving.metrics.progress import ego_progress, progress_along_route, style_ego_progress
from driving.metrics.safety import (
    FINE_RULES,
    NAVSIM_RULES,
    RELEASED_RULES,
    CollisionRules,
    Safety,
    driving_direction,
    safety,
)
from driving.simulation.state import Motion
from driving.world import World

PROGRESS_WEIGHT, COLLISION_TIME_WEIGHT, COMFORT_WEIGHT = 5.0, 5.0, 2.0


@dataclass(frozen=True)
class Scores:
    """A score and its parts, every one of them also where the product is 0; without gradients.

    Attributes:
        score: no_collision x drivable_area x (5 progress + 5 time_to_collision + 2 comfort) / 12.
        no_collision: 1, 0.5 or 0: collisions at fault.
        drivable_area: 1 if the box stays on the road, else 0.
        progress: Ego progress, 0 to 1.
        time_to_collision: 1 if no projected contact is too near, else 0.
        comfort: 1 if all of `comfort_checks` are passed, else 0.
        driving_direction: 1, 0.5 or 0: distance driven against the traffic; has no weight.
        progress_m: Metres along the route.
        first_hit_s: Seconds to the nearest projected contact over the whole ride; inf if none.
        comfort_checks: One by one, in the order of `COMFORT_CHECKS`.
    """

    score: Float[Tensor, "batch candidate"]
    no_collision: Float[Tensor, "batch candidate"]
    drivable_area: Float[Tensor, "batch candidate"]
    progress: Float[Tensor, "batch candidate"]
    time_to_collision: Float[Tensor, "batch candidate"]
    comfort: Float[Tensor, "batch candidate"]
    driving_direction: Float[Tensor, "batch candidate"]
    progress_m: Float[Tensor, "batch candidate"]
    first_hit_s: Float[Tensor, "batch candidate"]
    comfort_checks: Bool[Tensor, "batch candidate 6"]

    def cloned(self) -> "Scores":
        """The same in new tensors: ordinary ones where these were made in inference mode."""
        return Scores(**{field.name: getattr(self, field.name).clone() for field in fields(self)})


def pdm_score(
    world: World,
    motions: Motion,
    area: DrivableArea,
    *,
    reference_progress_m: Float[Tensor, " batch"] | None = None,
    rules: CollisionRules = NAVSIM_RULES,
) -> Scores:
    """NAVSIM's PDM score (version 1).

    Args:
        world: Where road users are, over the same steps from its present on. NAVSIM's projected
            contacts look 0.9 s further: with fewer steps than that the last ones are left out.
        motions: Rides, [batch, candidate, step], in the world's frame.
        area: Drivable areas, asked in the frame of the map. Where it knows no intersections, an
            ego in one is judged as on any road, which spares it some projected contacts.
        reference_progress_m: Progress of the best proposal, 0 where it fails the gates. None takes
            the best of the candidates.
        rules: How collisions are looked for.

    Source:
        Dauner and others, 2024, arXiv 2406.15349, and autonomousvision/navsim v1.1.
    """
    with torch.inference_mode():  # some hundred operations on little: a seventh of their time
        parts = _parts(world, motions, area, rules)
        gate = parts.safety.no_collision * parts.drivable_area
        best = reference_progress_m
        if best is None:
            best = (parts.progress_m * gate).amax(1)
        scores = _scores(
            parts,
            ego_progress(parts.progress_m, gate, best),
            parts.safety.time_to_collision(rules),
            comfort(motions, world.step_s),
            world.step_s,
        )
    return scores.cloned()


def style_pdm_score(
    world: World,
    motions: Motion,
    area: DrivableArea,
    styles: Int[Tensor, " batch"],
    human: Motion,
    *,
    reference_progress_m: Float[Tensor, " batch"] | None = None,
    version: Literal["released", "fine"] = "released",
) -> Scores:
    """StyleDrive's SM-PDMS: bounds and thresholds of a style, progress like the human's.

    `released` is what the authors' code computes: conservative and normal share a rule for the
    time to collision, projections past the last known step are left out, and comfort knows no
    lateral acceleration. `fine` uses the same numbers on every 0.1 s, to the end of the ride, with
    lateral acceleration; the two are not comparable.

    Args:
        world: As for `pdm_score`; the released version looks 1.2 s further than the rides.
        motions: Rides, [batch, candidate, step].
        area: Drivable areas.
        styles: Row of `STYLE_LABELS` that is asked for.
        human: What the human did, [batch, step].
        reference_progress_m: Progress of the best proposal, whether or not it passes the gates.
            None leaves it out: candidates and the human remain.
        version: Which of the two.

    Source:
        AIR-THU/StyleDrive, `pdm_scorer.py`; Hao and others, 2025, arXiv 2506.23982.
    """
    rules = RELEASED_RULES if version == "released" else FINE_RULES
    human_ride = Motion(
        human.poses[:, None], human.speed_mps[:, None], human.acceleration_mps2[:, None],
        human.steering_rad[:, None], human.steering_rate_radps[:, None],
    )  # fmt: skip
    with torch.inference_mode():
        parts = _parts(world, motions, area, rules)
        human_progress_m = progress_along_route(human_ride, world)[:, 0]
        best = human_progress_m if reference_progress_m is None else reference_progress_m
        scores = _scores(
            parts,
            style_ego_progress(parts.progress_m, human_progress_m, best),
            parts.safety.time_to_collision(rules, styles),
            comfort(motions, world.step_s, styles=styles, lateral=version == "fine"),
            world.step_s,
        )
    return scores.cloned()


@dataclass(frozen=True)
class _Parts:
    """What both scores need."""

    safety: Safety
    drivable_area: Float[Tensor, "batch candidate"]
    driving_direction: Float[Tensor, "batch candidate"]
    progress_m: Float[Tensor, "batch candidate"]


def _parts(
    world: World,
    motions: Motion,
    area: DrivableArea,
    rules: CollisionRules,
) -> _Parts:
    outside = off_road(motions, world, area)
    against = against_traffic(motions, world)
    return _Parts(
        safety(motions, world, outside, rules=rules, intersections=area.intersections),
        (~outside.any(-1)).to(motions.poses.dtype),
        driving_direction(against, motions, world.step_s),
        progress_along_route(motions, world),
    )


def _scores(
    parts: _Parts, progress: Tensor, time_to_collision: Tensor, checks: Tensor, step_s: float
) -> Scores:
    comfortable = checks.all(-1).to(progress.dtype)
    weighted = (
        PROGRESS_WEIGHT * progress
        + COLLISION_TIME_WEIGHT * time_to_collision
        + COMFORT_WEIGHT * comfortable
    ) / (PROGRESS_WEIGHT + COLLISION_TIME_WEIGHT + COMFORT_WEIGHT)
    hit = parts.safety.first_hit
    none = hit >= 10**6
    return Scores(
        score=parts.safety.no_collision * parts.drivable_area * weighted,
        no_collision=parts.safety.no_collision,
        drivable_area=parts.drivable_area,
        progress=progress,
        time_to_collision=time_to_collision,
        comfort=comfortable,
        driving_direction=parts.driving_direction,
        progress_m=parts.progress_m,
        first_hit_s=torch.where(none, torch.inf, (hit * step_s).to(progress.dtype)),
        comfort_checks=checks,
    )
