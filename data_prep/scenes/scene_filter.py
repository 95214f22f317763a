"""The scene filters of NAVSIM and StyleDrive: which frames of which logs a split is made of."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from data_prep.errors import InputError

try:
    from yaml import CBaseLoader as _Loader
except ImportError:  # PyYAML without libyaml: the same, more slowly
    from yaml import BaseLoader as _Loader

# The base loader leaves every scalar a text: a token of digits alone stays a token.
_NULLS = ("", "null", "~", "Null", "NULL")


@dataclass(frozen=True)
class SceneFilter:
    """Which frames are asked for.

    Attributes:
        tokens: Names of frames; None asks for all.
        logs: Names of logs; None asks for all.
    """

    tokens: frozenset[str] | None = None
    logs: frozenset[str] | None = None

    def wants_log(self, log: str) -> bool:
        """Whether a log is asked for."""
        return self.logs is None or log in self.logs

    def wanted(self, tokens: list[str]) -> frozenset[str]:
        """Those of the names that are asked for."""
        return frozenset(tokens) if self.tokens is None else self.tokens.intersection(tokens)


def read_scene_filter(path: Path | None) -> SceneFilter:
    """A filter as YAML: `tokens:` and `log_names:`, each a list or null.

    Args:
        path: The file; None asks for everything.

    Raises:
        InputError: If it cannot be read or has neither list.
    """
    if path is None:
        return SceneFilter()
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no scene filter: {str(error).splitlines()[0]}.") from error
    if not isinstance(content, dict) or not {"tokens", "log_names"} & content.keys():
        raise InputError(f"{path} is no scene filter: it has neither tokens nor log_names.")
    tokens, logs = (_names(content.get(key), key, path) for key in ("tokens", "log_names"))
    return SceneFilter(tokens, logs)


def _names(value: object, key: str, path: Path) -> frozenset[str] | None:
    if value is None or value in _NULLS:
        return None
    if not isinstance(value, list):
        raise InputError(f"{key} in {path} must be a list of names.")
    return frozenset(str(name) for name in value)
