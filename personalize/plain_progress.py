"""Progress of a training run as plain lines, for logs and pipes where a bar would be noise."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class PlainProgress(Callback):
    """One line every few seconds and one after each validation."""

    def __init__(self, seconds_between: float = 10.0) -> None:
        self.seconds_between = seconds_between
        self._shown = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401  (Lightning's signature)
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Say how far the epoch has come, if it is time."""
        if not trainer.is_global_zero or time.monotonic() - self._shown < self.seconds_between:
            return
        self._shown = time.monotonic()
        sys.stderr.write(
            f"epoch {trainer.current_epoch + 1}, batch {batch_idx + 1} of "
            f"{trainer.num_training_batches}\n"
        )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what validation found."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        shown = ", ".join(f"{name} {value:.4f}" for name, value in sorted(values.items()))
        sys.stderr.write(f"epoch {trainer.current_epoch + 1}: {shown}\n")
