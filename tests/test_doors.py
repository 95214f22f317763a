"""Every door opens quickly and says mistakes in one sentence; every documented command is real."""

import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_prep import front_door
from data_prep.errors import InputError
from data_prep.front_door import Command

PROJECT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
PROGRAMS = {
    name: target.partition(".")[0] for name, target in PYPROJECT["project"]["scripts"].items()
}
HEAVY = {
    "torch",
    "lightning",
    "polars",
    "transformers",
    "sentence_transformers",
    "sklearn",
    "faiss",
}
README = PROJECT / "README.md"
DOCUMENTS = [README, *sorted((PROJECT / "docs").glob("*.md"))]

OPEN_DOOR = """
import importlib, json, sys
program, package = sys.argv[1:3]
sys.argv = [program, *sys.argv[3:]]
door = importlib.import_module(f"{package}.__main__")
try:
    status = door.main()
except SystemExit as left:
    status = left.code
sys.stdout.flush()
sys.stderr.write("\\n" + json.dumps([status, sorted(sys.modules)]))
"""


@dataclass(frozen=True)
class Opened:
    """What a door did: exit status, what it wrote, and which heavy packages it imported."""

    status: int
    out: str
    err: str
    heavy: set[str]


def _open(program: str, *arguments: str) -> Opened:
    command = [sys.executable, "-c", OPEN_DOOR, program, PROGRAMS[program], *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=120
    )
    err, _, last = done.stderr.rpartition("\n")
    status, modules = json.loads(last)
    return Opened(status or 0, done.stdout, err, HEAVY & set(modules))


def _commands(program: str) -> tuple[Command, ...]:
    return importlib.import_module(f"{PROGRAMS[program]}.__main__").COMMANDS


EVERY_COMMAND = [
    pytest.param(program, command, id=f"{program}-{command.name}")
    for program in PROGRAMS
    for command in _commands(program)
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_lists_its_commands(program: str) -> None:
    opened = _open(program, "--help")
    assert (opened.status, opened.err, opened.heavy) == (0, "", set())
    for command in _commands(program):
        assert command.name in opened.out
        assert command.summary.split()[0] in opened.out


@pytest.mark.parametrize(("program", "command"), EVERY_COMMAND)
def test_every_command_explains_itself_without_heavy_imports(
    program: str, command: Command
) -> None:
    opened = _open(program, command.name, "--help")
    assert (opened.status, opened.err, opened.heavy) == (0, "", set())
    assert len(opened.out.splitlines()) > 5


@pytest.mark.parametrize(("program", "command"), EVERY_COMMAND)
def test_an_unknown_option_is_one_sentence(program: str, command: Command) -> None:
    opened = _open(program, command.name, "--no-such-option", "1")
    assert opened.status == 2
    assert "Traceback" not in opened.err
    assert opened.out == ""
    assert opened.err.strip().count("\n") == 0
    assert not opened.heavy


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_unknown_command_names_those_there_are(program: str) -> None:
    opened = _open(program, "no-such-command")
    assert opened.status == 2
    assert not opened.heavy
    assert opened.err.strip().count("\n") == 0
    assert all(command.name in opened.err for command in _commands(program))


@pytest.mark.parametrize(("program", "command"), EVERY_COMMAND)
def test_every_command_does_something_that_exists(program: str, command: Command) -> None:
    module, _, function = command.run.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_every_console_script_is_declared_and_installed() -> None:
    assert set(PROGRAMS) == {"data-prep", "personalize", "recsys", "driving"}
    for program in PROGRAMS:
        assert (Path(sys.executable).parent / program).exists()


def test_every_promised_extra_is_there() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert set(extras) == {
        "cpu", "gpu", "offline", "serve", "qdrant", "llm", "commonroad", "traffic", "nuplan",
        "distributed", "dev", "transport",
    }  # fmt: skip
    # The two wheels overwrite each other, so neither may come with anything else.
    for extra, lines in {**extras, "core": PYPROJECT["project"]["dependencies"]}.items():
        kinds = [line for line in lines if line.startswith("faiss")]
        assert len(kinds) == (extra in ("cpu", "gpu"))


def test_imports_point_down() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )
    assert done.returncode == 0, done.stdout


def _command_lines(text: str) -> list[list[str]]:
    """The words of every command line of ours in the code blocks of a Markdown text."""
    found = []
    for block in re.findall(r"^```(?:bash|sh|shell|console|text)?\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            stripped = re.sub(r"^\s*(?:\$ )?(?:\.venv/bin/)?", "", line)
            if stripped.split(" ")[0] in (*PROGRAMS, "make"):
                found.append(shlex.split(stripped, comments=True))
    return found


def _problem(words: list[str]) -> str | None:
    """What is wrong with a documented command line, or None."""
    program, *arguments = words
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.M)
        wrong = [word for word in arguments if "=" not in word and word not in targets]
        return f"make has no target {wrong}" if wrong else None
    commands = {command.name: command for command in _commands(program)}
    if not arguments or arguments == ["--help"]:
        return None
    if arguments[0] in commands and commands[arguments[0]].passthrough:
        check = _serve_problem if arguments[0] == "serve" else _fit_problem
        return check(commands[arguments[0]], arguments[1:])
    try:
        front_door._parser(program, "", list(commands.values())).parse_args(arguments)
    except SystemExit as left:
        return "its options are wrong" if left.code else None
    return None


def _fit_problem(command: Command, arguments: list[str]) -> str | None:
    """What is wrong with a LightningCLI command line; its artifacts need not be there."""
    from personalize.experiment_front import ExperimentDoor, check_configuration, split_arguments

    module = importlib.import_module(command.run.partition(":")[0])
    checked = ExperimentDoor(program=command.name, help="", sections=module.SECTIONS)
    try:
        check_configuration(split_arguments([*arguments, "--print_config"]), checked)
    except InputError as error:
        return str(error)
    return None


def _serve_problem(command: Command, arguments: list[str]) -> str | None:
    """What is wrong with the configuration of a server; what it names need not be there."""
    module = importlib.import_module(command.run.partition(":")[0])
    try:
        module.read_configuration(arguments)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_documented_command_exists(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not document.exists():
        pytest.skip("not written yet")
    for words in _command_lines(document.read_text(encoding="utf-8")):
        problem = _problem(words)
        assert problem is None, f"{shlex.join(words)}: {problem}; {capsys.readouterr().err}"


def test_a_wrong_documented_command_would_be_noticed() -> None:
    text = (
        "```bash\n$ recsys no-such --x 1\nmake nothing\n.venv/bin/data-prep \\\n  nope\n"
        "recsys --help\nmake demo REVIEWS=x  # comment\nls\n```\nrecsys outside\n"
    )
    lines = _command_lines(text)
    assert [line[0] for line in lines] == ["recsys", "make", "data-prep", "recsys", "make"]
    assert [_problem(line) is None for line in lines] == [False, False, False, True, True]
    assert "cannot be read" in str(_problem(["recsys", "fit", "--config", "configs/none.yaml"]))
    assert "data.tabels" in str(_problem(["recsys", "fit", "--data.tabels", "x"]))
    config = ["--config", "configs/recsys/sasrec.yaml"]
    assert _problem(["recsys", "fit", *config, "--data.tables", "any/folder"]) is None
    assert "--colour" in str(_problem(["personalize", "serve", "--colour", "red"]))
    assert _problem(["personalize", "serve", "--port", "8080"]) is None
