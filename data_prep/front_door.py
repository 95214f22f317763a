"""The door every console script shares: cheap parsing first, heavy imports only to run.

A command's options are declared with argparse in its package's `__main__`, which imports nothing
heavy; the function that does the work is named as `package.module:function` and imported when the
options are known to be good. So `--help` and a wrong option answer in a fraction of a second.
"""

import argparse
import difflib
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from data_prep.errors import InputError


@dataclass(frozen=True)
class Command:
    """One subcommand of a console script.

    Attributes:
        name: The word typed after the program's name.
        summary: One line for the program's `--help`.
        run: `package.module:function`; called with the options as keyword arguments.
        configure: Adds the options to the subcommand's parser.
        description: Longer text for the subcommand's own `--help`, with an example.
        passthrough: Hand the rest of the command line to `run` unparsed, as `arguments`.
    """

    name: str
    summary: str
    run: str
    configure: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    description: str = ""
    passthrough: bool = False


def add_output_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--out` and `--overwrite`, the same for every command that writes an artifact."""
    parser.add_argument("--out", type=Path, required=True, help=f"folder to write {what} to")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an artifact that is already there"
    )


def run_door(
    program: str, summary: str, commands: Sequence[Command], argv: Sequence[str] | None = None
) -> int:
    """Parse the command line, run one command and return the process's exit status.

    Returns:
        0 when the command ended well, 2 for bad input (one sentence on standard error), 130 when
        interrupted. A command may return its own status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(program, summary, commands)
    by_name = {command.name: command for command in commands}
    try:
        if arguments and arguments[0] in by_name and by_name[arguments[0]].passthrough:
            return int(_load(by_name[arguments[0]].run)(arguments=arguments[1:]) or 0)
        options = vars(parser.parse_args(arguments))
        command = by_name[options.pop("command")]
        return int(_load(command.run)(**options) or 0)
    except InputError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted; nothing half-written was kept.\n")
        return 130


class _Parser(argparse.ArgumentParser):
    """A parser that says a mistake in one sentence, with the option that was probably meant."""

    options: dict[str, argparse.Action]

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401  (argparse's own settings)
        super().__init__(**settings)
        self.options = {}  # of all subcommands; one alone does not see what it does not know

    def error(self, message: str) -> NoReturn:
        """Leave with status 2 and one sentence."""
        wrong = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        near = difflib.get_close_matches(wrong[1], self.options, n=1) if wrong else []
        hint = f" (did you mean {near[0]}?)" if near else ""
        self.exit(2, f"{self.prog}: {message}{hint}; see {self.prog} --help.\n")


def _parser(program: str, summary: str, commands: Sequence[Command]) -> _Parser:
    parser = _Parser(
        prog=program, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_VersionAction, help="print the version and leave")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in commands:
        sub = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.description or command.summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.configure(sub)
        parser.options.update(sub._option_string_actions)
    return parser


class _VersionAction(argparse.Action):
    """Print the version, read only when asked for: package metadata takes a while to find."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("personalize")
        except PackageNotFoundError:
            found = "unknown"
        sys.stdout.write(f"{parser.prog} {found}\n")
        parser.exit(0)


def _load(target: str) -> Callable[..., int | None]:
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)
