"""The planner that sees nothing but the ego's own motion and the style: a floor for the others."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from driving.planner.batch import PlanningBatch, drawn_lesson
from driving.planner.learned import LearnedPlanner
from driving.planner.planner import PLAN_STEPS, PlannerInput, Plans, StyleCondition
from driving.planner.scene_encoder import POSITION_M, SPEED_MPS
from driving.planner.style_dropout import StyleDropout
from driving.planner.style_injection import STYLE_COUNT


class EgoMlp(LearnedPlanner):
    """Three layers on the ego's history and the style, trained by L1, with one candidate.

    AD-MLP (Zhai et al., 2023, arXiv:2305.10430) with StyleDrive's concatenated style; here the
    style is the vector with its mask. The law on padding holds trivially: it reads no agents.
    """

    def __init__(
        self,
        *,
        width: int = 512,
        history_steps: int = 11,
        style_dropout: StyleDropout | None = None,
        teacher_share: float = 0.5,
    ) -> None:
        """Set the sizes.

        Args:
            width: Width of the two hidden layers.
            history_steps: Newest steps of the ego's history that are read.
            style_dropout: How often training hides the style. Default: 15 % wholly.
            teacher_share: Share of rows that learn a teacher's future where there is one.
        """
        super().__init__()
        self.history_steps = history_steps
        self.style_dropout = style_dropout or StyleDropout()
        self.teacher_share = teacher_share
        self.layers = nn.Sequential(
            nn.Linear(5 * history_steps + 2 * STYLE_COUNT, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 3 * PLAN_STEPS),
        )  # fmt: skip

    def survey(
        self,
        scenes: PlannerInput,
        futures: Float[Tensor, "sample variant time 3"],
        mask: Bool[Tensor, "sample variant time"],
    ) -> None:
        """Nothing needs to be known beforehand."""

    @torch.no_grad()
    def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
        """One candidate with the score 0."""
        poses = self._poses(scene, style)
        return Plans(poses.unsqueeze(1), poses.new_zeros(len(poses), 1))

    def loss(self, batch: PlanningBatch) -> dict[str, Float[Tensor, ""]]:
        """Mean L1 distance of x, y (metres) and heading (radians) per known step."""
        lesson = drawn_lesson(batch, self.teacher_share)
        style = self.style_dropout(lesson.style) if self.training else lesson.style
        off = (self._poses(lesson.scene, style) - lesson.future).abs().sum(-1)
        mask = lesson.future_mask
        return {"loss": (off * mask).sum() / mask.sum().clamp_min(1)}

    def _poses(self, scene: PlannerInput, style: StyleCondition) -> Float[Tensor, "batch time 3"]:
        missing = max(0, self.history_steps - scene.ego_history.shape[1])
        history = scene.ego_history[:, -self.history_steps :]
        seen = scene.ego_history_mask[:, -self.history_steps :].unsqueeze(-1)
        units = history.new_tensor([POSITION_M, POSITION_M, 1.0, SPEED_MPS])
        told = torch.cat([history / units, torch.ones_like(history[..., :1])], -1) * seen
        told = functional.pad(told, (0, 0, missing, 0)).flatten(1)
        mask = style.mask.to(history.dtype)
        said = self.layers(torch.cat([told, style.values * mask, mask], dim=-1))
        places = said.unflatten(-1, (PLAN_STEPS, 3))
        return places * places.new_tensor([SPEED_MPS, 1.0, 1.0])
