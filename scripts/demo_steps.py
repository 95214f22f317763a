"""Run the commands of a demo one after another; what a command made is kept for the next time.

Standard library only.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIDE_BY_SIDE = 2


class DemoError(Exception):
    """The demo cannot go on; the message is one sentence for the person at the terminal."""


@dataclass(frozen=True)
class Step:
    """One command of the path.

    Attributes:
        says: What it does, for a newcomer.
        words: The command line, program first.
        makes: The file or folder that is there when it is done.
        reads: Files and artifacts it depends on; when one changes, the step runs again.
        together: Name of a group; neighbours of one group run side by side, a thread each. They
            begin in their order, and none before what it reads of its group is made.
    """

    says: str
    words: tuple[str, ...]
    makes: Path
    reads: tuple[Path, ...] = ()
    together: str = ""


def fingerprint(step: Step) -> str:
    """Hash of a step's command and of what it reads; equal hashes, equal result."""
    digest = hashlib.sha256(json.dumps(step.words).encode())
    for path in step.reads:
        digest.update(f"\n{_state(path)}".encode())
    return digest.hexdigest()


def _state(path: Path) -> str:
    """An artifact by its manifest, a run folder by its step's own hash, a file by size and time."""
    for inner in (path / "manifest.json", _memory(path)):
        if inner.is_file():
            return hashlib.sha256(inner.read_bytes()).hexdigest()
    if path.is_file():
        return f"{path.stat().st_size} {path.stat().st_mtime_ns}"
    return "none"


def _memory(made: Path) -> Path:
    """Where the demo remembers what a result was made from."""
    return made.with_name(f".{made.name}.step")


def made_whole(made: Path) -> bool:
    """Whether a result is there and its step came to its end."""
    memory = _memory(made)
    return made.exists() and memory.is_file() and not memory.read_text().startswith("begun")


def run_step(step: Step, programs: Path, *, quietly: bool = False) -> bool:
    """Run one step unless its result is there; return whether it ran.

    Args:
        step: The step.
        programs: Folder of the console scripts.
        quietly: On one thread, and what it says is shown only when it is done.

    Raises:
        DemoError: If the command fails; its own message stands above.
    """
    memory = _memory(step.makes)
    found = fingerprint(step)
    if step.makes.exists() and memory.is_file() and memory.read_text() == found:
        print(f"  {step.makes} is there; it is kept.", flush=True)
        return False
    if step.makes.exists():
        if not memory.is_file():
            raise DemoError(f"{step.makes} is not of this demo; choose another --out.")
        goes_on = step.words[1] == "fit" and memory.read_text() == f"begun {found}"
        if not goes_on:  # training that was cut off goes on by itself
            shutil.rmtree(step.makes)
    step.makes.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(f"begun {found}")
    program = programs / step.words[0]
    started = time.monotonic()
    try:
        done = subprocess.run(
            [str(program), *step.words[1:]],
            check=False,
            env=os.environ | ({"OMP_NUM_THREADS": "1"} if quietly else {}),
            stdout=subprocess.PIPE if quietly else None,
            stderr=subprocess.STDOUT if quietly else None,
            text=True,
        )
    except OSError as error:
        raise DemoError(
            f"{program} does not start ({error.strerror}); run `make setup`."
        ) from error
    if quietly and (done.returncode or done.stdout):
        last = done.stdout.splitlines()[-20 if done.returncode else -1 :]
        print("\n".join([f"\n{step.says}", *last]), flush=True)
    if done.returncode:
        raise DemoError(
            f"this step failed with status {done.returncode}; its message stands above."
        )
    print(f"  {time.monotonic() - started:.1f} s", flush=True)
    memory.write_text(found)
    return True


def forget(path: Sequence[Step]) -> None:
    """Let every step of an earlier demo run again; what the demo did not make is left alone."""
    for step in path:
        if _memory(step.makes).is_file():
            _memory(step.makes).write_text("forgotten")


def run(path: Sequence[Step], programs: Path) -> None:
    """Run all steps, each shown before it begins; neighbours of one group two at a time."""
    number = 0
    for group, steps in groupby(path, key=lambda step: step.together or step.makes):
        part = list(steps)
        for step in part:
            number += 1
            print(f"\n[{number}/{len(path)}] {step.says}\n$ {shlex.join(step.words)}", flush=True)
            if not step.together:
                run_step(step, programs)
        if group in {step.together for step in part}:
            _run_side_by_side(part, programs)


def _run_side_by_side(part: Sequence[Step], programs: Path) -> None:
    """Run the steps of a group, two at a time; the first failure stops those that wait."""
    made: dict[Path, Future[bool]] = {}

    def after_its_inputs(step: Step) -> bool:
        for path in step.reads:
            if path in made:  # begun earlier, so it is made or being made: nobody waits for ever
                made[path].result()
        return run_step(step, programs, quietly=True)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for step in part:
            made[step.makes] = pool.submit(after_its_inputs, step)
        try:
            for future in made.values():
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def headline(report: Path) -> str:
    """The report's headline table as text.

    Raises:
        DemoError: If `metrics.json` is not there or holds no table.
    """
    try:
        metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
        rows = metrics["headline"]
        columns = list(rows[0])
        cells = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DemoError(f"{report}/metrics.json holds no headline table: {error!r}.") from error
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def perform(
    plan: Callable[[], Sequence[Step]], report: Path, programs: Path, *, fresh: bool
) -> int:
    """Run a whole demo, print its report's headline and return the exit status.

    Args:
        plan: Makes the steps; it may find that the demo cannot begin.
        report: The report the last step makes.
        programs: Folder of the console scripts, from the project's root.
        fresh: Begin anew.
    """
    started = time.monotonic()
    try:
        path = plan()
        if fresh:
            forget(path)
        run(path, programs if programs.is_absolute() else ROOT / programs)
        print(f"\n{headline(report)}")
    except DemoError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("demo: interrupted; call again to go on.\n")
        return 130
    print(f"\nThe report: {report / 'report.html'}")
    print(f"Everything took {time.monotonic() - started:.0f} s.")
    return 0
