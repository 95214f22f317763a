"""Rule-based: many proposals, each driven and judged, the best of them taken; also the teacher."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.planner.displacement import displaced
from driving.planner.follow import Driven, Proposals, drive
from driving.planner.lane_change import (
    Lines,
    keeps_the_road,
    lane_offset,
    lines_beside,
    may_change,
)
from driving.planner.planner import (
    PLAN_STEP_S,
    PLAN_STEPS,
    Planner,
    PlannerInput,
    Plans,
    StyleCondition,
)
from driving.planner.proposal_score import judge
from driving.planner.road_ahead import RoadAhead, road_ahead
from driving.planner.style_parameters import StyleParameters, style_parameters
from driving.simulation.kinematics import (
    STEPS_PER_PLAN_STEP,
    plan_to_reference,
    present_motion,
    track,
)
from driving.simulation.state import Motion

SPEED_SHARES = (1.0, 0.8, 0.6, 0.4, 0.2)
ASIDE_M = (0.0, -1.0, 1.0)
CENTRE_WEIGHT = 0.02


class Pdm(Planner):
    """PDM-Closed with styles and lane changes.

    Five shares of the desired speed times five lateral offsets: the route's centre, a metre to
    either side, and the lanes beside it where there are any. Each is driven by the Intelligent
    Driver Model, followed by tracker and bicycle, and judged against road users that keep their
    velocity. A lane is changed only as MOBIL allows in the style; a proposal over the road's edge
    does not count. All proposals are candidates.

    Args:
        speed_factor_cap: Most that any style drives over the limit; 1.0 keeps it.

    Source:
        Dauner, Hallgarten, Geiger and Chitta (2023), arXiv:2306.07962. Of their score, drivable
        area and driving direction are left out, which here are a matter of the offsets offered;
        0.02 per metre aside is ours and decides between equals.
    """

    def __init__(self, *, speed_factor_cap: float = 1.1) -> None:
        self.speed_factor_cap = speed_factor_cap

    def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
        """25 candidates; one that may not be driven has the score -inf."""
        row = style_parameters(style, speed_factor_cap=self.speed_factor_cap)
        parameters = row.per_proposal()
        road = road_ahead(scene)
        lines = lines_beside(scene, road)
        offsets, is_change, there = _offsets(lines, road)
        shares = torch.tensor(SPEED_SHARES, device=offsets.device).repeat(offsets.shape[1])
        proposals = Proposals(
            offsets.repeat_interleave(len(SPEED_SHARES), 1),
            shares.expand(len(offsets), -1),
            parameters,
        )
        driven = drive(road, proposals)
        verdict = judge(scene, _tracked(scene, driven), parameters, driven.along_m[..., -1])
        aside = CENTRE_WEIGHT * (proposals.offset_m.abs() / 5).clamp_max(1)
        allowed = there & keeps_the_road(lines, road, offsets)
        allowed = allowed.repeat_interleave(len(SPEED_SHARES), 1)
        change = is_change.repeat_interleave(len(SPEED_SHARES))
        allowed = allowed & (~change | _worth_it(road, parameters, proposals, driven))
        return Plans(driven.plan, (verdict.score - aside).masked_fill(~allowed, -torch.inf))


def _offsets(
    lines: Lines, road: RoadAhead
) -> tuple[Float[Tensor, "batch offset"], Bool[Tensor, " offset"], Bool[Tensor, "batch offset"]]:
    """Lateral offsets, which of them are lane changes, and which are offered."""
    left, has_left = lane_offset(lines, road, side=1)
    right, has_right = lane_offset(lines, road, side=-1)
    aside = torch.tensor(ASIDE_M, device=left.device).expand(len(left), -1)
    count = aside.shape[1]
    offsets = torch.cat((aside, left[:, None], right[:, None]), 1)
    always = torch.ones(len(left), count, dtype=torch.bool, device=left.device)
    there = torch.cat((always, has_left[:, None], has_right[:, None]), 1)
    return offsets, torch.arange(count + 2, device=left.device) >= count, there


def _worth_it(
    road: RoadAhead, style: StyleParameters, proposals: Proposals, driven: Driven
) -> Bool[Tensor, "batch candidate"]:
    """Where a lane change gains enough over staying, by the mean acceleration over the plan."""
    along = driven.along_m[..., -1]
    gain = (along - along[:, :1]) * 2 / (PLAN_STEPS * PLAN_STEP_S) ** 2
    return may_change(road, style, proposals.offset_m, gain)


def _tracked(scene: PlannerInput, driven: Driven) -> Motion:
    """How tracker and bicycle follow the proposals."""
    span = slice(-STEPS_PER_PLAN_STEP - 1, None)
    length_m = scene.ego_size_m[:, 0]
    now = present_motion(scene.ego_history[:, span], scene.ego_history_mask[:, span], length_m)
    now = Motion(*(getattr(now, name)[:, None] for name in Motion.__dataclass_fields__))
    reference = plan_to_reference(driven.plan, length_m[:, None])
    return track(now, reference, length_m[:, None])


def teach(
    planner: Planner,
    scene: PlannerInput,
    styles: Sequence[StyleCondition],
    displacement: Float[Tensor, "batch variant 3"],
    *,
    seed: int = 0,
) -> Float[Tensor, "batch variant time 3"]:
    """The same scenes driven in several styles, in one call of the planner.

    A log shows one style per scene; without such sets a model may learn to ignore its condition.

    Args:
        planner: The teacher, such as `Pdm`.
        scene: A batch.
        styles: One per variant, each for the whole batch.
        displacement: Where every variant begins; see `displaced`.
        seed: Of the planner.

    Returns:
        The best plan of every scene in every variant, in the frame of the ego as displaced.
    """
    batch, count = displacement.shape[:2]
    index = torch.arange(batch, device=scene.ego_size_m.device).repeat_interleave(count)
    begun = displaced(scene.rows(index), displacement.flatten(0, 1))
    values = torch.stack([style.values for style in styles], 1).flatten(0, 1)
    mask = torch.stack([style.mask for style in styles], 1).flatten(0, 1)
    found = planner.plan(begun, StyleCondition(values, mask), seed=seed)
    return found.best.unflatten(0, (batch, count))
