"""Whole lines of a raw file, plain or compressed, in blocks of bounded size.

The content decides how a file is decompressed, not its name. Decompression runs in a thread of
its own, one block ahead, because isal and zstd let other threads work meanwhile.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from isal import igzip_lib, isal_zlib

from data_prep.errors import InputError
from data_prep.reviews.rejects import Rejects

BLOCK_BYTES = 2 << 20
PIECE_BYTES = 1 << 20
LONGEST_LINE_BYTES = 4 << 20

_GZIP, _ZSTD, _BOM = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf"
_FOREIGN = {
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "a picture",
    b"%PDF": "a PDF document",
}


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file.

    Attributes:
        first_line: Number of the first line in the file, from 1.
        data: The lines; only the last line of a file may lack its newline.
    """

    first_line: int
    data: bytes

    @cached_property
    def line_count(self) -> int:
        """Number of lines."""
        ends = np.count_nonzero(np.frombuffer(self.data, np.uint8) == ord("\n"))
        return int(ends) + (not self.data.endswith(b"\n"))

    def lines(self) -> list[bytes]:
        """The lines without their line ends."""
        lines = self.data.split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        return [line.removesuffix(b"\r") for line in lines]


class _CutShortError(Exception):
    """The compressed stream ends before its end mark."""


class _DamagedError(Exception):
    """The compressed stream cannot be decoded further."""


class _TrailingGarbageError(Exception):
    """Bytes that belong to no gzip member follow the last one."""


def read_blocks(
    path: Path, rejects: Rejects, *, allow_truncated: bool = False, block_bytes: int | None = None
) -> Iterator[Block]:
    """Blocks of whole lines of a file, in order.

    A line of more than 4 MiB is refused without being held in memory. Bytes after the last gzip
    member are refused as a remark on the file (line 0); the lines before them are good.

    Args:
        path: The file; gzip, Zstandard or plain by its content.
        rejects: Receives what is refused.
        allow_truncated: Accept a compressed file that was cut off: the whole lines before the cut
            are read, the cut line is refused.
        block_bytes: Size from which a block is handed out, 2 MiB if not given.

    Raises:
        InputError: If the file cannot be opened, is of a foreign format, is damaged, or is cut
            off and that is not allowed; the message names the file and, where known, the line.
    """
    splitter = _Splitter(path.name, rejects, block_bytes or BLOCK_BYTES)
    try:
        for piece in _read_ahead(_decompressed(path)):
            yield from splitter.push(piece)
    except _TrailingGarbageError:
        rejects.add(path.name, 0, "bytes that are no gzip follow the last gzip member")
    except _DamagedError as error:
        raise InputError(
            f"{path} is damaged after line {splitter.lines_read}: {error}; fetch it again."
        ) from error
    except _CutShortError as error:
        if not allow_truncated:
            raise InputError(
                f"{path} is cut off after line {splitter.lines_read}; fetch it again, or pass "
                "--allow-truncated to keep the lines before the cut."
            ) from error
        yield from splitter.finish(cut_off=True)
        return
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    yield from splitter.finish()


