"""Chains as the halves serve them: named, asked for by name, and told what was reached."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from personalize.api.files import ServedFiles
from personalize.api.messages import GoalReached, GoalValue, Steered, Steering
from personalize.api.ports import RequestRefused
from personalize.checkpoint import find_checkpoint
from personalize.evaluation.goal_space import GoalSpace
from personalize.steering.chain import Chain
from personalize.steering.goals import Goals, no_goals

Measured = tuple[Float[Tensor, " goal"], Bool[Tensor, " goal"]]
"""Raw values of one output, and which are known."""


def chain_inside(chain: Chain, files: ServedFiles) -> Chain:
    """The chain with the files that it names looked for in the served folder.

    Raises:
        InputError: If one lies outside.
        NotServedError: If one is not there.
    """
    edits, guidance, selection = chain.edits, chain.guidance, chain.selection
    if edits.folder is not None:
        edits = replace(edits, folder=files.there(edits.folder))
    if guidance.negative is not None:
        negative = files.inside(find_checkpoint(files.there(guidance.negative)))
        guidance = replace(guidance, negative=negative)
    if selection.critic is not None:
        selection = replace(selection, critic=files.there(selection.critic))
    return replace(chain, edits=edits, guidance=guidance, selection=selection)


def steering_facts(chains: Iterable[str], space: GoalSpace) -> dict[str, Any]:
    """What `/v1/info` says of steering: the chains by name, and every goal with its limits."""
    return {"chains": list(chains), "goals": [dict(vars(goal)) for goal in space.dimensions]}


def chain_asked(
    asked: Steering, chains: Collection[str] | None, space: GoalSpace | None, *, param: str
) -> str:
    """The name of the chain that is asked for.

    Args:
        asked: What is asked.
        chains: Names of what is served; None where nothing steers.
        space: The goals.
        param: The field of the request.

    Raises:
        RequestRefused: If there is no such chain or goal.
    """
    if not chains or space is None:
        raise RequestRefused("Nothing steers here: no chains are served.", param=param)
    if asked.chain not in chains:
        raise RequestRefused(
            f"There is no chain {asked.chain!r}; served are {', '.join(chains)}.", param=param
        )
    if unknown := [name for name in asked.goals if name not in space.names]:
        raise RequestRefused(
            f"There is no goal {unknown[0]!r}; known are {', '.join(space.names)}.", param=param
        )
    return asked.chain


def goals_asked(asked: Steering, space: GoalSpace) -> Goals:
    """The goals of one row; what is not named is left open."""
    goals = no_goals(1, len(space))
    for name, value in asked.goals.items():
        place = space.names.index(name)
        goals.values[0, place], goals.mask[0, place] = value, True
    return goals


def reached(asked: Steering, space: GoalSpace, without: Measured, found: Measured) -> Steered:
    """What became of the goals asked for.

    Args:
        asked: What was asked.
        space: The goals with their limits.
        without: The output without steering.
        found: The steered output.
    """
    return Steered(
        chain=asked.chain,
        goals=[
            GoalReached(
                name=name,
                wanted=asked.goals[name],
                without=_value(space, without, place),
                reached=_value(space, found, place),
            )
            for place, name in enumerate(space.names)
            if name in asked.goals
        ],
    )


def _value(space: GoalSpace, measured: Measured, place: int) -> GoalValue | None:
    raw, known = measured
    if not bool(known[place]):
        return None
    normalized = space.normalized(torch.where(known, raw, 0.0))
    return GoalValue(normalized=round(float(normalized[place]), 4), raw=round(float(raw[place]), 4))
