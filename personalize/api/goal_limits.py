"""Limits of a goal space, taken from the steerability evaluation that used them."""

from collections.abc import Sequence
from typing import Any

from data_prep.artifact import Artifact
from data_prep.errors import ArtifactMismatch
from personalize.evaluation.goal_space import GoalDimension, GoalSpace


def evaluated_goal_space(artifact: Artifact, names: Sequence[str]) -> GoalSpace:
    """The goal space of an artifact `steerability`.

    Args:
        artifact: The evaluation.
        names: Goals that there are here.

    Raises:
        ArtifactMismatch: If it has a goal that there is not, or no goal with limits.
    """
    dimensions = tuple(
        GoalDimension(*(found[key] for key in ("name", "unit", "meaning", "low", "high")))
        for found in artifact.json("metrics")["goal_space"]["dimensions"]
        if found["low"] is not None and found["high"] is not None and found["low"] < found["high"]
    )
    if not dimensions:
        raise ArtifactMismatch(f"{artifact.folder} has no goal with limits; evaluate again.")
    if unknown := [one.name for one in dimensions if one.name not in names]:
        raise ArtifactMismatch(
            f"{artifact.folder} is about the goal {unknown[0]}, which there is not here; evaluate "
            "what is served."
        )
    return GoalSpace(dimensions)


def evaluated_options(artifact: Artifact, names: Sequence[str]) -> dict[str, Any]:
    """Options that the evaluated half was opened with, those that were not given left out."""
    source = artifact.manifest.configuration.get("source") or {}
    given = source.get("init_args") or {}
    return {name: given[name] for name in names if given.get(name) is not None}
