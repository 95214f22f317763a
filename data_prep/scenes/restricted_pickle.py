"""Reads the plain data out of a pickle; nothing the file says is imported or called.

A pickle is a small program. `pickle.Unpickler` with a list of permitted names still runs it: it
lets a file set NumPy's internal flags (an array of objects made of raw bytes is a pointer the file
chose), reserve gigabytes with one instruction, or crash the interpreter with a nested key. So the
instructions are read one by one (`pickletools.genops`) and obeyed on a stack of plain values. The
few names NumPy writes are recognised by their spelling, and each is answered by code of this file
that checks what it is given. Everything else is refused by name.
"""

import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, cast

import numpy as np

from data_prep.errors import InputError
from data_prep.scenes.pickled_arrays import (
    Refused,
    Unfinished,
    array_from_buffer,
    array_started,
    data_type,
    finished,
    scalar,
)

SIZE_LIMIT_BYTES = 1 << 30
_DEPTH_LIMIT = 64
_ATOMS = (str, bytes, bytearray, int, float, complex, bool, type(None), np.generic, np.dtype)


class _Name(str):
    """The spelling of something importable; only ever compared."""

    __slots__ = ()


def _old_bytes(arguments: tuple) -> bytes:
    match arguments:
        case ():
            return b""
        case (bytes() | bytearray() as raw,):
            return bytes(raw)
        case (str() as text, "latin1" | "latin-1"):
            return text.encode("latin1")
    raise Refused("builds bytes from something else than bytes")


def _members(arguments: tuple) -> list:
    match arguments:
        case ():
            return []
        case (list() as members,):
            return [_key(member) for member in members]
    raise Refused("builds a set from something else than a list")


def _complex(arguments: tuple) -> complex:
    match arguments:
        case (float() | int() as real, float() | int() as imaginary):
            return complex(real, imaginary)
    raise Refused("builds a complex number from something else than two numbers")


def _dict(arguments: tuple) -> dict:
    match arguments:
        case () | (None,) | (_Name(),):
            return {}
        case (list() as pairs,):
            filled: dict = {}
            for pair in pairs:
                if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                    break
                filled[_key(pair[0])] = pair[1]
            else:
                return filled
    raise Refused("builds a dict from something else than pairs")


def _array_started(arguments: tuple) -> Unfinished:
    if not arguments or arguments[0] != "numpy.ndarray":
        raise Refused("starts an array of a class of its own")
    return array_started(arguments)


_CALLS: Mapping[str, Callable[[tuple], object]] = {
    "numpy.core.multiarray._reconstruct": _array_started,
    "numpy.core.multiarray.scalar": scalar,
    "numpy.core.numeric._frombuffer": array_from_buffer,
    "numpy.dtype": data_type,
    "_codecs.encode": _old_bytes,
    "builtins.bytes": _old_bytes,
    "builtins.bytearray": lambda arguments: bytearray(_old_bytes(arguments)),
    "builtins.set": lambda arguments: set(_members(arguments)),
    "builtins.frozenset": lambda arguments: frozenset(_members(arguments)),
    "builtins.complex": _complex,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _dict,
}
_TYPES = ("int", "long", "float", "bool", "str", "unicode", "list", "dict")
_ONLY_NAMED = frozenset({"numpy.ndarray", *(f"builtins.{name}" for name in _TYPES)})


def _key(value: object) -> object:
    """The value, if it may be a key or a member: flat, so that hashing it cannot recurse."""
    flat = value if isinstance(value, (tuple, frozenset)) else (value,)
    if all(isinstance(part, _ATOMS) and not isinstance(part, bytearray) for part in flat):
        return value
    raise Refused(f"uses a {type(value).__name__} of containers as a key")


def _name(module: object, attribute: object) -> _Name:
    """The name, in NumPy 1's and Python 3's spelling, if this file may ask for it."""
    if not (isinstance(module, str) and isinstance(attribute, str)):
        raise Refused("asks for a name that is no text")
    spelled = f"{module}.{attribute}"
    name = spelled
    for newer, older in (("numpy._core.", "numpy.core."), ("__builtin__.", "builtins.")):
        if name.startswith(newer):
            name = older + name[len(newer) :]
    if name in _CALLS or name in _ONLY_NAMED:
        return _Name(name)
    shown = spelled.encode("unicode_escape").decode()[:100]
    known_package = name.split(".")[0] in ("numpy", "builtins")
    why = "which plain data never need" if known_package else "which is neither NumPy nor built in"
    raise Refused(f"asks for {shown}, {why}; it is not opened")


