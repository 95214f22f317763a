"""Rule-based: follow the route, lengthwise by the Intelligent Driver Model, in any style."""

import torch

from driving.planner.follow import Proposals, drive
from driving.planner.planner import Planner, PlannerInput, Plans, StyleCondition
from driving.planner.road_ahead import road_ahead
from driving.planner.style_parameters import style_parameters


class Idm(Planner):
    """Follows the centre of the route and whoever is ahead on it.

    Args:
        speed_factor_cap: Most that any style drives over the limit; 1.0 keeps it.
    """

    def __init__(self, *, speed_factor_cap: float = 1.1) -> None:
        self.speed_factor_cap = speed_factor_cap

    def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
        """One candidate."""
        parameters = style_parameters(style, speed_factor_cap=self.speed_factor_cap)
        road = road_ahead(scene)
        zero = torch.zeros_like(road.speed_mps)[:, None]
        driven = drive(road, Proposals(zero, zero + 1, parameters.per_proposal()))
        return Plans(driven.plan, zero)
