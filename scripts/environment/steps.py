"""The set-up's steps in their order: environment, torch, packages, self-check, stamp."""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from environment.machine import Machine, SetUpError, ThisMachine, gpu_is_visible
from environment.pip_settings import PipSettings, read_pip_settings
from environment.requirements import (
    Requirements,
    constraints,
    constraints_file,
    extras_for,
    known_extras,
    parse_extras,
    pinned,
    requirements,
)
from environment.stamp import STAMP_NAME, Stamp, read_stamp, wished, write_stamp
from environment.torch_source import (
    TorchRange,
    TorchSource,
    choose_torch,
    reusable_torch,
    torch_range,
)

OLDEST = (3, 11)  # as in set_up.py, which must not import this
TOO_NEW = (3, 14)
ROOT = Path(__file__).resolve().parents[2]
LOG_NAME = "set_up.log"
CONSTRAINTS_NAME = "set_up_constraints.txt"


@dataclass(frozen=True)
class Wish:
    """What the caller asks for.

    Attributes:
        root: The project's folder.
        environment: Folder of the virtual environment.
        extras: Extras to install.
        interpreter: Python that a new environment is made with.
        use_uv: Whether uv may be used where it is there.
    """

    root: Path
    environment: Path
    extras: frozenset[str]
    interpreter: str
    use_uv: bool = True

    @property
    def pyproject(self) -> str:
        """The text of the project's `pyproject.toml`."""
        return (self.root / "pyproject.toml").read_text(encoding="utf-8")

    @property
    def torch(self) -> TorchRange:
        """The versions of torch the project accepts."""
        return torch_range(self.pyproject)

    def uv(self, machine: Machine) -> str | None:
        """Where uv is, if it is there and may be used."""
        return machine.which("uv") if self.use_uv else None

    @property
    def python(self) -> str:
        """The environment's own interpreter."""
        folder = "Scripts" if os.name == "nt" else "bin"
        return str(self.environment / folder / "python")


def parse_options(argv: Sequence[str] | None, machine: Machine, root: Path) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="set_up.py",
        description="Make the project's Python environment and check it. A second call is quick.",
    )
    parser.add_argument("--extras", default="cpu,offline", help="extras to install, with commas")
    parser.add_argument(
        "--environment",
        type=Path,
        default=Path(machine.environ.get("VIRTUAL_ENV") or root / ".venv"),
        help="folder of the virtual environment (default: the active one, else .venv)",
    )
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter that a new environment is made with"
    )
    parser.add_argument("--no-uv", action="store_true", help="use pip even where uv is there")
    parser.add_argument("--force", action="store_true", help="install and check again")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the set-up and return the exit status: 1 when it cannot go on."""
    machine = ThisMachine()
    options = parse_options(argv, machine, ROOT)
    try:
        pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        wish = Wish(
            ROOT,
            options.environment.absolute(),
            parse_extras(options.extras, pyproject),
            options.python,
            use_uv=not options.no_uv,
        )
        return set_up(wish, machine, force=options.force)
    except SetUpError as error:
        sys.stderr.write(f"set-up: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("set-up: interrupted; call again to go on.\n")
        return 130


def set_up(wish: Wish, machine: Machine, *, force: bool = False) -> int:
    """Make the environment as wished, unless its stamp says that it is already so."""
    stamp = read_stamp(wish.environment)
    if stamp and not force and machine.exists(wish.python) and stamp.covers(_stamp_of(wish)):
        return 0
    if stamp and stamp.root != str(wish.root) and wish.environment == wish.root / ".venv":
        _say("the project was moved; its environment is made anew.")
        shutil.rmtree(wish.environment)
    elif stamp:
        wish = replace(wish, extras=wish.extras | known_extras(stamp.extras, wish.pyproject))
        (wish.environment / STAMP_NAME).unlink()
    gpu = gpu_is_visible(machine)
    source = make_environment(wish, machine, gpu=gpu)
    settings = read_pip_settings(machine, wish.python)
    if source is None:
        source = choose_torch(
            machine, wish.python, wish.torch, gpu=gpu, certificates=settings.certificates
        )
    _say(source.says)
    install(wish, machine, source, settings)
    status = self_check(wish, machine, gpu=gpu)
    if status == 0:
        write_stamp(wish.environment, _stamp_of(wish))
    return status


def make_environment(wish: Wish, machine: Machine, *, gpu: bool) -> TorchSource | None:
    """Make the virtual environment where none is, and return the torch it can already import.

    Raises:
        SetUpError: If it is broken, of an unsupported Python, or cannot be made.
    """
    if machine.exists(str(wish.environment / "pyvenv.cfg")):
        python_version(machine, wish.python)
        return reusable_torch(machine, wish.python, wish.torch, gpu=gpu)
    python_version(machine, wish.interpreter)
    source = reusable_torch(machine, wish.interpreter, wish.torch, gpu=gpu)
    _say(f"making {wish.environment} with {wish.interpreter}.")
    _create_environment(wish, machine, inherit=source is not None)
    if source and not reusable_torch(machine, wish.python, wish.torch, gpu=gpu):
        # The interpreter is in a virtual environment of its own, which another cannot look into.
        shutil.rmtree(wish.environment, ignore_errors=True)
        _create_environment(wish, machine, inherit=False)
        return None
    return source


def _create_environment(wish: Wish, machine: Machine, *, inherit: bool) -> None:
    inherits = ["--system-site-packages"] if inherit else []
    if machine.run([wish.interpreter, "-c", "import ensurepip, venv"]).status == 0:
        command = [wish.interpreter, "-m", "venv", *inherits, str(wish.environment)]
    elif uv := wish.uv(machine):
        command = [uv, "venv", "--seed", "--python", wish.interpreter, *inherits]
        command.append(str(wish.environment))
    else:
        raise SetUpError(
            f"{wish.interpreter} cannot make virtual environments (its ensurepip is missing): "
            "install the package python3-venv, or uv, or choose another interpreter with --python."
        )
    if machine.run(command).status != 0:
        raise SetUpError(f"this failed: {' '.join(command)}")


def python_version(machine: Machine, python: str) -> tuple[int, int]:
    """Major and minor version of an interpreter.

    Raises:
        SetUpError: If it does not run, or the project does not support it.
    """
    answer = machine.run([python, "-c", "import sys; print(*sys.version_info[:2])"])
    words = answer.text.split()
    if answer.status != 0 or len(words) != 2:
        raise SetUpError(f"{python} does not run; delete its environment and call again.")
    version = (int(words[0]), int(words[1]))
    if not OLDEST <= version < TOO_NEW:
        raise SetUpError(
            f"{python} is Python {version[0]}.{version[1]}, the project needs 3.11, 3.12 or 3.13; "
            "name another with --python."
        )
    return version


def install(wish: Wish, machine: Machine, source: TorchSource, settings: PipSettings) -> None:
    """Install the project and its extras, with uv where it is there and pip else.

    Raises:
        SetUpError: If pip fails.
    """
    tested = constraints(wish.root, python_version(machine, wish.python), source)
    path = wish.environment / CONSTRAINTS_NAME
    path.write_text(tested, encoding="utf-8")
    (wish.environment / LOG_NAME).unlink(missing_ok=True)
    extras = extras_for(wish.extras, gpu=source.gpu)
    needed = requirements(extras, wish.pyproject, gpu=source.gpu)
    needed = replace(needed, alone=pinned(needed.alone, tested))
    pip = [wish.python, "-m", "pip", "install"]
    # uv does not see the packages of the base interpreter, and would install torch once more.
    if (uv := wish.uv(machine)) and not _inherits(wish.environment):
        uv_pip = [uv, "pip", "install", "--python", wish.python, *settings.uv_arguments()]
        environ = settings.uv_environment(machine.environ)
        if _run_installer(wish, machine, uv_pip, needed, source, environ):
            return
        _say("uv could not install the packages; trying pip.")
    if not _run_installer(wish, machine, pip, needed, source, pip_environment(machine.environ)):
        log = wish.environment / LOG_NAME
        raise SetUpError(
            f"the packages could not be installed: {_reason(log)} The whole output is in {log}."
        )


def pip_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for pip, without what would carry the installation elsewhere.

    Containers with a torch of their own set PIP_CONSTRAINT, whose versions contradict the tested
    ones; PIP_USER would install beside the virtual environment.
    """
    kept = {name: value for name, value in environ.items() if name != "PIP_CONSTRAINT"}
    return kept | {"PIP_USER": "0"}