class _Machine:
    """The pickle's stack and memo, filled with plain values only."""

    def __init__(self) -> None:
        self.stack: list = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def since_mark(self) -> list:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def pop(self) -> object:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise Refused("takes what it has not put down")
        return self.stack.pop()

    def last(self, count: int) -> tuple:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def memoize(self, index: int) -> None:
        value = self.stack[-1]
        self.memo[index] = value
        if isinstance(value, Unfinished):
            value.memo_indices.append(index)

    def append(self, values: list) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise Refused(f"appends to a {type(target).__name__}")
        target.extend(values)

    def set_items(self, values: list) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise Refused(f"sets items of a {type(target).__name__}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_key(key)] = value

    def add_items(self, values: list) -> None:
        target = self.stack[-1]
        if type(target) is not set:
            raise Refused(f"adds members to a {type(target).__name__}")
        target.update(_key(value) for value in values)

    def call(self) -> None:
        function, arguments = self.last(2)
        call = _CALLS.get(function) if isinstance(function, _Name) else None
        if call is None or type(arguments) is not tuple:
            raise Refused(f"calls {function if isinstance(function, _Name) else 'a value'}")
        self.stack.append(call(arguments))

    def build(self) -> None:
        target, state = self.last(2)
        if not isinstance(target, Unfinished):
            raise Refused(f"sets the state of a {type(target).__name__}")
        value = finished(target, state)
        self.stack.append(value)
        for index in target.memo_indices:
            self.memo[index] = value

    def gather_dict(self) -> None:
        values = self.since_mark()
        self.stack.append({})
        self.set_items(values)


_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_Step = Callable[[_Machine, object], object]


def _pushes(make: Callable[[], object]) -> _Step:
    return lambda machine, _: machine.stack.append(make())


def _gathers(make: Callable[[list], object]) -> _Step:
    return lambda machine, _: machine.stack.append(make(machine.since_mark()))


def _packs(count: int) -> _Step:
    return lambda machine, _: machine.stack.append(machine.last(count))


def _recall(machine: _Machine, index: object) -> None:
    machine.stack.append(machine.memo[cast(int, index)])


def _put(machine: _Machine, index: object) -> None:
    machine.memoize(cast(int, index))


def _refuse_step(name: str) -> NoReturn:
    raise Refused(f"uses {name}, which plain data never need")


_STEPS: Mapping[str, _Step] = {
    **dict.fromkeys(_LITERALS, lambda machine, value: machine.stack.append(value)),
    "NONE": _pushes(lambda: None),
    "NEWTRUE": _pushes(lambda: True),
    "NEWFALSE": _pushes(lambda: False),
    "EMPTY_LIST": _pushes(list),
    "EMPTY_DICT": _pushes(dict),
    "EMPTY_SET": _pushes(set),
    "EMPTY_TUPLE": _pushes(tuple),
    "LIST": _gathers(list),
    "TUPLE": _gathers(tuple),
    "FROZENSET": _gathers(lambda values: frozenset(_key(value) for value in values)),
    "DICT": lambda machine, _: machine.gather_dict(),
    "TUPLE1": _packs(1),
    "TUPLE2": _packs(2),
    "TUPLE3": _packs(3),
    "APPEND": lambda machine, _: machine.append(list(machine.last(1))),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items(list(machine.last(2))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.since_mark()),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "POP": lambda machine, _: machine.pop(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _recall),
    "MEMOIZE": lambda machine, _: machine.memoize(len(machine.memo)),
    "GLOBAL": lambda machine, spelled: machine.stack.append(_name(*str(spelled).split(" ", 1))),
    "STACK_GLOBAL": lambda machine, _: machine.stack.append(_name(*machine.last(2))),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
}


def _value_count(value: object, counted: dict[int, int | None], depth: int) -> int:
    """How many values it unfolds to; refuses what is no plain data, a cycle, too deep a nest."""
    if isinstance(value, _ATOMS) and not isinstance(value, _Name):
        return 1
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.size
    if id(value) in counted:
        known = counted[id(value)]
        if known is None:
            raise Refused("contains itself")
        return known
    if depth > _DEPTH_LIMIT:
        raise Refused(f"is nested more than {_DEPTH_LIMIT} deep")
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = list(value)
    elif isinstance(value, np.ndarray):
        parts = value.ravel().tolist()
    else:
        raise Refused(f"leaves {value if isinstance(value, _Name) else 'an array'} unfinished")
    counted[id(value)] = None
    total = 1 + sum(_value_count(part, counted, depth + 1) for part in parts)
    counted[id(value)] = total
    return total


def plain_data(raw: bytes) -> object:
    """The value a pickle describes, made of plain data only.

    Args:
        raw: The pickle, of any protocol up to 5.

    Returns:
        Dicts (`defaultdict` and `OrderedDict` come back as such), lists, tuples, sets, text, bytes,
        numbers, None, and NumPy arrays, scalars and data types.

    Raises:
        Refused: If it asks for anything else, is damaged, or unfolds to far more than its size.
    """
    machine = _Machine()
    try:
        for instruction, argument, _ in pickletools.genops(raw):
            step = _STEPS.get(instruction.name)
            if step is None:
                _refuse_step(instruction.name)
            step(machine, argument)
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise Refused("is truncated, damaged or not a pickle") from error
    if len(machine.stack) != 1 or machine.marks:
        raise Refused("is damaged: it ends with values left over")
    value_count = _value_count(machine.stack[0], {}, 0)
    if value_count > 1_000_000 + 4 * len(raw):
        raise Refused(f"unfolds to {value_count:,} values from {len(raw):,} bytes")
    return machine.stack[0]


def load_restricted_pickle(file: Path, *, size_limit_bytes: int = SIZE_LIMIT_BYTES) -> object:
    """The plain data in a pickle; nothing the file says is executed.

    Args:
        file: A pickle of dicts, lists, tuples, sets, text, bytes, numbers, None and NumPy arrays.
        size_limit_bytes: The largest file that is read.

    Returns:
        The data, as `plain_data` describes it.

    Raises:
        InputError: If the file is missing, too large, damaged, or asks for anything else, in one
            sentence that names what it asks for.

    Example:
        >>> import pickle, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "scene.pkl"
        >>> _ = file.write_bytes(pickle.dumps({"speed": [1, 2.5]}))
        >>> load_restricted_pickle(file)
        {'speed': [1, 2.5]}
    """
    if not file.is_file():
        raise InputError(f"{file} is not a file.")
    size_bytes = file.stat().st_size
    if size_bytes > size_limit_bytes:
        raise InputError(
            f"{file.name} has {size_bytes:,} bytes; a pickle of more than {size_limit_bytes:,} "
            "is not opened."
        )
    try:
        return plain_data(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file.name} cannot be read: {error.strerror}.") from error
    except Refused as refusal:
        raise InputError(f"{file.name} {refusal}.") from refusal
