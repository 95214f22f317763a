"""The command `driving fit-edits`: maps on a planner's scene encoder that move how it drives."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
from torch import Tensor

from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.load import LoadedPlanner, load_planner
from driving.planner.learned import LearnedPlanner
from driving.planner.planner import PlannerInput
from driving.planner.scene_encoder import SceneEncoder
from driving.planning_rows import read_planning_rows
from driving.style.tables import SAMPLES
from personalize.steering.contrasting_rows import contrasting_rows
from personalize.steering.edits import Forward
from personalize.steering.fitted_maps import Ends, FittedMaps, FittingOptions


def write_activation_maps(
    *,
    checkpoint: Path,
    out: Path,
    scenes: Path | None = None,
    styles: Path | None = None,
    style_vectors: Path | None = None,
    overwrite: bool = False,
    **fitting: Unpack[FittingOptions],
) -> None:
    """Write an artifact `activation_maps`: one set of maps for every dimension of style.

    Maps lead from training scenes whose logged future is low on a dimension, such as slow, to
    those where it is high. The style is measured against what is usual in the context, so a fast
    road alone makes no end.

    Args:
        checkpoint: A run, whose best one is taken, or a checkpoint.
        out: Folder of the artifact.
        scenes: Artifact `scenes`. Default: the one trained on; likewise `styles` and
            `style_vectors`.
        styles: Artifact `styles`.
        style_vectors: Artifact `style_vectors`.
        overwrite: Replace an artifact that is there.
        fitting: Which dimensions and modules, and how.

    Raises:
        InputError: If a dimension or module is not there, an option is out of range, too few
            drivers show an end, or the planner has no scene encoder.
        ArtifactMismatch: If an artifact is damaged or of another kind.
    """
    loaded = load_planner(checkpoint)
    given = {"scenes": scenes, "styles": styles, "style_vectors": style_vectors}
    paths = {**loaded.paths, **{name: path for name, path in given.items() if path is not None}}
    if missing := [name for name in given if name not in paths]:
        option = missing[0].replace("_", "-")
        raise InputError(f"{loaded.folder} was trained without {missing[0]}; pass --{option}.")
    sources = {name: read_artifact(paths[name], kind=name) for name in given}
    fitted = FittedMaps.of(
        loaded.planner,
        STYLE_DIMENSIONS,
        lambda name: style_ends(
            loaded,
            sources,
            name,
            count=fitting["rows"],
            share=fitting["share"],
            seed=fitting["seed"],
        ),
        fitting,
    )
    fitted.write(
        out,
        command="driving fit-edits",
        checkpoint=checkpoint,
        inputs={
            "checkpoint": loaded.content_hash,
            **{name: source.content_hash for name, source in sources.items()},
        },
        overwrite=overwrite,
    )


def style_ends(
    loaded: LoadedPlanner,
    sources: Mapping[str, Artifact],
    dimension: str,
    *,
    count: int,
    share: float,
    seed: int,
) -> Ends:
    """Runs on training scenes that were driven with little, and with much, of a dimension.

    Args:
        loaded: The planner.
        sources: The artifacts `scenes`, `styles` and `style_vectors`.
        dimension: One of `STYLE_DIMENSIONS`.
        count: Scenes of each end.
        share: Share of the scenes that makes an end.
        seed: Seed of the draw.

    Raises:
        InputError: If the planner has no scene encoder.
        ArtifactMismatch: If the style vectors are those of other samples.
        ValueError: As `contrasting_rows`.
    """
    samples = sources["styles"].table(SAMPLES)
    arrays = sources["style_vectors"].arrays("style_vectors")
    place = STYLE_DIMENSIONS.index(dimension)
    values, known = arrays["own_values"], arrays["own_mask"]
    if len(values) != samples.height:
        raise ArtifactMismatch(
            f"{sources['style_vectors'].folder} has {len(values)} samples, there are "
            f"{samples.height}; make it again from these styles."
        )
    learnt = (samples["split"] == "train").to_numpy()
    chosen = contrasting_rows(
        np.asarray(values[:, place], np.float64),
        learnt & np.asarray(known[:, place], np.bool_),
        samples["driver_id"].to_numpy().astype(np.int64),
        count=count,
        share=share,
        seed=seed,
    )
    low, high = (
        scene_reading(
            loaded.planner, read_planning_rows(sources["scenes"].folder, samples[rows]).scenes
        )
        for rows in chosen
    )
    return Ends(low, high)


def scene_reading(planner: LearnedPlanner, scenes: PlannerInput) -> Forward:
    """A run of a planner's scene encoder; returns which tokens stand for something.

    Raises:
        InputError: If it has none.
    """
    encoder = getattr(planner, "encoder", None)
    if not isinstance(encoder, SceneEncoder):
        raise InputError(
            f"{type(planner).__name__} has no scene encoder to edit; fit edits to a "
            "DiffusionPlanner."
        )
    return partial(_encoded, encoder, scenes)


def _encoded(encoder: SceneEncoder, scenes: PlannerInput) -> Tensor:
    return encoder(scenes).mask
