"""A window of driving as text: facts and numbers, one sentence per dimension of style."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from driving.style.measures import MEASURE_NAMES
from driving.style.scenario import Surroundings
from personalize.preferences.prompt import clean

MOST_PLACE_CHARACTERS = 80


@dataclass(frozen=True)
class SceneText:
    """The text, and where each part of it stands.

    Attributes:
        text: The whole text.
        spans: First character and the one after the last of the sentence on each dimension; a
            dimension that was not measured has none.
        facts_end: Where the facts end; what follows are names from the log, which nobody vouches
            for.
    """

    text: str
    spans: Mapping[str, tuple[int, int]]
    facts_end: int


@dataclass(frozen=True)
class Neighbours:
    """How many others are near the ego at the beginning of the window.

    Attributes:
        vehicles: Within 50 m.
        pedestrians: Within 50 m.
        cyclists: Within 50 m.
    """

    vehicles: int
    pedestrians: int
    cyclists: int


def describe(
    values: Float[np.ndarray, " measure"],
    mask: Bool[np.ndarray, " measure"],
    facts: Surroundings,
    scenario_type: str,
    neighbours: Neighbours,
    *,
    location: str,
) -> SceneText:
    """What was measured and where, in fixed sentences; the same input gives the same text.

    Args:
        values: The measures.
        mask: What was measured.
        facts: Where the window takes place.
        scenario_type: What kind of scene it is.
        neighbours: Who else is near.
        location: The log's name of the place: untrusted, cleaned, cut short, and put last.
    """
    measured = {
        name: float(value)
        for name, value, there in zip(MEASURE_NAMES, values, mask, strict=True)
        if there
    }
    parts = [_situation(facts, scenario_type, neighbours)]
    length = len(parts[0])
    spans = {}
    for dimension, sentence in measured_sentences(measured).items():
        spans[dimension] = (length + 1, length + 1 + len(sentence))
        parts.append(sentence)
        length += 1 + len(sentence)
    place = " ".join(clean(location).split())[:MOST_PLACE_CHARACTERS]
    name = f'\nThe log calls the place "{place}".' if place else ""
    return SceneText(" ".join(parts) + name, spans, length)


def _situation(facts: Surroundings, scenario_type: str, neighbours: Neighbours) -> str:
    limit = facts.speed_limit_mps
    known = "an unknown speed limit" if limit is None else f"a speed limit of {limit:.1f} m/s"
    signal = " with traffic lights" if facts.has_signal else ""
    return (
        f"Scene type {scenario_type.replace('_', ' ')}, road class {facts.road_class}, "
        f"{known}{signal}. Within 50 m: {neighbours.vehicles} vehicles, "
        f"{neighbours.pedestrians} pedestrians, {neighbours.cyclists} cyclists."
    )


def measured_sentences(measured: Mapping[str, float]) -> dict[str, str]:
    """A sentence per dimension of which anything was measured.

    Args:
        measured: Values by name of the measure.
    """
    templates = {
        "speed": (
            "mean_speed_mps",
            "The driver goes {mean_speed_mps:.1f} m/s on average and {peak_speed_mps:.1f} m/s at "
            "most{limit}.",
        ),
        "time_gap": (
            "time_gap_s",
            "The driver follows the vehicle ahead steadily with a time gap of {time_gap_s:.1f} s.",
        ),
        "acceleration": (
            "peak_acceleration_mps2",
            "The driver accelerates by at most {peak_acceleration_mps2:.1f} m/s2.",
        ),
        "braking": (
            "peak_braking_mps2",
            "The driver brakes by at most {peak_braking_mps2:.1f} m/s2{stop}{collision}.",
        ),
        "jerk": (
            "jerk_deviation_mps3",
            "The jerk has a standard deviation of {jerk_deviation_mps3:.1f} m/s3 and a peak of "
            "{peak_jerk_mps3:.1f} m/s3.",
        ),
        "lateral_acceleration": (
            "peak_lateral_acceleration_mps2",
            "The lateral acceleration is at most {peak_lateral_acceleration_mps2:.1f} m/s2 while "
            "the heading changes by {heading_change_rad:.2f} rad.",
        ),
        "lane_change_assertiveness": (
            "lane_change_peak_speed_mps",
            "The driver changes lane at up to {lane_change_peak_speed_mps:.1f} m/s across the "
            "lane{rear}.",
        ),
        "yielding_margin": (
            "post_encroachment_s",
            "The driver's way crosses another one's with {post_encroachment_s:.1f} s between "
            "them; the driver goes {order}.",
        ),
    }
    words = {
        **measured,
        "limit": _optional(measured, "speed_to_limit", ", {:.2f} of the speed limit"),
        "stop": _optional(measured, "stop_deceleration_mps2", " and comes to rest at {:.1f} m/s2"),
        "collision": _optional(
            measured, "smallest_time_to_collision_s", ", at least {:.1f} s from a collision"
        ),
        "rear": _optional(measured, "rear_gap_m", ", {:.0f} m ahead of the next one there"),
        "order": "first" if measured.get("went_first", 0.0) > 0 else "second",
    }
    return {
        dimension: template.format(**words)
        for dimension, (needed, template) in templates.items()
        if needed in measured
    }


def _optional(measured: Mapping[str, float], name: str, words: str) -> str:
    return words.format(measured[name]) if name in measured else ""
