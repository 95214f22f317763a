"""A planner steered by a chain as it stands in a configuration: what the chain names is opened."""

from pathlib import Path

from data_prep.errors import InputError
from driving.load import load_planner
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.learned import LearnedPlanner
from driving.planner.steered import Edit, SteeredPlanner
from personalize.evaluation.goal_space import GoalSpace
from personalize.steering.chain import Chain


def opened_chain(
    planner: LearnedPlanner,
    chain: Chain,
    space: GoalSpace,
    *,
    edits: Edit | None = None,
    denoising_steps: int = 10,
) -> SteeredPlanner:
    """The steered planner; several of them may share one planner.

    Args:
        planner: What is steered.
        chain: What steers; files that it names are read.
        space: What goals are told in.
        edits: Opens the edits of a chain that has any.
        denoising_steps: Of particles.

    Raises:
        InputError: If the planner cannot be steered, a file is not there or does not fit, or the
            chain has a part that plans have no use for.
        ArtifactMismatch: If a file is damaged or of another kind.
    """
    if not isinstance(planner, DiffusionPlanner):
        raise InputError(f"Plans of {type(planner).__name__} cannot be steered; fit diffusion.")
    negative = _negative(chain.guidance.negative) if chain.guidance.weight != 1 else None
    try:
        return SteeredPlanner(
            planner, chain, space, negative=negative, edits=edits, denoising_steps=denoising_steps
        )
    except ValueError as error:
        raise InputError(f"The chain does not fit the planner: {error}") from error


def _negative(checkpoint: Path | None) -> DiffusionPlanner | None:
    if checkpoint is None:
        return None
    negative = load_planner(checkpoint).planner
    if not isinstance(negative, DiffusionPlanner):
        raise InputError(f"guidance.negative must be a diffusion planner, {checkpoint} is not.")
    return negative
