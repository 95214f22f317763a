"""Progress shows how far long work is and never changes the work."""

import io
import itertools
import sys

import pytest

from data_prep import progress
from data_prep.progress import track


@pytest.fixture
def ten_seconds_an_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves on by ten seconds whenever it is read."""
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))


@pytest.mark.parametrize("terminal", [False, True])
def test_the_items_come_unchanged(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(track([3, 1, 2], "counting")) == [3, 1, 2]
    assert list(track(iter("ab"), "reading", total=2)) == ["a", "b"]
    assert list(track((), "nothing")) == []


@pytest.mark.usefixtures("ten_seconds_an_item")
def test_without_a_terminal_it_writes_a_plain_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(track(range(3), "counting", seconds_between=5)) == [0, 1, 2]
    said = capsys.readouterr()
    assert said.err.splitlines()[:2] == ["counting: 1 of 3", "counting: 2 of 3"]
    assert said.out == ""


@pytest.mark.usefixtures("ten_seconds_an_item")
def test_an_unknown_total_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    list(track(iter("ab"), "reading", seconds_between=5))
    assert capsys.readouterr().err.splitlines()[0] == "reading: 1"


def test_quick_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    list(track(range(1000), "counting", seconds_between=3600))
    assert capsys.readouterr().err == ""


def test_it_is_lazy() -> None:
    endless = track(itertools.count(), "counting", seconds_between=3600)
    assert list(itertools.islice(endless, 3)) == [0, 1, 2]
