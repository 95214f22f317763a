"""Answers of a language model, kept by what was asked, so that a killed run repeats no call."""

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import InputError


@dataclass(frozen=True)
class KeptAnswer:
    """One finished question.

    Attributes:
        text: The model's valid answer; nothing where even the repaired answer was invalid.
    """

    text: str | None


class AnswerCache:
    """A small SQLite file, safe to write from several threads and to kill at any moment.

    Only finished questions are kept: a valid answer, or the fact that there was none after the
    repair. What failed on the way (a server that was down) is asked again by the next run.

    Args:
        path: The file; it and its folder are made when missing.

    Raises:
        InputError: If the file cannot be opened or is no cache.

    Source:
        Write-ahead logging as in https://www.sqlite.org/wal.html
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT)"
            )
            self._connection.commit()
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"Cannot use {path} as a cache of answers: {error}; name another --cache."
            ) from error

    def get(self, key: str) -> KeptAnswer | None:
        """The kept answer to a question, or nothing."""
        with self._lock:
            row = self._connection.execute(
                "SELECT answer FROM answers WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else KeptAnswer(row[0])

    def put(self, key: str, answer: KeptAnswer) -> None:
        """Keep an answer; it is on file when this returns.

        Raises:
            InputError: If it cannot be written.
        """
        try:
            with self._lock, self._connection:
                self._connection.execute(
                    "INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer.text)
                )
        except sqlite3.Error as error:
            raise InputError(f"Cannot write the cache {self._path}: {error}.") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
