"""The tables of an artifact `styles`: samples, their labels and where each comes from."""

import polars as pl

from data_prep.schema import Column, TableSchema

_text, _int32, _float32, _bool = pl.String(), pl.Int32(), pl.Float32(), pl.Boolean()

SAMPLES = TableSchema(
    "samples",
    "one vehicle as the ego at one moment: a past to look at and a future to plan",
    ("sample_id",),
    (
        Column("sample_id", _int32, "dense number from 0, in the order of (scene, track, step)"),
        Column("scene_id", _int32, "which scene"),
        Column("track_id", _int32, "which road user is the ego"),
        Column("step", _int32, "the present"),
        Column("driver_id", _int32, "dense number of (scene_id, track_id)"),
        Column("split", _text, "train, validation or test, as of the recording"),
        Column("token", _text, "name by which other files refer to it", nullable=True),
    ),
)
STYLES = TableSchema(
    "styles",
    "how the ego of one sample drives, and the rule that says so",
    ("sample_id",),
    (
        Column("sample_id", _int32, "which sample"),
        Column("scenario_type", _text, "StyleDrive's taxonomy"),
        Column("label", _text, "conservative, normal or aggressive"),
        Column("rule", _text, "the rule that fired, with its numbers"),
        Column("heuristic_label", _text, "what the rules say"),
        Column("reader_label", _text, "what a language model says", nullable=True),
        Column("needs_check", _bool, "the two disagree; a person should look"),
    ),
)
