"""Which files of a format lie under the paths a user names."""

from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep.errors import InputError


def found_files(
    paths: Sequence[Path], matches: Callable[[Path], bool], what: str
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The files of a format under some paths, each once, and the links that lead elsewhere.

    A path that is a file itself is taken as it is. Below a folder a file counts if its name
    `matches`; a link to outside that folder is never followed.

    Args:
        paths: Files and folders.
        matches: Says of a file below a folder, by its name, whether it is of the format.
        what: The files in words, for the message.

    Returns:
        The files in the order of their paths, and the links that were not followed.

    Raises:
        InputError: If a path does not exist or nothing is found.
    """
    found: dict[Path, Path] = {}
    outside: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; name a file or folder of {what}.")
        if path.is_file():
            found.setdefault(path.resolve(), path)
            continue
        root = path.resolve()
        for file in sorted(file for file in path.rglob("*") if matches(file)):
            if not file.is_file():
                continue
            if file.resolve().is_relative_to(root):
                found.setdefault(file.resolve(), file)
            else:
                outside.append(file)
    if not (found or outside):
        named = ", ".join(str(path) for path in paths) or "no path"
        raise InputError(f"There are no {what} in {named}.")
    return tuple(sorted(found.values())), tuple(sorted(outside))
