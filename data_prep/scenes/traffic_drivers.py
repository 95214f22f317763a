"""Simulated drivers: a continuous style, and what it tells SUMO.

Every dimension has an effect that can be measured where there is occasion for it: a driver who
never stops shows neither acceleration nor jerk. The effect of jerk is that of starting off; in
bends it is small beside that of braking. SUMO's `sigma`, `actionStepLength` and EIDM's `jerkmax`
are left alone: the last changed nothing that could be measured.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_prep.scenes.style_dimensions import (
    AGGRESSIVE_SIGNS,
    STYLE_DIMENSIONS,
    STYLE_LABELS,
    StyleLabel,
)

SHARED_CORRELATION = 0.7
"""Correlation of every dimension with the one latent aggressiveness."""


@dataclass(frozen=True)
class Anchor:
    """One parameter of the simulator as a function of one dimension of style.

    Attributes:
        dimension: Which dimension moves it.
        conservative: Its value at the conservative end of that dimension.
        normal: Its value in the middle.
        aggressive: Its value at the aggressive end.
    """

    dimension: str
    conservative: float
    normal: float
    aggressive: float

    def __call__(self, values: tuple[float, ...]) -> float:
        """The parameter of a driver, linear between the anchors.

        Args:
            values: -1 to 1 per dimension of `STYLE_DIMENSIONS`.
        """
        index = STYLE_DIMENSIONS.index(self.dimension)
        aggressiveness = AGGRESSIVE_SIGNS[index] * values[index]
        anchors = (self.conservative, self.normal, self.aggressive)
        return float(np.interp(aggressiveness, (-1.0, 0.0, 1.0), anchors))


ANCHORS: Mapping[str, Anchor] = {
    "speedFactor": Anchor("speed", 0.85, 1.0, 1.1),
    "tau": Anchor("time_gap", 2.0, 1.5, 0.9),
    "minGap": Anchor("time_gap", 3.0, 2.0, 1.2),
    "accel": Anchor("acceleration", 0.9, 1.4, 2.2),
    "decel": Anchor("braking", 1.5, 2.0, 3.0),
    "jerk_mps3": Anchor("jerk", 2.0, 3.6, 6.0),
    "lateral_acceleration_mps2": Anchor("lateral_acceleration", 2.0, 3.0, 4.0),
    "lcSpeedGain": Anchor("lane_change_assertiveness", 0.0, 1.0, 25.0),
    "lcAssertive": Anchor("lane_change_assertiveness", 0.7, 1.0, 2.5),
    "lcCooperative": Anchor("lane_change_assertiveness", 1.0, 0.6, 0.2),
    "jmTimegapMinor": Anchor("yielding_margin", 2.5, 1.0, 0.4),
    "impatience": Anchor("yielding_margin", 0.0, 0.0, 0.6),
}
"""SUMO's parameters, and two of ours that steer it: `jerk_mps3`, `lateral_acceleration_mps2`."""


def draw_styles(
    count: int, generator: np.random.Generator, shared_correlation: float = SHARED_CORRELATION
) -> Float[np.ndarray, "count style"]:
    """Styles of a population.

    A Gaussian copula: every dimension is uniform in -1 to 1 and correlated with one latent
    aggressiveness, so that two dimensions rank drivers alike but far from equally.

    Args:
        count: How many drivers.
        generator: Where chance comes from.
        shared_correlation: Of every dimension's normal score with the latent one, 0 to 1.

    Source:
        The copula: `CorrelatedIDMMOBIL` of sisl/Multilane.jl; unlike there, the sign of each
        dimension is kept.
    """
    signs = np.array(AGGRESSIVE_SIGNS, dtype=np.float64)
    shared = generator.standard_normal((count, 1))
    own = generator.standard_normal((count, len(STYLE_DIMENSIONS)))
    own_share = math.sqrt(1 - shared_correlation**2)
    latent = signs * shared_correlation * shared + own_share * own
    return np.vectorize(math.erf, otypes=[np.float64])(latent / math.sqrt(2))


def preset_values(label: StyleLabel) -> tuple[float, ...]:
    """The style a preset stands for: an end of every dimension, or the middle of all.

    Args:
        label: Which preset.
    """
    aggressiveness = {"conservative": -1.0, "normal": 0.0, "aggressive": 1.0}[label]
    return tuple(aggressiveness * sign for sign in AGGRESSIVE_SIGNS)


def nearest_preset(values: tuple[float, ...]) -> StyleLabel:
    """The preset nearest to a style, by Euclidean distance; at a tie the calmer one.

    Args:
        values: -1 to 1 per dimension.
    """
    return min(STYLE_LABELS, key=lambda label: math.dist(values, preset_values(label)))


def driver_parameters(values: tuple[float, ...]) -> dict[str, float]:
    """What the simulator is told about a driver.

    Args:
        values: -1 to 1 per dimension.

    Returns:
        A value for every key of `ANCHORS`.

    Raises:
        ValueError: If a value lies outside -1 to 1 or the number of values is wrong.
    """
    if len(values) != len(STYLE_DIMENSIONS):
        raise ValueError(f"values must be {len(STYLE_DIMENSIONS)} numbers, got {len(values)}.")
    if not all(-1 <= value <= 1 for value in values):
        raise ValueError(f"values must lie in -1 to 1, got {values}.")
    return {name: round(anchor(values), 4) for name, anchor in ANCHORS.items()}
