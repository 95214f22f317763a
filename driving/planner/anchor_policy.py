"""The diffusion planner as a policy that chooses among its candidates."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from driving.planner.diffusion import DiffusionPlanner
from driving.planner.guided_steps import Denoised, guided_steps
from driving.planner.plan_contexts import PlanContexts, chosen_anchors, decoder_alone
from personalize.preference_optimization.policy import Drawn, Policy


def denoised(planner: DiffusionPlanner, context: PlanContexts, seed: int = 0) -> Denoised:
    """What the planner picks its plan from, with a gradient to its decoder alone."""
    weight = planner.guidance if planner.reads_style else 1.0
    with torch.no_grad():
        encoded = planner.encoder(context.scene)
    return guided_steps(
        planner, context.scene, context.style, weight=weight, encoded=encoded, seed=seed
    )


@final
class AnchorPolicy(Policy[PlanContexts]):
    """A softmax over the planner's candidates; a response is the number of one, in one step.

    The probabilities are the planner's own, after its denoising steps, so nothing here is an
    estimate. What is learnt moves the scores; the poses of a candidate move with the weights they
    share, and no response says anything of them.

    Attributes:
        planner: Whose decoder is trained.
    """

    steps = 1

    def __init__(self, planner: DiffusionPlanner) -> None:
        """Tune this planner."""
        super().__init__()
        self.planner = decoder_alone(planner)

    def log_prob(
        self, context: PlanContexts, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle 1"]:
        """See `Policy`."""
        return self._log_share(context).gather(1, responses)[..., None]

    @torch.no_grad()
    def sample(self, context: PlanContexts, count: int, *, seed: int, beam: bool = False) -> Drawn:
        """See `Policy`; a beam may be no longer than there are anchors."""
        share = self._log_share(context)
        found = chosen_anchors(share, count, seed=seed, beam=beam)
        return Drawn(found, share.gather(1, found)[..., None], sampled=not beam)

    def logits(
        self, context: PlanContexts, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle 1 choice"]:
        """See `Policy`."""
        rows = denoised(self.planner, context).logits
        return rows[:, None, None].expand(-1, responses.shape[1], -1, -1)

    def choices(self, responses: Int[Tensor, "batch particle"]) -> Int[Tensor, "batch particle 1"]:
        """See `Policy`."""
        return responses[..., None]

    def represented_width(self) -> int:
        """See `Represents`."""
        return self.planner.decoder.width

    def represented(
        self, context: PlanContexts, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle width"]:
        """See `Represents`: the decoder's last hidden layer of a candidate in the last step."""
        inside = denoised(self.planner, context).inside.float()
        return inside.take_along_dim(responses[..., None], 1)

    def _log_share(self, context: PlanContexts) -> Float[Tensor, "batch anchor"]:
        return denoised(self.planner, context).logits.float().log_softmax(-1)
