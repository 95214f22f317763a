"""What our planners see in nuPlan's own simulator, and their plans as it wants them; no devkit.

The surroundings go through the same code as those of a prepared log: the same map file, the same
pieces of lines, the same cut. Only the history is the simulator's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from data_prep.scenes.nuplan_frames import REAR_AXLE_TO_CENTRE_M
from data_prep.scenes.nuplan_route import route_lanes
from data_prep.scenes.raw_scene import LIGHTS, Light
from data_prep.scenes.scene_frames import map_lines_frame, prepared_map
from driving.map_store import MapStore, line_distances
from driving.planner.planner import PLAN_STEP_S
from driving.planner_input import HISTORY_STEPS
from driving.world import World
from driving.world_builder import SceneTraffic, WorldSize, along_of, stack_worlds, world_rows

if TYPE_CHECKING:
    from data_prep.scenes.nuplan_map import NuPlanMap

HISTORY_STEP_S = 0.1
VIEW_RADIUS_M, LOOK_AGAIN_M = 200.0, 60.0
_BESIDE_ROUTE_M, _OFF_ROUTE_RAD = 4.0, 0.35


@dataclass(frozen=True)
class History:
    """The present and the second before it, oldest first, in the map's frame.

    Attributes:
        states: x, y and heading of boxes, velocity along x and y; the ego's come first.
        mask: Where they were seen.
        sizes_m: Length and width.
        kinds: One of `driving.world.AGENT_...`.
        lights: What lights show at present, by the number of the lane connector.
    """

    states: Float[np.ndarray, "agent history 5"]
    mask: Bool[np.ndarray, "agent history"]
    sizes_m: Float[np.ndarray, "agent 2"]
    kinds: Int[np.ndarray, " agent"]
    lights: Mapping[str, Light]


@dataclass(frozen=True)
class RoadView:
    """The map around a place.

    Attributes:
        centre_m: The place; also the origin of the lines.
        store: The lines.
        numbers: Number of every line by its key.
        route: Numbers of the lanes to follow.
    """

    centre_m: Float[np.ndarray, "2"]
    store: MapStore
    numbers: Mapping[str, int]
    route: Sequence[int]

    @classmethod
    def around(
        cls, whole: "NuPlanMap", roadblocks: Sequence[str], place_m: Float[np.ndarray, "2"]
    ) -> "RoadView":
        """What can be seen from a place of a map.

        Args:
            whole: The map.
            roadblocks: The route.
            place_m: In the map's frame.
        """
        near = whole.around(place_m[None], key="view", radius_m=VIEW_RADIUS_M)
        prepared = prepared_map(near, place_m)
        lanes = route_lanes(whole.lanes, roadblocks, place_m[None])
        numbers = prepared.line_number
        route = [numbers[key] for key in lanes if key in numbers]
        return cls(place_m, MapStore(map_lines_frame(near, prepared)), numbers, route)

    def covers(self, place_m: Float[np.ndarray, "2"]) -> bool:
        """Whether somebody at a place still sees far enough."""
        return float(np.hypot(*(place_m - self.centre_m))) <= LOOK_AGAIN_M

    def world(self, history: History) -> World:
        """A world of one sample that ends at present, which is what a planner's input is cut from.

        Args:
            history: The ego's and the others'.
        """
        states = np.where(history.mask[..., None], history.states, 0.0)
        states[..., :2] -= self.centre_m * history.mask[..., None]
        lights = {
            self.numbers[f"connector:{number}"]: np.full(HISTORY_STEPS, LIGHTS.index(state))
            for number, state in history.lights.items()
            if f"connector:{number}" in self.numbers
        }
        count = len(states)
        traffic = SceneTraffic(
            map=self.store,
            map_index=0,
            states=states,
            mask=history.mask,
            sizes_m=history.sizes_m,
            kinds=history.kinds,
            routes=[self.route, *[()] * (count - 1)],
            lights=lights,
        )
        now = HISTORY_STEPS - 1
        rows = world_rows(traffic, 0, now, (now, 0), WorldSize())
        sample = torch.zeros(1, dtype=torch.int64)
        return stack_worlds([rows], step_s=HISTORY_STEP_S, now=now, sample_ids=sample)


def newest(time_s: Sequence[float]) -> list[int | None]:
    """Which of some times stand for now, 0.1 s ago and so on, oldest first.

    Args:
        time_s: Increasing; the last is now.

    Returns:
        Places in `time_s`; None where nothing lies within half a step.
    """
    wanted = time_s[-1] - HISTORY_STEP_S * np.arange(HISTORY_STEPS - 1, -1, -1)
    apart = np.abs(np.asarray(time_s)[None] - wanted[:, None])
    places = apart.argmin(-1)
    near = apart.min(-1) <= HISTORY_STEP_S / 2 + 1e-6
    return [int(place) if known else None for place, known in zip(places, near, strict=True)]


def route_ahead(world: World) -> Float[np.ndarray, "place 2"]:
    """Points of the route of a world of one sample, in its frame."""
    return world.route_points[0][world.route_mask[0]].numpy().astype(np.float64)


def longer_plan(
    poses: Float[np.ndarray, "time 3"], route_m: Float[np.ndarray, "place 2"], *, count: int
) -> Float[np.ndarray, "longer 3"]:
    """A plan that goes on at its last speed: beside the route as it ends, or straight on.

    Args:
        poses: Every 0.5 s.
        route_m: In the same frame; may be empty.
        count: Poses that come out.
    """
    last = poses[-1]
    forward = np.array([np.cos(last[2]), np.sin(last[2])])
    stride_m = max(float((last[:2] - poses[-2, :2]) @ forward), 0.0)
    strides = stride_m * np.arange(1, count - len(poses) + 1)
    more = _straight(last, strides)
    if len(route_m) >= 2:
        more = _beside(route_m, last, strides, more)
    return np.concatenate([poses, more])


def _straight(
    pose: Float[np.ndarray, "3"], strides_m: Float[np.ndarray, " more"]
) -> Float[np.ndarray, "more 3"]:
    x, y = pose[0] + strides_m * np.cos(pose[2]), pose[1] + strides_m * np.sin(pose[2])
    return np.stack([x, y, np.full_like(strides_m, pose[2])], -1)


def _beside(
    route_m: Float[np.ndarray, "place 2"],
    last: Float[np.ndarray, "3"],
    strides_m: Float[np.ndarray, " more"],
    otherwise: Float[np.ndarray, "more 3"],
) -> Float[np.ndarray, "more 3"]:
    """Onwards at the plan's last distance from the route, as far as that leads."""
    along = line_distances(route_m)
    start = along_of(route_m, last[:2])
    places = start + strides_m
    at, heading = _on_line(route_m, along, np.append(start, places))
    off = last[:2] - at[0]
    aside = float(off[1] * np.cos(heading[0]) - off[0] * np.sin(heading[0]))
    turn = (last[2] - heading[0] + np.pi) % (2 * np.pi) - np.pi
    if np.hypot(*off) > _BESIDE_ROUTE_M or abs(turn) > _OFF_ROUTE_RAD or start >= along[-1]:
        return otherwise
    turned = np.unwrap(np.append(last[2], heading[1:]))[1:]
    normal = np.stack([-np.sin(turned), np.cos(turned)], -1)
    more = np.concatenate([at[1:] + aside * normal, turned[:, None]], -1)
    beyond = places > along[-1]
    if beyond.any():
        first = int(beyond.argmax())
        end = np.append(route_m[-1] + aside * normal[-1], turned[-1])
        more[first:] = _straight(end, places[first:] - along[-1])
    return more