class _Splitter:
    """Collects pieces of bytes and hands out blocks that end with a line."""

    def __init__(self, file: str, rejects: Rejects, block_bytes: int) -> None:
        self.file, self.rejects, self.block_bytes = file, rejects, block_bytes
        self.lines_seen = 0
        self._whole: list[bytes | memoryview] = []
        self._whole_bytes = 0
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._skipping = False

    @property
    def lines_read(self) -> int:
        """Whole lines so far, those included that are not handed out yet."""
        return self.lines_seen + b"".join(self._whole).count(b"\n")

    def push(self, piece: bytes) -> Iterator[Block]:
        """Take the next bytes; hand out what became a full block."""
        cut = piece.rfind(b"\n") + 1
        if cut == 0:
            yield from self._lengthen(piece)
            return
        start = 0
        if self._skipping:
            start = piece.index(b"\n") + 1
            self.lines_seen += 1
            self._skipping = False
        head = memoryview(piece)[start:cut]
        self._whole += [*self._rest, head]
        self._whole_bytes += self._rest_bytes + len(head)
        self._rest, self._rest_bytes = [], 0
        if self._whole_bytes >= self.block_bytes:
            yield from self._flush()
        yield from self._lengthen(piece[cut:])

    def finish(self, *, cut_off: bool = False) -> Iterator[Block]:
        """Hand out what is left; a cut-off last line is refused instead."""
        rest = b"".join(self._rest)
        if cut_off:
            yield from self._flush()
            if rest or self._skipping:
                self.rejects.read += 1
                self.rejects.add(self.file, self.lines_seen + 1, "the file is cut off here", rest)
            return
        self._whole.append(rest)
        self._whole_bytes += len(rest)
        yield from self._flush()

    def _lengthen(self, piece: bytes) -> Iterator[Block]:
        if self._skipping or not piece:
            return
        self._rest.append(piece)
        self._rest_bytes += len(piece)
        if self._rest_bytes > LONGEST_LINE_BYTES:
            yield from self._flush()
            self.rejects.read += 1
            self.rejects.add(
                self.file,
                self.lines_seen + 1,
                f"the line is longer than {LONGEST_LINE_BYTES >> 20} MiB",
                self._rest[0],
            )
            self._rest, self._rest_bytes, self._skipping = [], 0, True

    def _flush(self) -> Iterator[Block]:
        data = b"".join(self._whole)
        self._whole, self._whole_bytes = [], 0
        if self.lines_seen == 0:
            data = data.removeprefix(_BOM)
        if data:
            block = Block(self.lines_seen + 1, data)
            self.lines_seen += block.line_count
            yield block


def _decompressed(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        start = stream.read(16)
        stream.seek(0)
        for magic, name in _FOREIGN.items():
            if start.startswith(magic):
                raise InputError(f"{path} is {name}, not lines of UTF-8 text (plain, .gz or .zst).")
        pieces = iter(lambda: stream.read(PIECE_BYTES // 4), b"")
        if start.startswith(_GZIP):
            yield from _gunzip(pieces)
        elif start.startswith(_ZSTD):
            yield from _unzstd(pieces)
        else:
            yield from iter(lambda: stream.read(PIECE_BYTES), b"")


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Contents of all gzip members, in pieces of bounded size."""
    decoder = isal_zlib.decompressobj(wbits=31)
    between_members = False
    for piece in pieces:
        data = piece
        while data:
            if between_members:
                data = data.lstrip(b"\0")  # padding after a member is allowed
                if not data:
                    break
                if not data.startswith(_GZIP[:1]):
                    raise _TrailingGarbageError
                decoder, between_members = isal_zlib.decompressobj(wbits=31), False
            try:
                out = decoder.decompress(data, PIECE_BYTES)
            except igzip_lib.IsalError as error:  # pyright: ignore[reportGeneralTypeIssues]
                raise _DamagedError(str(error)) from error
            if out:
                yield out
            between_members = decoder.eof
            data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    if not between_members:
        raise _CutShortError


def _unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Contents of all Zstandard frames."""
    import zstandard

    decoder = None
    for piece in pieces:
        data = piece
        while data:
            decoder = decoder or zstandard.ZstdDecompressor().decompressobj()
            try:
                out = decoder.decompress(data)
            except zstandard.ZstdError as error:
                raise _DamagedError(str(error)) from error
            if out:
                yield out
            data = decoder.unused_data if decoder.eof else b""
            decoder = None if decoder.eof else decoder
    if decoder is not None:
        raise _CutShortError


def _read_ahead(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, made by a thread that stays a few pieces ahead."""
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=8)
    stopped = threading.Event()

    def work() -> None:
        try:
            for piece in pieces:
                if stopped.is_set():
                    return
                ready.put(piece)
            ready.put(None)
        except (InputError, OSError, _CutShortError, _DamagedError, _TrailingGarbageError) as error:
            ready.put(error)

    thread = threading.Thread(target=work, name="decompress", daemon=True)
    thread.start()
    try:
        while (piece := ready.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        stopped.set()
        while thread.is_alive():
            try:
                ready.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()
