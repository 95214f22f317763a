"""Plain data comes out of a pickle of any protocol; anything else in one does nothing."""

import collections
import contextlib
import os
import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.scenes.restricted_pickle import load_restricted_pickle

PROTOCOLS = range(6)
VALUES = {
    "rows": np.arange(6.0).reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "turned": np.arange(24, dtype="i2").reshape(2, 3, 4).transpose(2, 0, 1),
    "big-endian": np.arange(3, dtype=">f4"),
    "text": np.array(["a", "bcd"]),
    "bytes": np.array([b"ab", b"c"]),
    "truth": np.array([True, False]),
    "complex": np.array([1j]),
    "empty": np.zeros((0, 3)),
    "no axes": np.array(3.0),
    "objects": np.array([1, None, "x", (1, 2)], dtype=object),
    "scalar": np.float32(1.5),
    "text scalar": np.str_("q"),
    "type": np.dtype("<u2"),
    "plain": {"a": [1, 2.5, None, True, 1 << 100], b"\x00\xff": (1, (2,), {3}, frozenset({"x"}))},
    "odd": [bytearray(b"ab"), 1j, "é☃", -1, float("inf")],
}


def same(first: object, second: object) -> bool:
    if isinstance(first, np.ndarray):
        return (
            isinstance(second, np.ndarray)
            and first.dtype == second.dtype
            and first.shape == second.shape
            and (first == second).all()
        )
    return type(first) is type(second) and first == second


def written(folder: Path, raw: bytes) -> Path:
    file = folder / "scene.pkl"
    file.write_bytes(raw)
    return file


def refusal(folder: Path, raw: bytes) -> str:
    """The one sentence a pickle is refused with."""
    with pytest.raises(InputError) as caught:
        load_restricted_pickle(written(folder, raw))
    message = str(caught.value)
    assert message.startswith("scene.pkl ")
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", VALUES)
def test_plain_data_comes_back_whole(tmp_path, name, protocol):
    value = VALUES[name]
    loaded = load_restricted_pickle(written(tmp_path, pickle.dumps(value, protocol=protocol)))
    assert same(value, loaded)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_values_stay_shared_and_dict_classes_become_dicts(tmp_path, protocol):
    array = np.arange(3)
    value = [array, array, collections.defaultdict(int, {"a": 1}), collections.OrderedDict(b=2)]
    loaded = load_restricted_pickle(written(tmp_path, pickle.dumps(value, protocol=protocol)))
    assert isinstance(loaded, list)
    assert loaded[0] is loaded[1]
    assert loaded[2:] == [{"a": 1}, {"b": 2}]
    assert [type(part) for part in loaded[2:]] == [dict, dict]
    loaded[0][0] = 7  # its own memory, not the file's


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


@given(tree=trees, protocol=st.sampled_from(PROTOCOLS))
def test_any_tree_of_plain_data_comes_back(tmp_path_factory, tree, protocol):
    try:
        raw = pickle.dumps(tree, protocol=protocol)
        raw = pickletools.optimize(raw)
    except UnicodeEncodeError:
        return
    folder = tmp_path_factory.getbasetemp()
    assert load_restricted_pickle(written(folder, raw)) == tree


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_command_is_not_run(tmp_path, protocol):
    trace = tmp_path / "trace"
    raw = pickle.dumps({"tracks": Calls(os.system, f"touch {trace}")}, protocol=protocol)
    message = refusal(tmp_path, raw)
    assert f"asks for {os.system.__module__}.system" in message
    assert "which is neither NumPy nor built in; it is not opened." in message
    assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "builtins.exec",
        "builtins.getattr",
        "builtins.__import__",
        "__builtin__.eval",
        "subprocess.Popen",
        "numpy.load",
        "numpy.f2py.crackfortran.myeval",
        "numpy.f2py.diagnose.run_command",
        "numpy.testing._private.utils.runstring",
        "numpy.core.multiarray.fromfile",
        "numpy._core._methods.os.system",
        "numpy.ndarray.tofile",
        "numpy.memmap",
        "numpy.record",
        "collections.namedtuple",
        "functools.partial",
        "operator.attrgetter",
        "copyreg._reconstructor",
        "copy_reg.__newobj__",
        "_codecs.decode",
        "pickle.loads",
        "numpy.dtype.newbyteorder",
    ],
)
def test_a_name_is_refused_by_name_however_it_is_written(tmp_path, name):
    module, attribute = name.rsplit(".", 1)
    global_call = f"c{module}\n{attribute}\n(S'1'\ntR.".encode()
    assert f"asks for {name}, " in refusal(tmp_path, global_call)
    texts = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, attribute))
    stack_global = b"\x80\x04" + texts + b"\x93)R."
    assert f"asks for {name}, " in refusal(tmp_path, stack_global)
    # a dotted attribute: what a plain unpickler would follow step by step
    first, _, rest = name.partition(".")
    texts = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (first, rest))
    assert f"asks for {name}, " in refusal(tmp_path, b"\x80\x04" + texts + b"\x93)R.")


