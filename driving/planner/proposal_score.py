"""How good proposals are against road users that keep their velocity: PDM's score from inside."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.planner.planner import PlannerInput
from driving.planner.style_parameters import StyleParameters
from driving.simulation.kinematics import STEP_S, WHEELBASE_PER_LENGTH
from driving.simulation.state import Motion
from driving.world import AGENT_STATIC

STRIDE = 4
STANDING_MPS = 0.05
SLOWEST_RATE_MPS = 1e-3
JERK_STEPS = 5
SHORT_PROGRESS_M = 5.0


@dataclass(frozen=True)
class Verdict:
    """What speaks for and against every proposal.

    Attributes:
        no_collision: Touches nobody ahead or alongside.
        keeps_margin: Time to collision stays above the style's margin.
        comfortable: Stays within the style's bounds.
        progress: Path length over that of the farthest proposal without collision, at most 1.
    """

    no_collision: Bool[Tensor, "batch candidate"]
    keeps_margin: Bool[Tensor, "batch candidate"]
    comfortable: Bool[Tensor, "batch candidate"]
    progress: Float[Tensor, "batch candidate"]

    @property
    def score(self) -> Float[Tensor, "batch candidate"]:
        """PDM's weights: (5 margin + 5 progress + 2 comfort) / 12, 0 with a collision."""
        good = 5 * self.keeps_margin + 5 * self.progress + 2 * self.comfortable
        return self.no_collision * good / 12


def judge(scene: PlannerInput, motion: Motion, style: StyleParameters, along_m: Tensor) -> Verdict:
    """The verdict on proposals as tracker and bicycle would drive them.

    Args:
        scene: Who is around.
        motion: Proposals from the present on, every 0.1 s, in the frame of the scene.
        style: With a last dimension of 1.
        along_m: Path length of every proposal, [batch, candidate].
    """
    nearest_s = time_to_collision(scene, motion)
    no_collision = nearest_s >= STRIDE * STEP_S
    farthest = torch.where(no_collision, along_m, 0.0).amax(-1, keepdim=True)
    progress = (along_m / farthest.clamp_min(SHORT_PROGRESS_M)).clamp(0, 1)
    return Verdict(
        no_collision,
        nearest_s >= style.collision_margin_s,
        _comfortable(scene, motion, style),
        torch.where(farthest > SHORT_PROGRESS_M, progress, 1.0),
    )


def time_to_collision(scene: PlannerInput, motion: Motion) -> Float[Tensor, "batch candidate"]:
    """The least time to collision over a motion, `inf` if nobody is ever met.

    Every 0.4 s both boxes go on straight at their velocity: they meet from when their shadows on
    all four axes of the boxes overlap. Exact for boxes that do not turn, and without a grid. Who
    is behind the ego's rear bumper does not count, nor does anything while the ego stands.
    """
    ego = motion.poses[:, :, ::STRIDE, None]
    time_s = torch.arange(ego.shape[2], device=ego.device)[:, None] * (STRIDE * STEP_S)
    now = scene.agents[:, None, None, :, -1]
    moves = (scene.agent_kinds != AGENT_STATIC)[:, None, None]
    speed = motion.speed_mps[:, :, ::STRIDE, None]
    own = (ego[..., 2].cos(), ego[..., 2].sin())
    other = (now[..., 2].cos(), now[..., 2].sin())
    apart, closing = [], []
    for axis in (0, 1):
        velocity = now[..., 3 + axis] * moves
        apart.append(now[..., axis] + velocity * time_s - ego[..., axis])
        closing.append(velocity - speed * own[axis])
    half_own = scene.ego_size_m[:, None, None, None] / 2
    half_other = scene.agent_sizes_m[:, None, None] / 2
    cosine = (own[0] * other[0] + own[1] * other[1]).abs()
    sine = (own[0] * other[1] - own[1] * other[0]).abs()
    enter, leave = torch.zeros_like(cosine), torch.full_like(cosine, torch.inf)
    for axis, first, second in ((own, half_own, half_other), (other, half_other, half_own)):
        length = first[..., 0] + second[..., 0] * cosine + second[..., 1] * sine
        width = first[..., 1] + second[..., 0] * sine + second[..., 1] * cosine
        for direction, reach in ((axis, length), ((-axis[1], axis[0]), width)):
            distance = apart[0] * direction[0] + apart[1] * direction[1]
            rate = closing[0] * direction[0] + closing[1] * direction[1]
            middle, half = _overlap(distance, rate, reach)
            enter, leave = torch.maximum(enter, middle - half), torch.minimum(leave, middle + half)
    ahead = apart[0] * own[0] + apart[1] * own[1] > -half_own[..., 0]
    counts = scene.agent_mask[:, None, None, :, -1] & ahead & (speed > STANDING_MPS)
    meets = torch.where(counts & (enter <= leave), enter, torch.inf)
    return torch.nn.functional.pad(meets, (0, 1), value=torch.inf).amin((2, 3))


def _overlap(distance: Tensor, rate: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and half of the time during which two shadows on a direction overlap."""
    inverse = 1 / torch.where(rate.abs() < SLOWEST_RATE_MPS, SLOWEST_RATE_MPS, rate)
    return -distance * inverse, (reach * inverse).abs()


def _comfortable(
    scene: PlannerInput, motion: Motion, style: StyleParameters
) -> Bool[Tensor, "batch candidate"]:
    """Within the style's bounds after the first half second, which the past decides.

    Jerk is the change of acceleration over 0.5 s.
    """
    acceleration = motion.acceleration_mps2[..., JERK_STEPS:]
    wheelbase_m = WHEELBASE_PER_LENGTH * scene.ego_size_m[:, :1, None]
    lateral = motion.speed_mps.square() * motion.steering_rad.tan() / wheelbase_m
    change = acceleration[..., JERK_STEPS:] - acceleration[..., :-JERK_STEPS]
    jerk = change.abs() / (JERK_STEPS * STEP_S)
    return (
        (acceleration.amax(-1) < style.most_acceleration_mps2)
        & (-acceleration.amin(-1) < style.most_braking_mps2)
        & (jerk.amax(-1) < style.most_jerk_mps3)
        & (lateral[..., JERK_STEPS:].abs().amax(-1) < style.most_lateral_mps2)
    )
