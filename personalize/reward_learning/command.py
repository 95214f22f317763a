"""The command `personalize reward`: its configuration, the training and the artifact."""

import logging
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from data_prep.errors import InputError
from personalize.configured_class import named_values
from personalize.reward_learning.configuration import RewardLearning


def run(*, config: Path, out: Path, overwrite: bool, changes: Sequence[str]) -> None:
    """Learn what a configuration names and write the artifact `reward_model`.

    Args:
        config: The file.
        out: Folder to write. While it is trained the state lies beside it, in `<out>-unfinished`:
            the same command given again goes on from there.
        overwrite: Replace a reward model that is there.
        changes: Settings to change, as `NAME=VALUE`.

    Raises:
        InputError: If the configuration or what it names does not fit, or the artifact cannot be
            written.
    """
    options, configuration = read_configuration(config, changes)
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; pass --overwrite to replace it.")
    from personalize.checkpoint_plugin import RunRecord
    from personalize.reward_learning.learning import (
        built_model,
        finished,
        prepared_splits,
        train,
    )
    from personalize.rewards.stored_reward_model import write_reward_model
    from personalize.run_folder import RunFolder

    _be_quiet()
    half = options.source.open()
    splits = prepared_splits(half, options)
    model, sizes = built_model(options, splits.training)
    folder = RunFolder(out.with_name(f"{out.name}-unfinished"))
    record = RunRecord("personalize reward", configuration, dict(half.inputs))
    train(model, splits, options, run=folder, record=record)
    facts = finished(model, splits, seed=options.seed)
    write_reward_model(
        out,
        model,
        sizes,
        configuration=configuration,
        inputs=half.inputs,
        facts={"learned_from": dict(half.facts), **facts},
        overwrite=overwrite,
    )
    shutil.rmtree(folder.path)
    sys.stderr.write(_summary(facts) + f"\n{out}\n")


def read_configuration(
    config: Path, changes: Sequence[str] = ()
) -> tuple[RewardLearning, dict[str, Any]]:
    """What a file configures, and the same as plain values.

    Raises:
        InputError: If it cannot be read, or does not fit.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(prog="personalize reward", exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(RewardLearning)
    if not config.is_file():
        raise InputError(f"{config} is no file.")
    options = [f"--{name}={value}" for name, value in named_values(changes).items()]
    try:
        parsed = parser.parse_args([f"--config={config}", *options])
        plain = yaml.safe_load(parser.dump(parsed))
        built = parser.instantiate(parsed).as_dict()
        built.pop("config")
        found = RewardLearning(**built)
    except (ArgumentError, ValueError) as error:
        words = " ".join(str(error).split())
        ending = "" if words.endswith(".") else "."
        raise InputError(f"The configuration does not fit: {words}{ending}") from error
    return found, {key: value for key, value in plain.items() if key != "config"}


def _summary(facts: Mapping[str, Any]) -> str:
    parts = []
    for name in ("before_calibration", "after_calibration"):
        report = facts[name]
        accuracy = report.get("accuracy")
        parts.append(
            f"{name.split('_')[0]}: log-loss {report['log_loss']['mean']:.4f}, calibration error "
            f"{report['calibration_error']:.4f}"
            + (f", accuracy {accuracy['mean']:.4f}" if accuracy else "")
        )
    return f"Temperature {facts['temperature']:.3f}; " + "; ".join(parts) + "."


def _be_quiet() -> None:
    """Leave out what Lightning tells about itself; errors and real warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.(pytorch|fabric)")
