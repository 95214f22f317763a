"""Everything that surrounds a batch of egos, in tensors: what is simulated in and scored against.

Each sample has a world frame of its own, which is the ego's pose (centre of the box) at the
present step; it stays put while the ego drives on. What a planner may see is cut from a world by
`driving.planner_input`, in the frame of the ego as it then is.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

AGENT_VEHICLE, AGENT_PEDESTRIAN, AGENT_CYCLIST, AGENT_STATIC, AGENT_OTHER = range(5)
LINE_LANE, LINE_BOUNDARY, LINE_EDGE, LINE_CROSSWALK, LINE_STOP = range(5)
LIGHT_NONE, LIGHT_GREEN, LIGHT_YELLOW, LIGHT_RED = range(4)


@dataclass(frozen=True)
class World:
    """The surroundings of a batch of samples over past, present and future.

    Steps are `step_s` apart; step `now` is the present, what lies before it is history and what
    lies after it is the logged future (which no planner sees). Where a mask is false the value
    beside it is 0. The order of agents is by distance at the present, nearest first.

    Attributes:
        step_s: Seconds from one step to the next.
        now: Index of the present step.
        sample_ids: Rows of the samples table.
        start_poses: The world frame's pose in the scene frame (x, y, heading), float64.
        map_index: Row of the map in the `DrivableArea`.
        ego_poses: The logged ego.
        ego_speed_mps: Along its heading.
        ego_mask: Where it was seen.
        ego_size_m: Length and width.
        agent_poses: Everybody else.
        agent_velocities_mps: Along x and y of the world frame.
        agent_mask: Where they were seen.
        agent_sizes_m: Length and width.
        agent_kinds: One of `AGENT_...`.
        line_points: Pieces of map lines, equally many points each.
        line_mask: Which points are there.
        line_kinds: One of `LINE_...`.
        line_limits_mps: Speed limit of lane pieces; 0 where `line_limit_mask` is false.
        line_limit_mask: Where a limit is known.
        line_lights: One of `LIGHT_...`, at every step.
        route_points: Centre of the lanes that the ego follows, from behind it onwards, at
            equal distances.
        route_mask: Which points are there; a prefix.
        route_limits_mps: Speed limit at every point.
        route_limit_mask: Where it is known.
        route_lights: One of `LIGHT_...`, at every step and point.
    """

    step_s: float
    now: int
    sample_ids: Int[Tensor, " batch"]
    start_poses: Float[Tensor, "batch 3"]
    map_index: Int[Tensor, " batch"]
    ego_poses: Float[Tensor, "batch step 3"]
    ego_speed_mps: Float[Tensor, "batch step"]
    ego_mask: Bool[Tensor, "batch step"]
    ego_size_m: Float[Tensor, "batch 2"]
    agent_poses: Float[Tensor, "batch agent step 3"]
    agent_velocities_mps: Float[Tensor, "batch agent step 2"]
    agent_mask: Bool[Tensor, "batch agent step"]
    agent_sizes_m: Float[Tensor, "batch agent 2"]
    agent_kinds: Int[Tensor, "batch agent"]
    line_points: Float[Tensor, "batch line point 2"]
    line_mask: Bool[Tensor, "batch line point"]
    line_kinds: Int[Tensor, "batch line"]
    line_limits_mps: Float[Tensor, "batch line"]
    line_limit_mask: Bool[Tensor, "batch line"]
    line_lights: Int[Tensor, "batch line step"]
    route_points: Float[Tensor, "batch place 2"]
    route_mask: Bool[Tensor, "batch place"]
    route_limits_mps: Float[Tensor, "batch place"]
    route_limit_mask: Bool[Tensor, "batch place"]
    route_lights: Int[Tensor, "batch place step"]

    def to(self, device: torch.device | str) -> "World":
        """The same world on a device."""
        return self._map(lambda value: value.to(device, non_blocking=True))

    def rows(self, chosen: Int[Tensor, " chosen"] | slice) -> "World":
        """Some samples of the batch."""
        return self._map(lambda value: value[chosen])

    def _map(self, function) -> "World":  # noqa: ANN001  (a tensor to a tensor)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return World(
            **{
                name: function(value) if isinstance(value, Tensor) else value
                for name, value in values.items()
            }
        )
