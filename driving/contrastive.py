"""A planner guided away from a worse one: plans moved along what sets the two apart."""

from dataclasses import dataclass

import torch

from driving.planner.diffusion import DiffusionPlanner
from driving.planner.guided_steps import guided_steps
from driving.planner.planner import Planner, PlannerInput, Plans, StyleCondition


@dataclass(frozen=True)
class ContrastivePlanner(Planner):
    """Plans of one planner, guided away from those of a worse one that is asked for no style.

    Poses and scores are `negative + weight * (positive - negative)` at every denoising step. The
    pick, its safety gate included, is the positive planner's. The negative must have been made
    from the positive, so that both have the same anchors.

    With the positive planner for its own negative this is classifier-free guidance.

    Attributes:
        positive: Asked for the style.
        negative: Asked for none.
        weight: 1 is the positive planner to the last bit, 0 the negative one; more exaggerates.

    Raises:
        ValueError: If the two have different anchors.

    Source:
        Wang et al., 2025, Diffusion-NPO, arXiv:2505.11245; as in their released pipelines the
        negative network is called with the empty condition.
    """

    positive: DiffusionPlanner
    negative: DiffusionPlanner
    weight: float

    def __post_init__(self) -> None:
        mine, other = self.positive.anchors, self.negative.anchors
        if mine.shape != other.shape or not torch.equal(mine, other):
            raise ValueError(
                "positive and negative planners need the same anchors; make the negative one from "
                "the positive with `driving negative`."
            )

    @torch.no_grad()
    def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
        """One candidate per anchor, in the order of the anchors."""
        found = guided_steps(
            self.positive, scene, style, weight=self.weight, negative=self.negative, seed=seed
        )
        return self.positive.picked(scene, found.encoded, found.changes, found.logits, style)
