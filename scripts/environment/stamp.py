"""The memory of a set-up that went well, so that the next call has nothing to do."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

STAMP_NAME = "set_up.json"
_LAYOUT = "1"  # raised when the set-up itself must run again everywhere


@dataclass(frozen=True)
class Stamp:
    """What was installed, from what.

    Attributes:
        fingerprint: Hash of the project's requirements, the constraints and the interpreter.
        root: Project folder; an environment that was moved no longer works.
        extras: Extras that are installed.
    """

    fingerprint: str
    root: str
    extras: tuple[str, ...]

    def covers(self, other: "Stamp") -> bool:
        """Whether an environment in this state is good enough for another wish."""
        same = self.fingerprint == other.fingerprint and self.root == other.root
        return same and set(other.extras) <= set(self.extras)


def wished(root: Path, environment: Path, constraints: Path, extras: Collection[str]) -> Stamp:
    """The stamp that a set-up with these wishes would leave."""
    digest = hashlib.sha256(_LAYOUT.encode())
    for path in (root / "pyproject.toml", constraints, environment / "pyvenv.cfg"):
        digest.update(path.read_bytes() if path.is_file() else b"none")
        digest.update(b"\0")
    # A GPU that appears (or goes) later makes another set-up necessary.
    digest.update(str(Path("/proc/driver/nvidia/version").exists()).encode())
    return Stamp(digest.hexdigest(), str(root), _named(extras))


def read_stamp(environment: Path) -> Stamp | None:
    """The stamp of an environment, or None where there is none that can be read."""
    try:
        raw = json.loads((environment / STAMP_NAME).read_text(encoding="utf-8"))
        return Stamp(raw["fingerprint"], raw["root"], tuple(raw["extras"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_stamp(environment: Path, stamp: Stamp) -> None:
    """Keep the stamp in the environment: deleting the one deletes the other."""
    text = json.dumps(asdict(stamp), indent=1)
    (environment / STAMP_NAME).write_text(text + "\n", encoding="utf-8")


def _named(extras: Collection[str]) -> tuple[str, ...]:
    """The extras under one name for both kinds of faiss: the machine decides between them."""
    return tuple(sorted({"cpu" if extra == "gpu" else extra for extra in extras}))
