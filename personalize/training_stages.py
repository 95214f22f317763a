"""Training in stages: first some of the parameters alone, then all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import lightning as L
from torch import nn

from data_prep.errors import InputError


@dataclass(frozen=True)
class Stage:
    """Some steps in which only some parameters learn.

    Attributes:
        parameters: Patterns of their names, such as `recommender.control.*`.
        steps: Optimizer steps.

    Raises:
        ValueError: If no pattern is given or the steps are not positive.
    """

    parameters: Sequence[str]
    steps: int

    def __post_init__(self) -> None:
        if not self.parameters or self.steps < 1:
            raise ValueError(
                "a stage needs at least one pattern and one step, got "
                f"{list(self.parameters)} and {self.steps}."
            )


def stage_at(stages: Sequence[Stage], step: int) -> int:
    """Number of the stage of a step; one past the last stage is when everything learns.

    Example:
        >>> [stage_at([Stage(["control.*"], 2)], step) for step in range(4)]
        [0, 0, 1, 1]
    """
    end = 0
    for number, stage in enumerate(stages):
        end += stage.steps
        if step < end:
            return number
    return len(stages)


def matching(names: Iterable[str], patterns: Sequence[str]) -> frozenset[str]:
    """Names that fit any of the patterns."""
    return frozenset(name for name in names if any(fnmatchcase(name, p) for p in patterns))


class TrainingStages(L.Callback):
    """Lets only the parameters of a stage learn while it lasts, and all of them after the last.

    Light parameters that learn beside a whole model are starved: the model explains the data
    without them. Which stage it is follows from the number of the step alone, so a run that is
    resumed goes on in the right one. The optimizer knows all parameters from the start and leaves
    alone those without a gradient, so there is nothing to add to it later and nothing to lose in a
    checkpoint. A parameter that the module itself keeps from learning never learns.

    Source:
        In the manner of MEET: control parameters first, then everything, with the same loss.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        """Hold the stages.

        Args:
            stages: In order.
        """
        self.stages = tuple(stages)
        self._learning: dict[str, nn.Parameter] = {}
        self._stage: int | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at what is there to learn.

        Raises:
            InputError: If a stage names nothing that learns, or several processes train.
        """
        if self.stages and trainer.world_size > 1:
            raise InputError("Training in stages is done by one process; pass --trainer.devices 1.")
        self._stage = None
        self._learning = {
            name: parameter
            for name, parameter in pl_module.named_parameters()
            if parameter.requires_grad
        }
        for stage in self.stages:
            if not matching(self._learning, stage.parameters):
                raise InputError(
                    f"No parameter that learns is named {' or '.join(stage.parameters)}; there "
                    f"are {', '.join(sorted(self._learning)[:5])}, ..."
                )

    def on_train_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Enter the stage of this step, if it is another one."""
        stage = stage_at(self.stages, trainer.global_step)
        if stage != self._stage:
            self._stage = stage
            patterns = self.stages[stage].parameters if stage < len(self.stages) else ("*",)
            chosen = matching(self._learning, patterns)
            for name, parameter in self._learning.items():
                parameter.requires_grad_(name in chosen)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let everything learn again: a run may end within a stage."""
        self._release()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Let everything learn again."""
        self._release()

    def _release(self) -> None:
        for parameter in self._learning.values():
            parameter.requires_grad_(True)
