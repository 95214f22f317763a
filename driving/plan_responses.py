"""The responses of each planner policy as poses, and logged futures as their responses."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from driving.planner.anchor_policy import AnchorPolicy, denoised
from driving.planner.chain_policy import ChainPolicy
from driving.planner.diffusion_policy import DiffusionPolicy
from driving.planner.going_on import going_on
from driving.planner.plan_contexts import PlanContexts

PlanPolicy = AnchorPolicy | DiffusionPolicy | ChainPolicy


class PlanResponses:
    """What responses of a policy mean, by the policy as it was before it was tuned.

    Poses are themselves, and a chain ends in its poses. The number of an anchor means the poses
    that the untuned planner makes of it: those of the tuned one move while it learns, so that
    a response would not stay what it was.
    """

    def __init__(self, frozen: PlanPolicy) -> None:
        """Hold the untuned policy, on the CPU."""
        self._frozen = frozen

    def poses(
        self, context: PlanContexts, responses: Tensor
    ) -> Float[Tensor, "batch particle time 3"]:
        """Poses in the frame of the ego."""
        if isinstance(self._frozen, AnchorPolicy):
            index = responses[..., None, None]
            return self.answers(context).take_along_dim(index, 1)
        return responses[:, :, -1] if isinstance(self._frozen, ChainPolicy) else responses

    @torch.no_grad()
    def answers(self, context: PlanContexts) -> Float[Tensor, "batch anchor time 3"]:
        """Poses of all candidates of the untuned planner."""
        found = denoised(self._frozen.planner, context)
        return going_on(context.scene).poses(found.changes)

    def of_poses(self, context: PlanContexts, poses: Float[Tensor, "batch time 3"]) -> Tensor:
        """The response that comes nearest to poses, `[batch, 1, ...]`.

        Of anchors it is the nearest candidate. Of chains, which logged poses have none, it is the
        untuned policy's own likeliest: what keeps a chain near where it began.
        """
        if isinstance(self._frozen, ChainPolicy):
            return self._frozen.sample(context, 1, seed=0, beam=True).responses
        if isinstance(self._frozen, DiffusionPolicy):
            return poses[:, None]
        return self._nearest(context, poses)[:, None]

    def _nearest(
        self, context: PlanContexts, poses: Float[Tensor, "batch time 3"]
    ) -> Int[Tensor, " batch"]:
        apart = self.answers(context)[..., :2] - poses[:, None, :, :2]
        return apart.norm(dim=-1).mean(-1).argmin(-1)
