"""A planner guided away from a worse one: plans moved along what sets the two apart."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from driving.planner.diffusion import DENOISING_STEPS, NOISE_STEP, TRAINING_STEPS, DiffusionPlanner
from driving.planner.diffusion_decoder import Decoded, SeenScene
from driving.planner.planner import PLAN_STEPS, Planner, PlannerInput, Plans, StyleCondition
from driving.planner.scene_encoder import SceneTokens
from personalize.steering.guidance import guide
from personalize.steering.truncated_fine_tuning import NoiseSchedule


@dataclass(frozen=True)
class SceneDenoiser:
    """A planner's decoder in some scenes under some style: a denoiser of normalised places.

    Attributes:
        planner: Whose decoder.
        seen: The scenes as it looks at them.
        style: What is asked for.
    """

    planner: DiffusionPlanner
    seen: SeenScene
    style: StyleCondition

    @classmethod
    def of(
        cls, planner: DiffusionPlanner, encoded: SceneTokens, style: StyleCondition
    ) -> "SceneDenoiser":
        """The denoiser of a planner in scenes that were encoded before."""
        return cls(planner, planner.decoder.see(encoded.tokens, encoded.mask), style)

    def answer(
        self, noisy: Float[Tensor, "batch candidate time 2"], step: Int[Tensor, " batch"]
    ) -> Decoded:
        """Offsets and scores of the candidates at a step of the noise."""
        clean = clean_anchors(self.planner)
        (said,) = self.planner.decoder(noisy, clean, step.float(), self.style, self.seen)
        return said

    def __call__(
        self, noisy: Float[Tensor, "batch candidate time 2"], step: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch candidate time 2"]:
        """The clean places that a noisy state would end in."""
        return places(self.planner, changes_of(self.planner, self.answer(noisy, step)))


def noise_schedule(planner: DiffusionPlanner) -> NoiseSchedule:
    """The steps a planner was trained at, of its schedule."""
    return NoiseSchedule.of_signal(planner.signal[:TRAINING_STEPS])


def clean_anchors(planner: DiffusionPlanner) -> Float[Tensor, "candidate time 3"]:
    """The anchors as the decoder sees them: normalised x and y, and the heading."""
    return torch.cat([places(planner, planner.anchors), planner.anchors[..., 2:]], -1)


def places(
    planner: DiffusionPlanner, changes: Float[Tensor, "*batch time 3"]
) -> Float[Tensor, "*batch time 2"]:
    """Normalised x and y of changes: what is noised."""
    return (changes[..., :2] - planner.centre_m) / planner.scale_m


def changes_of(planner: DiffusionPlanner, said: Decoded) -> Float[Tensor, "batch candidate time 3"]:
    """The changes an answer means: anchors, and offsets in their unit."""
    return torch.addcmul(planner.anchors, said.offsets.to(planner.unit.dtype), planner.unit)


@dataclass(frozen=True)
class ContrastivePlanner(Planner):
    """Plans of one planner, guided away from those of a worse one that is asked for no style.

    Poses and scores are `negative + weight * (positive - negative)` at every denoising step. The
    pick, its safety gate included, is the positive planner's. The negative must have been made
    from the positive, so that both have the same anchors and the scene is encoded once.

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
        planner = self.positive
        encoded = planner.encoder(scene)
        wanted = SceneDenoiser.of(planner, encoded, style)
        unwanted = SceneDenoiser.of(self.negative, encoded, no_style(style))
        schedule = self._schedule
        drawn = torch.randn(
            len(planner.anchors), PLAN_STEPS, 2, generator=torch.Generator().manual_seed(seed)
        ).to(planner.anchors.device)
        state = schedule.noised(places(planner, planner.anchors), drawn, NOISE_STEP)
        state = state.expand(len(style.values), -1, -1, -1)
        changes, logits = state, state
        for step, following in zip(DENOISING_STEPS, (*DENOISING_STEPS[1:], None), strict=True):
            number = torch.full((len(state),), step, device=state.device)
            good, bad = wanted.answer(state, number), unwanted.answer(state, number)
            changes = guide(changes_of(planner, bad), (changes_of(planner, good), self.weight))
            logits = guide(bad.logits, (good.logits, self.weight))
            if following is not None:
                state = schedule.denoised(state, places(planner, changes), step, following)
        return planner.picked(scene, encoded, changes, logits, style)

    @cached_property
    def _schedule(self) -> NoiseSchedule:
        """Made once: checking it waits for the device."""
        return noise_schedule(self.positive)


def no_style(style: StyleCondition) -> StyleCondition:
    """Nothing asked for, in as many rows."""
    return StyleCondition(torch.zeros_like(style.values), torch.zeros_like(style.mask))
