"""When a run writes checkpoints: the last one often, the best one after each validation."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from data_prep.errors import InputError
from personalize.checkpoint import FOLDER, checkpoint_folders
from personalize.checkpoint_plugin import FolderCheckpoints


class RunCheckpoints(Checkpoint):
    """Keeps the two newest whole states of a run, and the weights that validated best.

    A state is written where going on from it repeats the run exactly: after an epoch with its
    validation, or between two batches. A state that is due at a batch after which validation runs
    is written after the next batch or the epoch instead: Lightning would skip that validation
    when it goes on.
    """

    def __init__(
        self,
        monitor: str = "validation_ndcg10",
        *,
        lower_is_better: bool = False,
        every_n_batches: int | None = 1000,
        keep: int = 2,
    ) -> None:
        """Choose what is best and how often the state is written.

        Args:
            monitor: Name of the logged metric that decides which weights are best.
            lower_is_better: Whether lower values are better.
            every_n_batches: Batches between two states within an epoch; None only after epochs.
            keep: Number of newest states that are kept, at least 1.

        Raises:
            InputError: If `keep` or `every_n_batches` is below 1.
        """
        if keep < 1:
            raise InputError(f"checkpoints.keep must be at least 1, got {keep}.")
        if every_n_batches is not None and every_n_batches < 1:
            raise InputError(
                f"checkpoints.every_n_batches must be at least 1, got {every_n_batches}."
            )
        self.monitor = monitor
        self.lower_is_better = lower_is_better
        self.every_n_batches = every_n_batches
        self.keep = keep
        self.best_value: float | None = None
        self._due = False

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best_value": self.best_value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best value so far."""
        self.best_value = state_dict["best_value"]

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store whether a callback asked the run to stop; Lightning forgets it."""
        checkpoint["asked_to_stop"] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stop where the run had been asked to."""
        trainer.should_stop = checkpoint.get("asked_to_stop", False)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Write the state where one is due and validation does not follow."""
        every = self.every_n_batches
        self._due |= every is not None and (batch_idx + 1) % every == 0
        between = trainer.val_check_batch or float("inf")
        validates = (batch_idx + 1) % between == 0
        ends = batch_idx + 1 >= trainer.num_training_batches
        if self._due and not validates and not ends:
            self._write_last(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the state of a whole epoch."""
        self._write_last(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the weights if they are the best so far.

        Raises:
            InputError: If the monitored metric was not logged.
        """
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise InputError(
                f"checkpoints.monitor names {self.monitor}, which is not logged; "
                f"logged are {known}."
            )
        value = float(trainer.callback_metrics[self.monitor])
        better = self.best_value is None or (
            value < self.best_value if self.lower_is_better else value > self.best_value
        )
        if better and torch.isfinite(torch.tensor(value)):
            self.best_value = value
            self._write(trainer, "best", keep=1, weights_only=True)

    def _write_last(self, trainer: L.Trainer) -> None:
        self._due = False
        self._write(trainer, "last", keep=self.keep, weights_only=False)

    def _write(self, trainer: L.Trainer, prefix: str, *, keep: int, weights_only: bool) -> None:
        """Write a checkpoint, and only then remove those that are too many."""
        run_folder = Path(trainer.default_root_dir)
        number = trainer.fit_loop.total_batch_idx + 1
        trainer.save_checkpoint(
            run_folder / FOLDER / f"{prefix}-{number:08}", weights_only=weights_only
        )
        if not trainer.is_global_zero or not isinstance(
            trainer.strategy.checkpoint_io, FolderCheckpoints
        ):
            return
        written = f"{prefix}-{number:08}"
        names = [path.name for path in checkpoint_folders(run_folder, prefix)]
        newer = [name for name in names if name > written]  # from before going on further back
        older = [name for name in names if name < written]
        for name in newer + older[keep - 1 :]:
            trainer.strategy.remove_checkpoint(run_folder / FOLDER / name)
