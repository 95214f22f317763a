"""A trained planner read back from its checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from data_prep.artifact import read_artifact
from data_prep.errors import ArtifactMismatch
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.planner.learned import LearnedPlanner
from personalize.checkpoint import KIND, generator_checkpoint, weights_of
from personalize.configured_class import built_again

AVERAGED, PLANNER = "averaged.", "planner."
"""What the names of the weights in a checkpoint begin with: attributes of `PlannerModule`."""
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
    folder = generator_checkpoint(checkpoint, "planner")
    source = read_artifact(folder, kind=KIND)
    dimensions = source.json("style")["dimensions"]
    if dimensions != list(STYLE_DIMENSIONS):
        raise ArtifactMismatch(
            f"{folder} was trained on the style dimensions {', '.join(dimensions)}; this version "
            f"has {', '.join(STYLE_DIMENSIONS)}. Train again."
        )
    chosen = source.manifest.configuration["model"]["planner"]
    planner = built_again(source, chosen, LearnedPlanner, changes=changes)
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
