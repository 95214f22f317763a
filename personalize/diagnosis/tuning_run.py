"""The folder of a tuning run as a diagnosis reads it: configuration, weights and log."""

import csv
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float
from torch import Tensor

from data_prep.artifact import read_artifact, read_manifest
from data_prep.errors import InputError
from personalize.checkpoint import (
    FOLDER,
    KIND,
    checkpoint_folders,
    find_checkpoint,
    weights_of,
)
from personalize.preference_optimization.policy import PolicyKind, frozen_copy
from personalize.run_folder import CONFIGURATION, RunFolder

_PREFIX = "policy."
_COUNTERS = frozenset({"epoch", "step"})


@dataclass(frozen=True)
class TuningRun:
    """A run, or one of its checkpoints.

    Attributes:
        folder: Folder of the run; None where only a checkpoint is there.
        checkpoint: The checkpoint that is judged.
    """

    folder: Path | None
    checkpoint: Path

    @classmethod
    def of(cls, path: Path) -> "TuningRun":
        """The run that a path names, with the weights that validated best.

        A checkpoint inside a run belongs to it.

        Raises:
            InputError: If nothing whole is there.
        """
        checkpoint = find_checkpoint(path)
        run = checkpoint.parent.parent if checkpoint.parent.name == FOLDER else path
        return cls(run if (run / CONFIGURATION).is_file() else None, checkpoint)

    @property
    def name(self) -> str:
        """Name of the run's folder, or of the checkpoint's."""
        return (self.folder or self.checkpoint).resolve().name

    @property
    def step(self) -> int:
        """Steps of tuning behind the checkpoint; 0 where its name does not say."""
        return _step(self.checkpoint)

    @property
    def content_hash(self) -> str:
        """Of the checkpoint."""
        return read_manifest(self.checkpoint).content_hash

    def settings(self) -> dict[str, Any]:
        """What the run knows of a diagnosis: its half, its builder and its beta.

        Raises:
            InputError: If the run has no configuration or names no half.
        """
        found = RunFolder(self.folder).configuration if self.folder else None
        if found is None or not (found.get("data") or {}).get("half"):
            where = self.folder or self.checkpoint
            raise InputError(
                f"{where} is no run of personalize tune: no {CONFIGURATION} there names a "
                "data.half; give one by --config."
            )
        data, objective = found["data"], (found.get("model") or {}).get("objective") or {}
        known = {"half": data["half"], "builder": data.get("builder"), "beta": _beta(objective)}
        return {name: value for name, value in known.items() if value is not None}

    def between(self) -> list[tuple[int, Path]]:
        """Earlier whole checkpoints of the run with their steps, in order."""
        if self.folder is None:
            return []
        found = {}
        for prefix in ("best", "last"):
            for path in checkpoint_folders(self.folder, prefix):
                if _step(path) < self.step and is_whole(path):
                    found[_step(path)] = path
        return sorted(found.items())

    def policy(self, start: PolicyKind, checkpoint: Path | None = None) -> PolicyKind:
        """The generator with the weights of a checkpoint, by default of the judged one.

        Args:
            start: A generator of the same shape; it is copied.
            checkpoint: Folder of the checkpoint.

        Raises:
            InputError: If the checkpoint holds no policy, or one of another shape.
        """
        folder = checkpoint or self.checkpoint
        return with_weights(start, weights_of(read_artifact(folder, kind=KIND)), folder)

    def log(self) -> dict[str, Float[np.ndarray, " logged"]]:
        """What was logged by name, in order of steps, all parts of a resumed run together."""
        found: dict[str, dict[int, float]] = {}
        files = (
            sorted(self.folder.glob("metrics/*/metrics.csv"), key=_version) if self.folder else []
        )
        for path in files:
            with path.open(newline="", encoding="utf-8") as lines:
                for row in csv.DictReader(lines):
                    step = int(float(row.get("step") or 0))
                    for name, value in row.items():
                        if name and value and name not in _COUNTERS:
                            found.setdefault(name, {})[step] = float(value)
        return {
            name: np.array([values[step] for step in sorted(values)])
            for name, values in found.items()
        }


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is undamaged; one sentence on standard error where it is not."""
    try:
        read_artifact(checkpoint, kind=KIND)
    except InputError as error:
        sys.stderr.write(f"Skipping a damaged checkpoint: {error}\n")
        return False
    return True


def with_weights(start: PolicyKind, weights: dict[str, Tensor], folder: Path) -> PolicyKind:
    """A frozen copy of a generator with other weights, those named `policy.*`.

    Raises:
        InputError: If there are none, or they do not fit.
    """
    own = {
        name.removeprefix(_PREFIX): value
        for name, value in weights.items()
        if name.startswith(_PREFIX)
    }
    if not own:
        raise InputError(f"{folder} holds no weights of a tuned policy; give a run or one of its "
                         "checkpoints.")  # fmt: skip
    policy = frozen_copy(start)
    try:
        policy.load_state_dict(own)
    except RuntimeError as error:
        raise InputError(
            f"The weights of {folder} do not fit the {type(start).__name__} of the half."
        ) from error
    return policy


def _beta(chosen: Mapping[str, Any]) -> float | None:
    """The beta of an objective, or of what it is made of, such as its contrast."""
    options = chosen.get("init_args") or {}
    beta = options.get("beta")
    if isinstance(beta, int | float) and beta > 0:
        return float(beta)
    inner = (_beta(value) for value in options.values() if isinstance(value, Mapping))
    return next((value for value in inner if value is not None), None)


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _version(path: Path) -> int:
    number = path.parent.name.rpartition("_")[2]
    return int(number) if number.isdigit() else 0


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that is a mapping.

    Raises:
        InputError: If it is not there or is none.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file.")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} must be a mapping of settings.")
    return found
