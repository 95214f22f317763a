"""What a map says of its lanes beyond their shape: where they lie, and how they meet."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from data_prep.scenes.raw_scene import AREAS, ROAD_CLASSES

SIDE_TURN_RAD = 0.1


@dataclass(frozen=True)
class LaneFacts:
    """Facts of every lane of one map, by its number.

    Attributes:
        areas: Place in `data_prep.scenes.raw_scene.AREAS`.
        road_classes: Place in `ROAD_CLASSES`.
        signals: Lanes at which a traffic light may stop traffic.
        merges: Lanes into which more than one other lane leads.
        sides: Lanes that turn more than another one that leads into the same lane.
    """

    areas: Mapping[int, int]
    road_classes: Mapping[int, int]
    signals: frozenset[int]
    merges: frozenset[int]
    sides: frozenset[int]


def find_lane_facts(lines: pl.DataFrame) -> LaneFacts:
    """The facts of the lanes among the rows of `map_lines` of one map."""
    rows = lines.filter(pl.col("kind") == "lane_centre")
    turns = {
        line_id: total_turn(np.column_stack([x_m, y_m]).astype(np.float64))
        for line_id, x_m, y_m in rows.select("line_id", "x_m", "y_m").iter_rows()
    }
    entries: dict[int, list[int]] = defaultdict(list)
    for line_id, successors in rows.select("line_id", "successor_ids").iter_rows():
        for onward in successors:
            entries[onward].append(line_id)
    rivals = [lanes for lanes in entries.values() if len(lanes) > 1]
    named = list(rows.select("line_id", "area", "road_class", "has_signal").iter_rows())
    return LaneFacts(
        areas={number: AREAS.index(area) for number, area, _, _ in named},
        road_classes={number: ROAD_CLASSES.index(road) for number, _, road, _ in named},
        signals=frozenset(number for number, _, _, signal in named if signal),
        merges=frozenset(number for number, lanes in entries.items() if len(lanes) > 1),
        sides=frozenset(
            lane
            for lanes in rivals
            for lane in lanes
            if turns[lane] > min(turns[other] for other in lanes) + SIDE_TURN_RAD
        ),
    )


def total_turn(points_m: Float[np.ndarray, "point 2"]) -> float:
    """How much a line turns from its beginning to its end, in radians, without a sign."""
    first, last = points_m[1] - points_m[0], points_m[-1] - points_m[-2]
    angle = np.arctan2(last[1], last[0]) - np.arctan2(first[1], first[0])
    return float(abs((angle + np.pi) % (2 * np.pi) - np.pi))
