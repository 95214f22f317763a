"""The command `recsys fit` and its companions: quick checks first, torch only when they pass."""

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

    from recsys.data import InteractionDataModule

SECTIONS = {
    "model": "recsys.module.RecommenderModule",
    "data": "recsys.data.InteractionDataModule",
    "trainer": "lightning.pytorch.trainer.trainer.Trainer",
    "early_stopping": "lightning.pytorch.callbacks.early_stopping.EarlyStopping",
    "checkpoints": "personalize.run_checkpoints.RunCheckpoints",
}
FIT_HELP = """usage: recsys fit --config FILE [--section.option VALUE ...]

Train a recommender on artifacts of the commands before it, and keep its checkpoints.

  recsys fit --config configs/recsys/sasrec.yaml --data.tables artifacts/tables
  recsys fit --config configs/recsys/tiger.yaml --data.tables artifacts/tables \\
             --data.semantic_ids artifacts/semantic_ids --trainer.max_epochs 5

Artifacts
  --data.tables FOLDER         interactions, from data-prep (always needed)
  --data.vectors FOLDER        text vectors, from personalize encode
  --data.preferences FOLDER    preferences, from personalize extract
  --data.semantic_ids FOLDER   semantic IDs, from recsys tokenize

Run
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
EVALUATE_HELP = """usage: recsys {stage} --checkpoint FOLDER [--section.option VALUE ...]

Rank the {rows} rows of the data with a trained recommender and print loss, recall and NDCG.

  recsys {stage} --checkpoint runs/sasrec-1a2b3c4d

  --checkpoint FOLDER          a run (its best weights) or one checkpoint
  --data.tables FOLDER         other tables than those it was trained on; likewise --data.vectors,
                               --data.preferences and --data.semantic_ids
"""


def fit(arguments: Sequence[str]) -> int:
    """Train a recommender; see `recsys fit --help`.

    Raises:
        InputError: If an option, a configuration, an input or a checkpoint is wrong.
    """
    return _run("fit", FIT_HELP, arguments)


def validate(arguments: Sequence[str]) -> int:
    """Rank the validation rows; see `recsys validate --help`.

    Raises:
        InputError: If an option, an input or the checkpoint is wrong.
    """
    return _run("validate", EVALUATE_HELP.format(stage="validate", rows="validation"), arguments)


def test(arguments: Sequence[str]) -> int:
    """Rank the test rows; see `recsys test --help`.

    Raises:
        InputError: If an option, an input or the checkpoint is wrong.
    """
    return _run("test", EVALUATE_HELP.format(stage="test", rows="test"), arguments)


def _run(stage: str, short_help: str, arguments: Sequence[str]) -> int:
    door = ExperimentDoor(
        program=f"recsys {stage}",
        help=short_help,
        sections=SECTIONS,
        linked=frozenset({"model.seed", "data.seed", "early_stopping.monitor"}),
        folders=("data.tables", "data.vectors", "data.preferences", "data.semantic_ids"),
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
    from jsonargparse import set_parsing_settings

    from personalize.experiment_cli import Experiment, run_experiment
    from recsys.catalogue import Catalogue
    from recsys.data import InteractionDataModule
    from recsys.module import RecommenderModule

    set_parsing_settings(subclasses_enabled=[Catalogue])  # linked whole, not option by option
    experiment = Experiment(
        door=door,
        model_class=RecommenderModule,
        data_class=InteractionDataModule,
        link=link_data,
        documents=documents,
        monitor="validation_ndcg10",
    )
    return run_experiment(experiment, options, stage=stage)


def link_data(parser: "LightningArgumentParser") -> None:
    """The catalogue comes from the data, and one seed serves all."""
    parser.link_arguments(
        "data.catalogue", "model.recommender.init_args.catalogue", apply_on="instantiate"
    )
    for target in ("model.seed", "data.seed"):
        parser.link_arguments("seed_everything", target, compute_fn=int)


def documents(data: "InteractionDataModule") -> dict[str, Any]:
    """What a reader of the weights must know: sizes of the catalogue, and the codec if any."""
    from data_prep.artifact import read_artifact
    from recsys.catalogue import catalogue_sizes

    found: dict[str, Any] = {"catalogue": catalogue_sizes(data.catalogue)}
    semantic_ids = data.input_paths().get("semantic_ids")
    if semantic_ids is not None:
        found["codec"] = read_artifact(semantic_ids, kind="semantic_ids").json("codec")
    return found
