"""Folders that a command fills and then renames or removes; those of a killed command are found.

A folder is locked (`flock`) by the process that fills it, and the system lifts the lock when that
process ends, however it ends. So a folder of the right name without a lock was left behind by a
command that was killed, and the next one that writes there removes it. Where a file system knows
no locks nothing is ever removed.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_RANDOM = r"[a-z0-9_]{8}"


@contextmanager
def temporary_folder(destination: Path) -> Iterator[Path]:
    """An empty folder beside a destination, to be renamed to it; removed at the end if it is not.

    Raises:
        OSError: If the destination's parent cannot be written.
    """
    with _locked_folder(destination.parent, f".{destination.name}.", ".tmp") as folder:
        yield folder


def replace_folder(folder: Path, destination: Path) -> None:
    """Rename a folder into place; what was there is moved aside first and removed after.

    A process that is killed in between leaves the old one aside; `remove_abandoned` puts it back.
    """
    if not destination.exists():
        folder.rename(destination)
        return
    with _locked_folder(destination.parent, f".{destination.name}.old.", "") as aside:
        destination.rename(aside / "artifact")
        try:
            folder.rename(destination)
        except OSError:
            with suppress(OSError):
                (aside / "artifact").rename(destination)
            raise


def remove_abandoned(parent: Path, names: str) -> None:
    """Remove what killed commands left in a folder; what a living one fills is not touched.

    Args:
        parent: Where the destinations are; it need not be there.
        names: Regular expression for the names of the destinations meant.
    """
    pattern = re.compile(rf"\.(?P<name>{names})\.(?:{_RANDOM}\.tmp|(?P<old>old\.){_RANDOM})")
    try:
        found = sorted(parent.iterdir())
    except OSError:
        return
    for folder in found:
        if matched := pattern.fullmatch(folder.name):
            with suppress(OSError):  # locked by the living, or not ours to open
                _remove(folder, parent / matched["name"] if matched["old"] else None)


def _remove(folder: Path, destination: Path | None) -> None:
    """Remove a folder if nobody holds its lock; an artifact moved aside goes back to its place."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if destination is not None and not destination.exists():
            with suppress(OSError):
                (folder / "artifact").rename(destination)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


@contextmanager
def _locked_folder(parent: Path, prefix: str, suffix: str) -> Iterator[Path]:
    """A new folder with a lock on it, removed at the end if it is still there."""
    folder, lock = _new_folder(parent, prefix, suffix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _new_folder(parent: Path, prefix: str, suffix: str) -> tuple[Path, int]:
    """A new folder and its lock; made again where another command removed it before the lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=parent))
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)
