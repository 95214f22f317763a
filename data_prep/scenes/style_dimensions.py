"""The named dimensions of a driving style, and the three presets as points among them."""

from typing import Literal

StyleLabel = Literal["conservative", "normal", "aggressive"]
STYLE_LABELS: tuple[StyleLabel, ...] = ("conservative", "normal", "aggressive")

STYLE_DIMENSIONS: tuple[str, ...] = (
    "speed",
    "time_gap",
    "acceleration",
    "braking",
    "jerk",
    "lateral_acceleration",
    "lane_change_assertiveness",
    "yielding_margin",
)
"""More of what the name says is a larger value: a `time_gap` of 1 is a long gap."""

AGGRESSIVE_SIGNS: tuple[int, ...] = (1, -1, 1, 1, 1, 1, 1, -1)
"""Which end of each dimension is the aggressive one."""
