"""The C library keeps freed memory where it can be asked to."""

import ctypes
import sys

import pytest

from driving.freed_memory import keep_freed_memory


def test_glibc_agrees():
    if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        pytest.skip("this C library is not glibc")
    assert sys.platform == "linux"
    assert keep_freed_memory()


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch):
    class Other:
        """A library without mallopt."""

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Other())
    assert not keep_freed_memory()
