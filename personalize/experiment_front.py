"""The quick half of every `fit`: help, and mistakes in a configuration, before torch is imported.

The full parser is LightningCLI; it needs seconds to start and pages to explain a misspelt key.
What can be known from YAML files and the source of the classes is checked here first.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from data_prep.errors import InputError
from personalize.class_signature import Signature, UnknownClass, find_signature

OWN_OPTIONS = ("--run-folder", "--resume", "--init-from", "--checkpoint")
SHORT_HELP, LONG_HELP = ("-h", "--help"), "--help-all"
SAVED_CONFIGURATION = "config.yaml"
CLASS_KEYS = {"class_path", "init_args", "dict_kwargs"}


@dataclass(frozen=True)
class ExperimentDoor:
    """What a `fit` command is made of, by name.

    Attributes:
        program: What the user typed, such as `recsys fit`.
        help: The short help.
        sections: Class behind every top-level section of a configuration.
        linked: Options with a value of their own, so that nobody needs to type them.
        folders: Options that must name an artifact, as `section.option`.
        values: Top-level options without a class.
    """

    program: str
    help: str
    sections: Mapping[str, str]
    linked: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()
    values: tuple[str, ...] = ("seed_everything", "config")


@dataclass(frozen=True)
class FrontOptions:
    """A command line, split in what the front and what LightningCLI reads.

    Attributes:
        own: Value of each of `OWN_OPTIONS` that was given, without dashes.
        rest: Everything else, for LightningCLI.
        configurations: Configuration files, in order.
        flags: Dotted options of the command line as nested mappings.
        help: `short`, `long` or nothing.
    """

    own: Mapping[str, str]
    rest: tuple[str, ...]
    configurations: tuple[Path, ...]
    flags: Mapping[str, Any] = field(default_factory=dict)
    help: str = ""

    @property
    def first_configuration(self) -> str:
        """Name of the last configuration file without its ending, or `run`."""
        return self.configurations[-1].stem if self.configurations else "run"


def split_arguments(arguments: Sequence[str]) -> FrontOptions:
    """The command line in parts.

    Raises:
        InputError: If an option of the front lacks its value.
    """
    own: dict[str, str] = {}
    rest: list[str] = []
    configurations: list[Path] = []
    flags: dict[str, Any] = {}
    wanted = ""
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word in SHORT_HELP or word == LONG_HELP:
            wanted = "long" if word == LONG_HELP else wanted or "short"
            continue
        name, equals, value = word.partition("=")
        takes_next = not equals and bool(words) and not words[0].startswith("--")
        if name in OWN_OPTIONS:
            if not equals and not takes_next:
                raise InputError(f"{name} needs a value.")
            own[name.strip("-").replace("-", "_")] = value if equals else words.pop(0)
            continue
        rest.append(word)
        if not name.startswith("-"):
            continue
        if takes_next:
            value = words.pop(0)
            rest.append(value)
        if name in ("--config", "-c"):
            configurations.append(Path(value))
        elif name.startswith("--") and not name.startswith("--print_config"):
            _set(flags, name[2:].rstrip("+").split("."), value)
    return FrontOptions(own, tuple(rest), tuple(configurations), flags, wanted)


def options_over(options: FrontOptions, base: str, scratch: Path) -> FrontOptions:
    """The options laid over the configuration of a run or checkpoint.

    Args:
        options: What was typed.
        base: Folder of a run or a checkpoint.
        scratch: Folder for the configuration of a checkpoint, which is kept in its manifest.

    Raises:
        InputError: If the base is a URL, or neither a run nor a checkpoint.
    """
    if "://" in base:
        raise InputError(f"{base} is a URL; fetch the checkpoint first and give its folder.")
    folder = Path(base)
    path = folder / "config.yaml"
    if (folder / "manifest.json").is_file():
        from data_prep.artifact import read_manifest

        path = scratch / "config.yaml"
        configuration = dict(read_manifest(folder).configuration)
        path.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
    elif not path.is_file():
        raise InputError(f"{base} is neither a run (it has no config.yaml) nor a checkpoint.")
    return replace(
        options,
        rest=("--config", str(path), *options.rest),
        configurations=(path, *options.configurations),
    )


def check_configuration(options: FrontOptions, door: ExperimentDoor) -> None:
    """Find a mistake in the configuration that needs no import to be seen.

    Raises:
        InputError: If a file is missing or no YAML, or a section, key, class or required option
            is wrong; with the nearest known names.
    """
    merged: dict[str, Any] = {}
    for path in options.configurations:
        document = read_configuration(path)
        _check_document(document, door, where=f"{path}")
        _merge(merged, document)
    _check_document(options.flags, door, where="the command line", beside=merged)
    _merge(merged, options.flags)
    if any(word.startswith("--print_config") for word in options.rest):
        return
    for section, class_path in door.sections.items():
        signature = find_signature(class_path)
        if isinstance(signature, Signature):
            _check_required(merged.get(section) or {}, signature, section, door)
    _check_folders(merged, door)


def read_configuration(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file.

    Raises:
        InputError: If the file is missing, no UTF-8, no YAML (with the line), or no mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        near = _nearest(path.name, [p.name for p in path.parent.glob("*.yaml")])
        raise InputError(
            f"The configuration {path} cannot be read: {error.strerror}.{near}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"The configuration {path} is not UTF-8 at byte {error.start}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise InputError(f"The configuration {path}{line}: {problem}.") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InputError(f"The configuration {path} must be a mapping, not {document!r:.40}.")
    return document


def _check_document(
    document: Mapping[str, Any],
    door: ExperimentDoor,
    *,
    where: str,
    beside: Mapping[str, Any] | None = None,
) -> None:
    """Check every key of a configuration; `beside` tells classes that were chosen elsewhere."""
    known = [*door.sections, *door.values]
    for section, values in document.items():
        if section not in known:
            raise InputError(f"{where} has an unknown option {section}.{_nearest(section, known)}")
        if section not in door.sections:
            continue
        if not isinstance(values, Mapping):
            if values is not None and where != "the command line":
                raise InputError(f"{where}: {section} must be a mapping, not {values!r:.40}.")
            continue
        others = (beside or {}).get(section) or {}
        _check_keys(door.sections[section], values, section, where=where, beside=others)


def _check_keys(
    class_path: str,
    values: Mapping[str, Any],
    place: str,
    *,
    where: str,
    beside: Mapping[str, Any],
) -> None:
    signature = find_signature(class_path)
    if isinstance(signature, UnknownClass):
        raise InputError(
            f"{where}: {place} names {class_path}, but {signature.reason}."
            f"{_nearest_path(class_path, signature.candidates)}"
        )
    for key, value in values.items():
        if signature is not None and signature.complete and key not in signature.names:
            raise InputError(
                f"{where}: {class_path} takes no {place}.{key}.{_nearest(key, signature.names)}"
            )
        other = beside.get(key) if isinstance(beside, Mapping) else None
        for number, part in enumerate(value if isinstance(value, list) else [value]):
            at = f"{place}.{key}[{number}]" if isinstance(value, list) else f"{place}.{key}"
            if isinstance(part, Mapping):
                _check_part(part, at, where=where, beside=other)
        if isinstance(value, str) and isinstance(other, Mapping) and "class_path" in other:
            _check_keys(value, {}, f"{place}.{key}", where=where, beside={})


def _check_part(part: Mapping[str, Any], place: str, *, where: str, beside: object) -> None:
    """Check a mapping that may name a class."""
    others = beside if isinstance(beside, Mapping) else {}
    chosen = part.get("class_path") or others.get("class_path")
    if not isinstance(chosen, str):
        return
    init_args = dict(part.get("init_args") or {})
    init_args |= {key: value for key, value in part.items() if key not in CLASS_KEYS}
    if isinstance(part.get("class_path"), str) or init_args:
        same = part.get("class_path") in (None, others.get("class_path"))
        inner = others.get("init_args") if same else None
        _check_keys(chosen, init_args, place, where=where, beside=inner or {})


def _check_required(
    values: Mapping[str, Any], signature: Signature, section: str, door: ExperimentDoor
) -> None:
    for name in signature.required:
        if f"{section}.{name}" not in door.linked and values.get(name) is None:
            raise InputError(
                f"{section}.{name} is missing; pass --{section}.{name} or write it in a --config."
            )


def _check_folders(merged: Mapping[str, Any], door: ExperimentDoor) -> None:
    for option in door.folders:
        section, _, name = option.partition(".")
        value = (merged.get(section) or {}).get(name)
        if isinstance(value, str) and value not in ("null", "None", ""):
            folder = Path(value)
            if not (folder / "manifest.json").is_file():
                raise InputError(
                    f"{option} names {folder}, which is no artifact: it has no manifest.json."
                )


def _set(target: dict[str, Any], keys: Sequence[str], value: str) -> None:
    for key in keys[:-1]:
        inner = target.get(key)
        if not isinstance(inner, dict):
            inner = {} if inner is None else {"class_path": inner}
            target[key] = inner
        target = inner
    last = target.get(keys[-1])
    if isinstance(last, dict):
        last["class_path"] = value
    else:
        target[keys[-1]] = value


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Lay one configuration over another; another class does away with the arguments of the one."""
    for key, value in other.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            changed = value.get("class_path") not in (None, old.get("class_path"))
            into[key] = merged = {} if changed else dict(old)
            _merge(merged, value)
        else:
            into[key] = value


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=2, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else f" Known are {_some(known)}."


def _nearest_path(class_path: str, candidates: Sequence[str]) -> str:
    if not candidates:
        return ""
    is_module = any("." in candidate for candidate in candidates)
    return _nearest(class_path if is_module else class_path.rpartition(".")[2], candidates)


def _some(known: Sequence[str]) -> str:
    shown = ", ".join(sorted(known)[:12])
    return shown + (", ..." if len(known) > 12 else "") if known else "none"
