"""The table of an artifact `steerability`: every goal that every chain was asked for."""

import polars as pl

from data_prep.schema import Column, TableSchema

_text, _int32, _float32 = pl.String(), pl.Int32(), pl.Float32()
_floats, _flags = pl.List(pl.Float32()), pl.List(pl.Boolean())

ROWS = TableSchema(
    "rows",
    "what one chain made of one goal in one context, in goal space from 0 to 1",
    ("chain", "row"),
    (
        Column("chain", _text, "name of the chain"),
        Column("row", _int32, "number of the goal, the same for every chain"),
        Column("context", _int32, "number of the context in its half"),
        Column("group", _text, "the group of the context"),
        Column("even_weight", _float32, "weight that spreads contexts evenly over goal space"),
        Column("plain_weight", _float32, "weight that makes contexts as they come"),
        Column("target", _floats, "the goal; where nothing is asked, what was there before"),
        Column("asked", _flags, "dimensions that the goal asks for"),
        Column("before", _floats, "the unsteered output"),
        Column("after", _floats, "the steered output"),
        Column("known", _flags, "dimensions that could be measured before and after"),
        Column("steering_error", _float32, "distance from the goal", nullable=True),
        Column("asked_error", _float32, "the same where something is asked", nullable=True),
        Column("gain", _float32, "share of the asked way that was made", nullable=True),
        Column("side_effects", _float32, "share of the way made that is across", nullable=True),
        Column("oracle_error", _float32, "distance of the nearest possible output", nullable=True),
        Column("quality_before", _floats, "task quality unsteered, in the order of the report"),
        Column("quality_after", _floats, "task quality steered; NaN where there is none"),
    ),
)
