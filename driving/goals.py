"""The goal space of driving plans: what can be wanted of one, and how a planner is told."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.goal_measures import (
    GOAL_NAMES,
    GOALS,
    RIDE_STEPS,
    Measured,
    foreseen,
    looked_at,
    measured,
)
from driving.planner.planner import PlannerInput, StyleCondition
from driving.simulation.kinematics import plan_to_reference, present_motion, track
from driving.simulation.state import Motion
from driving.world import World
from personalize.evaluation.goal_space import GoalDimension, GoalSpace
from personalize.generator import Reward
from personalize.steering.goals import Goals

TOLD: Mapping[str, str] = {
    "mean_speed": "speed",
    "progress": "speed",
    "time_gap": "time_gap",
    "peak_acceleration": "acceleration",
    "peak_jerk": "jerk",
    "peak_lateral_acceleration": "lateral_acceleration",
    "clearance": "yielding_margin",
}
"""The style dimension by which a planner is told each goal."""


def plan_space(limits: Mapping[str, tuple[float, float]]) -> GoalSpace:
    """The goal space of plans with the dimensions that have limits, in the order of `GOALS`.

    Args:
        limits: Raw values that are 0 and 1, by name of the dimension.

    Raises:
        ValueError: If there is no such dimension, or a lower limit is not below the upper one.
    """
    if unknown := sorted(set(limits) - set(GOAL_NAMES)):
        raise ValueError(
            f"there is no goal {unknown[0]} of plans; known are {', '.join(GOAL_NAMES)}."
        )
    for name, (low, high) in limits.items():
        if not low < high:
            raise ValueError(f"limits of {name} must ascend, got {low:g} and {high:g}.")
    return GoalSpace(
        tuple(
            GoalDimension(goal.name, goal.unit, goal.meaning, *limits[goal.name])
            for goal in GOALS
            if goal.name in limits
        )
    )


class PlanGoals(Reward[Tensor, PlannerInput]):
    """Goal values, from 0 to 1, that candidate plans would have if all others kept their velocity.

    A plan is driven by tracker and bicycle first. This is what steering looks at; what a plan turns
    out to be worth is `driven_goals`, in the world as it went on.

    Attributes:
        names: Those of the space.
    """

    def __init__(self, space: GoalSpace) -> None:
        """Measure in the units of a space; see `plan_space`."""
        self.names, self._space = space.names, space
        self._columns = columns_of(space.names)

    def __call__(
        self, x: Float[Tensor, "batch particle time 3"], context: PlannerInput
    ) -> Float[Tensor, "batch particle dimension"]:
        """Normalised values; 1 is the time gap of who follows nobody, if 6 s are."""
        return self.of_rides(driven_candidates(context, x), context)

    def of_rides(
        self, rides: Motion, context: PlannerInput
    ) -> Float[Tensor, "batch particle dimension"]:
        """The same of candidates that were driven before; see `driven_candidates`."""
        found = measured(rides, foreseen(context))
        return self._space.normalized(found.raw[..., self._columns])


def driven_goals(world: World, rides: Motion) -> Measured:
    """Goal values of rides in the world as it really went on, in their units.

    Args:
        world: With four seconds of future, in steps of 0.1 s.
        rides: [batch, candidate, step].
    """
    return measured(rides, looked_at(world))


def driven_candidates(
    scene: PlannerInput, poses: Float[Tensor, "batch candidate time 3"]
) -> Motion:
    """How the ego drives that follows each candidate for four seconds, [batch, candidate, step]."""
    length_m = scene.ego_size_m[:, :1].expand(poses.shape[:2])
    start = present_motion(scene.ego_history, scene.ego_history_mask, scene.ego_size_m[:, 0])
    start = Motion(
        *(
            value[:, None].expand(-1, poses.shape[1], *value.shape[1:])
            for value in vars(start).values()
        )
    )
    return track(start, plan_to_reference(poses, length_m), length_m, steps=RIDE_STEPS)


def columns_of(names: Sequence[str]) -> list[int]:
    """Where goals of these names stand among `GOALS`."""
    return [GOAL_NAMES.index(name) for name in names]


def told(
    style: StyleCondition, goals: Goals, names: Sequence[str], *, strength: float
) -> StyleCondition:
    """The style that tells a planner the goals; the person's own stays where nothing is asked.

    A goal of 0 is told as `-strength`, one of 1 as `strength`; where two goals are told by the same
    dimension it is their mean. A strength of 0 tells nothing.
    """
    if strength == 0:
        return style
    matrix = torch.zeros(len(names), len(STYLE_DIMENSIONS))
    for row, name in enumerate(names):
        matrix[row, STYLE_DIMENSIONS.index(TOLD[name])] = 1.0
    matrix = matrix.to(style.values)
    asked = goals.mask.to(style.values)
    count = asked @ matrix
    mean = ((2 * goals.values.to(style.values) - 1) * asked) @ matrix / count.clamp_min(1)
    return StyleCondition(
        torch.where(count > 0, strength * mean, style.values), style.mask | (count > 0)
    )
