"""Chains as driving serves them: which styles of a request they steer, and what was reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.artifact import Artifact
from data_prep.errors import InputError
from driving.aimed_planner import AimedPlanner
from driving.evaluation.judge import one_candidate, tracked
from driving.evaluation.planners import NamedPlanner
from driving.goal_measures import GOAL_NAMES
from driving.goals import columns_of, driven_goals
from driving.moments import read_moments
from driving.opened_chain import opened_chain
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.planner import Planner, PlannerInput
from driving.planner.steered import SteeredPlanner
from driving.steerability import CONTEXTS, SteerablePlans
from driving.world import World
from personalize.api.goal_limits import evaluated_goal_space
from personalize.api.messages import Steering, StyleAsked
from personalize.api.steered import Measured, chain_asked, goals_asked, steering_facts
from personalize.evaluation.goal_space import GoalSpace
from personalize.evaluation.steerable import TUNING
from personalize.steering.chain import Chain
from personalize.steering.goals import Goals


@dataclass(frozen=True)
class Together:
    """Styles of a request that one planner plans for.

    Attributes:
        rows: Their places in the request.
        planner: What plans for them.
    """

    rows: Int[Tensor, " style"]
    planner: Planner


@dataclass(frozen=True)
class PlanSteering:
    """What steers.

    Attributes:
        chains: By name.
        planners: The planner steered by each, by name.
        space: The goals with their limits.
    """

    chains: Mapping[str, Chain]
    planners: Mapping[str, SteeredPlanner]
    space: GoalSpace

    @classmethod
    def of(
        cls,
        chains: Mapping[str, Chain],
        named: NamedPlanner,
        *,
        scenes: Artifact,
        styles: Artifact,
        evaluated: Artifact | None,
    ) -> "PlanSteering":
        """Open chains.

        Args:
            chains: By name; files that they name are read.
            named: What is steered.
            scenes: Artifact `scenes`.
            styles: Artifact `styles` of them.
            evaluated: Artifact `steerability`, whose limits are taken; None fits them anew, on the
                moments that it fits them on.

        Raises:
            InputError: If the planner cannot be steered, a chain does not fit it, or there is
                nothing to fit the limits on.
        """
        planner = named.planner
        if not isinstance(planner, DiffusionPlanner):
            raise InputError(
                f"{named.name} cannot be steered; serve chains of a diffusion planner."
            )
        if evaluated is None:
            moments = read_moments(scenes, styles, (TUNING,), CONTEXTS)
            space = SteerablePlans(planner, moments, {}).space
        else:
            space = evaluated_goal_space(evaluated, GOAL_NAMES)
        planners = {
            name: opened_chain(planner, chain, space, checkpoint_hash=named.content_hash)
            for name, chain in chains.items()
        }
        return cls(dict(chains), planners, space)

    def facts(self) -> dict[str, Any]:
        """What is served."""
        return steering_facts(self.chains, self.space)

    def aimed(self, asked: Sequence[Steering]) -> Planner:
        """The planner for styles that the same chain steers, with the goal of each."""
        goals = [goals_asked(one, self.space) for one in asked]
        joined = Goals(
            torch.cat([one.values for one in goals]), torch.cat([one.mask for one in goals])
        )
        return AimedPlanner(self.planners[asked[0].chain], joined)

    def measured(
        self, world: World, scene: PlannerInput, best: Float[Tensor, "batch time 3"]
    ) -> list[Measured]:
        """Goal values of plans, driven for four seconds in the world as it went on."""
        found = driven_goals(world, one_candidate(tracked(scene, best)))
        columns = columns_of(self.space.names)
        return [
            (found.raw[row, 0, columns], found.mask[row, 0, columns]) for row in range(len(best))
        ]


def check_steering(styles: Sequence[StyleAsked], steering: PlanSteering | None) -> None:
    """Refuse chains and goals that do not exist.

    Raises:
        RequestRefused: If a style asks for one.
    """
    chains, space = (None, None) if steering is None else (steering.chains, steering.space)
    for style in styles:
        if style.steering is not None:
            chain_asked(style.steering, chains, space, param="styles")


def planned_together(
    styles: Sequence[StyleAsked], planner: Planner, steering: PlanSteering | None
) -> list[Together]:
    """Styles by what plans for them: all that nothing steers, then chain by chain."""
    rows: dict[str | None, list[int]] = {}
    for row, style in enumerate(styles):
        rows.setdefault(_chain(style), []).append(row)
    found = []
    for chain, places in rows.items():
        asked = [styles[place].steering for place in places]
        own = planner
        if chain is not None and steering is not None:
            own = steering.aimed([one for one in asked if one is not None])
        found.append(Together(torch.tensor(places), own))
    return found


def _chain(style: StyleAsked) -> str | None:
    asked = style.steering
    return asked.chain if asked is not None and asked.goals else None
