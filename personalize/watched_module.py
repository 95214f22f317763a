"""What every Lightning module here shares: optimizer and schedule, seeded steps, a look at each."""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from personalize.finite_steps import FiniteSteps
from personalize.learning_rate import let_settings_win, planned_steps, warm_up_cosine

STEPS_BEHIND_ON_A_GPU = 8
OptimizerMaker = Callable[[Iterable[nn.Parameter]], Optimizer]


class WatchedModule(L.LightningModule):
    """Trains one network by steps that are seeded one by one and must be finite.

    A step's randomness depends on the seed, its number and the process alone, so a run that is gone
    on with repeats what would have been.
    """

    def __init__(
        self,
        *,
        optimizer: OptimizerMaker,
        warm_up_steps: int,
        final_learning_rate_share: float,
        seed: int,
    ) -> None:
        """Remember how to train.

        Args:
            optimizer: Makes the optimizer from the parameters.
            warm_up_steps: Steps in which the learning rate rises from 0.
            final_learning_rate_share: Learning rate at the end of the run as a share of its peak.
            seed: Seed of everything random within a step.
        """
        super().__init__()
        self._optimizer = optimizer
        self._warm_up_steps = warm_up_steps
        self._final_learning_rate_share = final_learning_rate_share
        self._seed = seed
        self._finite_steps: FiniteSteps | None = None
        self._step_batch: Any = None
        self._step_loss: Tensor | None = None

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The network whose parameters are trained."""

    @abstractmethod
    def batch_tensors(self, batch: Any) -> Mapping[str, Tensor] | object:  # noqa: ANN401
        """The batch as it is kept where its step is not finite."""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and its schedule by steps; none where there is nothing to train."""
        chosen = [weight for weight in self.trained.parameters() if weight.requires_grad]
        if not chosen:
            return []
        optimizer = self._optimizer(chosen)
        total_steps = self._planned_steps()

        def share(step: int) -> float:
            return warm_up_cosine(
                step,
                warm_up_steps=self._warm_up_steps,
                total_steps=total_steps,
                final_share=self._final_learning_rate_share,
            )

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, share), "interval": "step"},
        }

    def _planned_steps(self) -> float:
        """Steps of the whole run.

        Lightning's own `estimated_stepping_batches` opens the loaders before a checkpoint is
        restored, and a loader that was opened then never gets its state back.
        """
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        return planned_steps(
            len(data.train_dataloader()),
            limit=self.trainer.limit_train_batches,
            accumulated=self.trainer.accumulate_grad_batches,
            max_epochs=self.trainer.max_epochs,
            max_steps=self.trainer.max_steps,
        )

    def transfer_batch_to_device(
        self,
        batch: Any,  # noqa: ANN401  (any batch that moves itself)
        device: torch.device,
        dataloader_idx: int,
    ) -> Any:  # noqa: ANN401
        """The batch on the device; a frozen dataclass moves itself."""
        return batch.to(device)

    def watch_steps(self) -> None:
        """Prepare the look at every step; to be called when a fit starts."""
        on_gpu = self.device.type == "cuda"
        folder = Path(self.trainer.default_root_dir)
        self._finite_steps = FiniteSteps(folder, lag=STEPS_BEHIND_ON_A_GPU if on_gpu else 0)

    def note_step(self, batch: Any, loss: Tensor) -> None:  # noqa: ANN401
        """Remember what the coming look is at."""
        self._step_batch, self._step_loss = batch, loss.detach()

    def on_train_start(self) -> None:
        """Let the configured optimizer settings win over those of a state that was loaded."""
        let_settings_win(self.trainer)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Seed the step, so that what is random in it does not depend on what ran before."""
        step = self.trainer.fit_loop.total_batch_idx
        torch.manual_seed(step_seed(self._seed, step, self.global_rank))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Look whether loss and gradients are finite.

        Raises:
            TrainingDivergedError: If they are not.
        """
        if self._finite_steps is None or self._step_loss is None:
            return
        gradients = [p.grad for p in self.trained.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        kept = self.batch_tensors(self._step_batch)
        self._finite_steps.watch(self.global_step, kept, self._step_loss, norm)

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Catch up on unseen steps first, so that no checkpoint holds weights that are not finite.

        Raises:
            TrainingDivergedError: If a step was not finite.
        """
        if self._finite_steps is not None:
            self._finite_steps.check_all()


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Seed of one step of one process: unrelated for neighbours, the same in every run."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
