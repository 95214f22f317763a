"""The world as the set-up sees it: programs, files and one question to the network.

Everything the set-up decides, it decides from answers of a `Machine`; tests give it another one.
"""

import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

SECONDS_BETWEEN_LINES = 5.0
_TELLING = re.compile(
    r"^\s*(Collecting|Downloading|Processing|Building|Installing|Resolved|Prepared|Installed)\b"
)


class SetUpError(Exception):
    """The set-up cannot go on; the message is one sentence for the person at the terminal."""


@dataclass(frozen=True)
class Answer:
    """What a program answered: its exit status and its standard output."""

    status: int
    text: str


class Machine(ABC):
    """The questions the set-up asks.

    Laws: `run` and `answers` never raise: a program that is not there answers status 127, a host
    that is not there answers False.
    """

    platform: str
    environ: Mapping[str, str]

    @abstractmethod
    def run(self, command: Sequence[str]) -> Answer:
        """Run a short program and return what it answered."""

    @abstractmethod
    def work(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
        """Run a long program, show now and then how far it is, keep its output in `log`."""

    @abstractmethod
    def show(self, command: Sequence[str]) -> int:
        """Run a program whose output the person sees, and return its exit status."""

    @abstractmethod
    def which(self, name: str) -> str | None:
        """Where a program lies, or None."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""

    @abstractmethod
    def answers(self, url: str, seconds: float, certificates: str | None) -> bool:
        """Whether a web address answers within so many seconds."""


@final
class ThisMachine(Machine):
    """The machine the set-up runs on."""

    def __init__(self) -> None:
        self.platform = sys.platform
        self.environ = dict(os.environ)

    def run(self, command: Sequence[str]) -> Answer:
        """Run a short program; standard error is left out, no input is given."""
        try:
            done = subprocess.run(
                list(command),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
                timeout=300,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return Answer(127, "")
        return Answer(done.returncode, done.stdout)

    def work(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
        """Run a long program; one of its telling lines is shown every few seconds."""
        started = shown = time.monotonic()
        try:
            process = subprocess.Popen(
                list(command),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
                env=dict(environ),
            )
        except OSError as error:
            raise SetUpError(f"{command[0]} does not start: {error.strerror}.") from error
        with log.open("a", encoding="utf-8") as kept, process:
            kept.write(f"$ {' '.join(command)}\n")
            for line in process.stdout or ():
                kept.write(line)
                now = time.monotonic()
                if _TELLING.match(line) and now - shown > SECONDS_BETWEEN_LINES:
                    shown = now
                    sys.stderr.write(f"  {now - started:4.0f} s  {line.strip()[:90]}\n")
        return process.returncode

    def show(self, command: Sequence[str]) -> int:
        """Run a program with this process's own output."""
        return subprocess.run(list(command), check=False).returncode

    def which(self, name: str) -> str | None:
        """Where a program lies on PATH, or None."""
        return shutil.which(name)

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return Path(path).exists()

    def answers(self, url: str, seconds: float, certificates: str | None) -> bool:
        """Whether a web address answers; looking its name up counts towards the time."""
        found: list[bool] = []

        def ask() -> None:
            request = urllib.request.Request(url, method="HEAD")
            try:
                context = ssl.create_default_context(cafile=certificates)
                with urllib.request.urlopen(request, timeout=seconds, context=context) as reply:
                    found.append(reply.status < 400)
            except (OSError, ValueError):  # URLError and SSLError are OSErrors
                found.append(False)

        thread = threading.Thread(target=ask, daemon=True)  # a look-up has no time limit of its own
        thread.start()
        thread.join(seconds)
        return bool(found and found[0])


def gpu_is_visible(machine: Machine) -> bool:
    """Whether an NVIDIA driver with a GPU is there (also inside WSL)."""
    if machine.exists("/proc/driver/nvidia/version"):
        return True
    for program in (machine.which("nvidia-smi"), "/usr/lib/wsl/lib/nvidia-smi"):
        if program and machine.exists(program):
            answer = machine.run([program, "-L"])
            if answer.status == 0 and "GPU" in answer.text:
                return True
    return False
