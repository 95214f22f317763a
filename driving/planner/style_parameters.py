"""What a driving style means in numbers: presets, interpolated dimension by dimension."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.scenes.style_dimensions import AGGRESSIVE_SIGNS, STYLE_DIMENSIONS
from driving.planner.planner import StyleCondition
from driving.simulation.car_following import CarFollowing

PRESETS: dict[str, tuple[str, tuple[float, float, float]]] = {
    "speed_factor": ("speed", (0.85, 1.0, 1.1)),
    "time_gap_s": ("time_gap", (2.0, 1.5, 0.9)),
    "standstill_gap_m": ("time_gap", (3.0, 2.0, 1.2)),
    "acceleration_mps2": ("acceleration", (0.9, 1.4, 2.0)),
    "braking_mps2": ("braking", (1.0, 2.0, 3.0)),
    "jerk_mps3": ("jerk", (0.5, 1.2, 4.0)),
    "lateral_acceleration_mps2": ("lateral_acceleration", (2.0, 3.0, 3.5)),
    "yielding_margin_s": ("yielding_margin", (3.0, 2.0, 1.0)),
    "politeness": ("lane_change_assertiveness", (0.75, 0.35, 0.05)),
    "safe_braking_mps2": ("lane_change_assertiveness", (1.5, 2.0, 3.0)),
    "change_gain_mps2": ("lane_change_assertiveness", (0.2, 0.1, 0.025)),
    "change_s": ("lane_change_assertiveness", (6.0, 4.5, 3.0)),
    "collision_margin_s": ("time_gap", (1.2, 1.0, 0.8)),
    "most_acceleration_mps2": ("acceleration", (1.6, 2.0, 2.4)),
    "most_braking_mps2": ("braking", (2.56, 3.2, 3.84)),
    "most_jerk_mps3": ("jerk", (2.88, 3.6, 4.32)),
    "most_lateral_mps2": ("lateral_acceleration", (3.2, 4.0, 4.8)),
}
"""Parameter: the dimension that moves it, and its conservative, normal and aggressive value.

Where research gives a range its middle stands here, for speed, braking and lateral acceleration its
ends, since the middle hardly showed. At 4 m/s2, which is named for aggressive drivers, tracker and
bicycle leave the lane in tight bends, so 3.5 it is. The aggressive speed factor of 1.1 is the cap
for simulations without a speed rule; who must keep the limit caps it at 1. The jerks are ours: the
bounds of 2.9 to 4.3 m/s3 that comfort metrics use are never reached by smooth driving, so that they
told no styles apart. How long a lane change takes is ours, and so is the yielding margin: how many
seconds before a crossing road user enters the way it is yielded to. The last five are the bounds by
which StyleDrive's score judges the styles.
"""


@dataclass(frozen=True)
class StyleParameters:
    """Driver-model parameters per row; see `PRESETS`.

    Attributes:
        speed_factor: Desired speed over the limit.
        time_gap_s: Of the Intelligent Driver Model, as the next three.
        standstill_gap_m: In a queue.
        acceleration_mps2: On a free road.
        braking_mps2: Comfortable.
        jerk_mps3: Largest change of acceleration while nothing is urgent.
        lateral_acceleration_mps2: Accepted in bends and lane changes.
        yielding_margin_s: Before a crossing road user enters the way.
        politeness: Weight of the others' loss in a lane change, as the next two of MOBIL.
        safe_braking_mps2: What a lane change may ask of the one behind.
        change_gain_mps2: Advantage below which no lane is changed.
        change_s: How long a lane change takes.
        collision_margin_s: Time to collision that a good proposal keeps.
        most_acceleration_mps2: What a good proposal stays below, as the next three.
        most_braking_mps2: Positive.
        most_jerk_mps3: Lengthwise.
        most_lateral_mps2: Sideways.
    """

    speed_factor: Float[Tensor, "*batch"]
    time_gap_s: Float[Tensor, "*batch"]
    standstill_gap_m: Float[Tensor, "*batch"]
    acceleration_mps2: Float[Tensor, "*batch"]
    braking_mps2: Float[Tensor, "*batch"]
    jerk_mps3: Float[Tensor, "*batch"]
    lateral_acceleration_mps2: Float[Tensor, "*batch"]
    yielding_margin_s: Float[Tensor, "*batch"]
    politeness: Float[Tensor, "*batch"]
    safe_braking_mps2: Float[Tensor, "*batch"]
    change_gain_mps2: Float[Tensor, "*batch"]
    change_s: Float[Tensor, "*batch"]
    collision_margin_s: Float[Tensor, "*batch"]
    most_acceleration_mps2: Float[Tensor, "*batch"]
    most_braking_mps2: Float[Tensor, "*batch"]
    most_jerk_mps3: Float[Tensor, "*batch"]
    most_lateral_mps2: Float[Tensor, "*batch"]

    @property
    def car_following(self) -> CarFollowing:
        """The part that the Intelligent Driver Model needs."""
        return CarFollowing(
            self.time_gap_s, self.standstill_gap_m, self.acceleration_mps2, self.braking_mps2
        )

    def per_proposal(self) -> "StyleParameters":
        """The same with one more dimension at the end, to go with proposals."""
        return StyleParameters(*(getattr(self, field.name)[..., None] for field in fields(self)))


def style_parameters(
    condition: StyleCondition, *, speed_factor_cap: float = 1.1
) -> StyleParameters:
    """The parameters of a style vector, each interpolated linearly between its three presets.

    Args:
        condition: Values beyond -1 and 1 count as the ends; a masked dimension counts as normal.
        speed_factor_cap: 1.0 for drivers who never exceed the limit.

    Source:
        The presets lie in the ranges found in Sunberg, Ho and Kochenderfer (2017,
        arXiv:1702.00858) and their code, nuPlan, PDM-Closed and StyleDrive's comfort bounds.
    """
    values = torch.where(condition.mask, condition.values, 0.0).clamp(-1, 1)
    found = {}
    for name, (dimension, (conservative, normal, aggressive)) in PRESETS.items():
        column = STYLE_DIMENSIONS.index(dimension)
        towards = values[..., column] * AGGRESSIVE_SIGNS[column]
        more = (aggressive - normal) * towards.clamp_min(0)
        found[name] = normal + more + (normal - conservative) * towards.clamp_max(0)
    found["speed_factor"] = found["speed_factor"].clamp_max(speed_factor_cap)
    return StyleParameters(**found)
