"""Scenes and rides as messages: the ego at the origin, rounded to a tenth of a millimetre."""

import math

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from data_prep.scenes.raw_scene import AGENT_KINDS
from driving.map_store import KIND_NUMBERS, MapStore
from driving.planner.planner import PLAN_STEP_S
from driving.simulation.kinematics import STEP_S
from driving.simulation.state import Motion
from driving.world import World
from driving.world_builder import to_frame
from personalize.api.messages import AgentTrack, Box, MapLine, Scene, SceneView, Trajectory

SEEN_M = 80.0
DECIMALS = 4
_KINDS = {number: kind for kind, number in KIND_NUMBERS.items()}


def scene_view(scene: Scene, world: World, map_: MapStore) -> SceneView:
    """What a scene looks like from above, 80 m around the ego.

    Args:
        scene: Which one.
        world: Of this one sample.
        map_: Its map.
    """
    now = world.now
    length_m, width_m = (round(float(size), 2) for size in world.ego_size_m[0])
    future = _first_unseen(world.ego_mask[0, now:])
    past = now - _first_unseen(world.ego_mask[0, : now + 1].flip(0)) + 1
    return SceneView(
        scene=scene,
        lines=_lines(map_, world.start_poses[0].numpy()),
        agents=_boxes(world),
        ego=Box(kind="vehicle", length_m=length_m, width_m=width_m, x_m=0, y_m=0, heading_rad=0),
        ego_past=_logged(world, past, now + 1),
        ego_future=_logged(world, now, now + future),
    )


def planned(plan: Float[Tensor, "time 3"]) -> Trajectory:
    """A plan; its speeds are those between one pose and the next, beginning at the ego."""
    before = np.concatenate([np.zeros((1, 2)), plan[:-1, :2].numpy()])
    speed = np.hypot(*(plan[:, :2].numpy() - before).T) / PLAN_STEP_S
    return _trajectory(plan.numpy(), speed, step_s=PLAN_STEP_S, start_s=PLAN_STEP_S)


def driven(ride: Motion, row: int, steps: int) -> Trajectory:
    """The first steps of a ride, from the present on."""
    poses, speed = ride.poses[row, : steps + 1], ride.speed_mps[row, : steps + 1]
    return _trajectory(poses.numpy(), speed.numpy(), step_s=STEP_S, start_s=0.0)


def agent_tracks(world: World, row: int, steps: int) -> list[AgentTrack]:
    """Everybody who is there at some time of a ride's first steps."""
    span = slice(world.now, world.now + steps + 1)
    tracks = []
    for agent in world.agent_mask[row, :, span].any(-1).nonzero()[:, 0].tolist():
        mask = world.agent_mask[row, agent, span].numpy()
        poses = world.agent_poses[row, agent, span].numpy()
        length_m, width_m = (round(float(size), 2) for size in world.agent_sizes_m[row, agent])
        tracks.append(
            AgentTrack(
                kind=AGENT_KINDS[int(world.agent_kinds[row, agent])],
                length_m=length_m,
                width_m=width_m,
                x_m=_where(poses[:, 0], mask),
                y_m=_where(poses[:, 1], mask),
                heading_rad=_where(poses[:, 2], mask),
            )
        )
    return tracks


def _where(values: np.ndarray, mask: Bool[np.ndarray, " step"]) -> list[float | None]:
    return [number if there else None for number, there in zip(rounded(values), mask, strict=True)]


def rounded(values: np.ndarray) -> list[float]:
    """Plain numbers; no minus in front of a zero."""
    return (np.round(np.asarray(values, np.float64), DECIMALS) + 0.0).tolist()


def _trajectory(
    poses: Float[np.ndarray, "step 3"],
    speed_mps: Float[np.ndarray, " step"],
    *,
    step_s: float,
    start_s: float,
) -> Trajectory:
    x_m, y_m, heading_rad = (rounded(column) for column in poses.T)
    return Trajectory(
        step_s=step_s,
        start_s=round(start_s, DECIMALS) + 0.0,
        x_m=x_m,
        y_m=y_m,
        heading_rad=heading_rad,
        speed_mps=rounded(speed_mps),
    )


def _logged(world: World, first: int, after: int) -> Trajectory:
    poses, speed = world.ego_poses[0, first:after], world.ego_speed_mps[0, first:after]
    start_s = (first - world.now) * world.step_s
    return _trajectory(poses.numpy(), speed.numpy(), step_s=world.step_s, start_s=start_s)


def _first_unseen(mask: Bool[Tensor, " step"]) -> int:
    """How long a mask is true from its beginning."""
    return int(mask.long().cumprod(0).sum())


def _boxes(world: World) -> list[Box]:
    poses, sizes = world.agent_poses[0, :, world.now], world.agent_sizes_m[0]
    near = world.agent_mask[0, :, world.now] & (poses[:, :2].norm(dim=-1) <= SEEN_M)
    return [
        Box(
            kind=AGENT_KINDS[int(world.agent_kinds[0, agent])],
            length_m=round(float(sizes[agent, 0]), 2),
            width_m=round(float(sizes[agent, 1]), 2),
            x_m=x_m,
            y_m=y_m,
            heading_rad=heading_rad,
        )
        for agent in near.nonzero()[:, 0].tolist()
        for x_m, y_m, heading_rad in [rounded(poses[agent].numpy())]
    ]


def _lines(map_: MapStore, start: Float[np.ndarray, "3"]) -> list[MapLine]:
    """Pieces of lines with a point near enough; pieces of the same line that touch are one."""
    pieces = map_.pieces
    if not len(pieces.mask):
        return []
    points = to_frame(pieces.points_m, start)
    away = np.where(pieces.mask, np.hypot(points[..., 0], points[..., 1]), math.inf).min(1)
    joined: list[tuple[int, int, list[np.ndarray]]] = []
    for row in np.flatnonzero(away <= SEEN_M).tolist():
        piece, line = points[row][pieces.mask[row]], int(pieces.line_ids[row])
        if joined and joined[-1][0] == line and np.allclose(joined[-1][2][-1][-1], piece[0]):
            joined[-1][2].append(piece[1:])
        else:
            joined.append((line, int(pieces.kinds[row]), [piece]))
    return [
        MapLine(kind=_KINDS[kind], x_m=rounded(line[:, 0]), y_m=rounded(line[:, 1]))
        for _, kind, parts in joined
        for line in [np.concatenate(parts)]
    ]
