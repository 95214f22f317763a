"""Make the project's Python environment; every make target calls this first.

    python3 scripts/set_up.py --extras dev,cpu,offline,llm

It makes `.venv` (or uses the active virtual environment), reuses a torch that is there, else
installs the CUDA or the CPU build by what the machine has, installs the project with the extras
asked for, checks the result and remembers it: the next call with the same wish ends at once.

This file is only the door. It is written for any Python 3, old ones too, so that one which is too
old can say so, or hand over to a newer one, instead of failing on a newer language's syntax.
"""

import os
import shutil
import subprocess
import sys

OLDEST = (3, 11)  # pyproject.toml says the same, and a test compares the two
TOO_NEW = (3, 14)
NAMES = ("python3.12", "python3.11", "python3.13")


def fits(version):
    """Whether a Python version is one the project supports."""
    return OLDEST <= tuple(version[:2]) < TOO_NEW


def version_of(program):
    """The version of a Python program, or None where it does not run (a shim without target)."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [program, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
        return tuple(int(part) for part in answer.stdout.decode().strip().split("."))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def other_interpreter(which=shutil.which, version=version_of):
    """A supported Python on PATH, or None."""
    for name in NAMES:
        program = which(name)
        if program and fits(version(program) or (0, 0)):
            return program
    return None


def main(argv):
    """Run the set-up with a supported Python and return its exit status."""
    here = os.path.dirname(os.path.abspath(__file__))
    if not fits(sys.version_info):
        found = "{}.{}".format(*sys.version_info[:2])
        program = other_interpreter()
        if program is None:
            sys.stderr.write(
                "set-up: this is Python {}, the project needs 3.11, 3.12 or 3.13 and none is on "
                "PATH; install one and call again.\n".format(found)
            )
            return 2
        sys.stderr.write("set-up: this is Python {}, going on with {}.\n".format(found, program))
        return subprocess.call([program, os.path.join(here, "set_up.py")] + argv)
    if here not in sys.path:
        sys.path.insert(0, here)
    from environment.steps import main as run

    return run(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
