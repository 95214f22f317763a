"""What plans are worth in moments of logs: driven, looked at for safety, quality and style."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.scenes.style_dimensions import AGGRESSIVE_SIGNS, STYLE_DIMENSIONS
from driving.follower_reaction import calm_follower
from driving.goal_measures import GOAL_NAMES, Measured
from driving.goals import driven_candidates, driven_goals
from driving.metrics.score import pdm_score
from driving.moments import Moments
from driving.planner.planner import PLAN_STEP_S, PLAN_STEPS, StyleCondition
from personalize.preference_optimization.tunable import Judged

REWARDS = (
    "progress",
    "time_to_collision",
    "comfort",
    "style_match",
    "pdms",
    "human_likeness",
    "calm_follower",
    "calm",
    "brisk",
)
"""Names of what a plan is worth; see `PlanJudge`."""
SHOWN: dict[str, str] = {
    "speed": "mean_speed",
    "time_gap": "time_gap",
    "acceleration": "peak_acceleration",
    "jerk": "peak_jerk",
    "lateral_acceleration": "peak_lateral_acceleration",
    "yielding_margin": "clearance",
}
"""What of a ride shows each style dimension; the others are not looked at."""
LEAST_SPREAD = 1e-3
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class StyleRuler:
    """How rides are read as styles, moment by moment.

    A ride shows 0 on a dimension where it measures what the moment's ride without any wish does,
    and 1 where it measures one spread more.

    Attributes:
        usual: What the ride measures that nothing was asked of, one column per `SHOWN`.
        known: Where that could be measured.
        spread: Within a moment, over the candidates of training moments that passed the gates.
    """

    usual: Float[Tensor, "moment shown"]
    known: Bool[Tensor, "moment shown"]
    spread: Float[Tensor, " shown"]

    def shown(
        self, rides: Measured, moments: Int[Tensor, " row"]
    ) -> tuple[Float[Tensor, "row candidate shown"], Bool[Tensor, "row candidate shown"]]:
        """What rides in some moments show, and where both could be measured."""
        values, mask = columns_shown(rides)
        shown = (values - self.usual[moments][:, None]) / self.spread
        return shown, mask & self.known[moments][:, None]

    def match(
        self, rides: Measured, moments: Int[Tensor, " row"], style: StyleCondition
    ) -> Float[Tensor, "row candidate"]:
        """How near what rides show is to what was asked: 1 exactly, 0 from two spreads on.

        Mean over the dimensions that were asked and measured; 1 where there is none. A ride as
        if nothing had been asked matches a preset by a half.
        """
        shown, mask = self.shown(rides, moments)
        place = [STYLE_DIMENSIONS.index(name) for name in SHOWN]
        wanted, asked = style.values[:, None, place], style.mask[:, None, place] & mask
        near = (1 - (shown - wanted).abs() / 2).clamp_min(0)
        count = asked.sum(-1)
        return torch.where(count > 0, (near * asked).sum(-1) / count.clamp_min(1), 1.0)


def columns_shown(
    rides: Measured,
) -> tuple[Float[Tensor, "row candidate shown"], Bool[Tensor, "row candidate shown"]]:
    """What was measured of the goals that show a style dimension, in the order of `SHOWN`."""
    place = [GOAL_NAMES.index(name) for name in SHOWN.values()]
    return rides.raw[..., place].float(), rides.mask[..., place]


@dataclass(frozen=True)
class DrivenPlans:
    """Plans as they were driven and measured.

    Attributes:
        measured: Goal values.
        parts: Every reward that no style decides, and the parts of the gate, by name.
    """

    measured: Measured
    parts: dict[str, Float[Tensor, "row candidate"]]

    @property
    def gate(self) -> Bool[Tensor, "row candidate"]:
        """Whether a ride neither hits anybody nor leaves the road."""
        return (self.parts["no_collision"] >= 1) & (self.parts["drivable_area"] >= 1)


def spread_within(driven: DrivenPlans) -> Float[Tensor, " shown"]:
    """Standard deviation of what candidates show within a moment, as a mean over moments.

    Only candidates that passed the gates count, and moments where there are two of them.
    """
    values, mask = columns_shown(driven.measured)
    counts = mask & driven.gate[..., None]
    number = counts.sum(1)
    mean = (values * counts).sum(1) / number.clamp_min(1)
    off = ((values - mean[:, None]).square() * counts).sum(1) / (number - 1).clamp_min(1)
    enough = number > 1
    spread = (off.sqrt() * enough).sum(0) / enough.sum(0).clamp_min(1)
    return spread.clamp_min(LEAST_SPREAD)


def drive(
    moments: Moments, rows: Int[Tensor, " row"], poses: Float[Tensor, "row candidate time 3"]
) -> DrivenPlans:
    """Plans driven by tracker and bicycle in moments, in the world as it went on.

    Args:
        moments: The moments.
        rows: Which of them.
        poses: Plans in each, on the CPU.
    """
    found = [
        _driven(moments, rows[first : first + ROWS_AT_ONCE], poses[first : first + ROWS_AT_ONCE])
        for first in range(0, len(rows), ROWS_AT_ONCE)
    ]
    raw = torch.cat([one.measured.raw for one in found])
    mask = torch.cat([one.measured.mask for one in found])
    names = found[0].parts
    parts = {name: torch.cat([one.parts[name] for one in found]) for name in names}
    return DrivenPlans(Measured(raw, mask), parts)


@torch.inference_mode()
def _driven(
    moments: Moments, rows: Int[Tensor, " row"], poses: Float[Tensor, "row candidate time 3"]
) -> DrivenPlans:
    world = moments.world.rows(rows)
    rides = driven_candidates(moments.scene.rows(rows), poses)
    scores = pdm_score(
        world, rides, moments.area, reference_progress_m=moments.gated_progress_m[rows]
    )
    parts = {
        "progress": scores.progress,
        "time_to_collision": scores.time_to_collision,
        "comfort": scores.comfort,
        "pdms": scores.score,
        "no_collision": scores.no_collision,
        "drivable_area": scores.drivable_area,
        "human_likeness": -logged_distance(moments, rows, poses),
        "calm_follower": calm_follower(world, rides),
    }
    measured = driven_goals(world, rides)
    return DrivenPlans(
        Measured(measured.raw.clone(), measured.mask.clone()),
        {name: value.float().clone() for name, value in parts.items()},
    )


def logged_distance(
    moments: Moments, rows: Int[Tensor, " row"], poses: Float[Tensor, "row candidate time 3"]
) -> Float[Tensor, "row candidate"]:
    """Mean distance in metres of plans to what was driven."""
    world = moments.world.rows(rows)
    stride = round(PLAN_STEP_S / world.step_s)
    times = world.now + stride * torch.arange(1, PLAN_STEPS + 1)
    apart = poses[..., :2] - world.ego_poses[:, None, times, :2]
    return apart.norm(dim=-1).mean(-1).float()


class PlanJudge:
    """Judges plans in moments under styles.

    Rewards are, in the order of `REWARDS`: progress, time to collision, comfort and all of the PDM
    score, which is 0 where a gate is failed; `style_match` with the style asked for;
    `human_likeness`, minus the mean distance to the log in metres; `calm_follower`; and `calm` and
    `brisk`, the match with the two presets whatever was asked, as two kinds of drivers would say.
    The gate asks for no collision and for the road, and nothing of a style moves it.

    Attributes:
        ruler: How styles are read.
    """

    def __init__(self, moments: Moments, ruler: StyleRuler) -> None:
        """Hold the moments."""
        self._moments, self.ruler = moments, ruler

    def __call__(
        self,
        rows: Int[Tensor, " row"],
        style: StyleCondition,
        poses: Float[Tensor, "row candidate time 3"],
    ) -> Judged:
        """What plans are worth, on the CPU.

        Args:
            rows: Moments.
            style: What is asked for in each.
            poses: Plans in each.
        """
        return self.of(drive(self._moments, rows, poses), rows, style)

    def of(self, driven: DrivenPlans, rows: Int[Tensor, " row"], style: StyleCondition) -> Judged:
        """The same of plans that were driven before."""
        found = dict(driven.parts)
        found["style_match"] = self.ruler.match(driven.measured, rows, style)
        for name, end in (("calm", -1.0), ("brisk", 1.0)):
            found[name] = self.ruler.match(driven.measured, rows, preset(end, len(rows)))
        return Judged(torch.stack([found[name] for name in REWARDS], -1), driven.gate)


def preset(end: float, rows: int) -> StyleCondition:
    """Every dimension at its calm end (-1) or at its brisk one (1)."""
    values = end * torch.tensor(AGGRESSIVE_SIGNS, dtype=torch.float32)
    return StyleCondition(
        values.expand(rows, -1).clone(), torch.ones(rows, len(values), dtype=torch.bool)
    )
