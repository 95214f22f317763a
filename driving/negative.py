"""The command `driving negative`: a worse copy of a trained planner, to be guided away from."""

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from driving.evaluation.conditions import asked_styles
from driving.load import AVERAGED, PLANNER, LoadedPlanner, load_planner
from driving.planner.diffusion import TRAINING_STEPS, DiffusionPlanner
from driving.planner.diffusion_decoder import Decoded, SeenScene
from driving.planner.guided_steps import no_style
from driving.planner.planner import PLAN_STEPS, PlannerInput, StyleCondition
from driving.planner.scene_encoder import SceneTokens
from driving.planning_rows import read_planning_rows
from driving.style.tables import SAMPLES
from personalize.checkpoint import KIND
from personalize.negative_copy import FineTuning, fine_tuned, write_copy
from personalize.steering.truncated_fine_tuning import (
    NoiseSchedule,
    pseudo_huber,
    truncated_states,
)

STEPS_TAKEN, STRIDE = 5, 2
"""Of 25 denoising steps over the 50 that a planner is trained at, so many are taken."""
ENCODED_AT_ONCE = 256


def write_negative(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    checkpoint: Path,
    out: Path,
    scenes: Path | None = None,
    styles: Path | None = None,
    style_vectors: Path | None = None,
    contexts: int = 2048,
    steps: int = 300,
    batch_size: int = 64,
    learning_rate: float = 1e-4,
    told: bool = False,
    seed: int = 0,
    device: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a negative copy of a planner: an artifact `checkpoint` that `load_planner` reads.

    Args:
        checkpoint: A run, whose best one is taken, or a checkpoint.
        out: Folder to write.
        scenes: Artifact `scenes`. Default: the one trained on.
        styles: Artifact `styles`, whose training samples are the contexts. Default: likewise.
        style_vectors: Artifact `style_vectors`, what is asked for in them. Default: likewise.
        contexts: Training scenes to learn in, at most; what was driven in them is not looked at.
        steps: Steps of the optimizer.
        batch_size: Scenes in a step.
        learning_rate: Of the optimizer.
        told: Whether what the copy learns from is told the style; by default it is told none.
        seed: Of everything that is drawn.
        device: Torch device. Default: a GPU where there is one.
        overwrite: Replace a checkpoint that is there.

    Raises:
        InputError: If a number is out of range, or the checkpoint is of another planner.
        ArtifactMismatch: If an artifact does not fit.
    """
    settings = FineTuning(steps, batch_size, learning_rate, seed)
    if contexts < 1:
        raise InputError(f"--contexts must be at least 1, got {contexts}.")
    loaded = load_planner(checkpoint)
    planner = loaded.planner
    if not isinstance(planner, DiffusionPlanner):
        raise InputError(
            f"{loaded.folder} holds {type(planner).__name__}, which does not denoise; make a "
            "negative copy of a DiffusionPlanner."
        )
    given = {"scenes": scenes, "styles": styles, "style_vectors": style_vectors}
    paths = {**loaded.paths, **{name: path for name, path in given.items() if path is not None}}
    seen, asked = training_contexts(replace(loaded, paths=paths), contexts)
    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    negative = negative_planner(
        planner.to(target), seen.to(target), asked.to(target), settings, told=told
    )
    write_copy(
        read_artifact(loaded.folder, kind=KIND),
        negative.state_dict(),
        out,
        command="driving negative",
        prefixes=(AVERAGED, PLANNER),
        options={
            "checkpoint": str(checkpoint),
            "contexts": len(asked.values),
            "told": told,
            **asdict(settings),
        },
        overwrite=overwrite,
    )


def training_contexts(loaded: LoadedPlanner, most: int) -> tuple[PlannerInput, StyleCondition]:
    """Scenes a planner was trained in, evenly spread, and the styles it was told there."""
    samples = read_artifact(loaded.paths["styles"], kind="styles").table(SAMPLES)
    samples = samples.filter(pl.col("split") == "train")
    if samples.height > most:
        chosen = np.linspace(0, samples.height - 1, most).round().astype(np.int64)
        samples = samples[chosen]
    rows = read_planning_rows(loaded.paths["scenes"], samples)
    path = loaded.paths.get("style_vectors")
    vectors, condition = None, "none"
    if path is not None:
        vectors = read_artifact(path, kind="style_vectors").arrays("style_vectors")
        condition = str(loaded.configuration["data"].get("condition", "own"))
    return rows.scenes, asked_styles(condition, vectors, rows.sample_ids)


def negative_planner(
    planner: DiffusionPlanner,
    scenes: PlannerInput,
    styles: StyleCondition,
    settings: FineTuning,
    *,
    told: bool = False,
) -> DiffusionPlanner:
    """A copy whose decoder was fine-tuned on what the planner itself says after a few steps.

    The encoder and the heads of sub-scores stay as they are, so that the copy and the planner may
    share an encoded scene.

    Args:
        planner: The planner; it stays as it is.
        scenes: Contexts to learn in, on the planner's device.
        styles: What is asked for in them; the planner's own dropout hides some.
        settings: How to learn.
        told: Whether the planner is told the style when it sets the copy's target.
    """
    reference = copy.deepcopy(planner).requires_grad_(requires_grad=False).eval()
    student = copy.deepcopy(reference)
    student.decoder.requires_grad_(requires_grad=True)
    rows, device = len(styles.values), styles.values.device
    every, schedule = encoded_scenes(reference, scenes), noise_schedule(reference)

    def loss(_number: int) -> Tensor:
        chosen = torch.randint(rows, (min(settings.batch_size, rows),), device=device)
        asked = planner.style_dropout(styles.rows(chosen))
        encoded = SceneTokens(every.tokens[chosen], every.mask[chosen])
        teaching = asked if told else no_style(asked)
        return truncated_planner_loss(
            SceneDenoiser.of(student, encoded, asked),
            SceneDenoiser.of(reference, encoded, teaching),
            schedule,
        )

    fine_tuned(student, loss, settings, description="steps learnt")
    return student.requires_grad_(requires_grad=True).eval()


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
        planner = self.planner
        (said,) = planner.decoder(noisy, planner.clean, step.float(), self.style, self.seen)
        return said

    def __call__(
        self, noisy: Float[Tensor, "batch candidate time 2"], step: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch candidate time 2"]:
        """The clean places that a noisy state would end in."""
        changes = self.planner.changes_of(self.answer(noisy, step), self.planner.anchors)
        return self.planner.normalised(changes)[..., :2]


def noise_schedule(planner: DiffusionPlanner) -> NoiseSchedule:
    """The steps a planner was trained at; to be made once, as checking it waits for the device."""
    return NoiseSchedule.of_signal(planner.signal[:TRAINING_STEPS])


@torch.no_grad()
def encoded_scenes(planner: DiffusionPlanner, scenes: PlannerInput) -> SceneTokens:
    """All scenes as the encoder reads them, a few hundred at a time."""
    count = len(scenes.ego_size_m)
    parts = [
        planner.encoder(scenes.rows(slice(first, first + ENCODED_AT_ONCE)))
        for first in range(0, count, ENCODED_AT_ONCE)
    ]
    return SceneTokens(
        torch.cat([part.tokens for part in parts]), torch.cat([part.mask for part in parts])
    )


def truncated_planner_loss(
    student: SceneDenoiser, reference: SceneDenoiser, schedule: NoiseSchedule
) -> Float[Tensor, ""]:
    """How far the student's answers from further back are from the reference's after a few steps.

    States begin at the anchors, noised at a step drawn evenly; the reference takes five steps of
    two. To the distance of offsets in their unit comes the cross-entropy of the scores with the
    reference's probabilities. Random numbers come from torch's own generator.

    Source:
        See `personalize.steering.truncated_fine_tuning.truncated_loss`; the scores are ours.
    """
    planner, rows = reference.planner, len(reference.style.values)
    device = planner.anchors.device
    first = int(torch.randint(STEPS_TAKEN * STRIDE, TRAINING_STEPS, ()))
    path = range(first, first - STEPS_TAKEN * STRIDE - 1, -STRIDE)
    drawn = torch.randn(rows, len(planner.anchors), PLAN_STEPS, 2, device=device)
    start = schedule.noised(planner.clean[..., :2], drawn, first)
    states = truncated_states(reference, start, schedule, path)
    with torch.no_grad():
        target = reference.answer(states.reached, states.reached_step)
    said = student.answer(states.noisier, states.noisier_step)
    offsets = pseudo_huber(said.offsets - target.offsets).mean()
    scores = functional.cross_entropy(said.logits, target.logits.softmax(-1))
    return offsets + scores
