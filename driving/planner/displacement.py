"""Scenes as an ego would see them that stands elsewhere on the road: beside the log's way.

A planner that learnt from logs alone has never seen itself off the way it would have driven, and
drifts from it in closed loop. A teacher can show the way back from anywhere.

A displacement is three numbers: metres to the left, radians counter-clockwise, and by how much
faster the ego is as a share of its speed. Zeros displace nothing.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from driving.planner.planner import PlannerInput
from driving.simulation.frames import from_frame, to_frame


def displaced(scene: PlannerInput, displacement: Float[Tensor, "batch 3"]) -> PlannerInput:
    """The scene in the frame of an ego with another past.

    That past is the ego's own, moved as a whole: beside and turned, and longer as it was faster.
    Everybody else and the map stay where they are.
    """
    frame = _frame(displacement)
    faster = 1 + displacement[:, 2:, None]
    history = torch.cat(
        (
            scene.ego_history[..., :2] * faster,
            scene.ego_history[..., 2:3],
            scene.ego_history[..., 3:] * faster,
        ),
        -1,
    )
    poses = to_frame(scene.agents[..., :3].flatten(1, 2), frame).unflatten(
        1, scene.agents.shape[1:3]
    )
    velocity = _turned(scene.agents[..., 3:], frame)
    agents = torch.cat((poses, velocity), -1)
    lines = _points(scene.lines.flatten(1, 2), frame).unflatten(1, scene.lines.shape[1:3])
    return replace(
        scene,
        ego_history=history,
        agents=torch.where(scene.agent_mask[..., None], agents, 0.0),
        lines=torch.where(scene.line_mask[..., None], lines, 0.0),
        route=torch.where(scene.route_mask[..., None], _points(scene.route, frame), 0.0),
    )


def to_displaced(
    poses: Float[Tensor, "batch many time 3"], displacement: Float[Tensor, "batch 3"]
) -> Float[Tensor, "batch many time 3"]:
    """Poses in the frame of the displaced ego."""
    return to_frame(poses, _frame(displacement)[:, None].expand(-1, poses.shape[1], -1))


def from_displaced(
    poses: Float[Tensor, "batch many time 3"], displacement: Float[Tensor, "batch 3"]
) -> Float[Tensor, "batch many time 3"]:
    """Poses of the displaced ego's frame in that of the ego; the inverse of `to_displaced`."""
    return from_frame(poses, _frame(displacement)[:, None].expand(-1, poses.shape[1], -1))


def _frame(displacement: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3"]:
    left, turned = displacement[:, 0], displacement[:, 1]
    return torch.stack((torch.zeros_like(left), left, turned), -1)


def _points(
    points: Float[Tensor, "batch many 2"], frame: Float[Tensor, "batch 3"]
) -> Float[Tensor, "batch many 2"]:
    return to_frame(torch.nn.functional.pad(points, (0, 1)), frame)[..., :2]


def _turned(
    vectors: Float[Tensor, "batch agent history 2"], frame: Float[Tensor, "batch 3"]
) -> Float[Tensor, "batch agent history 2"]:
    cosine, sine = frame[:, 2, None, None].cos(), frame[:, 2, None, None].sin()
    x, y = vectors.unbind(-1)
    return torch.stack((cosine * x + sine * y, cosine * y - sine * x), -1)
