"""Whether two devices score rides alike, and where they do not, why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.score_scenes import in_double, rows_of
from driving.metrics.score import Scores
from driving.simulation.state import Motion
from driving.world import World

DISCRETE = ("no_collision", "drivable_area", "driving_direction", "time_to_collision", "comfort")
CONTINUOUS = ("score", "progress", "progress_m")
TOLERANCE = 1e-4
NUDGES = 64
NUDGE, TURN = 1e-4, 1e-6


@dataclass(frozen=True)
class Difference:
    """One ride that two devices score differently.

    Attributes:
        scene: Which.
        ride: Which ride of it.
        values: The names that differ with both values.
        why: `boundary`: float64 gives the one or the other, too, when the ride is nudged by a
            tenth of a millimetre. `follows`: a share of the best ride's progress, where the
            verdict on another ride of the scene differs. `unexplained`: neither.
    """

    scene: int
    ride: int
    values: dict[str, tuple[float, float]]
    why: str


def agreement(
    here: Scores,
    there: Scores,
    world: World,
    rides: Motion,
    score: Callable[[World, Motion], Scores],
) -> dict[str, Any]:
    """Shares of equal verdicts, the largest difference of continuous parts, and who differs.

    Args:
        here: Scores of one device, on the CPU.
        there: Of the other, on the CPU.
        world: What was scored.
        rides: In it.
        score: Scores some rides in a world, on the CPU.

    Returns:
        `same`: by name; `largest`: by name, over rides whose scenes have equal verdicts; `rides`:
        how many there are; `different`: one entry each; `why`: how many for which reason.
    """
    unequal = torch.stack([getattr(here, name) != getattr(there, name) for name in DISCRETE])
    away = {name: (getattr(here, name) - getattr(there, name)).abs() for name in CONTINUOUS}
    apart = unequal.any(0) | torch.stack([~(gap <= TOLERANCE) for gap in away.values()]).any(0)
    calm = ~unequal.any(0).any(1)
    different = []
    for scene, ride in apart.nonzero().tolist():
        values = {
            name: (
                getattr(here, name)[scene, ride].item(),
                getattr(there, name)[scene, ride].item(),
            )
            for name in (*DISCRETE, *CONTINUOUS)
        }
        verdicts = {name for name in DISCRETE if values[name][0] != values[name][1]}
        if verdicts:
            reason = reason_of(verdicts, scene, ride, world, rides, score)
        else:
            reason = "unexplained" if calm[scene] else "follows"
        values = {name: pair for name, pair in values.items() if pair[0] != pair[1]}
        different.append(Difference(scene, ride, values, reason))
    reasons = [difference.why for difference in different]
    return {
        "rides": apart.numel(),
        "same": {
            name: 1 - unequal[place].double().mean().item() for place, name in enumerate(DISCRETE)
        },
        "largest": {
            name: gap[calm].amax().item() if calm.any() else 0.0 for name, gap in away.items()
        },
        "why": {reason: reasons.count(reason) for reason in ("boundary", "follows", "unexplained")},
        "different": different,
    }


def reason_of(
    names: set[str],
    scene: int,
    ride: int,
    world: World,
    rides: Motion,
    score: Callable[[World, Motion], Scores],
) -> str:
    """Whether every one of these verdicts hangs on less than a tenth of a millimetre."""
    alone = in_double(world.rows(slice(scene, scene + 1)))
    nudged = nudges(rows_of(rides, slice(scene, scene + 1)), ride)
    scores = score(alone, nudged)
    both = all(len(getattr(scores, name).unique()) > 1 for name in names)
    return "boundary" if both else "unexplained"


def nudges(rides: Motion, ride: int) -> Motion:
    """One ride many times in float64: as it is, shifted as a whole, shaken step by step."""
    random = torch.Generator().manual_seed(0)
    steps = rides.speed_mps.shape[-1]
    whole = torch.arange(NUDGES)[None, :, None, None] <= NUDGES // 2

    def near(values: torch.Tensor, size: float) -> torch.Tensor:
        noise = torch.rand(
            (1, NUDGES, steps, values.shape[-1]), generator=random, dtype=torch.float64
        )
        noise = size * (2 * torch.where(whole, noise[:, :, :1], noise) - 1)
        noise[:, 0] = 0
        return values[:, ride : ride + 1].double() + noise

    places, headings = rides.poses.split([2, 1], -1)
    return Motion(
        torch.cat([near(places, NUDGE), near(headings, TURN)], -1),
        near(rides.speed_mps[..., None], NUDGE).squeeze(-1),
        near(rides.acceleration_mps2[..., None], NUDGE).squeeze(-1),
        near(rides.steering_rad[..., None], 0.0).squeeze(-1),
        near(rides.steering_rate_radps[..., None], 0.0).squeeze(-1),
    )
