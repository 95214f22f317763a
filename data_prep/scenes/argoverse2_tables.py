"""The feather and parquet tables of Argoverse 2, checked for their columns and numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from data_prep.errors import InputError


def read_columns(
    file: Path, numbers: Sequence[str], texts: Sequence[str], integers: Sequence[str] = ()
) -> pl.DataFrame:
    """Some columns of a feather or parquet file.

    Args:
        file: A `.feather` (Arrow IPC; plain, lz4 or zstd) or `.parquet` file.
        numbers: Columns that must hold finite numbers; they come as float64.
        texts: Columns that come as text.
        integers: Columns that come as int64.

    Returns:
        Those columns, with no missing value in any.

    Raises:
        InputError: If the file is damaged, a column is missing or of another type, or a value is
            missing or not finite.
    """
    read: Callable = pl.read_parquet if file.suffix == ".parquet" else pl.read_ipc
    try:
        table = read(file)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{file.name} is truncated, damaged or of another format.") from error
    missing = [name for name in (*numbers, *texts, *integers) if name not in table.columns]
    if missing:
        raise InputError(f"{file.name} has no column {', '.join(missing)}.")
    try:
        table = table.select(
            *(pl.col(name).cast(pl.Float64) for name in numbers),
            *(pl.col(name).cast(pl.String) for name in texts),
            *(pl.col(name).cast(pl.Int64) for name in integers),
        )
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file.name} has a column of another type: {reason}.") from error
    for name in table.columns:
        column = table[name]
        bad_count = column.null_count()
        if name in numbers:
            bad_count += int((~column.is_finite()).sum())
        if bad_count:
            raise InputError(
                f"{file.name} has {bad_count} values of {name} that are missing or not finite."
            )
    if table.is_empty():
        raise InputError(f"{file.name} has no rows.")
    return table
