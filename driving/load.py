"""A trained planner read back from its checkpoint."""

import copy
import importlib
from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from torch import Tensor

from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.module import AVERAGED, PLANNER
from driving.planner.learned import LearnedPlanner
from personalize.checkpoint import KIND, find_checkpoint, weights_of

DATA_OPTIONS = ("scenes", "styles", "style_vectors", "teacher")


@dataclass(frozen=True)
class LoadedPlanner:
    """A planner and what it was trained with.

    Attributes:
        planner: Its averaged weights where the run kept an average; in evaluation mode, on the
            CPU.
        folder: The checkpoint it comes from.
        content_hash: The checkpoint's, for the manifest of what is made with it.
        configuration: The whole configuration of the run.
        paths: Artifacts that were read, by the name of their option.
    """

    planner: LearnedPlanner
    folder: Path
    content_hash: str
    configuration: Mapping[str, Any]
    paths: Mapping[str, Path]


def load_planner(checkpoint: Path, *, changes: Mapping[str, Any] | None = None) -> LoadedPlanner:
    """The planner of a checkpoint.

    Args:
        checkpoint: A checkpoint, or a run whose best one is taken.
        changes: Options of the planner to change, by dotted name, such as `{"guidance": 2}` or
            `{"selection.preference_weight": 1}`; those that shape the weights cannot be changed.

    Raises:
        InputError: If there is no checkpoint, or an option is changed that is not there.
        ArtifactMismatch: If the class is gone or has changed, or styles had other dimensions.
    """
    folder = find_checkpoint(checkpoint)
    source = read_artifact(folder, kind=KIND)
    dimensions = source.json("style")["dimensions"]
    if dimensions != list(STYLE_DIMENSIONS):
        raise ArtifactMismatch(
            f"{folder} was trained on the style dimensions {', '.join(dimensions)}; this version "
            f"has {', '.join(STYLE_DIMENSIONS)}. Train again."
        )
    planner = _built(source, changes or {})
    try:
        planner.load_state_dict(_planner_weights(weights_of(source)))
    except RuntimeError as error:
        raise ArtifactMismatch(
            f"{folder} does not fit {type(planner).__name__} of this version: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    configuration = source.manifest.configuration
    data = configuration["data"]
    return LoadedPlanner(
        planner=planner.eval(),
        folder=folder,
        content_hash=source.manifest.content_hash,
        configuration=configuration,
        paths={name: Path(data[name]) for name in DATA_OPTIONS if data.get(name)},
    )


def _planner_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The averaged planner's weights, or the planner's own where there is no average."""
    prefix = AVERAGED if any(name.startswith(AVERAGED) for name in weights) else PLANNER
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }


def _built(source: Artifact, changes: Mapping[str, Any]) -> LearnedPlanner:
    """The planner its configuration names, with fresh weights."""
    chosen = source.manifest.configuration["model"]["planner"]
    class_path = str(chosen.get("class_path", ""))
    module, _, name = class_path.rpartition(".")
    try:
        built_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ArtifactMismatch(
            f"{source.folder} was trained with {class_path}, which is not here: {error}."
        ) from error
    if not (isinstance(built_class, type) and issubclass(built_class, LearnedPlanner)):
        raise ArtifactMismatch(f"{source.folder} names {class_path}, which is no LearnedPlanner.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(built_class, "given", instantiate=False)
    try:
        options = _with_changes(chosen.get("init_args") or {}, changes)
        parsed = parser.parse_object({"given": options})
        given = parser.instantiate_classes(parsed).get("given")
        return built_class(**(dict(vars(given)) if given else {}))
    except (ArgumentError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).replace("given.", "").split())[:300]
        if changes:
            words = ", ".join(f"{option}={value}" for option, value in changes.items())
            raise InputError(f"{name} does not take {words}: {reason}") from error
        raise ArtifactMismatch(
            f"{source.folder} has options that {class_path} of this version does not take: {reason}"
        ) from error


def _with_changes(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options with some of them set, by dotted name; what is text is read as YAML."""
    changed = copy.deepcopy(dict(options))
    for name, value in changes.items():
        *groups, last = name.split(".")
        place = changed
        for group in groups:
            inner = place.get(group)
            place[group] = place = inner if isinstance(inner, dict) else {}
            place = place.setdefault("init_args", {}) if "class_path" in place else place
        place[last] = yaml.safe_load(value) if isinstance(value, str) else value
    return changed
