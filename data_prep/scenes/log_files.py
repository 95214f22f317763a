"""Which files a reader of logs reads, and which part of the data their folder says they are."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from data_prep.errors import InputError
from data_prep.scenes.raw_scene import Split

_FOLDER_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
_VALIDATION_SHARE = 10


def log_files(logs: Sequence[Path], suffix: str) -> tuple[Path, ...]:
    """The files among the given files and everywhere below the given folders, by name.

    Args:
        logs: Files and folders.
        suffix: Ending of the files that are taken from folders, such as `.db`.

    Raises:
        InputError: If a path does not exist, or there is no file.
    """
    found: set[Path] = set()
    for path in logs:
        if path.is_dir():
            found.update(below for below in path.rglob(f"*{suffix}") if below.is_file())
        elif path.is_file():
            found.add(path)
        else:
            raise InputError(f"{path} is not there.")
    if not found:
        given = ", ".join(map(str, logs)) or "the given paths"
        raise InputError(f"There is no {suffix} file in {given}.")
    return tuple(sorted(found, key=lambda path: (path.name, str(path))))


def folder_split(path: Path, drive: str) -> Split | None:
    """The split that the nearest folder named train, val, test or trainval stands for.

    Of `trainval` one drive in ten is for validation, chosen by its name.

    Args:
        path: A log.
        drive: What it was cut from.

    Returns:
        The split; None where no folder says so, as in `mini`.
    """
    for folder in reversed(path.resolve().parent.parts):
        if folder in _FOLDER_SPLITS:
            return _FOLDER_SPLITS[folder]
        if folder == "trainval":
            held_out = int(sha256(drive.encode()).hexdigest(), 16) % _VALIDATION_SHARE == 0
            return "validation" if held_out else "train"
    return None
