"""What a command is configured with: a class built from a YAML file, some settings changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_prep.errors import InputError
from personalize.configured_class import named_values

Configured = TypeVar("Configured")


def configured(
    kind: type[Configured], program: str, config: Path, changes: Sequence[str] = ()
) -> tuple[Configured, dict[str, Any]]:
    """What a file configures, and the same as plain values.

    Args:
        kind: What is built; its parameters are the settings.
        program: Whose settings these are, for messages.
        config: The file.
        changes: Settings to change, as `NAME=VALUE` with dotted names.

    Raises:
        InputError: If the file cannot be read, or does not fit.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(prog=program, exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(kind)
    if not config.is_file():
        raise InputError(f"{config} is no file.")
    options = [f"--{name}={value}" for name, value in named_values(changes).items()]
    try:
        parsed = parser.parse_args([f"--config={config}", *options])
        plain = yaml.safe_load(parser.dump(parsed))
        built = parser.instantiate(parsed).as_dict()
        built.pop("config")
        found = kind(**built)
    except (ArgumentError, ValueError) as error:
        words = " ".join(str(error).split())
        ending = "" if words.endswith(".") else "."
        raise InputError(f"The configuration does not fit: {words}{ending}") from error
    return found, {key: value for key, value in plain.items() if key != "config"}
