"""What was added while serving, on disk before it is acknowledged, and whole after a crash."""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from data_prep.artifact import flush_to_disk
from data_prep.errors import ArtifactMismatch, InputError

_CHECKSUM_CHARACTERS = 32
Record = Mapping[str, Any]


class JournalMovedError(InputError):
    """Somebody else wrote to the journal; read its `news` first."""


class Journal:
    """Records in the order in which they were appended.

    A line holds the records of one `append` behind a checksum, so they are there whole or not at
    all. A line that a crash cut short was never acknowledged; the next `append` writes over it.

    Args:
        path: The file; it is made by the first `append`.

    Raises:
        ArtifactMismatch: If a line that was written whole is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Record] = []
        self._end_bytes = 0
        self.news()

    def news(self) -> list[Record]:
        """Records that were appended since this journal last looked, now among `entries` too.

        Raises:
            ArtifactMismatch: If a line that was written whole is damaged, or the file was cut.
        """
        if not self.path.exists():
            if self._end_bytes:
                raise self._gone()
            return []
        with self.path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)  # not while somebody appends
            found = self._read(stream)
        self.entries += found
        return found

    def append(self, records: Sequence[Record]) -> None:
        """Write records, all or none; they are on disk when this returns.

        Raises:
            JournalMovedError: If the file holds records that this journal has not read.
            ArtifactMismatch: If the file was cut or moved away since it was read.
            OSError: If the disk does not take them; nothing was appended then.
        """
        if not records:
            return
        line = _line(records)
        fresh = not self.path.exists()
        if fresh and self._end_bytes:
            raise self._gone()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        with self.path.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            self._check_uncut(stream)
            if self._unread(stream):
                raise JournalMovedError(f"{self.path} was written by another process.")
            stream.truncate(self._end_bytes)  # what a crash left half-written
            try:
                stream.seek(self._end_bytes)
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(self._end_bytes)
                raise
        if fresh:
            flush_to_disk(self.path.parent)
        self._end_bytes += len(line)
        self.entries += list(records)

    def _unread(self, stream: BinaryIO) -> bool:
        stream.seek(self._end_bytes)
        return any(_records(line) is not None for line in stream)

    def _gone(self) -> ArtifactMismatch:
        return ArtifactMismatch(f"{self.path} is gone; what was added is only in memory.")

    def _check_uncut(self, stream: BinaryIO) -> None:
        if os.fstat(stream.fileno()).st_size < self._end_bytes:
            raise ArtifactMismatch(f"{self.path} was cut short while it was in use.")

    def _read(self, stream: BinaryIO) -> list[Record]:
        self._check_uncut(stream)
        stream.seek(self._end_bytes)
        lines = stream.readlines()
        found: list[Record] = []
        for number, line in enumerate(lines):
            records = _records(line)
            if records is None and (number + 1 < len(lines) or line.endswith(b"\n")):
                raise ArtifactMismatch(
                    f"{self.path} is damaged {self._end_bytes} bytes from its beginning; restore "
                    "it, or move it away to serve without what was added."
                )
            if records is not None:
                found += records
                self._end_bytes += len(line)
        return found


def _line(records: Sequence[Record]) -> bytes:
    body = json.dumps(list(records), ensure_ascii=True, allow_nan=False, sort_keys=True).encode()
    return _checksum(body) + b" " + body + b"\n"


def _records(line: bytes) -> list[Record] | None:
    """The records of a whole line; None where it was cut short or changed."""
    checksum, _, rest = line.partition(b" ")
    if not rest.endswith(b"\n") or checksum != _checksum(rest[:-1]):
        return None
    return json.loads(rest)


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:_CHECKSUM_CHARACTERS].encode()
