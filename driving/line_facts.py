"""What the map says of the lines and the route around an ego beyond their shape."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from data_prep.scenes.raw_scene import ROAD_CLASSES
from driving.world_builder import SceneTraffic, WorldSize, nearest_pieces, route_places


@dataclass(frozen=True)
class LineFacts:
    """Facts of a world's lines and route, row by row as the `World` of the same samples.

    What is not there has the first area (`none`), the road class `unknown` and false.

    Attributes:
        line_areas: Place in `data_prep.scenes.raw_scene.AREAS`.
        line_road_classes: Place in `ROAD_CLASSES`.
        line_has_signal: A traffic light may stop traffic there.
        route_areas: Likewise, at every place of the route.
        route_road_classes: Likewise.
        route_has_signal: Likewise.
        route_merges: Another lane leads into the lane at this place as well.
        route_is_side: Of the lanes that lead into the next one, this one turns more than another.
        route_line_ids: The lane at every place; -1 where there is none.
    """

    line_areas: Int[np.ndarray, "batch line"]
    line_road_classes: Int[np.ndarray, "batch line"]
    line_has_signal: Bool[np.ndarray, "batch line"]
    route_areas: Int[np.ndarray, "batch place"]
    route_road_classes: Int[np.ndarray, "batch place"]
    route_has_signal: Bool[np.ndarray, "batch place"]
    route_merges: Bool[np.ndarray, "batch place"]
    route_is_side: Bool[np.ndarray, "batch place"]
    route_line_ids: Int[np.ndarray, "batch place"]


def fact_rows(
    traffic: SceneTraffic, track_id: int, step: int, size: WorldSize
) -> dict[str, np.ndarray]:
    """One sample's row of every array of `LineFacts`."""
    start = traffic.states[track_id, step, :3]
    pieces, order = traffic.map.pieces, nearest_pieces(traffic.map, start, size)
    missing = size.lines - len(order)
    unknown = ROAD_CLASSES.index("unknown")
    lanes = traffic.map.lane_facts
    found = route_places(traffic.map, traffic.routes[track_id], start, size)
    ids = np.where(found.mask, found.lane_ids, -1)
    return {
        "line_areas": np.pad(pieces.areas[order], (0, missing)),
        "line_road_classes": np.pad(
            pieces.road_classes[order], (0, missing), constant_values=unknown
        ),
        "line_has_signal": np.pad(pieces.has_signal[order], (0, missing)),
        "route_areas": np.asarray([lanes.areas.get(i, 0) for i in ids], np.int64),
        "route_road_classes": np.asarray(
            [lanes.road_classes.get(i, unknown) for i in ids], np.int64
        ),
        "route_has_signal": np.asarray([i in lanes.signals for i in ids]),
        "route_merges": np.asarray([i in lanes.merges for i in ids]),
        "route_is_side": np.asarray([i in lanes.sides for i in ids]),
        "route_line_ids": ids,
    }
