"""The command `personalize reward`: comparisons of a half, and a calibrated reward model."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personalize.experiment_front import (
    ExperimentDoor,
    FrontOptions,
    check_configuration,
    options_over,
    split_arguments,
)

if TYPE_CHECKING:
    from lightning.pytorch.cli import LightningArgumentParser

    from personalize.experiment_cli import ExperimentCLI
    from personalize.reward_learning.data import RewardData

FOLDER = "reward_model"
SECTIONS = {
    "model": "personalize.reward_learning.module.RewardModule",
    "data": "personalize.reward_learning.data.RewardData",
    "trainer": "lightning.pytorch.trainer.trainer.Trainer",
    "early_stopping": "lightning.pytorch.callbacks.early_stopping.EarlyStopping",
    "checkpoints": "personalize.run_checkpoints.RunCheckpoints",
}
HELP = """usage: personalize reward --config FILE [--section.option VALUE ...]

Compare what a trained recommender or planner could answer, learn a reward model from that,
calibrate it, and say how well it predicts comparisons in other contexts.

  personalize reward --config configs/personalize/reward.yaml
  personalize reward --config configs/personalize/reward.yaml --trainer.max_steps 20

What
  --data.half CLASS            which half, from which checkpoint
  --data.builder CLASS         what makes comparisons of its candidates; or
  --data.comparisons FOLDER    comparisons that personalize compare wrote
  --model.head CLASS           what the model says: a score, attributes, groups, who wins
  --model.contrast CLASS       how scores become a loss
  --model.encoder CLASS        what reads the features

Run
  --config FILE                a configuration; later ones win, options win over all
  --run-folder FOLDER          where the run is kept (default: runs/<configuration>-<hash>)
  --resume FOLDER              go on with a run, optimizer and all; options given here win
  --trainer.max_epochs N       passes over the comparisons at most
  --trainer.max_steps N        steps at most; a few make a reward model that can be exploited
  --seed_everything N          the one seed of a run (default 0)
  --print_config               show the whole configuration and leave
  --help-all                   every option of model, data and trainer (takes seconds)

The run's folder then holds `reward_model`. The same command given twice goes on where the first
one stopped.
"""


DOOR = ExperimentDoor(
    program="personalize reward",
    help=HELP,
    sections=SECTIONS,
    linked=frozenset({"model.sizes", "model.seed", "data.seed", "early_stopping.monitor"}),
)


def reward(arguments: Sequence[str]) -> int:
    """Learn a reward model; see `personalize reward --help`.

    Raises:
        InputError: If an option, a configuration, an input or a checkpoint is wrong.
    """
    options = split_arguments(arguments)
    if options.help == "short":
        sys.stdout.write(HELP)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        base = options.own.get("resume")
        if base is not None:
            options = options_over(options, base, Path(scratch))
        if not options.help:
            check_configuration(options, DOOR)
        return _train(options)


def _train(options: FrontOptions) -> int:
    from jsonargparse import set_parsing_settings

    from personalize.experiment_cli import Experiment, run_experiment
    from personalize.reward_learning.data import RewardData
    from personalize.reward_learning.module import RewardModule
    from personalize.rewards.preference_model import Sizes

    set_parsing_settings(subclasses_enabled=[Sizes])  # linked whole, not option by option
    experiment = Experiment(
        door=DOOR,
        model_class=RewardModule,
        data_class=RewardData,
        link=link_data,
        documents=documents,
        monitor="validation_score",
        conclude=conclude,
    )
    return run_experiment(experiment, options, stage="fit")


def link_data(parser: "LightningArgumentParser") -> None:
    """The sizes come from the data, and one seed serves all."""
    parser.link_arguments("data.sizes", "model.sizes", apply_on="instantiate")
    for target in ("model.seed", "data.seed"):
        parser.link_arguments("seed_everything", target, compute_fn=int)


def documents(data: "RewardData") -> dict[str, Any]:
    """What a reader of the weights must know: what they were learnt from."""
    return {"learned_from": data.facts()}


def conclude(cli: "ExperimentCLI") -> None:
    """Calibrate the weights that validated best and write them into the run's folder.

    Raises:
        InputError: If the folder cannot be written.
    """
    from data_prep.artifact import read_artifact
    from personalize.checkpoint import KIND, best_checkpoint, weights_of
    from personalize.reward_learning.report import calibrated
    from personalize.rewards.stored_reward_model import read_reward_model, write_reward_model

    folder, data = cli.run.path / FOLDER, cli.datamodule
    if (folder / "manifest.json").is_file():
        sys.stderr.write(_summary(read_reward_model(folder).facts))
        return
    module = cli.model.cpu()
    best = best_checkpoint(cli.run.path, cli.checkpoint)
    module.load_state_dict(weights_of(read_artifact(best, kind=KIND)))
    facts = {**data.facts(), **calibrated(module.model.eval(), data)}
    write_reward_model(
        folder,
        module.model,
        data.sizes,
        configuration=cli.plain_configuration,
        inputs=data.input_hashes(),
        facts=facts,
    )
    sys.stderr.write(f"{_summary(facts)}{folder}\n")


def _summary(facts: Mapping[str, Any]) -> str:
    lines = [f"temperature {facts['temperature']:.3f}"]
    for name, report in (("before", facts["before"]), ("after", facts["after"])):
        accuracy = report.get("accuracy")
        told = f", accuracy {accuracy['mean']:.4f}" if accuracy else ""
        lines.append(
            f"{name} calibration: log-loss {report['log_loss']['mean']:.4f}, calibration error "
            f"{report['calibration_error']:.4f}{told}"
        )
    return "\n".join(lines) + "\n"
