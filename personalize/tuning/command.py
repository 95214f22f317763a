"""The command `personalize tune`: a trained generator, an objective, and a tuned checkpoint."""

import json
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
from personalize.run_folder import TUNED

if TYPE_CHECKING:
    from lightning.pytorch.cli import LightningArgumentParser

    from personalize.experiment_cli import ExperimentCLI
    from personalize.tuning.data import TuningData

EVALUATION = "evaluation.json"
LOG_EVERY = 5
"""Steps between two lines of the log."""
SECTIONS = {
    "model": "personalize.tuning.module.TuningModule",
    "data": "personalize.tuning.data.TuningData",
    "trainer": "lightning.pytorch.trainer.trainer.Trainer",
    "early_stopping": "lightning.pytorch.callbacks.early_stopping.EarlyStopping",
    "checkpoints": "personalize.run_checkpoints.RunCheckpoints",
}
HELP = """usage: personalize tune --config FILE [--section.option VALUE ...]

Tune a trained recommender or planner by preferences, and evaluate it before and after.

  personalize tune --config configs/personalize/tune/items_dpo.yaml
  personalize tune --config configs/personalize/tune/items_dpo.yaml --trainer.max_steps 100 \\
             --model.objective.init_args.contrast.init_args.beta 0.3

What
  --data.half CLASS            which half, from which checkpoint
  --data.builder CLASS         what makes comparisons of its answers
  --data.comparisons FOLDER    comparisons to read instead; with neither it tunes on logged
                               targets, or on what the generator draws and a reward judges
  --model.objective CLASS      what is minimised
  --model.optimizer CLASS      and how

Run
  --config FILE                a configuration; later ones win, options win over all
  --run-folder FOLDER          where the run is kept (default: runs/<configuration>-<hash>)
  --resume FOLDER              go on with a run, optimizer and all; options given here win
  --trainer.max_epochs N       passes over the comparisons at most
  --seed_everything N          the one seed of a run (default 0)
  --print_config               show the whole configuration and leave
  --help-all                   every option of model, data and trainer (takes seconds)

The run's folder then holds `tuned`, a checkpoint like the one it began with, and
`evaluation.json`. The same command given twice goes on where the first one stopped.
"""


def tune(arguments: Sequence[str]) -> int:
    """Tune a generator; see `personalize tune --help`.

    Raises:
        InputError: If an option, a configuration, an input or a checkpoint is wrong.
    """
    door = ExperimentDoor(
        program="personalize tune",
        help=HELP,
        sections=SECTIONS,
        linked=frozenset({"model.policy", "model.seed", "data.seed", "early_stopping.monitor"}),
        folders=("data.comparisons",),
    )
    options = split_arguments(arguments)
    if options.help == "short":
        sys.stdout.write(HELP)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        base = options.own.get("resume")
        if base is not None:
            options = options_over(options, base, Path(scratch))
        if not options.help:
            check_configuration(options, door)
        return _train(door, options)


def _train(door: ExperimentDoor, options: FrontOptions) -> int:
    from personalize.experiment_cli import Experiment, run_experiment
    from personalize.tuning.data import TuningData
    from personalize.tuning.module import TuningModule

    experiment = Experiment(
        door=door,
        model_class=TuningModule,
        data_class=TuningData,
        link=link_data,
        documents=documents,
        monitor="validation_score",
        conclude=conclude,
    )
    return run_experiment(experiment, options, stage="fit")


def link_data(parser: "LightningArgumentParser") -> None:
    """The policy comes from the data, and one seed serves all.

    Tuning is short, and a diagnosis reads its log, so that is written more often than elsewhere.
    """
    parser.set_defaults({"trainer.log_every_n_steps": LOG_EVERY})
    parser.link_arguments("data.policy", "model.policy", apply_on="instantiate")
    for target in ("model.seed", "data.seed"):
        parser.link_arguments("seed_everything", target, compute_fn=int)


def documents(data: "TuningData") -> dict[str, Any]:
    """What a reader of the weights must know: what they were tuned from, on what."""
    return {"tuning": data.facts()}


def conclude(cli: "ExperimentCLI") -> None:
    """Write the tuned checkpoint and what tuning changed into the run's folder.

    Raises:
        InputError: If the run has no checkpoint, or the folder cannot be written.
    """
    from personalize.preference_optimization.tunable import TEST
    from personalize.tuning.outcome import outcome, outcome_text

    run, data = cli.run.path, cli.datamodule
    if (run / EVALUATION).is_file():
        sys.stderr.write(outcome_text(json.loads((run / EVALUATION).read_text(encoding="utf-8"))))
        return
    tuned = best_policy(cli)
    if not (run / TUNED / "manifest.json").is_file():
        data.half.write(
            tuned,
            run / TUNED,
            command="personalize tune",
            options={"run": str(run), **cli.plain_configuration["model"]["objective"]},
        )
    device = cli.trainer.strategy.root_device
    found = outcome(
        *(data.half.evaluate(policy.to(device).eval(), TEST) for policy in (data.policy, tuned))
    )
    found["tuned_on"] = data.facts()
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    (run / EVALUATION).write_text(text, encoding="utf-8")
    sys.stderr.write(f"{outcome_text(found)}{run / TUNED}\n")


def best_policy(cli: "ExperimentCLI"):  # noqa: ANN201  (a Policy, which is not imported up here)
    """The policy with the weights that validated best, on the CPU.

    Raises:
        InputError: If they do not fit.
    """
    from data_prep.artifact import read_artifact
    from personalize.checkpoint import KIND, best_checkpoint, weights_of

    folder = best_checkpoint(cli.run.path, cli.checkpoint)
    prefix = "policy."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights_of(read_artifact(folder, kind=KIND)).items()
        if name.startswith(prefix)
    }
    policy = cli.model.policy.cpu()
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{folder} does not fit {type(policy).__name__}.") from error
    return policy.eval()
