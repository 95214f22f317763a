"""The diffusion planner as a sampler: many denoising steps, each with noise of its own."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from driving.planner.diffusion import TRAINING_STEPS, DiffusionPlanner
from driving.planner.diffusion_decoder import SeenScene
from driving.planner.going_on import GoingOn, going_on
from driving.planner.planner import PLAN_STEPS, PlannerInput, StyleCondition
from personalize.generator import Predict, Sampler

LOGIT = 3 * PLAN_STEPS
"""Where a prediction's logit stands, after the changes of eight poses."""


@dataclass(frozen=True)
class DrawnPlans:
    """The state of `DiffusionSampler`.

    Attributes:
        seen: The scenes as the decoder looks at them.
        base: How the egos go on.
        style: What is asked of every scene, or of every set of particles of every scene.
        anchors: The anchor each particle began at.
        noisy: Normalised x and y.
        changes: What they were denoised to last.
        log_weight: See `personalize.generator.Particles`.
        seed: Of what is drawn.
    """

    seen: SeenScene
    base: GoingOn
    style: StyleCondition
    anchors: Int[Tensor, "batch particle"]
    noisy: Float[Tensor, "batch particle time 2"]
    changes: Float[Tensor, "batch particle time 3"]
    log_weight: Float[Tensor, "batch particle"]
    seed: int


class DiffusionSampler(
    Sampler[PlannerInput, StyleCondition, DrawnPlans, Float[Tensor, "batch particle time 3"]]
):
    """Denoises trajectories in as many steps as wanted; what is made are poses in the ego's frame.

    Particles come in sets, one particle for each anchor, because a set of candidates is what the
    decoder was trained to look at. A particle weighs what the decoder says of its anchor in the
    first step, so that the particles of a set stand for the planner's distribution.

    Attributes:
        steps: Denoising steps, at equal distances from the noisiest step of training to none.
        stochastic: Whether steps add noise.

    Source:
        Song et al., 2021, Denoising Diffusion Implicit Models, arXiv:2010.02502: `eta` is the
        share of a DDPM's noise that every step adds. Copies of a particle part ways only above 0.
    """

    def __init__(self, planner: DiffusionPlanner, *, steps: int = 10, eta: float = 1.0) -> None:
        """Sample from a planner.

        Raises:
            ValueError: If there are fewer than 2 steps, or eta is not from 0 to 1.
        """
        if steps < 2 or not 0 <= eta <= 1:
            raise ValueError(
                f"sampling needs at least 2 steps and an eta from 0 to 1, got {steps} and {eta:g}."
            )
        self.steps, self.stochastic = steps, eta > 0
        self._planner, self._eta = planner, eta
        times = torch.linspace(TRAINING_STEPS - 1, 0, steps).round().long()
        self._times = [int(time) for time in times]

    def init(
        self, context: PlannerInput, condition: StyleCondition, count: int, *, seed: int
    ) -> DrawnPlans:
        """So many particles per scene, noised.

        Args:
            context: A batch of scenes.
            condition: A style per scene, or one for every set of particles of every scene.
            count: Particles; a multiple of the planner's anchors.
            seed: Of all noise, which is the same for every scene.

        Raises:
            ValueError: If the count is not such a multiple.
        """
        planner = self._planner
        anchors = len(planner.anchors)
        if count % anchors:
            raise ValueError(
                f"this planner's particles come in sets of its {anchors} anchors, got {count}."
            )
        encoded = planner.encoder(context)
        index = torch.arange(count, device=planner.anchors.device) % anchors
        rows = len(context.ego_size_m)
        clean = planner.clean[index]
        noise = _noise(seed, count).to(clean)
        noisy = planner.noised(clean[..., :2], noise, self._times[0])
        return DrawnPlans(
            seen=planner.decoder.see(encoded.tokens, encoded.mask),
            base=going_on(context),
            style=condition,
            anchors=index.expand(rows, -1),
            noisy=noisy.expand(rows, -1, -1, -1),
            changes=planner.anchors[index].expand(rows, -1, -1, -1),
            log_weight=clean.new_zeros(rows, count),
            seed=seed,
        )

    def predict(
        self, state: DrawnPlans, number: int, condition: StyleCondition
    ) -> Float[Tensor, "batch particle said"]:
        """The changes every particle is denoised to, flattened, and its logit."""
        planner, rows = self._planner, len(state.noisy)
        sets = state.noisy.shape[1] // len(planner.anchors)
        style = condition
        if len(condition.values) != rows * sets:
            each = torch.arange(rows, device=style.values.device).repeat_interleave(sets)
            style = condition.rows(each)
        noisy = state.noisy.reshape(rows * sets, -1, *state.noisy.shape[2:])
        clean = planner.clean[state.anchors].reshape(rows * sets, -1, PLAN_STEPS, 3)
        time = noisy.new_full((rows * sets,), float(self._times[number]))
        seen = state.seen.each_repeated(sets) if sets > 1 else state.seen
        (said,) = planner.decoder(noisy, clean, time, style, seen)
        own = planner.anchors[state.anchors].reshape(clean.shape)
        changes = planner.changes_of(said, own)
        found = torch.cat([changes.flatten(2), said.logits.to(own.dtype).unsqueeze(-1)], -1)
        return found.reshape(rows, -1, LOGIT + 1)

    def step(self, state: DrawnPlans, number: int, predict: Predict) -> DrawnPlans:
        """One denoising step for every particle."""
        said = predict(state, number, state.style)
        changes = said[..., :LOGIT].unflatten(-1, (PLAN_STEPS, 3))
        state = replace(state, changes=changes)
        if number == 0:
            anchors = len(self._planner.anchors)
            by_set = said[..., LOGIT].unflatten(1, (-1, anchors)).log_softmax(-1).flatten(1)
            state = replace(state, log_weight=state.log_weight + by_set + math.log(anchors))
        if number + 1 == self.steps:
            return state
        signal, following = (
            self._planner.signal[self._times[place]] for place in (number, number + 1)
        )
        found = self._planner.normalised(changes)[..., :2]
        left = (state.noisy - signal.sqrt() * found) / (1 - signal).sqrt()
        spread = self._eta * ((1 - following) / (1 - signal) * (1 - signal / following)).sqrt()
        noise = _noise(state.seed + number + 1, found.shape[1]).to(found)
        kept = (1 - following - spread.square()).clamp_min(0).sqrt()
        noisy = following.sqrt() * found + kept * left + spread * noise
        return replace(state, noisy=noisy)

    def preview(self, state: DrawnPlans, number: int) -> Float[Tensor, "batch particle time 3"]:
        """Poses of what the particles were denoised to last, in the frame of the ego."""
        return state.base.poses(state.changes)

    def take(self, state: DrawnPlans, index: Int[Tensor, "batch particle"]) -> DrawnPlans:
        """Some of the particles, each with its anchor."""
        wide = index[..., None, None]
        return replace(
            state,
            anchors=state.anchors.gather(1, index),
            noisy=state.noisy.take_along_dim(wide, 1),
            changes=state.changes.take_along_dim(wide, 1),
            log_weight=state.log_weight.gather(1, index),
        )

    def weighed(self, state: DrawnPlans, log_weight: Float[Tensor, "batch particle"]) -> DrawnPlans:
        """The same particles with other weights."""
        return replace(state, log_weight=log_weight)


def _noise(seed: int, count: int) -> Float[Tensor, "particle time 2"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, PLAN_STEPS, 2, generator=generator)
