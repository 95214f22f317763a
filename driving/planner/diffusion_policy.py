"""The diffusion planner as a policy over trajectories, by a surrogate of their log-probability."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from driving.planner.anchor_policy import denoised
from driving.planner.diffusion import TRAINING_STEPS, DiffusionPlanner
from driving.planner.going_on import going_on
from driving.planner.plan_contexts import PlanContexts, chosen_anchors, decoder_alone, drawn
from driving.planner.planner import PLAN_STEPS
from personalize.preference_optimization.policy import Drawn, Policy

SPREAD = 0.5
Said = tuple[Float[Tensor, "batch anchor time 3"], Float[Tensor, "batch anchor"]]


@final
class DiffusionPolicy(Policy[PlanContexts]):
    """Responses are poses; how well each is denoised stands for its log-probability.

    A chain of denoising has no density in closed form. Each anchor's answer counts as the middle
    of a bell instead, and the planner's scores as the weights of the bells:
    `log sum_k p_k exp(-error_k / (2 spread^2))`, where `error_k` is the squared distance of places
    to the answer of anchor `k`, in the anchors' unit, as a mean over the eight steps. The errors
    are the denoising errors of Diffusion-DPO, and all responses of a context, this policy and its
    reference are asked at the same steps and under the same noise, so a reference's scores may be
    computed once.

    What is drawn is the answer of an anchor, chosen by the planner's probability, moved by two
    numbers: so many units further along at all of its steps, and so many to the left. Plans thus
    stay smooth. Seen from the answer it was drawn at, the gradient of the surrogate is that of
    the density of these two numbers. Noise at the beginning of the chain is no way to draw: it
    moves a plan by millimetres.

    Attributes:
        planner: Whose decoder is trained.
        spread: Of the bells, in the anchors' unit.
        drawn_times: So many steps of the noise are drawn, and the mean of their surrogates is
            taken; 0 asks the planner's own two steps, which is what it drives by.
        seed: Of drawn times and their noise.

    Source:
        The error as a log-probability is Wallace et al., 2023, arXiv:2311.12908; bells and smooth
        draws are ours, the latter in the manner of others' noise along and across a plan.
    """

    steps = 1

    def __init__(
        self,
        planner: DiffusionPlanner,
        *,
        spread: float = SPREAD,
        drawn_times: int = 0,
        seed: int = 0,
    ) -> None:
        """Tune this planner.

        Raises:
            ValueError: If the spread is not positive or the number of times negative.
        """
        super().__init__()
        if not spread > 0:
            raise ValueError(f"spread must be positive, got {spread:g}.")
        if drawn_times < 0:
            raise ValueError(f"drawn_times must be 0 or more, got {drawn_times}.")
        self.planner, self.spread = decoder_alone(planner), spread
        self.drawn_times, self.seed = drawn_times, seed
        self.draws_noise = drawn_times > 0

    def reseed(self, seed: int) -> None:
        """Draw other times and noise; a reference must be told the same seed."""
        self.seed = seed

    def log_prob(
        self, context: PlanContexts, responses: Float[Tensor, "batch particle time 3"]
    ) -> Float[Tensor, "batch particle 1"]:
        """See `Policy`; the surrogate."""
        changes = going_on(context.scene).changes(responses)[..., :2]
        unit = self.planner.unit[:, :2]
        scores = []
        for answers, share in self._said(context):
            apart = (changes[:, :, None] - answers[:, None, :, :, :2]) / unit
            error = apart.square().sum(-1).mean(-1)
            scores.append((share[:, None] - error / (2 * self.spread**2)).logsumexp(-1))
        return torch.stack(scores).mean(0)[..., None]

    @torch.no_grad()
    def sample(self, context: PlanContexts, count: int, *, seed: int, beam: bool = False) -> Drawn:
        """See `Policy`; a beam takes the likeliest anchors' answers as they are.

        A beam may be no longer than there are anchors.
        """
        found = denoised(self.planner, context)
        share = found.logits.float().log_softmax(-1)
        index = chosen_anchors(share, count, seed=seed, beam=beam)
        changes = found.changes.take_along_dim(index[..., None, None], 1)
        if not beam:
            moved = self.spread * drawn(seed + 1, torch.randn, count, 1, 2).to(changes)
            aside = moved * self.planner.unit[:, :2]
            changes = torch.cat([changes[..., :2] + aside, changes[..., 2:]], -1)
        poses = going_on(context.scene).poses(changes)
        return Drawn(poses, self.log_prob(context, poses), sampled=not beam)

    def _said(self, context: PlanContexts) -> list[Said]:
        """The answers of all anchors and the logarithms of their shares, at every time."""
        if not self.drawn_times:
            found = denoised(self.planner, context)
            return [(found.changes, found.logits.float().log_softmax(-1))]
        planner = self.planner
        with torch.no_grad():
            encoded = planner.encoder(context.scene)
        seen, clean = planner.decoder.see(encoded.tokens, encoded.mask), planner.clean
        generator = torch.Generator().manual_seed(self.seed)
        said = []
        for _ in range(self.drawn_times):
            time = torch.randint(TRAINING_STEPS, (1,), generator=generator)
            noise = torch.randn(len(clean), PLAN_STEPS, 2, generator=generator)
            at = time.to(clean.device, non_blocking=True)
            noisy = planner.noised(clean[..., :2], noise.to(clean), at[:, None, None])
            rows = len(context)
            (answer,) = planner.decoder(
                noisy.expand(rows, -1, -1, -1), clean, at.float().expand(rows), context.style, seen
            )
            changes = planner.changes_of(answer, planner.anchors)
            said.append((changes, answer.logits.float().log_softmax(-1)))
        return said
