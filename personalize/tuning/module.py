"""The Lightning loop of tuning: it knows when to draw, when to judge and when to begin a round."""

import copy
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW

from data_prep.errors import InputError
from personalize.preference_optimization.auxiliary import fit_parts
from personalize.preference_optimization.compared import ComparisonBatch
from personalize.preference_optimization.objective import Objective, Rollouts
from personalize.preference_optimization.policy import Policy, frozen_copy
from personalize.preference_optimization.rolling_out import rolled_out
from personalize.preference_optimization.rounds import ReferenceRefresh
from personalize.preference_optimization.tunable import VALIDATION
from personalize.tuning.data import TuningData
from personalize.tuning.rounds import RoundKeeper, Rounds
from personalize.watched_module import OptimizerMaker, WatchedModule, step_seed


class TuningModule(WatchedModule):
    """One policy that an objective tunes, beside its frozen reference.

    The policy is a copy of the half's: that one stays as it was, and is what the tuned one is
    compared with. A step reads comparisons, or draws responses and has them judged; what is then
    minimised is the objective's affair.

    Attributes:
        policy: What is trained.
        objective: What is minimised.
        reference: The frozen policy; None where its scores are kept or not used.
        opening: What the round's comparisons are made of; None without rounds.
        ended: The policy at the end of the last round, before it was accelerated; None where it is
            not.
        round: Number of the round.
    """

    round: Tensor

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        policy: Policy,
        objective: Objective,
        *,
        optimizer: OptimizerMaker = lambda parameters: AdamW(parameters, lr=1e-5),
        warm_up_steps: int = 0,
        final_learning_rate_share: float = 0.0,
        dropout: bool = False,
        rounds: Rounds | None = None,
        moving_reference: ReferenceRefresh | None = None,
        seed: int = 0,
    ) -> None:
        """Copy the policy.

        Args:
            policy: Where tuning begins. What it has frozen stays frozen, unless that is all.
            objective: What is minimised.
            optimizer: Makes the optimizer from the parameters.
            warm_up_steps: Steps in which the learning rate rises from 0.
            final_learning_rate_share: Learning rate at the end of the run as a share of its peak.
            dropout: Train with dropout. Without, log-ratios compare two networks and no noise.
            rounds: Make comparisons anew every few epochs; None makes them once.
            moving_reference: Let the reference follow every few steps; None keeps it.
            seed: Seed of what is drawn in a step.

        Raises:
            ValueError: If the policy does not have what a part of the objective reads.
        """
        super().__init__(
            optimizer=optimizer,
            warm_up_steps=warm_up_steps,
            final_learning_rate_share=final_learning_rate_share,
            seed=seed,
        )
        self.policy = copy.deepcopy(policy)
        if not any(weight.requires_grad for weight in self.policy.parameters()):
            self.policy.requires_grad_(requires_grad=True)
        self.objective = objective
        fit_parts(objective, self.policy)
        self.reference: Policy | None = None
        self.opening: Policy | None = None
        self.ended: Policy | None = None
        self.register_buffer("round", torch.tensor(0))
        self._rounds, self._moving_reference = rounds, moving_reference
        self._dropout = dropout
        self._kept: tuple[ComparisonBatch, Rollouts] | None = None

    @property
    def trained(self) -> nn.Module:
        """The policy, and what weights the objective has."""
        return nn.ModuleList([self.policy, self.objective])

    def batch_tensors(self, batch: ComparisonBatch) -> ComparisonBatch:
        """The batch itself."""
        return batch

    @property
    def _data(self) -> TuningData:
        return self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]

    def setup(self, stage: str) -> None:
        """Have the comparisons made, before anything asks how many there are.

        Raises:
            InputError: If the objective reads comparisons and none are made, or a reference is to
                move that it does not read.
        """
        objective, data = self.objective, self._data
        if objective.group_size == 0 and not data.compares:
            raise InputError(
                f"{type(objective).__name__} reads comparisons; "
                "give data.builder or data.comparisons."
            )
        if self._moving_reference is not None and not objective.uses_reference:
            raise InputError(
                f"{type(objective).__name__} reads no reference; leave out model.moving_reference."
            )
        device = self.trainer.strategy.root_device
        self.policy.to(device).eval()
        rounds = self._rounds
        if rounds is not None:
            self.opening = frozen_copy(self.policy)
            self.ended = frozen_copy(self.policy) if rounds.acceleration else None
        needed = frozen_copy(self.policy) if objective.uses_reference else None
        lasting = rounds is not None and not rounds.refresh_reference
        in_steps = not self._keeps_scores or objective.asks_reference or objective.judges_reference
        self.reference = needed if in_steps or lasting else None
        data.build(self.policy, needed if self._keeps_scores else None)

    @property
    def _keeps_scores(self) -> bool:
        """Whether the reference's scores of the comparisons are made before the steps."""
        data = self._data
        fixed = self._moving_reference is None and not self.policy.draws_noise
        return data.cache_reference and data.compares and self.objective.group_size == 0 and fixed

    def configure_callbacks(self) -> list[L.Callback]:
        """What begins rounds."""
        return [RoundKeeper(self._rounds, self._moving_reference)]

    def begin_round(self, number: int, opening: Mapping[str, Tensor]) -> None:
        """Make the comparisons of a round, and its reference if it gets one.

        Args:
            number: Of the round.
            opening: Weights of the policy that comparisons are made of.
        """
        if self.opening is None or self._rounds is None:
            raise TypeError("there are no rounds to begin.")
        self.opening.load_state_dict(opening)
        if self.reference is not None and self._rounds.refresh_reference:
            self.reference.load_state_dict(opening)
        self.round.fill_(number)
        self._build_round()

    def _build_round(self) -> None:
        if self.opening is None or self._rounds is None:
            return
        reference = self.opening if self._rounds.refresh_reference else self.reference
        used = self.objective.uses_reference and self._keeps_scores
        self._data.build(self.opening, reference if used else None, number=int(self.round))

    def on_fit_start(self) -> None:
        """Prepare the look at every step, and the comparisons of a round that is gone on with.

        Raises:
            InputError: If a state may be written between two steps on the same rollouts.
        """
        self.watch_steps()
        every = [getattr(c, "every_n_batches", None) for c in self.trainer.checkpoint_callbacks]
        updates = self.objective.updates
        if any(number and number % updates for number in every):
            raise InputError(
                f"checkpoints.every_n_batches must be a multiple of the objective's {updates} "
                "updates on the same rollouts; nothing could go on from a state between two."
            )
        if int(self.round):  # a run that is gone on with: its comparisons are made again
            self._build_round()

    def training_step(self, batch: ComparisonBatch, batch_idx: int) -> Float[Tensor, ""]:
        """The loss of one batch, or of what was drawn in its contexts."""
        self.policy.train(self._dropout)
        step = self.trainer.fit_loop.total_batch_idx
        self._reseed(step_seed(self._seed, step))
        rollouts = None
        if self.objective.group_size > 0:
            if self._kept is None or batch_idx % self.objective.updates == 0:
                self._kept = batch, self._rolled_out(batch, step)
            batch, rollouts = self._kept
        parts = self.objective(self.policy, self.reference, batch, rollouts)
        for name, value in parts.items():
            shown = "training_loss" if name == "loss" else f"training_{name}"
            self.log(shown, value, prog_bar=name == "loss", batch_size=len(batch))
        self.note_step(batch, parts["loss"])
        return parts["loss"]

    def _rolled_out(self, batch: ComparisonBatch, step: int) -> Rollouts:
        """Responses of the policy to a batch of contexts, and what they are worth."""
        if batch.numbers is None:
            raise TypeError("a batch to draw in needs the numbers of its contexts.")
        return rolled_out(
            self.policy,
            self.reference,
            self._data.half,
            self.objective,
            batch.contexts,
            numbers=batch.numbers,
            seed=step_seed(self._seed, step, self.global_rank) % 2**31,
        )

    def _reseed(self, seed: int) -> None:
        self.policy.reseed(seed)
        if self.reference is not None:
            self.reference.reseed(seed)

    def validation_step(self, batch: ComparisonBatch, batch_idx: int) -> None:
        """Log what the objective says of held-out comparisons, or of logged targets."""
        if self.objective.group_size > 0:
            return
        self._reseed(step_seed(self._seed, batch_idx))
        parts = self.objective(self.policy, self.reference, batch, None)
        for name, value in parts.items():
            self.log(f"validation_{name}", value, batch_size=len(batch), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the half's own evaluation: every measure, and the main one as `validation_score`."""
        found = self._data.half.evaluate(self.policy.eval(), VALIDATION, seed=self._seed)
        for name, mean in measured_means(found.values).items():
            self.log(f"validation_{_word(name)}", mean)
        main = measured_means(found.values)[found.main]
        sign = -1.0 if found.main in found.lower_is_better else 1.0
        self.log("validation_score", sign * main, prog_bar=True)


def measured_means(values: Mapping[str, Any]) -> dict[str, float]:
    """The mean of every measure over the contexts that have one; NaN where none has."""
    found = {name: torch.as_tensor(each, dtype=torch.float64) for name, each in values.items()}
    return {name: float(each.nanmean()) for name, each in found.items()}


def _word(name: str) -> str:
    """A name as a log may call it: `ndcg@10` is `ndcg10`."""
    kept = (letter if letter.isalnum() else "_" for letter in name.replace("@", ""))
    return "".join(kept)
