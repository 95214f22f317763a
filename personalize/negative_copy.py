"""A copy of a trained model, fine-tuned for a few minutes and written as a checkpoint like its own.

What the copy learns is the half's affair; here are the loop, and the artifact that says what it
was made from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import AdamW

from data_prep.artifact import Artifact, create_artifact
from data_prep.errors import InputError
from data_prep.progress import track
from personalize.checkpoint import KIND, WEIGHTS, weights_of

LARGEST_GRADIENT = 1.0
TRAINING_STATE = "training_state.pt"


@dataclass(frozen=True)
class FineTuning:
    """How long and how fast a copy learns.

    Attributes:
        steps: Steps of the optimizer.
        batch_size: Contexts in a step.
        learning_rate: AdamW's, the same throughout.
        seed: Of everything that is drawn.

    Raises:
        InputError: If a number is out of range.
    """

    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("batch-size", self.batch_size)):
            if value < 1:
                raise InputError(f"--{name} must be at least 1, got {value}.")
        if not self.learning_rate > 0:
            raise InputError(f"--learning-rate must be positive, got {self.learning_rate:g}.")


def fine_tuned(
    student: nn.Module, loss: Callable[[int], Tensor], settings: FineTuning, *, description: str
) -> list[float]:
    """Train the student in place; gradients are clipped to a norm of 1.

    Args:
        student: What is trained: its parameters that require a gradient.
        loss: The loss of a step, by its number; it draws from torch's own generator, which is
            seeded here.
        settings: How.
        description: What the work is, for the progress that is shown.

    Returns:
        The loss of every step.

    Raises:
        InputError: If a weight is not finite in the end.
    """
    parameters = [weight for weight in student.parameters() if weight.requires_grad]
    optimizer = AdamW(parameters, lr=settings.learning_rate)
    losses = []
    torch.manual_seed(settings.seed)
    for number in track(range(settings.steps), description):
        optimizer.zero_grad(set_to_none=True)
        value = loss(number)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
        optimizer.step()
        losses.append(value.detach())
    if not all(bool(weight.isfinite().all()) for weight in parameters):
        raise InputError("Fine-tuning diverged; lower --learning-rate.")
    return torch.stack(losses).tolist()


def write_copy(  # noqa: PLR0913  (what a copy is made of, and how it says so)
    source: Artifact,
    student: Mapping[str, Tensor],
    out: Path,
    *,
    command: str,
    prefixes: tuple[str, ...],
    options: Mapping[str, Any],
    section: str = "negative",
    overwrite: bool = False,
) -> None:
    """Write a checkpoint with other weights: its configuration and documents are the source's.

    The configuration has one section more with the options; the inputs have the source's content
    hash as `checkpoint`. It cannot be resumed: there is no optimizer's state.

    Args:
        source: The checkpoint the student is a copy of.
        student: The student's weights by name.
        out: Folder to write.
        command: The command that writes it.
        prefixes: What names of weights begin with in the source, such as `planner.`; under each
            the student's are written.
        options: The command's options, plain JSON values.
        section: Name of the section that holds them; the note `<section>_of` names the source.
        overwrite: Replace a checkpoint that is there.

    Raises:
        InputError: If the destination exists and may not be replaced, or cannot be written.
    """
    weights = {
        name: _own(student[name.removeprefix(prefix)])
        for name in weights_of(source)
        for prefix in prefixes
        if name.startswith(prefix)
    }
    kept = sorted(set(source.manifest.files) - {WEIGHTS, TRAINING_STATE})
    with create_artifact(
        out,
        kind=KIND,
        command=command,
        configuration={**source.manifest.configuration, section: dict(options)},
        inputs={**source.manifest.inputs, "checkpoint": source.content_hash},
        overwrite=overwrite,
    ) as writer:
        writer.path(WEIGHTS).write_bytes(save_tensors(weights))
        for name in kept:
            writer.path(name).write_bytes(source.file(name).read_bytes())
        writer.notes[f"{section}_of"] = str(source.folder)


def _own(tensor: Tensor) -> Tensor:
    """A copy that shares no memory: tied weights are stored under each of their names."""
    return tensor.detach().cpu().clone().contiguous()