def test_a_name_that_is_permitted_may_not_be_reached_into(tmp_path):
    texts = b"\x8c\x05numpy\x8c\x13ndarray.__class__.x"
    assert "asks for numpy.ndarray.__class__.x" in refusal(tmp_path, b"\x80\x04" + texts + b"\x93.")


def test_a_name_does_not_break_the_sentence(tmp_path):
    raw = b"\x80\x04\x8c\x04a\nb\x00\x8c\x01c\x93."
    assert r"asks for a\nb\x00.c" in refusal(tmp_path, raw)


def reduced(module: str, name: str, arguments: object) -> bytes:
    """A call of a name with arguments, protocol 4."""
    inner = pickle.dumps(arguments, protocol=4)
    body = pickletools.optimize(inner)
    start = 2 if body[2:3] != b"\x95" else 11
    return f"\x80\x04c{module}\n{name}\n".encode("latin1") + body[start:-1] + b"R."


ODD_CALLS = [
    ("numpy.core.multiarray", "_reconstruct", ("x", (0,), b"b"), "a class of its own"),
    ("numpy.core.multiarray", "scalar", (np.dtype("f8"), b"1234567"), "does not fit its bytes"),
    ("numpy.core.multiarray", "scalar", (np.dtype("O"), b"12345678"), "than bytes"),
    ("numpy.core.multiarray", "scalar", (3, b"1"), "no data type"),
    ("numpy", "dtype", ("V8", False, True), "none of numbers or text"),
    ("numpy", "dtype", ("f8,i4", False, True), "none of numbers or text"),
    ("numpy", "dtype", ({"names": ["a"], "formats": ["O"]},), "none of numbers or text"),
    ("numpy", "dtype", ("f9", False, True), "unknown type"),
    ("numpy._core.numeric", "_frombuffer", (b"12", np.dtype("f8"), (1,), "C"), "does not fit"),
    ("numpy._core.numeric", "_frombuffer", (b"1" * 8, np.dtype("O"), (1,), "C"), "than bytes"),
    ("numpy._core.numeric", "_frombuffer", (b"", np.dtype("f8"), (0, 10**12), "C"), "of nothing"),
    ("numpy._core.numeric", "_frombuffer", (b"", np.dtype("f8"), (-1,), "C"), "no tuple of counts"),
    ("numpy._core.numeric", "_frombuffer", (b"1" * 8, np.dtype("i8"), (1,), "K", (5,)), "axes"),
    ("_codecs", "encode", ("x", "rot13"), "than bytes"),
    ("builtins", "bytearray", (10**12,), "than bytes"),
    ("builtins", "bytes", (10**12,), "than bytes"),
    ("builtins", "set", (10**9,), "than a list"),
    ("builtins", "complex", ("1",), "than two numbers"),
    ("collections", "defaultdict", (3,), "than pairs"),
    ("collections", "OrderedDict", ([(1, 2, 3)],), "than pairs"),
    ("builtins", "int", ("9" * 4000,), "calls builtins.int"),
    ("numpy", "ndarray", ((10**10,),), "calls numpy.ndarray"),
    ("numpy", "dtype", "f8", "calls numpy.dtype"),
]


@pytest.mark.parametrize(("module", "name", "arguments", "reason"), ODD_CALLS)
def test_a_permitted_name_with_odd_arguments_is_refused(tmp_path, module, name, arguments, reason):
    assert reason in refusal(tmp_path, reduced(module, name, arguments))


START = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
OBJECTS = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (b"(I1\n(I1\nt" + OBJECTS + b"I00\nS'AAAAAAAA'\nt", "something else than a list"),
        (b"(I1\n(I100000000000\nt" + OBJECTS + b"I00\n(lt", "something else than a list"),
        (b"(I1\n(I1\nI1\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntRI00\nS'AAAA'\nt", "not fit its bytes"),
        (b"(I1\n(I1\ntS'f8'\nI00\nS'AAAAAAAA'\nt", "no data type"),
        (b"(dp0\nS'__class__'\nI1\ns", "a state of another form"),
        (b"(I1\n(" + b"I1\n" * 40 + b"tcnumpy\ndtype\n(S'i1'\nI0\nI1\ntRI00\nS'A'\nt", "no tuple"),
    ],
)
def test_an_array_is_not_built_from_what_does_not_fit(tmp_path, state, reason):
    assert reason in refusal(tmp_path, START + state + b"b.")


def test_flags_of_a_data_type_are_not_believed(tmp_path):
    """Flags that say `plain bytes` of objects would turn bytes of the file into pointers."""
    objects = OBJECTS + b"(I3\nS'|'\nNNNI8\nI1\nI0\ntb"
    state = b"(I1\n(I1\nt" + objects + b"I00\nS'AAAAAAAA'\nt"
    assert "something else than a list" in refusal(tmp_path, START + state + b"b.")


