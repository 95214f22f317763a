"""What a critic of plans sees: scenes as a planner encodes them, styles, and plans as changes."""

import torch
from jaxtyping import Float
from torch import Tensor

from driving.planner.going_on import going_on
from driving.planner.learned import EncodesScenes
from driving.planner.planner import PlannerInput, StyleCondition
from personalize.rewards.critic import CriticContext


def plan_features(
    scene: PlannerInput, poses: Float[Tensor, "batch candidate time 3"]
) -> Float[Tensor, "batch candidate feature"]:
    """Plans as a critic sees them: metres further along and aside, and radians, at every time."""
    return going_on(scene).changes(poses).flatten(2)


def style_features(style: StyleCondition) -> Float[Tensor, "batch feature"]:
    """A style as a critic sees it: values beside their mask."""
    return torch.cat((style.values, style.mask.to(style.values)), -1)


@torch.no_grad()
def critic_context(
    planner: EncodesScenes, scene: PlannerInput, style: StyleCondition
) -> CriticContext:
    """What a critic is asked in."""
    return CriticContext(planner.scene_vectors(scene).float(), style_features(style).float())
