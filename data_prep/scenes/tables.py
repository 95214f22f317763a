"""The tables of an artifact `scenes`: the same for every format of driving logs.

One clock and one frame per scene: step `k` is `k * step_s` seconds after its beginning, positions
are metres in the *scene frame*, which is the source's global frame moved by the map's origin (no
rotation). An ego frame never appears in these tables.
"""

import polars as pl

from data_prep.schema import Column, TableSchema

_text, _int32, _float32, _float64 = pl.String(), pl.Int32(), pl.Float32(), pl.Float64()
_bool = pl.Boolean()
_int32s, _float32s = pl.List(pl.Int32()), pl.List(pl.Float32())

SCENES = TableSchema(
    "scenes",
    "one stretch of traffic",
    ("scene_id",),
    (
        Column("scene_id", _int32, "dense number from 0, in the order of (source, scene_key)"),
        Column("scene_key", _text, "its name in the source"),
        Column("source", _text, "format it was read from"),
        Column("recording_key", _text, "what it was cut from; scenes that share it share traffic"),
        Column("split", _text, "train, validation or test; one per recording"),
        Column("location", _text, "where it is"),
        Column("map_id", _int32, "the map below it"),
        Column("step_s", _float32, "seconds from one step to the next"),
        Column("step_count", _int32, "steps it lasts"),
        Column("ego_track_id", _int32, "the recording vehicle's track", nullable=True),
        Column("simulated", _bool, "nothing in it was recorded"),
        Column("notes", _text, "facts of the source, as JSON"),
    ),
)
MAPS = TableSchema(
    "maps",
    "one map",
    ("map_id",),
    (
        Column("map_id", _int32, "dense number from 0, in the order of map_key"),
        Column("map_key", _text, "its name: the source and its own"),
        Column("origin_x_m", _float64, "add to x of the scene frame for the source's frame"),
        Column("origin_y_m", _float64, "likewise for y"),
    ),
)
MAP_LINES = TableSchema(
    "map_lines",
    "one line or polygon of a map, in the scene frame",
    ("map_id", "line_id"),
    (
        Column("map_id", _int32, "which map"),
        Column("line_id", _int32, "dense number from 0 within the map"),
        Column("line_key", _text, "its name in the source"),
        Column("kind", _text, "lane_centre, lane_boundary, road_edge, drivable_area, ..."),
        Column("x_m", _float32s, "points; a polygon does not repeat its first point"),
        Column("y_m", _float32s, "points; drivable_area runs counter-clockwise, a hole clockwise"),
        Column("speed_limit_mps", _float32, "of a lane centre", nullable=True),
        Column("width_m", _float32, "of a lane centre", nullable=True),
        Column("successor_ids", _int32s, "lane centres that follow"),
        Column("left_id", _int32, "lane centre to the left, same direction", nullable=True),
        Column("right_id", _int32, "lane centre to the right, same direction", nullable=True),
        Column("road_class", _text, "motorway, urban, rural, parking or unknown"),
        Column("area", _text, "none, intersection, roundabout or parking"),
        Column("has_signal", _bool, "a traffic light may stop traffic on this lane centre"),
        Column("is_hole", _bool, "a drivable_area that is cut out of the others"),
    ),
)
TRACKS = TableSchema(
    "tracks",
    "one road user of a scene",
    ("scene_id", "track_id"),
    (
        Column("scene_id", _int32, "which scene"),
        Column("track_id", _int32, "dense number from 0 within the scene, in the order of its key"),
        Column("track_key", _text, "its name in the source"),
        Column("kind", _text, "vehicle, pedestrian, cyclist, static or other"),
        Column("length_m", _float32, "length of its box"),
        Column("width_m", _float32, "width of its box"),
        Column("route_ids", _int32s, "lane centres it follows, in order; empty where none fits"),
        Column("route_source", _text, "given, matched (to where it drove) or none"),
    ),
)
STATES = TableSchema(
    "states",
    "one road user at one step; a step at which it was not seen has no row",
    ("scene_id", "track_id", "step"),
    (
        Column("scene_id", _int32, "which scene"),
        Column("track_id", _int32, "which road user"),
        Column("step", _int32, "when"),
        Column("x_m", _float32, "centre of the box, scene frame"),
        Column("y_m", _float32, "centre of the box, scene frame"),
        Column("heading_rad", _float32, "counter-clockwise from the x axis, in (-pi, pi]"),
        Column("vx_mps", _float32, "velocity along x of the scene frame"),
        Column("vy_mps", _float32, "velocity along y of the scene frame"),
    ),
)
LIGHT_STATES = TableSchema(
    "light_states",
    "what a traffic light shows to one lane, from one step until the next row of that lane",
    ("scene_id", "line_id", "step"),
    (
        Column("scene_id", _int32, "which scene"),
        Column("line_id", _int32, "the lane centre it controls"),
        Column("step", _int32, "from when"),
        Column("state", _text, "green, yellow, red or unknown"),
    ),
)
SCENE_TOKENS = TableSchema(
    "scene_tokens",
    "one moment of a scene that other files refer to by name",
    ("scene_id", "step", "token"),
    (
        Column("scene_id", _int32, "which scene"),
        Column("step", _int32, "when"),
        Column("token", _text, "its name, such as OpenScene's frame token"),
    ),
)
DRIVER_STYLES = TableSchema(
    "driver_styles",
    "the true style of one simulated driver; only artifacts of simulated traffic have it",
    ("scene_id", "track_id"),
    (
        Column("scene_id", _int32, "which scene"),
        Column("track_id", _int32, "which road user"),
        Column("preset", _text, "the nearest of aggressive, normal and conservative"),
        Column("values", _float32s, "-1 to 1 per dimension of `style_dimensions.json`"),
        Column("parameters", _text, "what the simulator was told, as JSON"),
    ),
)
