"""What a planner learns from: scenes, the futures driven in them, and their styles."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.planner.displacement import displaced, to_displaced
from driving.planner.planner import PlannerInput, StyleCondition, _Tensors

PROBABILITIES = ("no_collision", "drivable", "time_to_collision", "progress", "comfort")
MEASURES = ("mean_time_gap_s", "mean_speed_mps")
SUB_SCORES = PROBABILITIES + MEASURES
"""Order of the last dimension of sub-scores: five from 0 to 1, then two in their own unit."""


@dataclass(frozen=True)
class ScoredProposals(_Tensors):
    """Trajectories whose sub-scores are known: anchors, a teacher's proposals, the log.

    Attributes:
        poses: x, y and heading at 0.5, 1.0, ..., 4.0 s from now.
        values: One per name of `SUB_SCORES`; 0 where the mask is false.
        mask: Which sub-scores are known.
    """

    poses: Float[Tensor, "batch proposal time 3"]
    values: Float[Tensor, "batch proposal head"]
    mask: Bool[Tensor, "batch proposal head"]


@dataclass(frozen=True)
class TeacherFutures(_Tensors):
    """The same scenes driven in other styles by a teacher: what a log cannot show.

    Attributes:
        poses: x, y and heading at 0.5, 1.0, ..., 4.0 s from now.
        mask: Which variants are there.
        style_values: The style of each variant, as in `StyleCondition`.
        style_mask: Which dimensions anything is asked of.
        displacement: Where the variant begins, as `displaced` takes it; its poses are in the frame
            of the ego thus displaced.
    """

    poses: Float[Tensor, "batch variant time 3"]
    mask: Bool[Tensor, "batch variant"]
    style_values: Float[Tensor, "batch variant style"]
    style_mask: Bool[Tensor, "batch variant style"]
    displacement: Float[Tensor, "batch variant 3"]


@dataclass(frozen=True)
class PlanningBatch:
    """Scenes with what was driven in them.

    Attributes:
        scene: What the planner sees.
        style: The style in which the logged future was driven.
        future: Logged x, y and heading at 0.5, 1.0, ..., 4.0 s from now, in the frame of the
            scene; headings are continuous; 0 where the mask is false.
        future_mask: Which of them were logged.
        proposals: Trajectories with known sub-scores, if any.
        teacher: The same scenes in other styles, if there is a teacher.
    """

    scene: PlannerInput
    style: StyleCondition
    future: Float[Tensor, "batch time 3"]
    future_mask: Bool[Tensor, "batch time"]
    proposals: ScoredProposals | None = None
    teacher: TeacherFutures | None = None

    def __len__(self) -> int:
        """Number of scenes."""
        return self.future.shape[0]

    def to(self, device: torch.device | str) -> "PlanningBatch":
        """The same on a device."""
        return self._map(
            lambda part: (
                part.to(device, non_blocking=True) if isinstance(part, Tensor) else part.to(device)
            )
        )

    def rows(self, chosen: Int[Tensor, " chosen"] | slice) -> "PlanningBatch":
        """Some rows of the batch."""
        return self._map(
            lambda part: part[chosen] if isinstance(part, Tensor) else part.rows(chosen)
        )

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its dotted name, for writing a batch to a file."""
        found: dict[str, Tensor] = {}
        for name, part in vars(self).items():
            if isinstance(part, Tensor):
                found[name] = part
            elif part is not None:
                found |= {f"{name}.{inner}": value for inner, value in vars(part).items()}
        return found

    def _map(self, function: Callable[[Any], Any]) -> "PlanningBatch":
        parts: dict[str, Any] = {
            name: None if part is None else function(part) for name, part in vars(self).items()
        }
        return PlanningBatch(**parts)


@dataclass(frozen=True)
class Lesson:
    """What a training step learns of every row.

    Attributes:
        scene: What the planner sees.
        style: The style in which the future was driven.
        future: x, y and heading at 0.5, 1.0, ..., 4.0 s from now, in the frame of the scene.
        future_mask: Which of them are known.
        proposals: As in the batch, in the frame of the scene.
    """

    scene: PlannerInput
    style: StyleCondition
    future: Float[Tensor, "batch time 3"]
    future_mask: Bool[Tensor, "batch time"]
    proposals: ScoredProposals | None


def drawn_lesson(batch: PlanningBatch, teacher_share: float) -> Lesson:
    """The future to learn and its style: the log's, or for some rows one of the teacher's.

    One variant is drawn in place of all of them, so a step costs the same with a teacher and the
    same scene comes in every style over the epochs. Where the teacher began somewhere else than
    the log, the scene is seen from there: so a planner learns how to get back to the road.

    Args:
        batch: The batch; rows whose drawn variant is missing keep the log's future.
        teacher_share: Probability that a row learns from the teacher, 0 to 1.

    Returns:
        What to learn; random numbers come from torch's own generator.
    """
    teacher, proposals = batch.teacher, batch.proposals
    if teacher is None or teacher_share == 0:
        return Lesson(batch.scene, batch.style, batch.future, batch.future_mask, proposals)
    rows, variants = teacher.mask.shape
    device = batch.future.device
    variant = torch.randint(variants, (rows,), device=device)
    row = torch.arange(rows, device=device)
    taken = (torch.rand(rows, device=device) < teacher_share) & teacher.mask[row, variant]
    column = taken[:, None]
    style = StyleCondition(
        torch.where(column, teacher.style_values[row, variant], batch.style.values),
        torch.where(column, teacher.style_mask[row, variant], batch.style.mask),
    )
    future = torch.where(column[..., None], teacher.poses[row, variant], batch.future)
    moved = torch.where(column, teacher.displacement[row, variant], 0.0)
    if proposals is not None:
        proposals = replace(proposals, poses=to_displaced(proposals.poses, moved))
    return Lesson(
        displaced(batch.scene, moved), style, future, batch.future_mask | column, proposals
    )
