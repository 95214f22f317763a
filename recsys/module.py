"""Training and validation of any recommender, counting ones included."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from data_prep.errors import InputError
from personalize.watched_module import WatchedModule
from recsys.batch import HistoryBatch
from recsys.ranking import ndcg_at_k, recall_at_k, target_ranks
from recsys.recommender import Filters, Recommender


class RecommenderModule(WatchedModule):
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
        super().__init__(
            optimizer=optimizer,
            warm_up_steps=warm_up_steps,
            final_learning_rate_share=final_learning_rate_share,
            seed=seed,
        )
        self.recommender = recommender
        self.counts_only = not any(True for _ in recommender.parameters())
        self.automatic_optimization = not self.counts_only
        self._loss = torch.compile(recommender.loss) if compile_loss else recommender.loss
        self._filters = Filters(exclude_history=exclude_history)

    @property
    def trained(self) -> nn.Module:
        """The recommender."""
        return self.recommender

    def batch_tensors(self, batch: HistoryBatch) -> HistoryBatch:
        """The batch itself."""
        return batch

    def on_fit_start(self) -> None:
        """Prepare the look at every step, and let a counting recommender see the data once.

        Raises:
            InputError: If a counting recommender is to be trained by several processes.
        """
        self.watch_steps()
        if self.counts_only:
            if self.trainer.world_size > 1:
                raise InputError(
                    "A recommender that counts is trained by one process; pass --trainer.devices 1."
                )
            self.trainer.fit_loop.max_epochs = 1
        if self.recommender.surveys:
            data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            self.recommender.survey(data.every_training_row())

    def training_step(self, batch: HistoryBatch, batch_idx: int) -> Float[Tensor, ""] | None:
        """The loss of one batch; nothing to minimise for a recommender that counts."""
        loss = self._loss(batch)
        if self.counts_only:
            return None
        self.log("training_loss", loss, prog_bar=True, batch_size=len(batch))
        self.note_step(batch, loss)
        return loss

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
