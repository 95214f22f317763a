"""A small artifact `scenes`, by hand: two lanes north, an exit to the east, four vehicles."""

import math
from pathlib import Path

import numpy as np
import polars as pl

from data_prep.artifact import create_artifact
from data_prep.scenes.tables import (
    LIGHT_STATES,
    MAP_LINES,
    MAPS,
    SCENES,
    STATES,
    TRACKS,
)
from data_prep.schema import REJECTED

STEPS = 81


def line(
    line_id: int,
    kind: str,
    points: list[tuple[float, float]],
    *,
    limit: float | None = None,
    successors: tuple[int, ...] = (),
    sides: tuple[int | None, int | None] = (None, None),
    has_signal: bool = False,
) -> dict:
    return {
        "map_id": 0,
        "line_id": line_id,
        "line_key": f"line-{line_id}",
        "kind": kind,
        "x_m": [x for x, _ in points],
        "y_m": [y for _, y in points],
        "speed_limit_mps": limit,
        "width_m": 3.5 if kind == "lane_centre" else None,
        "successor_ids": list(successors),
        "left_id": sides[0],
        "right_id": sides[1],
        "road_class": "urban",
        "area": "none",
        "has_signal": has_signal,
        "is_hole": False,
    }


LINES = [
    line(0, "lane_centre", [(0, 0), (0, 100)], limit=15.0, successors=(2,), sides=(None, 1)),
    line(1, "lane_centre", [(3.5, 0), (3.5, 100)], limit=15.0, successors=(3, 4), sides=(0, None)),
    line(2, "lane_centre", [(0, 100), (0, 250)], limit=10.0, sides=(None, 3), has_signal=True),
    line(3, "lane_centre", [(3.5, 100), (3.5, 250)], sides=(2, None)),
    line(4, "lane_centre", [(3.5, 100), (13.5, 110), (60, 110)], limit=8.0),
    line(
        5,
        "drivable_area",
        [(-2, 0), (6, 0), (6, 100), (60, 100), (60, 120), (6, 120), (6, 250), (-2, 250)],
    ),
    line(6, "lane_boundary", [(1.75, 0), (1.75, 250)]),
    line(7, "crosswalk", [(-2, 60), (6, 60), (6, 63), (-2, 63)]),
    line(8, "stop_line", [(-2, 98), (6, 98)]),
]


def driven(track_id: int, x: float, y: float, speed: float, steps: range) -> pl.DataFrame:
    """A vehicle that drives north at a constant speed and was seen at some steps."""
    seen = np.asarray(list(steps))
    return pl.DataFrame(
        {
            "scene_id": 0,
            "track_id": track_id,
            "step": seen,
            "x_m": np.full(len(seen), x),
            "y_m": y + speed * 0.1 * seen,
            "heading_rad": math.pi / 2,
            "vx_mps": 0.0,
            "vy_mps": speed,
        },
        schema=STATES.polars,
        strict=False,
    )


def write_small_scenes(folder: Path) -> Path:
    """Track 0 is the ego at 10 m/s; 1 leads it, 2 is beside it, 3 parks, 4 comes late."""
    tracks = [(0, "vehicle"), (1, "vehicle"), (2, "vehicle"), (3, "vehicle"), (4, "pedestrian")]
    with create_artifact(folder, kind="scenes", command="test", configuration={}, inputs={}) as new:
        new.write_table(
            SCENES,
            pl.DataFrame(
                [
                    {
                        "scene_id": 0,
                        "scene_key": "small",
                        "source": "test",
                        "recording_key": "small",
                        "split": "train",
                        "location": "nowhere",
                        "map_id": 0,
                        "step_s": 0.1,
                        "step_count": STEPS,
                        "ego_track_id": 0,
                        "simulated": True,
                        "notes": "{}",
                    }
                ],
                schema=SCENES.polars,
            ),
        )
        new.write_table(REJECTED, REJECTED.empty())
        new.write_table(
            MAPS,
            pl.DataFrame(
                [{"map_id": 0, "map_key": "test", "origin_x_m": 0.0, "origin_y_m": 0.0}],
                schema=MAPS.polars,
            ),
        )
        new.write_table(MAP_LINES, pl.DataFrame(LINES, schema=MAP_LINES.polars))
        new.write_table(
            TRACKS,
            pl.DataFrame(
                [
                    {
                        "scene_id": 0,
                        "track_id": number,
                        "track_key": str(number),
                        "kind": kind,
                        "length_m": 4.5,
                        "width_m": 1.8,
                        "route_ids": [0, 2] if number == 0 else [1, 4] if number == 2 else [],
                        "route_source": "given" if number in (0, 2) else "none",
                    }
                    for number, kind in tracks
                ],
                schema=TRACKS.polars,
            ),
        )
        new.write_table(
            STATES,
            pl.concat(
                [
                    driven(0, 0.0, 5.0, 10.0, range(STEPS)),
                    driven(1, 0.0, 30.0, 10.0, range(STEPS)),
                    driven(2, 3.5, 3.0, 12.0, range(10, STEPS)),
                    driven(3, 3.5, 90.0, 0.0, range(STEPS)),
                    driven(4, -1.0, 50.0, 1.0, range(40, STEPS)),
                ]
            ),
        )
        new.write_table(
            LIGHT_STATES,
            pl.DataFrame(
                [
                    {"scene_id": 0, "line_id": 2, "step": 0, "state": "red"},
                    {"scene_id": 0, "line_id": 2, "step": 30, "state": "green"},
                ],
                schema=LIGHT_STATES.polars,
            ),
        )
    return folder
