"""A Parquet file written from frames that come one by one, in bounded memory."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from data_prep.errors import InputError
from data_prep.schema import TableSchema


def write_parquet_stream(
    path: Path, schema: TableSchema, frames: Iterator[pl.DataFrame], group_rows: int
) -> int:
    """Write the frames, laid end to end, as one Parquet file.

    Args:
        path: The file.
        schema: What the frames must fit; the key must rise strictly across all of them.
        frames: The parts.
        group_rows: Rows of a row group.

    Returns:
        Number of rows.

    Raises:
        InputError: If a frame does not fit the schema or the key does not rise.
    """
    checked = _CheckedFrames(schema, frames)

    def source(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        del with_columns, predicate, n_rows, batch_size
        yield from checked

    try:
        register_io_source(source, schema=schema.polars).sink_parquet(
            path,
            compression="zstd",
            compression_level=1,
            statistics=False,
            row_group_size=group_rows,
            maintain_order=True,
        )
    except pl.exceptions.PolarsError:
        if checked.failure is None:
            raise
    if checked.failure is not None:
        raise checked.failure
    return checked.rows


class _CheckedFrames:
    """Checks frames on their way; keeps an error that Polars would wrap in its own."""

    def __init__(self, schema: TableSchema, frames: Iterator[pl.DataFrame]) -> None:
        self.schema, self.frames = schema, frames
        self.rows = 0
        self.failure: BaseException | None = None
        self._last: pl.DataFrame | None = None

    def __iter__(self) -> Iterator[pl.DataFrame]:
        try:
            for frame in self.frames:
                if not frame.height:
                    continue
                self.schema.check_rows(frame)
                ordered = frame.select(self.schema.polars.names())
                keys = frame.select(self.schema.key)
                if not _rises(keys if self._last is None else pl.concat([self._last, keys])):
                    self._refuse()
                self._last = keys[-1:]
                self.rows += frame.height
                yield ordered
        except BaseException as error:
            self.failure = error
            raise

    def _refuse(self) -> None:
        raise InputError(
            f"The table {self.schema.name} is not in the order of its key "
            f"({', '.join(self.schema.key)}), or repeats one across its parts."
        )


def _rises(keys: pl.DataFrame) -> bool:
    """Whether every row is larger than the one before it, compared column by column."""
    larger = pl.lit(value=False)
    for name in reversed(keys.columns):
        before = pl.col(name).shift(1)
        larger = (pl.col(name) > before) | ((pl.col(name) == before) & larger)
    return bool(keys.select(larger.slice(1).all()).item())
