"""The door of every console script: cheap to open, and every mistake is one sentence."""

import argparse
from pathlib import Path

import pytest

from data_prep.errors import InputError
from data_prep.front_door import Command, add_output_options, run_door

CALLS: list[dict[str, object]] = []


def work(**options: object) -> int | None:
    """A command that remembers its options and can be told how to end."""
    CALLS.append(options)
    end = options.get("end")
    if end == "bad input":
        raise InputError("reviews.json, line 3: no rating; correct it.")
    if end == "interrupt":
        raise KeyboardInterrupt
    if end == "bug":
        raise ZeroDivisionError
    return 7 if end == "seven" else None


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--end", default="well")
    parser.add_argument("--count", type=int, default=1)
    add_output_options(parser, "the table")


COMMANDS = [
    Command("make", "make a table", f"{__name__}:work", _options, description="Make it.\n\n  make"),
    Command("pass", "hand over", f"{__name__}:work", passthrough=True),
    Command("broken", "cannot be loaded", "no_such_module:work"),
]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setattr("data_prep.front_door._load", _load)


def _load(target: str) -> object:
    return {f"{__name__}:work": work}[target]


def _run(*arguments: str) -> int:
    return run_door("tool", "A tool.", COMMANDS, arguments)


def _exit(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as left:
        _run(*arguments)
    return left.value.code


def test_options_arrive_as_keyword_arguments() -> None:
    assert _run("make", "--out", "here", "--count", "3") == 0
    (options,) = CALLS
    assert options == {"end": "well", "count": 3, "out": Path("here"), "overwrite": False}


def test_a_command_may_return_its_own_status() -> None:
    assert _run("make", "--out", "x", "--end", "seven") == 7


def test_a_passthrough_command_gets_the_rest_as_it_is() -> None:
    assert _run("pass", "--trainer.max_steps", "3", "--help") == 0
    assert CALLS == [{"arguments": ["--trainer.max_steps", "3", "--help"]}]


def test_bad_input_is_one_sentence_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("make", "--out", "x", "--end", "bad input") == 2
    assert capsys.readouterr().err == "tool: reviews.json, line 3: no rating; correct it.\n"


def test_an_interruption_is_one_sentence_and_status_130(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run("make", "--out", "x", "--end", "interrupt") == 130
    assert capsys.readouterr().err == "tool: interrupted; nothing half-written was kept.\n"


def test_a_bug_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError):
        _run("make", "--out", "x", "--end", "bug")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["make", "--out", "x", "--coutn", "3"], "--coutn 3 (did you mean --count?)"),
        (["make", "--out", "x", "--ov"], "unrecognized arguments: --ov"),  # no abbreviations
        (["make"], "the following arguments are required: --out"),
        (["make", "--out", "x", "--count", "many"], "argument --count: invalid int value: 'many'"),
        (["mkae"], "invalid choice: 'mkae'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_a_wrong_option_is_status_2_and_runs_nothing(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert _exit(*arguments) == 2
    sentence = capsys.readouterr().err
    assert said in sentence
    assert sentence.startswith("tool")
    assert sentence.endswith("--help.\n")
    assert sentence.count("\n") == 1
    assert not CALLS


def test_help_lists_every_command_and_keeps_line_breaks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _exit("--help") == 0
    text = capsys.readouterr().out
    assert all(f"{command.name} " in text and command.summary in text for command in COMMANDS)
    assert _exit("make", "--help") == 0
    text = capsys.readouterr().out
    assert "Make it.\n\n  make" in text
    assert "folder to write the table to" in text


def test_version_names_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit("--version") == 0
    assert capsys.readouterr().out.startswith("tool ")
