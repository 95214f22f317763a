"""Preference records as columns, collected one by one and turned into a table at the end."""

import polars as pl

from data_prep.schema import EVIDENCE, PREFERENCES
from personalize.preferences.record import Preference


class PreferenceRows:
    """A growing table of preferences; a million rows take seconds, not minutes."""

    def __init__(self) -> None:
        self._columns: dict[str, list] = {
            column.name: [] for column in PREFERENCES.columns if column.name != "evidence"
        }
        self._evidence: dict[str, list[int]] = {"row": [], "source_id": [], "start": [], "end": []}

    def __len__(self) -> int:
        return len(self._columns["text"])

    def add(self, number: int, preference: Preference) -> None:
        """Add one preference; `number` 0 is the strongest of its subject at its position."""
        row = len(self)
        columns = self._columns
        for name, values in columns.items():
            values.append(number if name == "preference_number" else getattr(preference, name))
        for span in preference.evidence:
            self._evidence["row"].append(row)
            self._evidence["source_id"].append(span.source_id)
            self._evidence["start"].append(span.start)
            self._evidence["end"].append(span.end)

    def frame(self) -> pl.DataFrame:
        """All rows as a table that fits the schema of preferences."""
        types = PREFERENCES.polars
        frame = pl.DataFrame(
            {name: pl.Series(values, dtype=types[name]) for name, values in self._columns.items()}
        ).with_row_index("row")
        evidence = (
            pl.DataFrame(
                self._evidence,
                schema={
                    "row": pl.UInt32,
                    "source_id": pl.Int64,
                    "start": pl.Int32,
                    "end": pl.Int32,
                },
            )
            .group_by("row", maintain_order=True)
            .agg(evidence=pl.struct("source_id", "start", "end"))
            .cast({"evidence": EVIDENCE})
        )
        joined = frame.join(evidence, on="row", how="left", maintain_order="left")
        empty = pl.lit([], dtype=EVIDENCE)
        return joined.with_columns(pl.col("evidence").fill_null(empty)).select(types.names())
