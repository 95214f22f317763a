"""A steered planner with its goals: it plans like any other, so that it can be driven."""

from driving.planner.planner import Planner, PlannerInput, Plans, StyleCondition
from driving.planner.steered import SteeredPlanner
from personalize.steering.goals import Goals


class AimedPlanner(Planner):
    """Plans towards the same goals again and again.

    Args:
        steered: The planner.
        goals: A goal per row of what it will be asked for.
    """

    def __init__(self, steered: SteeredPlanner, goals: Goals) -> None:
        self._steered, self._goals = steered, goals

    def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
        """Candidates, steered towards the goals."""
        return self._steered.plan_to(scene, style, self._goals, seed=seed)
