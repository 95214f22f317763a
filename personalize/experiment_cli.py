"""The LightningCLI that every `fit` shares: run folders, exact resuming, errors in one sentence."""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, RichProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from data_prep.errors import InputError
from personalize.checkpoint import find_checkpoint, local_folder, newest_whole
from personalize.checkpoint_plugin import FolderCheckpoints, RunRecord
from personalize.experiment_front import ExperimentDoor, FrontOptions
from personalize.plain_progress import PlainProgress
from personalize.run_checkpoints import RunCheckpoints
from personalize.run_folder import RunFolder, differences, run_name

RUNS = Path("runs")


@dataclass(frozen=True)
class Experiment:
    """What one door trains.

    Attributes:
        door: Its name, help and sections.
        model_class: The Lightning module.
        data_class: The data module; it has `input_hashes()`.
        link: Links options that the data knows.
        documents: JSON documents a checkpoint carries beside the weights, from the data module.
        monitor: Metric that decides which weights are best; higher is better.
        conclude: What is done with a finished run, each time the command finds it finished.
    """

    door: ExperimentDoor
    model_class: type[L.LightningModule]
    data_class: type[L.LightningDataModule]
    link: Callable[[LightningArgumentParser], None]
    documents: Callable[[Any], Mapping[str, Any]]
    monitor: str
    conclude: Callable[["ExperimentCLI"], None] | None = None


