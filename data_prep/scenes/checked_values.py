"""Values of a foreign file, checked for their form before they are used."""

from collections.abc import Mapping

import numpy as np

from data_prep.errors import InputError

FARTHEST_M = 1e8


def mapping(value: object, what: str) -> dict:
    """The value, if it is a dict.

    Args:
        value: What a file holds.
        what: What it should be, for the message.

    Raises:
        InputError: If it is none.
    """
    if not isinstance(value, dict):
        raise InputError(f"{what} is no table of names but a {type(value).__name__}.")
    return value


def text(value: object) -> str:
    """The value as one line of text that can be written as UTF-8."""
    return " ".join(str(value).encode("utf-8", "replace").decode().split())


def word(table: Mapping, name: str) -> str | None:
    """What a table says under a name, if it is a word or a count; None otherwise."""
    value = table.get(name)
    is_word = isinstance(value, (str, int, np.integer)) and not isinstance(value, bool)
    return (text(value) or None) if is_word else None


def entries(value: object) -> list:
    """The entries of a list, tuple or array; none of anything else."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1).tolist()
    return list(value) if isinstance(value, (list, tuple)) else []


def numbers(value: object, what: str, *, dimensions: int | None = None) -> np.ndarray:
    """The value as an array of float64, in any nesting the file chose.

    Args:
        value: An array, list or number.
        what: What it should be, for the message.
        dimensions: How many axes it must have; None for any.

    Raises:
        InputError: If it is missing, ragged, not made of numbers, or has other axes.
    """
    if value is None:
        raise InputError(f"{what} is missing.")
    try:
        raw = np.asarray(value)
        array = raw.astype(np.float64) if raw.dtype.kind != "c" else None
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{what} is not made of numbers.") from error
    if array is None:
        raise InputError(f"{what} is made of complex numbers.")
    if dimensions is not None and array.ndim != dimensions:
        raise InputError(f"{what} has the shape {array.shape}, not {dimensions} axes.")
    return array


def points(value: object, what: str, *, at_least: int) -> np.ndarray:
    """Points in the plane, with repeats of the point before and further coordinates left out.

    Args:
        value: Two or more numbers a point.
        what: What it is, for the message.
        at_least: How many distinct points there must be.

    Returns:
        Shape (point, 2); the last point may equal the first.

    Raises:
        InputError: If they are not points, not finite, or too few.
    """
    array = numbers(value, what, dimensions=2)
    if array.shape[1] < 2:
        raise InputError(f"{what} has the shape {array.shape}, not two coordinates a point.")
    array = array[:, :2]
    if not (np.abs(array) <= FARTHEST_M).all():  # not so of a NaN either
        raise InputError(f"{what} has a point that is not finite or 100,000 km away.")
    moved = np.ones(len(array), dtype=bool)
    moved[1:] = (np.diff(array, axis=0) != 0).any(axis=1)
    array = array[moved]
    if len(array) < at_least:
        raise InputError(f"{what} has {len(array)} distinct points, fewer than {at_least}.")
    return array
