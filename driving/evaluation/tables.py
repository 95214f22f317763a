"""The tables of an artifact `rollouts`: what one planner did under every condition, scored."""

import polars as pl

from data_prep.schema import Column, TableSchema

_text, _int32, _float32 = pl.String(), pl.Int32(), pl.Float32()

OPEN_LOOP, CLOSED_LOOP = "open", "closed"

DISPLACEMENTS: tuple[tuple[str, str], ...] = (
    ("ade_1s_m", "mean distance to the log over 1 s"),
    ("ade_2s_m", "mean distance to the log over 2 s"),
    ("ade_3s_m", "mean distance to the log over 3 s"),
    ("ade_4s_m", "mean distance to the log over 4 s"),
    ("fde_4s_m", "distance to the log after 4 s"),
    ("style_l2_m", "StyleDrive's L2: mean of the distances after 2, 3 and 4 s"),
    ("missed", "1 where a distance exceeds its bound: 2, 4, 6, 7 m up to 1, 2, 3, 4 s"),
)
"""Only of the open loop: a closed loop leaves the log on purpose."""

SCORES: tuple[tuple[str, str], ...] = (
    ("pdms", "PDM score of NAVSIM version 1"),
    ("sm_pdms_released", "SM-PDMS as StyleDrive's authors released it"),
    ("sm_pdms_fine", "SM-PDMS on every 0.1 s; another metric, not comparable"),
    ("no_collision", "1, 0.5 or 0: collisions at fault"),
    ("drivable_area", "1 where the box stays on the road"),
    ("driving_direction", "1, 0.5 or 0: against the traffic"),
    ("time_to_collision", "1 where no projected contact is too near, NAVSIM's rule"),
    ("comfort", "1 where all bounds are kept, NAVSIM's bounds"),
    ("progress", "ego progress, relative to the best proposal"),
    ("time_to_collision_released", "with the threshold of the style, on the released grid"),
    ("comfort_released", "within the bounds of the style, as released"),
    ("progress_released", "ego progress, relative to the human's"),
    ("time_to_collision_fine", "with the threshold of the style, every 0.1 s"),
    ("comfort_fine", "within the bounds of the style, lateral acceleration too"),
    ("progress_m", "metres along the route"),
    ("human_progress_m", "the log's metres along the route"),
    ("no_collision_ride", "as no_collision, over the whole ride, however long"),
    ("drivable_area_ride", "as drivable_area, over the whole ride"),
)
"""Of the first four seconds, on which they are defined, but for the two that say otherwise."""

START: tuple[tuple[str, str], ...] = (
    ("start_limit_mps", "speed limit where the ego began, where one is known"),
    ("start_gap_m", "free distance to the one ahead on its route, where there is one"),
    ("start_leader_mps", "that one's speed along the route"),
    ("start_light_m", "distance to the next light on its route that shows anything"),
)
"""The scene a ride began in, as a passenger would see it; the same under every condition."""

COURSE: tuple[tuple[str, str], ...] = (
    ("driven_m", "metres driven after 1, 2, ... s of the ride"),
    ("gap_m", "free distance to the one ahead after 0, 1, ... s; nan where nobody is"),
    ("leader_mps", "that one's speed, likewise"),
)

RESULTS = TableSchema(
    "results",
    "what one planner did in one sample under one condition, and its worth",
    ("loop", "condition", "sample_id"),
    (
        Column("loop", _text, "open (one plan, tracked) or closed (planned again and again)"),
        Column("condition", _text, "which style was asked for"),
        Column("sample_id", _int32, "which sample"),
        *(Column(name, _float32, meaning, nullable=True) for name, meaning in DISPLACEMENTS),
        *(Column(name, _float32, meaning) for name, meaning in SCORES),
        Column("start_speed_mps", _float32, "the ego's speed at the beginning"),
        *(Column(name, _float32, meaning, nullable=True) for name, meaning in START),
        *(Column(name, pl.List(pl.Float32()), meaning) for name, meaning in COURSE),
        Column(
            "start_light", _text, "what it shows: green, yellow or red; unknown where there is none"
        ),
        Column("style_values", pl.List(pl.Float32()), "the style it drove, as in `styles`"),
        Column("style_mask", pl.List(pl.Boolean()), "which dimensions could be measured"),
        Column("driven_label", _text, "what the rules call it"),
    ),
)


def measures_schema(names: tuple[str, ...]) -> TableSchema:
    """The table `driven_measures`: what was measured of every result, a column per measure."""
    return TableSchema(
        "driven_measures",
        "the measures of one result",
        ("loop", "condition", "sample_id"),
        (
            Column("loop", _text, "as in results"),
            Column("condition", _text, "as in results"),
            Column("sample_id", _int32, "as in results"),
            *(
                Column(name, _float32, "see the measures of `styles`", nullable=True)
                for name in names
            ),
        ),
    )
