"""Baseline: straight on at the present speed."""

import torch

from driving.planner.planner import (
    PLAN_STEP_S,
    PLAN_STEPS,
    Planner,
    PlannerInput,
    Plans,
    StyleCondition,
)


class ConstantVelocity(Planner):
    """Keeps the present heading and speed; knows no styles."""

    def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
        """One candidate on a straight line."""
        speed_mps = scene.ego_history[:, -1, 3]
        time_s = torch.arange(1, PLAN_STEPS + 1, device=speed_mps.device) * PLAN_STEP_S
        x = speed_mps[:, None] * time_s
        poses = torch.stack((x, torch.zeros_like(x), torch.zeros_like(x)), -1)
        return Plans(poses[:, None], torch.zeros_like(speed_mps)[:, None])
