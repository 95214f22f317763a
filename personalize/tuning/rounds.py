"""Rounds: every so many epochs the comparisons, and the reference, are those of the policy now."""

from dataclasses import dataclass
from typing import Any

import lightning as L

from data_prep.errors import InputError
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.rounds import (
    CheckpointPool,
    ReferenceRefresh,
    extrapolated,
)


@dataclass(frozen=True)
class Rounds:
    """How rounds follow one another.

    A new round makes its comparisons of what the policy answers by then: iterative DPO. With
    `acceleration` the policy first goes on in the direction of the last round (Accelerated
    Preference Optimization). With `opponents` the answers, and the reference, are those of one of
    the last rounds' policies, drawn anew every round (SePPO).

    Attributes:
        epochs: Epochs of a round.
        refresh_reference: The reference is the policy at the beginning of the round; otherwise it
            stays the one tuning began with.
        acceleration: See `extrapolated`; 0 is off.
        opponents: Policies kept to be drawn from; 0 takes the present one.

    Raises:
        InputError: If a number is out of range, or opponents come without their reference.
    """

    epochs: int = 1
    refresh_reference: bool = True
    acceleration: float = 0.0
    opponents: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.opponents < 0:
            raise InputError(
                "rounds.epochs must be at least 1 and rounds.opponents at least 0, got "
                f"{self.epochs} and {self.opponents}."
            )
        if not 0 <= self.acceleration < 1:
            raise InputError(f"rounds.acceleration must lie in [0, 1), got {self.acceleration:g}.")
        if self.opponents and not self.refresh_reference:
            raise InputError("rounds.opponents needs rounds.refresh_reference: they are both.")


class RoundKeeper(L.Callback):
    """Begins rounds between epochs, and lets a reference follow between steps.

    A round begins before the first step of its epoch, so a state written after the epoch before is
    still of the old round, and a run that goes on from it begins the round itself.
    """

    def __init__(self, rounds: Rounds | None, moving_reference: ReferenceRefresh | None) -> None:
        """Take the settings; None is off."""
        self.rounds, self.moving_reference = rounds, moving_reference
        opponents = 0 if rounds is None else rounds.opponents
        self.pool = CheckpointPool(opponents, every=1) if opponents else None
        self._followed = 0

    def state_dict(self) -> dict[str, Any]:
        """The opponents, and the step after which the reference followed last."""
        pool = {} if self.pool is None else self.pool.state_dict()
        return {"followed": self._followed, "pool": pool}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The same of a run that is gone on with."""
        self._followed = state_dict["followed"]
        if self.pool is not None and state_dict["pool"]:
            self.pool.load_state_dict(state_dict["pool"])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:  # noqa: ANN401
        """Begin a round where one is due."""
        if self.rounds is None or trainer.current_epoch % self.rounds.epochs:
            return
        number = trainer.current_epoch // self.rounds.epochs
        if self.pool is not None:
            self.pool.offer(number, pl_module.policy.state_dict())
        if number != int(pl_module.round):
            self._begin(pl_module, number)

    def _begin(self, module: Any, number: int) -> None:  # noqa: ANN401  (a TuningModule)
        policy: Policy = module.policy
        if self.rounds is not None and self.rounds.acceleration:
            ended = {name: value.clone() for name, value in policy.state_dict().items()}
            further = extrapolated(module.ended.state_dict(), ended, self.rounds.acceleration)
            module.ended.load_state_dict(ended)
            policy.load_state_dict(further)
        opening = policy.state_dict() if self.pool is None else self.pool.draw(number)
        module.begin_round(number, opening)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Any,  # noqa: ANN401  (a TuningModule)
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Let the reference follow where it is due, once however many batches make a step."""
        moves, step = self.moving_reference, trainer.global_step
        if moves is None or step == self._followed or not moves.due(step):
            return
        self._followed = step
        reference: Policy = pl_module.reference
        reference.load_state_dict(moves(reference.state_dict(), pl_module.policy.state_dict()))