def _on_line(
    line_m: Float[np.ndarray, "place 2"],
    along_m: Float[np.ndarray, " place"],
    places_m: Float[np.ndarray, " spot"],
) -> tuple[Float[np.ndarray, "spot 2"], Float[np.ndarray, " spot"]]:
    at = np.stack([np.interp(places_m, along_m, line_m[:, axis]) for axis in (0, 1)], -1)
    piece = np.clip(np.searchsorted(along_m, places_m, side="right") - 1, 0, len(line_m) - 2)
    step = np.diff(line_m, axis=0)[piece]
    return at, np.arctan2(step[:, 1], step[:, 0])


@dataclass(frozen=True)
class RearMotion:
    """How the rear axle moves, half a second from one row to the next.

    Attributes:
        poses: x, y and heading.
        speed_mps: Along the heading.
        acceleration_mps2: Its change.
        yaw_rate_radps: Change of heading.
    """

    poses: Float[np.ndarray, "time 3"]
    speed_mps: Float[np.ndarray, " time"]
    acceleration_mps2: Float[np.ndarray, " time"]
    yaw_rate_radps: Float[np.ndarray, " time"]


def rear_motion(centres: Float[np.ndarray, "time 3"], frame: Float[np.ndarray, "3"]) -> RearMotion:
    """A plan for the box's centre as the motion of the rear axle, with the present as first row.

    Args:
        centres: Poses every 0.5 s from now on, in the frame of the box's centre at present.
        frame: That frame in the map's.
    """
    cosine, sine = np.cos(frame[2]), np.sin(frame[2])
    local = np.concatenate([np.zeros((1, 3)), centres])
    x, y, heading = local.T
    turned = np.unwrap(heading + frame[2])
    poses = np.stack(
        [
            frame[0] + x * cosine - y * sine - REAR_AXLE_TO_CENTRE_M * np.cos(turned),
            frame[1] + x * sine + y * cosine - REAR_AXLE_TO_CENTRE_M * np.sin(turned),
            turned,
        ],
        -1,
    )
    velocity = np.gradient(poses[:, :2], PLAN_STEP_S, axis=0)
    speed = velocity[:, 0] * np.cos(turned) + velocity[:, 1] * np.sin(turned)
    return RearMotion(
        poses, speed, np.gradient(speed, PLAN_STEP_S), np.gradient(turned, PLAN_STEP_S)
    )


def stacked_tracks(
    seen: Sequence[Mapping[str, Iterable[float]] | None], ego: Float[np.ndarray, "history 5"]
) -> tuple[list[str], Float[np.ndarray, "agent history 5"], Bool[np.ndarray, "agent history"]]:
    """Road users of several moments side by side, behind the ego.

    Args:
        seen: State by key at each moment; None where a moment is missing.
        ego: The ego's states; NaN where a moment is missing.

    Returns:
        Keys of those who are seen at the last moment, states, and where they were seen.
    """
    keys = sorted(seen[-1] or {})
    states = np.full((1 + len(keys), len(seen), 5), np.nan)
    states[0] = ego
    for at, moment in enumerate(seen):
        for row, key in enumerate(keys):
            if moment is not None and key in moment:
                states[row + 1, at] = tuple(moment[key])
    mask = np.asarray(np.isfinite(states).all(-1))
    return keys, np.where(mask[..., None], states, 0.0), mask
