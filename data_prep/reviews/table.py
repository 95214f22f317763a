"""Reviews from any CSV or Parquet table whose columns are named on the command line."""

import csv
import difflib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Literal

import polars as pl

from data_prep.errors import InputError
from data_prep.reviews.prepare import ReviewSource
from data_prep.reviews.raw_lines import LONGEST_LINE_BYTES, read_blocks
from data_prep.reviews.raw_review import RAW_REVIEWS, ReviewLayout
from data_prep.reviews.rejects import Rejects

ROWS_AT_ONCE = 50_000
TimestampUnit = Literal["s", "ms", "iso"]


class TableSource(ReviewSource):
    """One row per review; Parquet by its first bytes, anything else is read as CSV.

    CSV may be compressed and may quote line ends; comma, semicolon, tab or bar separates, whatever
    splits the header into most columns. A row's number is its line (CSV) or its place (Parquet).
    """

    def __init__(
        self,
        path: Path,
        layout: ReviewLayout,
        *,
        timestamp_unit: TimestampUnit = "s",
        allow_truncated: bool = False,
    ) -> None:
        self.path, self.layout = path, layout
        self.timestamp_unit: TimestampUnit = timestamp_unit
        self.allow_truncated = allow_truncated
        self._line_of_first = 1

    def reviews(self, rejects: Rejects) -> Iterator[pl.DataFrame]:
        """Good rows; see `ReviewSource`.

        Raises:
            InputError: If a named column is not in the table, or the table cannot be read.
        """
        with self.path.open("rb") as stream:
            parquet = stream.read(4) == b"PAR1"
        raw_frames = self._parquet() if parquet else self._csv(rejects)
        for raw in raw_frames:
            rejects.read += raw.height
            yield self._checked(raw, rejects)

    def place(self, review_id: int) -> tuple[str, int]:
        """File and line of a row."""
        return self.path.name, review_id + self._line_of_first

    def _parquet(self) -> Iterator[pl.DataFrame]:
        """Wanted columns with their row number, a slice at a time."""
        try:
            rows = pl.scan_parquet(self.path)
            self._check_columns(rows.collect_schema().names())
            height = rows.select(pl.len()).collect().item()
            for start in range(0, height, ROWS_AT_ONCE):
                part = rows.slice(start, ROWS_AT_ONCE).select(list(self.layout.fields())).collect()
                yield part.with_row_index("row", offset=start)
        except pl.exceptions.PolarsError as error:
            raise InputError(
                f"{self.path} is no readable Parquet file: {str(error).splitlines()[0]}."
            ) from error

    def _csv(self, rejects: Rejects) -> Iterator[pl.DataFrame]:
        """Wanted columns as text with their row number, some records at a time."""
        self._line_of_first = 2
        csv.field_size_limit(LONGEST_LINE_BYTES)
        lines = self._text_lines(rejects)
        header_line = next(lines, "")
        delimiter = max(",;\t|", key=header_line.count)
        header = next(csv.reader([header_line], delimiter=delimiter), [])
        header = [name.strip() for name in header]
        self._check_columns(header)
        wanted = list(self.layout.fields())
        places = [header.index(name) for name in wanted]
        records = self._records(lines, delimiter, len(header), places, rejects)
        schema = {"row": pl.Int64(), **dict.fromkeys(wanted, pl.String())}
        while rows := list(islice(records, ROWS_AT_ONCE)):
            yield pl.DataFrame(rows, schema=schema, orient="row")

    def _text_lines(self, rejects: Rejects) -> Iterator[str]:
        for block in read_blocks(self.path, rejects, allow_truncated=self.allow_truncated):
            for line in block.lines():
                yield line.decode("utf-8", errors="surrogateescape") + "\n"

    def _records(
        self,
        lines: Iterator[str],
        delimiter: str,
        width: int,
        places: Sequence[int],
        rejects: Rejects,
    ) -> Iterator[tuple[int | str | None, ...]]:
        reader = csv.reader(lines, delimiter=delimiter)
        line = 2
        while True:
            try:
                record = next(reader, None)
            except csv.Error as error:
                rejects.read += 1
                rejects.add(self.path.name, line, f"broken CSV: {error}")
                line = reader.line_num + 2
                continue
            if record is None:
                return
            start, line = line, reader.line_num + 2
            if not record:
                continue
            problem = _record_problem(record, width)
            if problem:
                rejects.read += 1
                rejects.add(self.path.name, start, problem, ",".join(record))
            else:
                yield (start - 2, *(record[place] or None for place in places))

    def _check_columns(self, columns: Sequence[str]) -> None:
        for name in self.layout.fields():
            if name not in columns:
                near = difflib.get_close_matches(name, columns, n=3, cutoff=0.4) or columns
                raise InputError(
                    f"{self.path} has no column {name!r}; the nearest are "
                    f"{', '.join(repr(column) for column in near[:6])}."
                )

    def _checked(self, raw: pl.DataFrame, rejects: Rejects) -> pl.DataFrame:
        """Rows of `RAW_REVIEWS`; those whose values do not fit go to `rejects`."""
        layout = self.layout
        typed = raw.select(
            "row", *(self._typed(raw, name, dtype) for name, dtype in layout.fields().items())
        )
        unreadable = [
            pl.when(raw[name].is_not_null() & typed[name].is_null()).then(
                pl.format("{} {} is no {}", pl.lit(name), raw[name].cast(pl.String), pl.lit(what))
            )
            for name, what in ((layout.timestamp, "time"), (layout.rating, "number"))
            if name is not None
        ]
        reasons = typed.select(pl.coalesce(*unreadable, layout.reason()).alias("reason"))["reason"]
        bad = raw.with_columns(reasons).filter(reasons.is_not_null())
        for row, *values, reason in bad.iter_rows():
            rejects.add(*self.place(row), reason, ",".join(str(value) for value in values))
        number = pl.col("row").cast(pl.Int64).alias("review_id")
        good = typed.filter(reasons.is_null()).select(number, *layout.shared())
        return good.select(RAW_REVIEWS.names())

    def _typed(self, raw: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Series:
        """A raw column in the type the layout asks for; what cannot be read becomes null."""
        column = raw[name]
        if name != self.layout.timestamp:
            return column.cast(dtype, strict=False)
        if column.dtype.is_temporal():
            scale = "ms" if self.layout.milliseconds else "us"
            moments = column.cast(pl.Datetime("us")).dt.epoch(scale)
            return moments if self.layout.milliseconds else moments // 1_000_000
        if self.timestamp_unit == "iso":
            seconds = [_iso_seconds(value) for value in column.cast(pl.String)]
            return pl.Series(name, seconds, pl.Int64())
        return column.cast(dtype, strict=False)


def _record_problem(record: Sequence[str], width: int) -> str:
    if len(record) != width:
        return f"{len(record)} fields where the header has {width}"
    if any("\udc80" <= letter <= "\udcff" for field in record for letter in field):
        return "not UTF-8"
    return "holds a NUL" if any("\0" in field for field in record) else ""


def _iso_seconds(value: str | None) -> int | None:
    """Seconds since 1970 of an ISO 8601 date or time; without a zone it is UTC."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