class ExperimentCLI(LightningCLI):
    """Parses a configuration, builds model and data, and gives the run its folder.

    Attributes:
        run: Folder of the run.
        checkpoint: Checkpoint the run goes on from; None starts anew.
    """

    def __init__(self, experiment: Experiment, options: FrontOptions, *, stage: str) -> None:
        self.experiment = experiment
        self.options = options
        self.stage = stage
        self.run = RunFolder(RUNS)
        self.checkpoint: Path | None = None
        super().__init__(
            experiment.model_class,
            experiment.data_class,
            run=False,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            trainer_defaults={
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                "log_every_n_steps": 20,
                "max_epochs": 20,
            },
            parser_kwargs={"prog": experiment.door.program, "exit_on_error": False},
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Early stopping and checkpoints as sections of their own, and the links of the data."""
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(RunCheckpoints, "checkpoints")
        parser.set_defaults(
            {
                "early_stopping.monitor": self.experiment.monitor,
                "early_stopping.mode": "max",
                "early_stopping.patience": 10,
                "early_stopping.check_on_train_epoch_end": False,
                "checkpoints.monitor": self.experiment.monitor,
            }
        )
        self.experiment.link(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and say a mistake in one sentence.

        Raises:
            InputError: If the command line or a configuration is wrong.
        """
        try:
            self.config = parser.parse_args(list(self.options.rest) + self._long_help())
        except argparse.ArgumentError as error:
            raise InputError(_one_sentence(str(error))) from error

    def instantiate_classes(self) -> None:
        """Build model, data and trainer, and say a value that does not fit in one sentence.

        Raises:
            InputError: If a class refuses its options.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            reason = error.__cause__ or error  # jsonargparse wraps what an optional class says
            raise InputError(_one_sentence(str(reason))) from error

    def _long_help(self) -> list[str]:
        return ["--help"] if self.options.help == "long" else []

    @property
    def plain_configuration(self) -> dict[str, Any]:
        """The whole configuration as plain values."""
        plain = yaml.safe_load(self.parser.dump(self.config))
        plain.pop("config", None)
        return plain

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:  # noqa: ANN401
        """The trainer, working in the run's folder."""
        configured = self._get(self.config_init, "trainer")
        if self.stage != "fit":
            return self.trainer_class(logger=False, **_device(configured), **_quiet(configured))
        self._settle()
        record = RunRecord(
            command=self.experiment.door.program,
            configuration=self.plain_configuration,
            inputs=self.datamodule.input_hashes(),
            documents=self.experiment.documents(self.datamodule),
        )
        bar = _shows_bar(configured)
        configured.callbacks = [
            *_listed(configured.callbacks),
            RichProgressBar() if bar else PlainProgress(),
        ]
        loggers = [item for item in _listed(configured.logger) if not isinstance(item, bool)]
        return super().instantiate_trainer(
            default_root_dir=self.run.path,
            logger=[CSVLogger(self.run.path, name="metrics"), *loggers],
            plugins=[FolderCheckpoints(record), *_listed(configured.plugins)],
            precision=chosen_precision(configured),
            enable_progress_bar=bar,
        )

    def _settle(self) -> None:
        """Decide which folder the run has and where it begins."""
        own = self.options.own
        configuration, inputs = self.plain_configuration, self.datamodule.input_hashes()
        resumed = local_folder(own["resume"]) if "resume" in own else None
        if resumed is not None:
            start = RunFolder(run_of(resumed))
            self.run = RunFolder(Path(own.get("run_folder", start.path)))
            self.checkpoint = _last_of(resumed)
            _tell_differences(start, configuration, inputs)
        else:
            name = run_name(self.options.first_configuration, configuration, inputs)
            self.run = RunFolder(Path(own.get("run_folder", RUNS / name)))
            if self.run.configuration is not None:
                _check_same(self.run, configuration, inputs)
                self.checkpoint = newest_whole(self.run.path, "last")
        if resumed is None and self.run.finished is not None:
            return
        self.run.begin(configuration, inputs)


def run_experiment(experiment: Experiment, options: FrontOptions, *, stage: str) -> int:
    """Train, validate or test, and return the exit status.

    Raises:
        InputError: If the configuration, an input or a checkpoint is wrong, or training diverged.
    """
    _be_quiet()
    cli = ExperimentCLI(experiment, options, stage=stage)
    if stage != "fit":
        return _evaluate(cli, stage)
    if "resume" not in options.own and cli.run.finished is not None:
        sys.stderr.write(f"{cli.run.path} has finished already: {_summary(cli.run.finished)}\n")
        _conclude(cli)
        return 0
    if "init_from" in options.own:
        _load_weights(cli, find_checkpoint(options.own["init_from"]))
    if cli.checkpoint is not None:
        sys.stderr.write(f"Going on from {cli.checkpoint}\n")
    cli.trainer.fit(
        cli.model,
        datamodule=cli.datamodule,
        ckpt_path=str(cli.checkpoint) if cli.checkpoint else None,
        weights_only=True,
    )
    if cli.trainer.interrupted:
        raise KeyboardInterrupt
    if cli.trainer.is_global_zero:
        kept = cli.trainer.checkpoint_callbacks
        best = next(callback for callback in kept if isinstance(callback, RunCheckpoints))
        loop = cli.trainer.fit_loop
        epochs = loop.epoch_progress.current.processed  # pyright: ignore[reportAttributeAccessIssue]
        cli.run.end(
            {
                "epochs": epochs,
                "batches": loop.total_batch_idx + 1,
                best.monitor: best.best_value,
            }
        )
        sys.stderr.write(f"{cli.run.path}: {_summary(cli.run.finished or {})}\n")
        _conclude(cli)
    return 0


def _conclude(cli: ExperimentCLI) -> None:
    if cli.experiment.conclude is not None:
        cli.experiment.conclude(cli)


def run_of(folder: Path) -> Path:
    """The run a folder is or lies in: a checkpoint lies in `<run>/checkpoints`."""
    return folder.parent.parent if (folder / "manifest.json").is_file() else folder


def _last_of(folder: Path) -> Path | None:
    """The state to go on from; None where the run was stopped before its first one."""
    if (folder / "manifest.json").is_file():
        return find_checkpoint(folder)
    if RunFolder(folder).configuration is None:
        raise InputError(f"{folder} is no run: it has no config.yaml; pass the folder of a run.")
    return newest_whole(folder, "last")


def _check_same(
    run: RunFolder, configuration: Mapping[str, Any], inputs: Mapping[str, str]
) -> None:
    changed = differences(run.configuration or {}, configuration)
    changed += [f"content of {line.split(':')[0]}" for line in differences(run.inputs, inputs)]
    if changed:
        raise InputError(
            f"{run.path} holds another run ({'; '.join(changed[:3])}); choose another "
            f"--run-folder, or go on with the new settings by --resume {run.path}."
        )


def _tell_differences(
    run: RunFolder, configuration: Mapping[str, Any], inputs: Mapping[str, str]
) -> None:
    """Say which settings are not those of the run that is gone on with; the new ones hold."""
    for line in differences(run.configuration or {}, configuration):
        sys.stderr.write(f"Changed since {run.path}: {line}\n")
    for line in differences(run.inputs, inputs):
        sys.stderr.write(f"Changed since {run.path}: content of {line.split(':')[0]}\n")


def _load_weights(cli: ExperimentCLI, folder: Path) -> None:
    from data_prep.artifact import read_artifact
    from personalize.checkpoint import KIND, weights_of

    try:
        cli.model.load_state_dict(weights_of(read_artifact(folder, kind=KIND)))
    except RuntimeError as error:
        raise InputError(
            f"{folder} does not fit this model: {_one_sentence(str(error))}"
        ) from error
    sys.stderr.write(f"Weights from {folder}\n")


def _evaluate(cli: ExperimentCLI, stage: str) -> int:
    _load_weights(cli, find_checkpoint(cli.options.own["checkpoint"]))
    run = cli.trainer.validate if stage == "validate" else cli.trainer.test
    (values,) = run(cli.model, datamodule=cli.datamodule, verbose=False)
    sys.stdout.write("".join(f"{name} {value:.4f}\n" for name, value in sorted(values.items())))
    return 0


def chosen_precision(configured: Any) -> str:  # noqa: ANN401  (a jsonargparse namespace)
    """The precision asked for; else bf16 where a GPU computes in it, else 32 bit."""
    if configured.precision is not None:
        return configured.precision
    wants_gpu = configured.accelerator in ("auto", "gpu", "cuda")
    bf16 = wants_gpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if bf16 else "32-true"


def _device(configured: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "accelerator": configured.accelerator,
        "devices": 1,
        "precision": chosen_precision(configured),
        "limit_val_batches": configured.limit_val_batches,
        "limit_test_batches": configured.limit_test_batches,
    }


def _quiet(configured: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": _shows_bar(configured),
    }


def _shows_bar(configured: Any) -> bool:  # noqa: ANN401
    return (
        sys.stderr.isatty()
        if configured.enable_progress_bar is None
        else (configured.enable_progress_bar)
    )


def _listed(value: Any) -> list[Any]:  # noqa: ANN401
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _summary(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in sorted(values.items())
    )


def _one_sentence(message: str) -> str:
    """The telling parts of a long message, on one line."""
    lines = [line.strip(" -\t") for line in message.splitlines() if line.strip(" -\t")]
    text = " ".join(lines)
    return text if len(text) <= 500 else text[:250] + " ... " + text[-245:]


def _be_quiet() -> None:
    """Leave out what Lightning tells about itself; errors and real warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.(pytorch|fabric)")
