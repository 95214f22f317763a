"""NumPy values out of what a pickle says about them, with nothing taken on trust.

Sizes, flags and orders are worked out from the type's code; what a file states about them is
compared or ignored. An array of objects is filled from a list of values that were read before.
"""

import math
import re
from dataclasses import dataclass, field

import numpy as np

_TYPE_CODE = re.compile(r"[<>=|]?(?:O8?|\?|b1|[biufc]\d{1,2}|[SU]\d{1,9})")
_DIMENSION_LIMIT = 32
_EMPTY_EXTENT_LIMIT = 65_536


class Refused(ValueError):  # noqa: N818  (the name a caller reads is the condition)
    """A pickle asks for what plain data never need; the text goes on from the file's name."""


@dataclass(slots=True)
class Unfinished:
    """An array (`dtype` None) or a data type between its start and its state in the pickle."""

    dtype: np.dtype | None
    memo_indices: list[int] = field(default_factory=list)


def _dtype(value: object) -> np.dtype:
    value = value.dtype if isinstance(value, Unfinished) else value
    if not isinstance(value, np.dtype):
        raise Refused("builds an array whose type is no data type")
    return value


def data_type(arguments: tuple) -> Unfinished:
    """A data type of numbers, text, bytes, truth values or objects.

    Args:
        arguments: What the pickle gives `numpy.dtype`: the code and two flags, which say nothing.

    Returns:
        The type in this machine's byte order; its state may still name another one.

    Raises:
        Refused: If the code is none of those, such as a record's.
    """
    code = arguments[0] if arguments else None
    if len(arguments) > 3 or not isinstance(code, str) or not _TYPE_CODE.fullmatch(code):
        shown = repr(code)[:60] if isinstance(code, str) else type(code).__name__
        raise Refused(f"builds an array of the type {shown}, which is none of numbers or text")
    try:
        return Unfinished(np.dtype(code))
    except TypeError as error:
        raise Refused(f"builds an array of the unknown type {code!r}") from error


def _finished_type(dtype: np.dtype, state: object) -> np.dtype:
    match state:
        case (int(), "<" | ">" | "|" | "=" as order, None, None, None, *_):
            return dtype if order in "|=" else dtype.newbyteorder(order)
    raise Refused("gives a data type fields or a shape of its own")


def _checked_shape(shape: object, dtype: np.dtype) -> tuple[int, ...]:
    if not (
        isinstance(shape, tuple)
        and len(shape) <= _DIMENSION_LIMIT
        and all(type(extent) is int and extent >= 0 for extent in shape)
    ):
        raise Refused("builds an array whose shape is no tuple of counts")
    if dtype.itemsize == 0 or (0 in shape and max(shape) > _EMPTY_EXTENT_LIMIT):
        raise Refused("builds an array of nothing with a huge shape")
    return shape


def _filled(shape: object, dtype: np.dtype, raw: object, order: str) -> np.ndarray:
    extents = _checked_shape(shape, dtype)
    count = math.prod(extents)
    if dtype.kind == "O":
        if type(raw) is not list or len(raw) != count:
            raise Refused("builds an array of objects from something else than a list of them")
        array = np.empty(count, dtype=object)
        array[:] = raw if count == 0 else [None] * count
        for index, value in enumerate(raw):
            array[index] = value
        return array.reshape(extents, order="F" if order == "F" else "C")
    if isinstance(raw, str):  # a text of bytes, as Python 2 wrote it
        raw = raw.encode("latin1")
    if not isinstance(raw, (bytes, bytearray)) or len(raw) != count * dtype.itemsize:
        raise Refused("builds an array whose shape does not fit its bytes")
    flat = np.frombuffer(bytearray(raw), dtype=dtype)
    return flat.reshape(extents, order="F" if order == "F" else "C")


def array_started(arguments: tuple) -> Unfinished:
    """An array whose shape and content come later, in its state.

    Args:
        arguments: The class, which the caller has checked, an empty shape and a placeholder type.

    Raises:
        Refused: If shape or type are not the ones NumPy always writes.
    """
    match arguments:
        case (_, (0,), b"b" | "b"):
            return Unfinished(None)
    raise Refused("starts an array with a shape or type of its own")


def finished(unfinished: Unfinished, state: object) -> np.ndarray | np.dtype:
    """The array or data type its state describes.

    Args:
        unfinished: What `array_started` or `data_type` gave.
        state: What the pickle gives it: for an array a version, the shape, the type, whether the
            first index runs fastest, and the bytes (for objects, the list of them).

    Raises:
        Refused: If the state is not of that form or its parts do not fit each other.
    """
    if unfinished.dtype is not None:
        return _finished_type(unfinished.dtype, state)
    match state:
        case (int(), shape, dtype, bool() | int() as is_fortran, raw):
            return _filled(shape, _dtype(dtype), raw, "F" if is_fortran else "C")
    raise Refused("gives an array a state of another form")


def scalar(arguments: tuple) -> object:
    """One number, truth value, text or bytes of a NumPy type.

    Raises:
        Refused: If it is an object, or its bytes do not fit its type.
    """
    match arguments:
        case (dtype, bytes() | str() as raw) if _dtype(dtype).kind != "O":
            return _filled((1,), _dtype(dtype), raw, "C")[0]
    raise Refused("builds a NumPy scalar from something else than bytes")


def array_from_buffer(arguments: tuple) -> np.ndarray:
    """An array from its bytes, as protocol 5 writes it.

    Args:
        arguments: Bytes, type, shape, and "C" or "F"; where it is "K", the order of the axes, too.

    Raises:
        Refused: If they do not fit each other.
    """
    match arguments:
        case (raw, dtype, shape, "C" | "F" as order) if _dtype(dtype).kind != "O":
            return _filled(shape, _dtype(dtype), raw, order)
        case (raw, dtype, shape, "K", tuple() as axes) if _dtype(dtype).kind != "O":
            if sorted(map(str, axes)) != sorted(
                map(str, range(len(_checked_shape(shape, _dtype(dtype)))))
            ):
                raise Refused("orders the axes of an array by something else than their numbers")
            return _filled(shape, _dtype(dtype), raw, "C").transpose(axes)
    raise Refused("builds an array from something else than bytes")
