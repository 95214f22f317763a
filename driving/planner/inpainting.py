"""Way-points held fast while a trajectory is denoised: a trace without training."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.planner.diffusion_sampler import LOGIT, DrawnPlans
from driving.planner.going_on import GoingOn
from driving.planner.planner import PLAN_STEPS, StyleCondition
from driving.planner.trace_condition import TraceCondition, trace_changes
from personalize.generator import Predict


@dataclass(frozen=True)
class Inpainted:
    """A prediction whose poses at the way-points are put on them.

    The sampler noises what is predicted and asks again, so the decoder sees the way-points in the
    noisy trajectory and may bring the other poses along. At a step that is held fast the way-points
    themselves are met by force; headings are the decoder's.

    Attributes:
        predict: What is asked.
        changes: The way-points as changes from going on as now; see `trace_changes`.
        mask: Which steps have one.
        held_steps: Denoising steps in which they are held. With one less than the sampler takes,
            the last answer is the decoder's own.

    Source:
        Lugmayr et al., 2022, RePaint, arXiv:2201.09865, for the clean prediction in place of the
        noisy sample; a sampler that adds all noise anew (`eta` of 1) comes nearest to it.
    """

    predict: Predict
    changes: Float[Tensor, "batch time 2"]
    mask: Bool[Tensor, "batch time"]
    held_steps: int

    def __call__(
        self, state: DrawnPlans, number: int, condition: StyleCondition
    ) -> Float[Tensor, "batch particle said"]:
        """The prediction, with x and y held at the way-points."""
        said = self.predict(state, number, condition)
        if number >= self.held_steps:
            return said
        poses = said[..., :LOGIT].unflatten(-1, (PLAN_STEPS, 3))
        held = self.mask[:, None, :, None]
        places = torch.where(held, self.changes[:, None], poses[..., :2])
        poses = torch.cat((places, poses[..., 2:]), -1).flatten(2)
        return torch.cat((poses, said[..., LOGIT:]), -1)


def inpainted(
    predict: Predict, trace: TraceCondition, base: GoingOn, *, held_steps: int
) -> Inpainted:
    """A prediction under which a trace is held fast in the first `held_steps` steps."""
    return Inpainted(predict, trace_changes(trace, base), trace.mask, held_steps)
