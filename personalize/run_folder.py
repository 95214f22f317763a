"""The folder of one training run: its configuration, its inputs, and whether it has finished.

A run is the same run when its configuration and the content of its inputs are the same; then it
goes on where it stopped. Anything else in the same folder would mix two runs, so it is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_prep.errors import InputError

CONFIGURATION = "config.yaml"
INPUTS = "inputs.json"
FINISHED = "finished.json"
TUNED = "tuned"


@dataclass(frozen=True)
class RunFolder:
    """Folder of a run.

    Attributes:
        path: Where it is; it need not be there yet.
    """

    path: Path

    @property
    def configuration(self) -> dict[str, Any] | None:
        """The configuration it was started with; None where there is none."""
        path = self.path / CONFIGURATION
        return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def inputs(self) -> dict[str, str]:
        """Content hash of every input it was started with."""
        path = self.path / INPUTS
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def finished(self) -> dict[str, Any] | None:
        """What the run ended with; None where it has not."""
        path = self.path / FINISHED
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def begin(self, configuration: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
        """Write down what the run is.

        Raises:
            InputError: If the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / FINISHED).unlink(missing_ok=True)
            text = yaml.safe_dump(dict(configuration), sort_keys=False, allow_unicode=True)
            (self.path / CONFIGURATION).write_text(text, encoding="utf-8")
            self._write_json(INPUTS, dict(inputs))
        except OSError as error:
            raise InputError(
                f"Cannot write the run folder {self.path}: {error.strerror}; "
                "choose another --run-folder."
            ) from error

    def end(self, summary: Mapping[str, Any]) -> None:
        """Write down what the run ended with."""
        self._write_json(FINISHED, dict(summary))

    def _write_json(self, name: str, value: object) -> None:
        text = json.dumps(value, indent=1, sort_keys=True)
        (self.path / name).write_text(text + "\n", encoding="utf-8")


def run_name(stem: str, configuration: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Name of a run folder: the configuration's name and a hash of all that makes the run."""
    text = json.dumps([configuration, dict(inputs)], sort_keys=True, default=str)
    return f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations, one line per option, in order of its name.

    Example:
        >>> differences({"model": {"width": 1, "heads": 2}}, {"model": {"width": 3, "heads": 2}})
        ['model.width: 1 -> 3']
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{name}: {before.get(name, 'not set')} -> {after.get(name, 'not set')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _leaves(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            found += _leaves(inner, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", inner))
    return found
