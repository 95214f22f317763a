"""The Lightning loop of a reward model."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from data_prep.errors import InputError
from personalize.preference_optimization.contrast import Contrast
from personalize.reward_learning.data import RewardData
from personalize.rewards.bradley_terry import seeded
from personalize.rewards.feature_comparisons import FeatureComparisons
from personalize.rewards.heads import ScalarHead
from personalize.rewards.preference_calibration import preference_accuracy, preference_log_loss
from personalize.rewards.preference_model import (
    FeatureEncoder,
    LayeredEncoder,
    PreferenceHead,
    PreferenceModel,
    Sizes,
)
from personalize.watched_module import OptimizerMaker, WatchedModule


class RewardModule(WatchedModule):
    """Minimises a contrast of a preference model's scores.

    Attributes:
        model: What is trained.
    """

    def __init__(
        self,
        sizes: Sizes,
        contrast: Contrast,
        *,
        encoder: Callable[[Sizes], FeatureEncoder] = LayeredEncoder,
        head: Callable[[Sizes, int], PreferenceHead] = ScalarHead,
        optimizer: OptimizerMaker = lambda parameters: AdamW(parameters, lr=1e-3),
        final_learning_rate_share: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Build the model; its first weights follow from the seed alone.

        Args:
            sizes: What the data knows.
            contrast: How scores become a loss; `DPO` with `beta: 1` is Bradley and Terry's.
            encoder: Makes one vector of context and response.
            head: What is read off the vector.
            optimizer: Makes the optimizer from the parameters.
            final_learning_rate_share: Learning rate at the end of the run as a share of its peak.
            seed: Of first weights, and of dropout.

        Raises:
            ValueError: If encoder or head do not fit the data.
        """
        super().__init__(
            optimizer=optimizer,
            warm_up_steps=0,
            final_learning_rate_share=final_learning_rate_share,
            seed=seed,
        )

        def build() -> PreferenceModel:
            made = encoder(sizes)
            return PreferenceModel(made, head(sizes, made.width))

        self.model = seeded(build, seed)
        self.contrast = contrast

    @property
    def trained(self) -> nn.Module:
        """The model."""
        return self.model

    def batch_tensors(self, batch: FeatureComparisons) -> FeatureComparisons:
        """The batch itself."""
        return batch

    @property
    def _data(self) -> RewardData:
        return self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]

    def setup(self, stage: str) -> None:
        """Have lists cut into pairs where need be, and see that the contrast takes what there is.

        Raises:
            InputError: If it does not: a contrast of pairs on lists, or one that needs a score of
                each on a model that only compares.
        """
        if self.model.head.pairs_only:
            self._data.make_pairs()
        split = self._data.training
        first = split.table.compared(split.comparisons, torch.arange(1)).to(self.device)
        try:
            self.model.loss(first, self.contrast)
        except ValueError as error:
            name = type(self.contrast).__name__
            raise InputError(f"{name} does not take these comparisons: {error}") from error

    def on_fit_start(self) -> None:
        """Prepare the look at every step."""
        self.watch_steps()

    def training_step(self, batch: FeatureComparisons, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss = self.model.loss(batch, self.contrast)
        self.log("training_loss", loss, prog_bar=True, batch_size=len(batch))
        self.note_step(batch, loss)
        return loss

    def on_train_epoch_end(self) -> None:
        """Let the head settle what has no gradient."""
        if not self.model.head.settles:
            return
        split = self._data.training
        every = split.table.compared(split.comparisons).to(self.device)
        with torch.no_grad():
            encoded = self.model.encode(every.context, every.response)
        self.model.head.settle(encoded, every)

    def validation_step(self, batch: FeatureComparisons, batch_idx: int) -> None:
        """Log-loss and accuracy on held-out pairs; the score is minus the log-loss."""
        logit, size = self.model.logit(batch), len(batch)
        loss = preference_log_loss(logit, batch.win_share).mean()
        self.log("validation_log_loss", loss, batch_size=size, sync_dist=True)
        self.log("validation_score", -loss, batch_size=size, sync_dist=True)
        right = preference_accuracy(logit).mean()
        self.log("validation_accuracy", right, batch_size=size, sync_dist=True)
