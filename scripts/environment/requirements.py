"""What to install: the project with its extras, under the tested versions, without CUDA on a CPU.

xgrammar asks for triton on Linux, a GPU compiler of 1 GB that it never imports on a CPU. Where no
GPU is, it is therefore installed without its requirements, which the extra lists beside it.
"""

import re
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from environment.machine import SetUpError
from environment.torch_source import TorchSource

GPU_COMPILER_USERS = frozenset({"xgrammar"})
FOLLOW_TORCH = frozenset({"torch", "triton"})  # whose version the choice of torch decides


@dataclass(frozen=True)
class Requirements:
    """Arguments for the installer.

    Attributes:
        complete: Installed together with what they require.
        alone: Installed afterwards, without what they require.
    """

    complete: tuple[str, ...]
    alone: tuple[str, ...]


def known_extras(names: Collection[str], pyproject: str) -> frozenset[str]:
    """Those of the names that are extras of the project."""
    return frozenset(names) & set(tomllib.loads(pyproject)["project"]["optional-dependencies"])


def parse_extras(text: str, pyproject: str) -> frozenset[str]:
    """The extras of a comma-separated list.

    Raises:
        SetUpError: If the project has no such extra.
    """
    known = tomllib.loads(pyproject)["project"]["optional-dependencies"]
    extras = frozenset(word.strip() for word in text.split(",") if word.strip())
    unknown = sorted(extras - set(known))
    if unknown:
        raise SetUpError(
            f"there is no extra {', '.join(unknown)}; choose among {', '.join(sorted(known))}."
        )
    return extras


def extras_for(extras: Collection[str], *, gpu: bool) -> frozenset[str]:
    """The extras with the faiss that fits the machine: one of `cpu` and `gpu`, never both."""
    chosen = set(extras)
    if chosen & {"cpu", "gpu"}:
        chosen -= {"cpu", "gpu"}
        chosen.add("gpu" if gpu else "cpu")
    return frozenset(chosen)


def requirements(extras: Collection[str], pyproject: str, *, gpu: bool) -> Requirements:
    """What to hand to the installer, run in the project's folder."""
    listed = tomllib.loads(pyproject)["project"]["optional-dependencies"]
    whole, loose, alone = [], [], []
    for extra in sorted(extras):
        if gpu or not any(_name(line) in GPU_COMPILER_USERS for line in listed[extra]):
            whole.append(extra)
            continue
        for line in listed[extra]:
            (alone if _name(line) in GPU_COMPILER_USERS else loose).append(line)
    project = f".[{','.join(whole)}]" if whole else "."
    return Requirements(("-e", project, *loose), tuple(alone))


def constraints(root: Path, version: tuple[int, int], source: TorchSource) -> str:
    """Text of the constraints: the tested versions, with torch as it was chosen.

    Python 3.13 has no tested set of its own and takes that of 3.12.
    """
    path = constraints_file(root, version)
    lines = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#") and _name(line) not in FOLLOW_TORCH
    ]
    return "\n".join([*lines, *([source.pin] if source.pin else [])]) + "\n"


def constraints_file(root: Path, version: tuple[int, int]) -> Path:
    """The file of tested versions for a Python version."""
    return root / f"constraints-{'3.11' if version == (3, 11) else '3.12'}.txt"


def pinned(lines: Sequence[str], tested: str) -> tuple[str, ...]:
    """Requirements with the tested version where there is one."""
    versions = {_name(line): line for line in tested.splitlines() if line}
    return tuple(versions.get(_name(line), line) for line in lines)


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""
