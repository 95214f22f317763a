"""SLOT Planner: what a planner sees, what it answers, and the laws that hold for all of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PLAN_STEP_S = 0.5
PLAN_STEPS = 8
Group = TypeVar("Group", bound="_Tensors")


class _Tensors:
    """A frozen dataclass of tensors that moves between devices as one."""

    def to(self: Group, device: torch.device | str) -> Group:
        """The same on a device."""
        return self._map(lambda value: value.to(device, non_blocking=True))

    def rows(self: Group, chosen: Int[Tensor, " chosen"] | slice) -> Group:
        """Some rows of the batch."""
        return self._map(lambda value: value[chosen])

    def _map(self: Group, function) -> Group:  # noqa: ANN001  (a tensor to a tensor)
        values = {field.name: function(getattr(self, field.name)) for field in fields(self)}  # pyright: ignore[reportArgumentType]
        return type(self)(**values)


@dataclass(frozen=True)
class PlannerInput(_Tensors):
    """What a planner may see: the present and the past, in the frame of the ego at present.

    Where a mask is false the value beside it is 0. The newest step of a history is last and is
    the present, at which the ego's pose is (0, 0, 0). Agents are ordered by distance.

    Attributes:
        ego_history: x, y, heading, speed; 0.1 s apart.
        ego_history_mask: Where it was seen; the present always is.
        ego_size_m: Length and width.
        agents: x, y, heading, velocity along x and along y.
        agent_mask: Where they were seen.
        agent_sizes_m: Length and width.
        agent_kinds: One of `driving.world.AGENT_...`.
        lines: Points of pieces of map lines, nearest piece first.
        line_mask: Which points are there.
        line_kinds: One of `driving.world.LINE_...`.
        line_limits_mps: Speed limit of lane pieces.
        line_limit_mask: Where it is known.
        line_lights: One of `driving.world.LIGHT_...`, at present.
        route: Centre of the lanes to follow, from just behind the ego onwards, at equal distances.
        route_mask: Which points are there; a prefix. All false where no route is known.
        route_limits_mps: Speed limit at every point.
        route_limit_mask: Where it is known.
        route_lights: One of `driving.world.LIGHT_...`, at present.
    """

    ego_history: Float[Tensor, "batch history 4"]
    ego_history_mask: Bool[Tensor, "batch history"]
    ego_size_m: Float[Tensor, "batch 2"]
    agents: Float[Tensor, "batch agent history 5"]
    agent_mask: Bool[Tensor, "batch agent history"]
    agent_sizes_m: Float[Tensor, "batch agent 2"]
    agent_kinds: Int[Tensor, "batch agent"]
    lines: Float[Tensor, "batch line point 2"]
    line_mask: Bool[Tensor, "batch line point"]
    line_kinds: Int[Tensor, "batch line"]
    line_limits_mps: Float[Tensor, "batch line"]
    line_limit_mask: Bool[Tensor, "batch line"]
    line_lights: Int[Tensor, "batch line"]
    route: Float[Tensor, "batch place 2"]
    route_mask: Bool[Tensor, "batch place"]
    route_limits_mps: Float[Tensor, "batch place"]
    route_limit_mask: Bool[Tensor, "batch place"]
    route_lights: Int[Tensor, "batch place"]


@dataclass(frozen=True)
class StyleCondition(_Tensors):
    """The style that is asked for: a conditioning vector per scene.

    Attributes:
        values: -1 to 1 per dimension of `STYLE_DIMENSIONS`; 0 where the mask is false.
        mask: Which dimensions anything is asked of.
    """

    values: Float[Tensor, "batch style"]
    mask: Bool[Tensor, "batch style"]


@dataclass(frozen=True)
class Plans(_Tensors):
    """Candidate trajectories of a planner, in the frame of its input.

    Attributes:
        poses: x, y and heading at 0.5, 1.0, ..., 4.0 s from now; headings are continuous.
        scores: Higher is better; -inf for a candidate that does not count.
    """

    poses: Float[Tensor, "batch candidate time 3"]
    scores: Float[Tensor, "batch candidate"]

    @property
    def best(self) -> Float[Tensor, "batch time 3"]:
        """The candidate with the highest score, the first of equals."""
        chosen = self.scores.argmax(-1)
        return self.poses[torch.arange(len(chosen), device=chosen.device), chosen]


class Planner(ABC):
    """Plans the next four seconds.

    Laws, held by `tests/driving/test_planner_slot.py` for every variant: the same input and seed
    give the same plans; a batch gives what its rows give one by one; padding (masked agents, lines
    and route points, and where they stand) changes nothing; all numbers are finite; nothing in the
    forward pass waits for the device (no boolean gather, no `.item()`). A planner that does not
    know styles ignores the condition.
    """

    @abstractmethod
    def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
        """Candidate trajectories, on the device of the input."""
