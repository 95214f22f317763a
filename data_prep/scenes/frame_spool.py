"""Frames put aside on disk one after another, and read back in any order."""

import io
from pathlib import Path

import polars as pl


class FrameSpool:
    """One file of frames.

    Attributes:
        path: The file; it is made anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: list[tuple[int, int]] = []
        self._end = 0
        path.write_bytes(b"")

    def append(self, frame: pl.DataFrame) -> int:
        """Put a frame aside; its number."""
        buffer = io.BytesIO()
        frame.write_ipc(buffer)
        raw = buffer.getvalue()
        with self.path.open("ab") as stream:
            stream.write(raw)
        self._places.append((self._end, len(raw)))
        self._end += len(raw)
        return len(self._places) - 1

    def read(self, number: int) -> pl.DataFrame:
        """The frame of a number."""
        begin, size_bytes = self._places[number]
        with self.path.open("rb") as stream:
            stream.seek(begin)
            return pl.read_ipc(io.BytesIO(stream.read(size_bytes)))
