"""A trace as a condition of a planner, and how training draws it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.planner.going_on import GoingOn
from driving.planner.planner import PLAN_STEP_S, PLAN_STEPS, _Tensors
from driving.planner.trace import MOST_POINTS, SHIFTED_AFTER_S, trace_steps


@dataclass(frozen=True)
class TraceCondition(_Tensors):
    """Way-points that are asked for, at the steps of a plan.

    Attributes:
        points: x and y in the frame of the ego at present; 0 where the mask is false.
        mask: Which steps have a way-point; none where nothing is asked for.
    """

    points: Float[Tensor, "batch time 2"]
    mask: Bool[Tensor, "batch time"]


def trace_condition(points: Float[Tensor, "batch point 2"]) -> TraceCondition:
    """One trace per scene, its way-points put at the steps where they stand.

    Raises:
        ValueError: If there are not 1 to 5 way-points.
    """
    steps = trace_steps(points.shape[1]).to(points.device)
    placed = points.new_zeros(len(points), PLAN_STEPS, 2)
    mask = torch.zeros(placed.shape[:2], dtype=torch.bool, device=points.device)
    placed[:, steps], mask[:, steps] = points, True
    return TraceCondition(placed, mask)


def distance_to_trace(
    poses: Float[Tensor, "batch candidate time 3"], trace: TraceCondition
) -> Float[Tensor, "batch candidate"]:
    """Mean distance in metres of candidates to the way-points; 0 where there is none."""
    gaps = (poses[..., :2] - trace.points[:, None]).norm(dim=-1)
    return (gaps * trace.mask[:, None]).sum(-1) / trace.mask.sum(-1, keepdim=True).clamp_min(1)


@dataclass(frozen=True)
class TraceTraining:
    """Draws the traces that a planner learns from, out of the futures that it learns.

    What is driven keeps to the middle of a lane, so no trace beside it is ever seen. Some of the
    futures that have a trace are therefore edited themselves, so that what was asked for is what
    is learnt. Without that traces are followed too, not quite as closely.

    Attributes:
        present: Probability that a row is given a trace.
        jitter_m: Standard deviation of what is added to every way-point, along x and y.
        edited: Probability that a future with a trace is edited: with even chances driven aside,
            or its length changed, or both.
        aside_m: Largest metres aside; of short ways at most a fifth of their length.
        length: Least and largest factor of the length.

    Raises:
        ValueError: If one is out of range.

    Source:
        Lee et al., 2025, MolmoAct, arXiv:2508.07917: one to five points of the future. That some
        rows have none, the jitter and the edited futures are ours.
    """

    present: float = 0.5
    jitter_m: float = 0.1
    edited: float = 0.5
    aside_m: float = 1.5
    length: tuple[float, float] = (0.7, 1.3)

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not (0 <= self.present <= 1 and 0 <= self.edited <= 1):
            raise ValueError(
                "trace.present and trace.edited must be from 0 to 1, "
                f"got {self.present:g} and {self.edited:g}."
            )
        if min(self.jitter_m, self.aside_m) < 0 or not 0 < self.length[0] <= self.length[1]:
            raise ValueError(
                "trace.jitter_m and trace.aside_m must not be negative, and trace.length a "
                f"positive range, got {self.jitter_m:g}, {self.aside_m:g} and {self.length}."
            )

    def __call__(
        self,
        future: Float[Tensor, "batch time 3"],
        mask: Bool[Tensor, "batch time"],
        base: GoingOn,
    ) -> tuple[TraceCondition, Float[Tensor, "batch time 3"]]:
        """Traces of one to five way-points, and what is to be learnt with them.

        Random numbers come from torch's own generator.

        Args:
            future: What the rows would learn without a trace.
            mask: Which steps are known; the others get no way-point.
            base: How the egos go on.
        """
        rows, device = len(future), future.device
        lengths = torch.randint(MOST_POINTS, (rows,), device=device)
        drawn = torch.rand(rows, 5, device=device)
        present = drawn[:, 0] < self.present
        edited = present & (drawn[:, 1] < self.edited) & mask[:, -1]
        aside, longer = edited & (drawn[:, 2] < 2 / 3), edited & (drawn[:, 2] >= 1 / 3)
        aside_m = torch.where(aside, self.aside_m * (2 * drawn[:, 3] - 1), 0.0)
        least, most = self.length
        factor = torch.where(longer, least + (most - least) * drawn[:, 4], 1.0)
        other = edited_poses(future, base, aside_m.to(future.dtype), factor.to(future.dtype))
        future = torch.where(edited[:, None, None], other, future) * mask[..., None]
        mask = _steps_by_length().to(device)[lengths] & mask & present[:, None]
        noise = self.jitter_m * torch.randn(rows, PLAN_STEPS, 2, device=device)
        points = (future[..., :2] + noise.to(future.dtype)) * mask[..., None]
        return TraceCondition(points, mask), future


def edited_poses(
    poses: Float[Tensor, "batch time 3"],
    base: GoingOn,
    aside_m: Float[Tensor, " batch"],
    factor: Float[Tensor, " batch"],
) -> Float[Tensor, "batch time 3"]:
    """Plans driven further to the left, and more or less of their way: as `Shift` and `Scale` edit.

    Args:
        poses: Plans.
        base: The way they are driven on.
        aside_m: Metres to the left after two seconds; at most a fifth of the way.
        factor: Of the distance along the way.
    """
    changes = base.changes(poses[:, None])[:, 0]
    along = factor[:, None] * (base.along_m + changes[..., 0])
    most = 0.2 * along[:, -1:].clamp_min(0.0)
    seconds = PLAN_STEP_S * torch.arange(1, PLAN_STEPS + 1, device=poses.device)
    part = (seconds / SHIFTED_AFTER_S).clamp_max(1.0).to(poses.dtype)
    reach = aside_m[:, None].clamp(-most, most)
    speed = along.diff(dim=1, prepend=torch.zeros_like(most)).clamp_min(0.1) / PLAN_STEP_S
    turned = (reach * 6 * part * (1 - part) / SHIFTED_AFTER_S / speed).atan()
    left = changes[..., 1] + reach * part.square() * (3 - 2 * part)
    found = torch.stack((along - base.along_m, left, changes[..., 2] + turned), -1)
    return base.poses(found[:, None])[:, 0]


def trace_changes(trace: TraceCondition, base: GoingOn) -> Float[Tensor, "batch time 2"]:
    """Way-points as changes along the way and to its left; of any value where there is none."""
    poses = torch.cat((trace.points, torch.zeros_like(trace.points[..., :1])), -1)
    return base.changes(poses[:, None])[:, 0, :, :2]


def _steps_by_length() -> Bool[Tensor, "length time"]:
    """Which steps have a way-point in a trace of 1, 2, ..., 5."""
    table = torch.zeros(MOST_POINTS, PLAN_STEPS, dtype=torch.bool)
    for row in range(MOST_POINTS):
        table[row, trace_steps(row + 1)] = True
    return table
