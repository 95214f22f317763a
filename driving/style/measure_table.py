"""The table of measures in an artifact `styles`: one nullable column per measure."""

import polars as pl

from data_prep.schema import Column, TableSchema
from driving.style.measures import MEASURES

MEASURE_TABLE = TableSchema(
    "measures",
    "what was measured in the window of one sample, and the context it is compared with",
    ("sample_id",),
    (
        Column("sample_id", pl.Int32(), "which sample"),
        Column("leader", pl.Boolean(), "somebody drives ahead at some time"),
        Column("road_class", pl.String(), "motorway, urban, rural, parking or unknown"),
        *(
            Column(measure.name, pl.Float32(), f"{measure.meaning} ({measure.unit})", nullable=True)
            for measure in MEASURES
        ),
    ),
)
