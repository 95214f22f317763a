"""The command `driving fit` and its companions: quick checks first, torch only when they pass."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from personalize.experiment_front import (
    ExperimentDoor,
    FrontOptions,
    check_configuration,
    options_over,
    split_arguments,
)

if TYPE_CHECKING:
    from lightning.pytorch.cli import LightningArgumentParser

    from driving.data import DrivingDataModule

SECTIONS = {
    "model": "driving.module.PlannerModule",
    "data": "driving.data.DrivingDataModule",
    "trainer": "lightning.pytorch.trainer.trainer.Trainer",
    "early_stopping": "lightning.pytorch.callbacks.early_stopping.EarlyStopping",
    "checkpoints": "personalize.run_checkpoints.RunCheckpoints",
}
FIT_HELP = """usage: driving fit --config FILE [--section.option VALUE ...]

Train a planner on artifacts of the commands before it, and keep its checkpoints.

  driving fit --config configs/driving/diffusion.yaml --data.scenes artifacts/scenes \\
              --data.styles artifacts/styles --data.style_vectors artifacts/style_vectors

Artifacts
  --data.scenes FOLDER         scenes, from data-prep (always needed)
  --data.styles FOLDER         samples with their styles, from driving annotate (always needed)
  --data.style_vectors FOLDER  what plans are conditioned on; without it nothing is asked for
  --data.teacher FOLDER        the same scenes driven in several styles

Run
  --data.condition WORD        own, before, truth or none: which style of a training sample
  --config FILE                a configuration; later ones win, options win over all
  --run-folder FOLDER          where the run is kept (default: runs/<configuration>-<hash>)
  --resume FOLDER              go on with a run, optimizer and all; options given here win
  --init-from FOLDER           start anew from the weights of a run or checkpoint
  --trainer.max_epochs N       passes over the data at most; early stopping may end it sooner
  --seed_everything N          the one seed of a run (default 0)
  --print_config               show the whole configuration and leave
  --help-all                   every option of model, data and trainer (takes seconds)

The same command given twice goes on where the first one stopped.
"""
EVALUATE_HELP = """usage: driving {stage} --checkpoint FOLDER [--section.option VALUE ...]

Plan the {rows} samples with a trained planner and print loss and displacement errors.

  driving {stage} --checkpoint runs/diffusion-1a2b3c4d

  --checkpoint FOLDER          a run (its best weights) or one checkpoint
  --data.scenes FOLDER         other scenes than those it was trained on; likewise --data.styles,
                               --data.style_vectors and --data.teacher
"""


def fit(arguments: Sequence[str]) -> int:
    """Train a planner; see `driving fit --help`.

    Raises:
        InputError: If an option, a configuration, an input or a checkpoint is wrong.
    """
    return _run("fit", FIT_HELP, arguments)


def validate(arguments: Sequence[str]) -> int:
    """Plan the validation samples; see `driving validate --help`.

    Raises:
        InputError: If an option, an input or the checkpoint is wrong.
    """
    return _run("validate", EVALUATE_HELP.format(stage="validate", rows="validation"), arguments)


def test(arguments: Sequence[str]) -> int:
    """Plan the test samples; see `driving test --help`.

    Raises:
        InputError: If an option, an input or the checkpoint is wrong.
    """
    return _run("test", EVALUATE_HELP.format(stage="test", rows="test"), arguments)


def _run(stage: str, short_help: str, arguments: Sequence[str]) -> int:
    door = ExperimentDoor(
        program=f"driving {stage}",
        help=short_help,
        sections=SECTIONS,
        linked=frozenset({"model.seed", "data.seed", "early_stopping.monitor"}),
        folders=("data.scenes", "data.styles", "data.style_vectors", "data.teacher"),
    )
    options = split_arguments(arguments)
    if options.help == "short":
        sys.stdout.write(short_help)
        return 0
    own = options.own
    if stage != "fit" and "checkpoint" not in own and not options.help:
        raise InputError(f"--checkpoint is missing; pass a run or a checkpoint to {stage}.")
    with tempfile.TemporaryDirectory() as scratch:
        base = own.get("resume") if stage == "fit" else own.get("checkpoint")
        if base is not None:
            options = options_over(options, base, Path(scratch))
        if not options.help:
            check_configuration(options, door)
        return _train(door, options, stage)


def _train(door: ExperimentDoor, options: FrontOptions, stage: str) -> int:
    from driving.data import DrivingDataModule
    from driving.module import PlannerModule
    from personalize.experiment_cli import Experiment, run_experiment

    experiment = Experiment(
        door=door,
        model_class=PlannerModule,
        data_class=DrivingDataModule,
        link=link_seed,
        documents=documents,
        monitor="validation_score",
    )
    return run_experiment(experiment, options, stage=stage)


def link_seed(parser: "LightningArgumentParser") -> None:
    """One seed serves all."""
    for target in ("model.seed", "data.seed"):
        parser.link_arguments("seed_everything", target, compute_fn=int)


def documents(data: "DrivingDataModule") -> dict[str, Any]:
    """What a reader of the weights must know: what the numbers of a style mean."""
    from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS

    return {"style": {"dimensions": list(STYLE_DIMENSIONS)}}
