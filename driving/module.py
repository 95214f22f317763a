"""Training and validation of any learned planner."""

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Bool, Float
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from driving.planner.batch import PlanningBatch
from driving.planner.learned import LearnedPlanner
from personalize.watched_module import WatchedModule, step_seed


class PlannerModule(WatchedModule):
    """One planner with its optimizer, learning rate, averaged weights and validation.

    The moving average of the weights is a second planner beside the first. It is what validation
    plans with and what `driving.load` reads back, and as it lies in every state a run that is
    resumed goes on with the same bits. (Lightning's own callback for it is not used: weights that
    validate best would be stored without the average.)

    Attributes:
        planner: What is trained.
        averaged: The average of its weights; the planner itself where there is none.
    """

    def __init__(
        self,
        planner: LearnedPlanner,
        *,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = lambda parameters: AdamW(
            parameters, lr=1e-3
        ),
        warm_up_steps: int = 100,
        final_learning_rate_share: float = 0.0,
        averaging: float = 0.999,
        compile_loss: bool = False,
        seed: int = 0,
    ) -> None:
        """Hold the planner.

        Args:
            planner: What is trained.
            optimizer: Makes the optimizer from the parameters.
            warm_up_steps: Steps in which the learning rate rises from 0.
            final_learning_rate_share: Learning rate at the end of the run as a share of its peak.
            averaging: Share of the old average that is kept at every step, 0 to below 1; at the
                beginning less, so that random weights are soon forgotten. 0 turns it off.
            compile_loss: Compile the loss with `torch.compile`.
            seed: Seed of everything random within a step: noise, hidden styles, teacher's draws.

        Raises:
            ValueError: If `averaging` is out of range.
        """
        super().__init__(
            optimizer=optimizer,
            warm_up_steps=warm_up_steps,
            final_learning_rate_share=final_learning_rate_share,
            seed=seed,
        )
        if not 0 <= averaging < 1:
            raise ValueError(f"averaging must be at least 0 and below 1, got {averaging:g}.")
        self.planner = planner
        self._averaging = averaging
        if averaging:
            self.averaged = copy.deepcopy(planner).requires_grad_(requires_grad=False)
        self._loss = torch.compile(planner.loss) if compile_loss else planner.loss

    @property
    def planning(self) -> LearnedPlanner:
        """The planner that plans: the averaged one, if any."""
        return self.averaged if self._averaging else self.planner

    @property
    def trained(self) -> nn.Module:
        """The planner, without its average."""
        return self.planner

    def batch_tensors(self, batch: PlanningBatch) -> Mapping[str, Tensor]:
        """Every tensor by its dotted name."""
        return batch.tensors()

    def on_fit_start(self) -> None:
        """Let the planners look over the training futures, and prepare the look at every step."""
        self.watch_steps()
        found = self.trainer.datamodule.training_futures()  # pyright: ignore[reportAttributeAccessIssue]
        self.planner.survey(*found)
        if self._averaging:
            self._copy_buffers()

    def training_step(self, batch: PlanningBatch, batch_idx: int) -> Float[Tensor, ""]:
        """The loss of one batch."""
        parts = self._loss(batch)
        for name, value in parts.items():
            shown = "training_loss" if name == "loss" else f"training_{name}"
            self.log(shown, value, prog_bar=name == "loss", batch_size=len(batch))
        self.note_step(batch, parts["loss"])
        return parts["loss"]

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], object] | None = None,
    ) -> None:
        """Take the step and move the average, before anything writes a state."""
        optimizer.step(closure=optimizer_closure)  # pyright: ignore[reportCallIssue, reportArgumentType]
        if self._averaging:
            self._move_average()

    def _move_average(self) -> None:
        step = self.trainer.global_step
        kept = min(self._averaging, (1 + step) / (10 + step))
        with torch.no_grad():
            pairs = zip(self.averaged.parameters(), self.planner.parameters(), strict=True)
            for mine, theirs in pairs:
                mine.lerp_(theirs, 1 - kept)
        self._copy_buffers()

    def _copy_buffers(self) -> None:
        for mine, theirs in zip(self.averaged.buffers(), self.planner.buffers(), strict=True):
            mine.copy_(theirs)

    def validation_step(self, batch: PlanningBatch, batch_idx: int) -> None:
        """Log loss and displacement errors of one validation batch."""
        self._evaluate(batch, batch_idx, "validation")

    def test_step(self, batch: PlanningBatch, batch_idx: int) -> None:
        """Log loss and displacement errors of one test batch."""
        self._evaluate(batch, batch_idx, "test")

    def _evaluate(self, batch: PlanningBatch, number: int, stage: str) -> None:
        torch.manual_seed(step_seed(self._seed, number))
        loss = self.planning.loss(batch)["loss"]
        plans = self.planning.plan(batch.scene, batch.style, seed=self._seed)
        rows, whole = batch.future_mask.any(-1), batch.future_mask[:, -1]
        chosen = average_displacement(plans.best[:, None], batch.future, batch.future_mask)[:, 0]
        every = average_displacement(plans.poses, batch.future, batch.future_mask).amin(1)
        final = (plans.best[:, -1, :2] - batch.future[:, -1, :2]).norm(dim=-1)
        logged = {
            "loss": (loss, rows),
            "ade_m": (_mean(chosen, rows), rows),
            "best_of_all_ade_m": (_mean(every, rows), rows),
            "score": (-_mean(chosen, rows), rows),
            "fde_m": (_mean(final, whole), whole),
        }
        for name, (value, counted) in logged.items():
            count = int(counted.sum())
            if count:
                self.log(f"{stage}_{name}", value, batch_size=count, sync_dist=True,
                         prog_bar=name == "ade_m")  # fmt: skip


def average_displacement(
    poses: Float[Tensor, "batch candidate time 3"],
    future: Float[Tensor, "batch time 3"],
    mask: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch candidate"]:
    """Mean distance in metres over the logged steps; 0 where none was logged."""
    gaps = (poses[..., :2] - future[:, None, :, :2]).norm(dim=-1)
    return (gaps * mask[:, None]).sum(-1) / mask.sum(-1, keepdim=True).clamp_min(1)


def _mean(values: Float[Tensor, " batch"], rows: Bool[Tensor, " batch"]) -> Float[Tensor, ""]:
    return (values * rows).sum() / rows.sum().clamp_min(1)
