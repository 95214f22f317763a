"""The table of an artifact `diagnosis`: every held-out pair under every run."""

import polars as pl

from data_prep.schema import Column, TableSchema

_text, _int64, _float64 = pl.String(), pl.Int64(), pl.Float64()

ROWS = TableSchema(
    "rows",
    "log-probabilities, in nats, of one held-out pair before and after one run",
    ("run", "pair"),
    (
        Column("run", _text, "name of the run"),
        Column("pair", _int64, "number of the pair, the same for every run"),
        Column("context", _int64, "number of the winner's context in its half"),
        Column("annotator", _int64, "number of who judged"),
        Column("source", _text, "what made the comparison"),
        Column("winner", _int64, "number of the preferred response among the candidates"),
        Column("loser", _int64, "number of the other"),
        Column("winner_before", _float64, "log-probability of the preferred one before tuning"),
        Column("winner_after", _float64, "the same after"),
        Column("loser_before", _float64, "log-probability of the other before tuning"),
        Column("loser_after", _float64, "the same after"),
        Column("difficulty", _float64, "by how much the other was ahead before tuning"),
        Column("loss", _float64, "DPO loss of the pair at the beta of the diagnosis"),
    ),
)
