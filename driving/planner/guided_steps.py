"""The two denoising steps of the diffusion planner, guided away from what is not wanted."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from driving.planner.diffusion import DENOISING_STEPS, NOISE_STEP, DiffusionPlanner
from driving.planner.diffusion_decoder import Decoded, SeenScene
from driving.planner.planner import PLAN_STEPS, PlannerInput, StyleCondition
from driving.planner.scene_encoder import SceneTokens
from personalize.steering.guidance import guide


@dataclass(frozen=True)
class Denoised:
    """Candidates of the diffusion planner before one is picked.

    Attributes:
        encoded: What the encoder made of the scenes.
        changes: How the candidates differ from going on as now.
        logits: Their probabilities before the softmax.
        inside: The decoder's last hidden layer in the last step, under the style and unguided.
    """

    encoded: SceneTokens
    changes: Float[Tensor, "batch candidate time 3"]
    logits: Float[Tensor, "batch candidate"]
    inside: Float[Tensor, "batch candidate width"]


def guided_steps(
    planner: DiffusionPlanner,
    scene: PlannerInput,
    style: StyleCondition,
    *,
    weight: float = 1.0,
    negative: DiffusionPlanner | None = None,
    encoded: SceneTokens | None = None,
    seed: int = 0,
) -> Denoised:
    """What `DiffusionPlanner.plan` picks from, guided as one likes; see `guide`.

    The planner's own `guidance` is not looked at. A weight of 1 asks nothing of the negative.

    Args:
        planner: The planner.
        scene: A batch.
        style: What is asked for.
        weight: How far an answer moves from the negative's to the planner's under the style.
        negative: What to move away from, under no style: a worse planner with the same anchors.
            None takes the planner itself.
        encoded: What the planner's encoder made of the scenes, where that is known.
        seed: Of the noise.
    """
    other, rows = negative or planner, len(style.values)
    tokens = planner.encoder(scene) if encoded is None else encoded
    seen = _seen(planner, tokens)
    none = no_style(style)
    away = seen if other is planner else _seen(other, other.encoder(scene))
    noise = torch.randn(
        len(planner.anchors), PLAN_STEPS, 2, generator=torch.Generator().manual_seed(seed)
    ).to(planner.anchors)
    clean = planner.clean
    noisy = planner.noised(clean[..., :2], noise, NOISE_STEP).expand(rows, -1, -1, -1)
    changes, logits, inside = noisy, noisy, noisy
    for step, following in zip(DENOISING_STEPS, (*DENOISING_STEPS[1:], None), strict=True):
        changes, said = _said(planner, noisy, step, style, seen)
        logits, inside = said.logits, said.inside
        if weight != 1.0:
            from_changes, from_said = _said(other, noisy, step, none, away)
            changes = guide(from_changes, (changes, weight))
            logits = guide(from_said.logits, (logits, weight))
        if following is not None:
            found = planner.normalised(changes)[..., :2]
            signal, after = planner.signal[step], planner.signal[following]
            left = (noisy - signal.sqrt() * found) / (1 - signal).sqrt()
            noisy = after.sqrt() * found + (1 - after).sqrt() * left
    return Denoised(tokens, changes, logits, inside)


def own_calls(planner: DiffusionPlanner) -> int:
    """Predictions that a plan of the planner itself takes, twice as many where it is guided."""
    return len(DENOISING_STEPS) * (2 if planner.guidance != 1 and planner.reads_style else 1)


def no_style(style: StyleCondition) -> StyleCondition:
    """Nothing is asked, in as many rows."""
    return StyleCondition(torch.zeros_like(style.values), torch.zeros_like(style.mask))


def _seen(planner: DiffusionPlanner, encoded: SceneTokens) -> SeenScene:
    return planner.decoder.see(encoded.tokens, encoded.mask)


def _said(
    planner: DiffusionPlanner,
    noisy: Float[Tensor, "batch candidate time 2"],
    step: int,
    style: StyleCondition,
    seen: SeenScene,
) -> tuple[Float[Tensor, "batch candidate time 3"], Decoded]:
    time = noisy.new_full((len(noisy),), float(step))
    (said,) = planner.decoder(noisy, planner.clean, time, style, seen)
    return planner.changes_of(said, planner.anchors), said