def _run_installer(
    wish: Wish,
    machine: Machine,
    installer: Sequence[str],
    needed: Requirements,
    source: TorchSource,
    environ: Mapping[str, str],
) -> bool:
    """Whether the installer could install everything."""
    log = wish.environment / LOG_NAME
    common = [*installer, "--constraint", str(wish.environment / CONSTRAINTS_NAME)]
    if source.extra_index:
        common += ["--extra-index-url", source.extra_index]
    _say(f"installing {' '.join(needed.complete)}; this takes a minute or more.")
    if machine.work([*common, *needed.complete], environ, log) != 0:
        return False
    if not needed.alone:
        return True
    return machine.work([*common, "--no-deps", *needed.alone], environ, log) == 0


def self_check(wish: Wish, machine: Machine, *, gpu: bool) -> int:
    """Show what the environment holds; 1 if something is off."""
    script = str(Path(__file__).with_name("self_check.py"))
    command = [wish.python, script, "--extras", ",".join(extras_for(wish.extras, gpu=gpu))]
    return machine.show([*command, *(["--gpu"] if gpu else [])])


def _reason(log: Path) -> str:
    """The installer's own complaint, from its log."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    complaints = [line for line in lines if line.lower().startswith(("error", "  \u00d7"))]
    return (complaints or [line for line in lines if line.strip()] or ["no output."])[-1].strip()


def _stamp_of(wish: Wish) -> Stamp:
    version = _version_in(wish.environment / "pyvenv.cfg")
    return wished(wish.root, wish.environment, constraints_file(wish.root, version), wish.extras)


def _inherits(environment: Path) -> bool:
    """Whether an environment sees the packages of the interpreter it was made with."""
    settings = environment / "pyvenv.cfg"
    text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    return "include-system-site-packages = true" in text


def _version_in(settings: Path) -> tuple[int, int]:
    """Version of an environment by its settings file: starting its Python would take longer."""
    text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    match = re.search(r"^version(?:_info)? *= *(\d+)\.(\d+)", text, re.MULTILINE)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _say(line: str) -> None:
    sys.stderr.write(f"set-up: {line}\n")
