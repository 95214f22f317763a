"""How a reward model is trained: a Lightning module and its batches."""

import lightning as L
import numpy as np
import torch
from torch import Tensor

from personalize.preference_optimization.contrast import Contrast
from personalize.reward_learning.judged_split import JudgedSplit
from personalize.rewards.feature_comparisons import FeatureComparisons
from personalize.rewards.preference_calibration import preference_accuracy, preference_log_loss
from personalize.rewards.preference_model import PreferenceModel
from personalize.stateful_loader import StatefulLoader

MONITOR = "validation_log_loss"


class RewardModule(L.LightningModule):
    """Minimises a contrast of a preference model's scores."""

    def __init__(
        self,
        model: PreferenceModel,
        contrast: Contrast,
        training: JudgedSplit,
        *,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        """Take what is trained, by what, and on what.

        Args:
            model: The model.
            contrast: How its scores become a loss.
            training: What `settle` of the model's head reads after every pass.
            learning_rate: Of AdamW.
            weight_decay: Of AdamW.
        """
        super().__init__()
        self.model, self.contrast, self.training_split = model, contrast, training
        self.learning_rate, self.weight_decay = learning_rate, weight_decay

    def training_step(self, batch: FeatureComparisons, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss = self.model.loss(batch, self.contrast)
        self.log("training_loss", loss, batch_size=len(batch))
        return loss

    def on_train_epoch_end(self) -> None:
        """Let the head settle what has no gradient."""
        if not self.model.head.settles:
            return
        split = self.training_split
        every = split.table.compared(split.comparisons).to(self.device)
        with torch.no_grad():
            encoded = self.model.encode(every.context, every.response)
        self.model.head.settle(encoded, every)

    def validation_step(self, batch: FeatureComparisons, batch_idx: int) -> None:
        """Log-loss and accuracy of the first against the second."""
        logit, size = self.model.logit(batch), len(batch)
        self.log(MONITOR, preference_log_loss(logit, batch.win_share).mean(), batch_size=size)
        self.log("validation_accuracy", preference_accuracy(logit).mean(), batch_size=size)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )


def batches(
    split: JudgedSplit, *, batch_size: int, seed: int, shuffled: bool
) -> StatefulLoader[FeatureComparisons]:
    """The comparisons of a split in batches."""

    def collate(rows: np.ndarray, epoch: int) -> FeatureComparisons:
        return split.table.compared(split.comparisons, torch.as_tensor(rows))

    return StatefulLoader(
        np.zeros(len(split.comparisons), np.int64),
        collate,
        batch_size=batch_size,
        seed=seed,
        pool_batches=1 if shuffled else 0,
    )
