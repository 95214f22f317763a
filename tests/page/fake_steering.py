"""Chains and goals of the fake halves, and what is said of goals."""

from collections.abc import Mapping, Sequence
from typing import Any

from personalize.api.messages import GoalReached, GoalValue, Steered, Steering
from personalize.api.ports import RequestRefused

CHAINS = ("gentle", "firm")
FIRMNESS: Mapping[str, float] = {"gentle": 0.5, "firm": 1.0}
"""How far of the way to a goal each chain goes."""


def facts(goals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `/v1/info` says of steering."""
    return {"chains": list(CHAINS), "goals": [dict(goal) for goal in goals]}


def firmness(asked: Steering, goals: Sequence[Mapping[str, Any]], param: str) -> float:
    """How firm the chain is; refuses what there is not."""
    if asked.chain not in FIRMNESS:
        raise RequestRefused(f"There is no chain {asked.chain!r}.", param=param)
    names = [goal["name"] for goal in goals]
    for name in asked.goals:
        if name not in names:
            raise RequestRefused(f"There is no goal {name!r}.", param=param)
    return FIRMNESS[asked.chain]


def told(
    asked: Steering,
    goals: Sequence[Mapping[str, Any]],
    without: Mapping[str, float | None],
    found: Mapping[str, float | None],
) -> Steered:
    """What was reached, from raw values by name."""
    return Steered(
        chain=asked.chain,
        goals=[
            GoalReached(
                name=goal["name"],
                wanted=asked.goals[goal["name"]],
                without=_value(goal, without[goal["name"]]),
                reached=_value(goal, found[goal["name"]]),
            )
            for goal in goals
            if goal["name"] in asked.goals
        ],
    )


def _value(goal: Mapping[str, Any], raw: float | None) -> GoalValue | None:
    if raw is None:
        return None
    share = (raw - goal["low"]) / (goal["high"] - goal["low"])
    return GoalValue(normalized=min(max(share, 0.0), 1.0), raw=raw)
