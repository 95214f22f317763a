"""Training and validation of any recommender, counting ones included."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import lightning as L
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from data_prep.errors import InputError
from personalize.finite_steps import FiniteSteps
from personalize.learning_rate import let_settings_win, planned_steps, warm_up_cosine
from recsys.batch import HistoryBatch
from recsys.ranking import ndcg_at_k, recall_at_k, target_ranks
from recsys.recommender import Filters, Recommender

STEPS_BEHIND_ON_A_GPU = 8


class RecommenderModule(L.LightningModule):
    """One recommender with its optimizer, learning rate and validation.

    Validation ranks the whole catalogue through the recommender's own `recommend`. A recommender
    without parameters is trained by one pass over the data, and its loss is never asked for on
    validation rows: asking would count them.
    """

    def __init__(
        self,
        recommender: Recommender,
        *,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = lambda parameters: AdamW(
            parameters, lr=1e-3
        ),
        warm_up_steps: int = 0,
        final_learning_rate_share: float = 0.0,
        exclude_history: bool = False,
        compile_loss: bool = False,
        seed: int = 0,
    ) -> None:
        """Hold the recommender.

        Args:
            recommender: What is trained; built with the catalogue of the data.
            optimizer: Makes the optimizer from the parameters.
            warm_up_steps: Steps in which the learning rate rises from 0.
            final_learning_rate_share: Learning rate at the end of the run as a share of its peak.
            exclude_history: Leave items of the history out of validation rankings.
            compile_loss: Compile the loss with `torch.compile`.
            seed: Seed of everything random within a step, such as dropout.
        """
        super().__init__()
        self.recommender = recommender
        self.counts_only = not any(True for _ in recommender.parameters())
        self.automatic_optimization = not self.counts_only
        self._loss = torch.compile(recommender.loss) if compile_loss else recommender.loss
        self._optimizer = optimizer
        self._warm_up_steps = warm_up_steps
        self._final_learning_rate_share = final_learning_rate_share
        self._filters = Filters(exclude_history=exclude_history)
        self._seed = seed
        self._finite_steps: FiniteSteps | None = None
        self._step_batch: HistoryBatch | None = None
        self._step_loss: Tensor | None = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and its schedule by steps; none for a recommender that counts."""
        if self.counts_only:
            return []
        optimizer = self._optimizer(self.recommender.parameters())
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
        self, batch: HistoryBatch, device: torch.device, dataloader_idx: int
    ) -> HistoryBatch:
        """The batch on the device; a frozen dataclass moves itself."""
        return batch.to(device)

    def on_fit_start(self) -> None:
        """Prepare the look at every step, and let a counting recommender see the data once.

        Raises:
            InputError: If a counting recommender is to be trained by several processes.
        """
        on_gpu = self.device.type == "cuda"
        folder = Path(self.trainer.default_root_dir)
        self._finite_steps = FiniteSteps(folder, lag=STEPS_BEHIND_ON_A_GPU if on_gpu else 0)
        if self.counts_only:
            if self.trainer.world_size > 1:
                raise InputError(
                    "A recommender that counts is trained by one process; pass --trainer.devices 1."
                )
            self.trainer.fit_loop.max_epochs = 1
        if self.recommender.surveys:
            data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            self.recommender.survey(data.every_training_row())

    def on_train_start(self) -> None:
        """Let the configured optimizer settings win over those of a checkpoint that was loaded."""
        let_settings_win(self.trainer)

    def on_train_batch_start(self, batch: HistoryBatch, batch_idx: int) -> None:
        """Seed the step, so that what is random in it does not depend on what ran before."""
        step = self.trainer.fit_loop.total_batch_idx
        torch.manual_seed(step_seed(self._seed, step, self.global_rank))

    def training_step(self, batch: HistoryBatch, batch_idx: int) -> Float[Tensor, ""] | None:
        """The loss of one batch; nothing to minimise for a recommender that counts."""
        loss = self._loss(batch)
        if self.counts_only:
            return None
        self.log("training_loss", loss, prog_bar=True, batch_size=len(batch))
        self._step_batch, self._step_loss = batch, loss.detach()
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Look whether loss and gradients are finite.

        Raises:
            TrainingDivergedError: If they are not.
        """
        if self._finite_steps is None or self._step_loss is None:
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        self._finite_steps.watch(self.global_step, self._step_batch, self._step_loss, norm)

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Catch up on unseen steps first, so that no checkpoint holds weights that are not finite.

        Raises:
            TrainingDivergedError: If a step was not finite.
        """
        if self._finite_steps is not None:
            self._finite_steps.check_all()

    def validation_step(self, batch: HistoryBatch, batch_idx: int) -> None:
        """Log loss, recall and NDCG at 10 of one validation batch."""
        self._evaluate(batch, "validation")

    def test_step(self, batch: HistoryBatch, batch_idx: int) -> None:
        """Log loss, recall and NDCG at 10 of one test batch."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: HistoryBatch, stage: str) -> None:
        rows = len(batch)
        if not self.counts_only:
            loss = self.recommender.loss(batch)
            self.log(f"{stage}_loss", loss, batch_size=rows, sync_dist=True)
        found = self.recommender.recommend(batch, count=10, filters=self._filters)
        ranks, hits = target_ranks(found.item_ids, last_targets(batch))
        recall, ndcg = recall_at_k(ranks, hits, k=10), ndcg_at_k(ranks, hits, k=10)
        self.log(f"{stage}_recall10", recall.mean(), batch_size=rows, sync_dist=True)
        self.log(f"{stage}_ndcg10", ndcg.mean(), batch_size=rows, sync_dist=True, prog_bar=True)


def last_targets(batch: HistoryBatch) -> Tensor:
    """The last real target of every row."""
    places = torch.arange(batch.target_mask.shape[1], device=batch.target_mask.device)
    last = torch.where(batch.target_mask, places, -1).amax(dim=1, keepdim=True).clamp_min(0)
    return batch.target_item_ids.gather(1, last).squeeze(1)


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Seed of one step of one process: unrelated for neighbours, the same in every run."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
