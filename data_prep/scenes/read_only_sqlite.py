"""SQLite files of unknown origin, opened so that nothing in them is run or changed."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from data_prep.errors import InputError


@contextmanager
def read_only_sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, whose rows are `sqlite3.Row`.

    Extensions stay off (Python's default), the schema counts as untrusted, and what goes wrong
    inside the `with` becomes one sentence that names the file.

    Args:
        path: The file.

    Yields:
        The open connection.

    Raises:
        InputError: If the file is missing, no SQLite database or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there.")
    connection = None
    try:
        location = f"file:{quote(str(path.resolve()))}?mode=ro"
        connection = sqlite3.connect(location, uri=True)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA query_only = ON")
        yield connection
    except sqlite3.Error as error:
        raise InputError(f"{path} cannot be read as an SQLite database: {error}.") from error
    finally:
        if connection is not None:
            connection.close()


def columns_of(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """Names of a table's columns; empty where there is no such table."""
    rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return tuple(row["name"] for row in rows)


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def require_tables(path: Path, connection: sqlite3.Connection, tables: Sequence[str]) -> None:
    """Refuse a database that lacks a table.

    Raises:
        InputError: If it does, naming the first one.
    """
    for table in tables:
        if not columns_of(connection, table):
            raise InputError(f"{path} has no table {table}; is it a nuPlan log?")
