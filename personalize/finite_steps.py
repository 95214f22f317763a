"""Stop a training run whose loss or gradient is no longer finite, and keep the batch at fault."""

from collections import deque
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from data_prep.errors import InputError


class TrainingDivergedError(InputError):
    """A loss or a gradient norm became NaN or infinite; the message names step, file and remedy."""


class _Watched(NamedTuple):
    step: int
    batch: object
    loss: Tensor
    gradient_norm: Tensor


class FiniteSteps:
    """Looks at loss and gradient norm of every step, some steps late where the device is ahead.

    Reading a number from a GPU waits until all queued work is done, so there the look is `lag`
    steps late: by then the number is there and nothing waits. On a CPU the lag is 0 and a bad
    step is caught before it reaches the weights. `check_all` catches up before a checkpoint.
    """

    def __init__(self, folder: Path, *, lag: int) -> None:
        """Remember where to write.

        Args:
            folder: Folder that a bad batch is written to.
            lag: Steps between a number and the look at it.
        """
        self.folder = folder
        self.lag = lag
        self._waiting: deque[_Watched] = deque()

    def watch(
        self,
        step: int,
        batch: object,
        loss: Float[Tensor, ""],
        gradient_norm: Float[Tensor, ""],
    ) -> None:
        """Take note of a step and look at the one `lag` steps before it.

        Raises:
            TrainingDivergedError: If that step's loss or gradient norm is not finite.
        """
        self._waiting.append(_Watched(step, batch, loss.detach(), gradient_norm.detach()))
        while len(self._waiting) > self.lag:
            self._look(self._waiting.popleft())

    def check_all(self) -> None:
        """Look at every step noted so far.

        Raises:
            TrainingDivergedError: If one of them is not finite.
        """
        while self._waiting:
            self._look(self._waiting.popleft())

    def _look(self, watched: _Watched) -> None:
        loss, norm = float(watched.loss), float(watched.gradient_norm)
        if torch.isfinite(torch.tensor([loss, norm])).all():
            return
        path = self.folder / f"not-finite-step-{watched.step:08}.safetensors"
        tensors = batch_tensors(watched.batch)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(save(tensors))
        raise TrainingDivergedError(
            f"Step {watched.step} has loss {loss:g} and gradient norm {norm:g}; its batch is kept "
            f"in {path}. Lower the learning rate, clip gradients (trainer.gradient_clip_val) or "
            "look at that batch."
        )


def batch_tensors(batch: object) -> dict[str, Tensor]:
    """The tensors of a batch by name: fields of a dataclass, values of a mapping."""
    if is_dataclass(batch):
        items = {field.name: getattr(batch, field.name) for field in fields(batch)}
    else:
        items = dict(batch) if isinstance(batch, Mapping) else {}
    return {
        name: value.detach().cpu().clone().contiguous()
        for name, value in items.items()
        if isinstance(value, Tensor)
    }
