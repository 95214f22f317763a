"""A planner steered by a chain as it stands in a configuration: what the chain names is opened."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from data_prep.errors import InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.critic_data import critic_context, plan_features
from driving.goals import told
from driving.load import load_planner
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.learned import LearnedPlanner
from driving.planner.planner import PlannerInput, StyleCondition
from driving.planner.steered import Critique, Edit, SteeredPlanner
from personalize.evaluation.goal_space import GoalSpace
from personalize.rewards.stored_critic import read_critic
from personalize.steering.chain import Chain
from personalize.steering.edits import Maps, edited_by_all
from personalize.steering.goals import Goals
from personalize.steering.stored_maps import read_maps


def opened_chain(
    planner: LearnedPlanner,
    chain: Chain,
    space: GoalSpace,
    *,
    checkpoint_hash: str | None = None,
) -> SteeredPlanner:
    """The steered planner; several of them may share one planner.

    Args:
        planner: What is steered.
        chain: What steers; files that it uses are read.
        space: What goals are told in.
        checkpoint_hash: Content hash of the planner's checkpoint, which edits and critic must have
            been made for; None does not ask of edits.

    Raises:
        InputError: If the planner cannot be steered, a file is not there or does not fit, or the
            chain has a part that plans have no use for.
        ArtifactMismatch: If a file is damaged, of another kind, or made for another checkpoint.
    """
    if not isinstance(planner, DiffusionPlanner):
        raise InputError(f"Plans of {type(planner).__name__} cannot be steered; fit diffusion.")
    negative = _negative(chain)
    edits = _edits(planner, chain, space.names, checkpoint_hash)
    critic = _critic(planner, chain, checkpoint_hash)
    try:
        return SteeredPlanner(
            planner,
            chain,
            space,
            negative=negative,
            edits=edits,
            critic=critic,
        )
    except ValueError as error:
        raise InputError(f"The chain does not fit the planner: {error}") from error


def edit_towards(
    planner: DiffusionPlanner, sets: Mapping[str, Maps], names: Sequence[str], strength: float
) -> Edit:
    """Edits along the style dimensions by which goals are told: forwards above 0.5, back below.

    Args:
        planner: What is edited.
        sets: Maps by style dimension; other goals are not edited towards.
        names: Of the goals.
        strength: Of the edit at a goal of 1.
    """

    def edit(goals: Goals) -> AbstractContextManager[None]:
        none = StyleCondition(
            goals.values.new_zeros(len(goals.values), len(STYLE_DIMENSIONS)),
            goals.mask.new_zeros(len(goals.mask), len(STYLE_DIMENSIONS)),
        )
        asked = told(none, goals, names, strength=1.0).values
        strengths = {
            name: strength * asked[:, number]
            for number, name in enumerate(STYLE_DIMENSIONS)
            if name in sets
        }
        return edited_by_all(planner, sets, strengths)

    return edit


def _negative(chain: Chain) -> DiffusionPlanner | None:
    checkpoint = chain.guidance.negative
    if checkpoint is None or chain.guidance.weight == 1:
        return None
    negative = load_planner(checkpoint).planner
    if not isinstance(negative, DiffusionPlanner):
        raise InputError(f"guidance.negative must be a diffusion planner, {checkpoint} is not.")
    return negative


def _edits(
    planner: DiffusionPlanner, chain: Chain, names: Sequence[str], checkpoint_hash: str | None
) -> Edit | None:
    folder: Path | None = chain.edits.folder
    if folder is None or chain.edits.strength == 0:
        return None
    sets = read_maps(folder, checkpoint=checkpoint_hash)
    if unknown := [name for name in sets if name not in STYLE_DIMENSIONS]:
        raise InputError(f"{folder} has maps for {unknown[0]}, which is no dimension of style.")
    return edit_towards(planner, sets, names, chain.edits.strength)


def _critic(
    planner: DiffusionPlanner, chain: Chain, checkpoint_hash: str | None
) -> Critique | None:
    if chain.selection.critic is None or chain.selection.critic_weight == 0:
        return None
    critic = read_critic(chain.selection.critic).for_checkpoint(checkpoint_hash or "")

    def critique(
        poses: Float[Tensor, "batch candidate time 3"], scene: PlannerInput, style: StyleCondition
    ) -> Float[Tensor, "batch candidate"]:
        return critic(plan_features(scene, poses), critic_context(planner, scene, style))

    return critique