def test_a_data_type_with_fields_in_its_state_is_refused(tmp_path):
    fields = b"cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR(I3\nS'<'\nN(S'a'\nt(dI8\nI1\nI0\ntb."
    assert "fields or a shape of its own" in refusal(tmp_path, fields)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"Pid\n.", "uses PERSID"),
        (b"S'id'\nQ.", "uses BINPERSID"),
        (b"\x80\x02\x82\x01.", "uses EXT1"),
        (b"\x80\x02\x83\x01\x00.", "uses EXT2"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "uses EXT4"),
        (b"(S'ls'\nios\nsystem\n.", "uses INST"),
        (b"(cbuiltins\nint\no.", "uses OBJ"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "uses NEWOBJ"),
        (b"\x80\x04cnumpy\nndarray\n)}\x92.", "uses NEWOBJ_EX"),
        (b"\x80\x05\x97.", "uses NEXT_BUFFER"),
        (b"\x80\x05C\x01a\x98.", "uses READONLY_BUFFER"),
        (b"(dS'a'\nb.", "sets the state of a dict"),
        (b"cbuiltins\nint\n}b.", "sets the state of a _Name"),
        (b"S'x'\n)R.", "calls a value"),
        (b"S'x'\nI1\na.", "appends to a str"),
        (b"cnumpy\nndarray\nI1\nI2\ns.", "sets items of a _Name"),
        (b"S'x'\n(I1\n\x90.", "adds members to a str"),
        (b"(cbuiltins\nint\nl.", "leaves builtins.int unfinished"),
        (START + b".", "leaves an array unfinished"),
        (b"(I1\nI2\n.", "values left over"),
        (b"I1\n(0.", "takes what it has not put down"),
        (b"(ld(ls.", "truncated, damaged or not a pickle"),
        (b"}]I1\ns.", "uses a list of containers as a key"),
        (b"}(]tI1\ns.", "uses a tuple of containers as a key"),
        (b"g5\n.", "truncated, damaged or not a pickle"),
        (b"", "truncated, damaged or not a pickle"),
        (b"{}", "truncated, damaged or not a pickle"),
        (b"not a pickle at all", "truncated, damaged or not a pickle"),
        (b'{"a": 1}', "truncated, damaged or not a pickle"),
    ],
)
def test_instructions_that_data_never_need_are_refused(tmp_path, raw, reason):
    assert reason in refusal(tmp_path, raw)


def test_a_list_that_contains_itself_is_refused(tmp_path):
    looped: list = []
    looped.append([looped])
    assert "contains itself" in refusal(tmp_path, pickle.dumps(looped))


def test_a_deep_nest_is_refused_and_as_a_key_does_not_crash(tmp_path):
    nest = b"\x80\x02" + b"]" + b"]" * 5_000 + b"a" * 5_000 + b"."
    assert "nested more than" in refusal(tmp_path, nest)
    key = b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"I1\ns."
    assert "as a key" in refusal(tmp_path, key)


def test_bombs_are_refused_before_they_take_memory(tmp_path):
    laughs: list = [1]
    for _ in range(12):
        laughs = [laughs] * 10
    assert "unfolds to" in refusal(tmp_path, pickle.dumps(laughs))
    long_memo = b"\x80\x02I1\nr" + struct.pack("<I", 0xFFFFFFF0) + b"."
    assert load_restricted_pickle(written(tmp_path, long_memo)) == 1
    for opcode in (b"\x8e", b"\x96"):  # bytes and bytearray of a stated length
        huge = b"\x80\x05" + opcode + struct.pack("<Q", 1 << 60) + b"abc."
        assert "truncated" in refusal(tmp_path, huge)


def test_every_cut_of_a_file_is_refused(tmp_path):
    raw = pickle.dumps(VALUES["plain"], protocol=4)
    for length in range(len(raw)):
        refusal(tmp_path, raw[:length])


def test_no_flipped_byte_raises_anything_but_a_refusal(tmp_path):
    raw = pickle.dumps({"a": VALUES["rows"], "b": VALUES["text"], "c": VALUES["plain"]}, protocol=4)
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(raw)
        for position in random.integers(len(raw), size=3):
            damaged[position] = random.integers(256)
        with contextlib.suppress(InputError):
            load_restricted_pickle(written(tmp_path, bytes(damaged)))


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path):
    file = written(tmp_path, pickle.dumps(list(range(100))))
    with pytest.raises(InputError, match="of more than 50 is not opened"):
        load_restricted_pickle(file, size_limit_bytes=50)
    with pytest.raises(InputError, match="is not a file"):
        load_restricted_pickle(tmp_path)


def test_the_real_scenes_are_read_as_a_plain_unpickler_reads_them(scenarionet_folder):
    file = scenarionet_folder / "sd_nuscenes_v1.0-mini_scene-0757.pkl"
    loaded = load_restricted_pickle(file)
    with file.open("rb") as stream:
        trusted = pickle.load(stream)  # known data, to compare with

    def compare(first: object, second: object) -> None:
        if isinstance(first, dict):
            assert isinstance(second, dict)
            assert first.keys() == second.keys()
            for key in first:
                compare(first[key], second[key])
        else:
            np.testing.assert_array_equal(first, second)

    compare(trusted, loaded)
