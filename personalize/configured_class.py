"""A class that a checkpoint's configuration names, built again with its options, some changed."""

import copy
import importlib
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentParser

from data_prep.artifact import Artifact
from data_prep.errors import ArtifactMismatch, InputError

Built = TypeVar("Built")


def built_again(
    source: Artifact,
    chosen: Mapping[str, Any],
    base: type[Built],
    *arguments: Any,  # noqa: ANN401  (what the class takes first)
    skip: frozenset[str] = frozenset(),
    changes: Mapping[str, Any] | None = None,
) -> Built:
    """An object of the class that a configuration chose, with fresh weights.

    Args:
        source: The checkpoint, for messages.
        chosen: Its `class_path` and `init_args`.
        base: What the class must be a subclass of.
        arguments: Values that are not configured; they come first.
        skip: Their names.
        changes: Options to change, by dotted name; text is read as YAML.

    Raises:
        InputError: If a changed option is not one of the class, or its value does not fit.
        ArtifactMismatch: If the class is gone, is of another kind or has changed.
    """
    class_path = str(chosen.get("class_path", ""))
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ArtifactMismatch(
            f"{source.folder} was trained with {class_path}, which is not here: {error}."
        ) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ArtifactMismatch(f"{source.folder} names {class_path}, which is no {base.__name__}.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(found, "given", skip=set(skip), instantiate=False)
    try:
        options = with_changes(chosen.get("init_args") or {}, changes or {})
        parsed = parser.parse_object({"given": options})
        given = parser.instantiate(parsed).get("given")
        return found(*arguments, **(dict(vars(given)) if given else {}))
    except (ArgumentError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).replace("given.", "").split())[:300]
        if changes:
            words = ", ".join(f"{option}={value}" for option, value in changes.items())
            raise InputError(f"{name} does not take {words}: {reason}") from error
        raise ArtifactMismatch(
            f"{source.folder} has options that {class_path} of this version does not take: {reason}"
        ) from error


def with_changes(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options with some of them set, by dotted name; what is text is read as YAML.

    Options of a class that is chosen by `class_path` may be named with or without `init_args`.

    Example:
        >>> with_changes({"ranking": {"prior": 1.0, "width": 5}}, {"ranking.prior": "0"})
        {'ranking': {'prior': 0, 'width': 5}}
        >>> with_changes({"half": {"class_path": "a.B"}}, {"half.init_args.count": "3"})
        {'half': {'class_path': 'a.B', 'init_args': {'count': 3}}}
    """
    changed = copy.deepcopy(dict(options))
    for name, value in changes.items():
        *groups, last = name.split(".")
        place = changed
        for group in (one for one in groups if one != "init_args"):
            inner = place.get(group)
            place[group] = place = inner if isinstance(inner, dict) else {}
            place = place.setdefault("init_args", {}) if "class_path" in place else place
        place[last] = yaml.safe_load(value) if isinstance(value, str) else value
    return changed


def named_values(words: Sequence[str]) -> dict[str, str]:
    """The values of `NAME=VALUE` words, by name.

    Raises:
        InputError: If a word has no name or no `=`, or a name is given twice.

    Example:
        >>> named_values(["ranking.prior=0", "ranking.search.width=50"])
        {'ranking.prior': '0', 'ranking.search.width': '50'}
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise InputError(f"--set takes NAME=VALUE, got {word}.")
        if name in found:
            raise InputError(f"--set gives {name} twice.")
        found[name] = value
    return found
