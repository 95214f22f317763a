"""A safety gate for closed loops: no candidate that would hit somebody or leave the road."""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from driving.metrics.drivable_area import DrivableArea
from driving.metrics.score import pdm_score
from driving.simulation.state import Motion
from driving.world import World


@dataclass(frozen=True)
class SafetyGate:
    """Lets pass what neither collides at fault nor leaves the road, if all go on as they do.

    It stands outside every score of a planner, and so outside any style: it can only forbid. Where
    it lets nothing pass, the loop drives the planner's best candidate (`driving.simulation`).

    Attributes:
        area: Where one may drive.
    """

    area: DrivableArea

    def __call__(self, world: World, motion: Motion) -> Bool[Tensor, "batch candidate"]:
        """Which candidates may be driven in the world as it is expected to go on."""
        scores = pdm_score(world, motion, self.area)
        return (scores.no_collision == 1) & (scores.drivable_area == 1)
