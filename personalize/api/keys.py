"""API keys: a file of hashes, compared in constant time, each with a rate of its own."""

import hashlib
import hmac
import math
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from data_prep.errors import InputError
from personalize.api.errors import ApiError, later


class KeyEntry(BaseModel):
    """One key of the file: what it is called, its SHA-256, and what it may do.

    The hash needs no salt and no slow function: a key is 256 random bits, not a password.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    name: str = Field(min_length=1, max_length=100)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    requests_per_s: float = Field(default=50.0, gt=0)
    burst: int = Field(default=100, ge=1)
    admin: bool = False


class ApiKeys:
    """Who may ask, and how often.

    Args:
        entries: Keys; with none at all everybody may ask for everything.
        clock_s: Seconds that only grow.
    """

    def __init__(
        self, entries: list[KeyEntry], *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries = entries
        self._clock_s = clock_s
        self._buckets = {
            entry.name: _Bucket(
                float(entry.burst), entry.requests_per_s, float(entry.burst), clock_s()
            )
            for entry in entries
        }

    @classmethod
    def from_file(cls, path: Path) -> "ApiKeys":
        """The keys of a YAML file: a list of entries.

        Raises:
            InputError: If it cannot be read, is no such list, or names or hashes repeat.
        """
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
            entries = TypeAdapter(list[KeyEntry]).validate_python(raw)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise InputError(f"{path} is no list of keys: {place} {first['msg']}.") from error
        except (OSError, RecursionError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
        if not entries:
            raise InputError(f"{path} names no key; leave `keys` out to let everybody ask.")
        for field in ("name", "sha256"):
            if len({getattr(entry, field) for entry in entries}) < len(entries):
                raise InputError(f"{path} gives one {field} to two keys.")
        return cls(entries)

    @property
    def wanted(self) -> bool:
        """Whether a key has to be shown at all."""
        return bool(self._entries)

    def entry_of(self, headers: Mapping[str, str]) -> KeyEntry | None:
        """Whose key a request shows; None where no key is wanted.

        All hashes are compared, whichever fits, so the time says nothing.

        Raises:
            ApiError: If there is none or it is wrong.
        """
        if not self._entries:
            return None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        shown = hashlib.sha256(key.strip().encode()).hexdigest()
        fitting = [entry for entry in self._entries if hmac.compare_digest(entry.sha256, shown)]
        if scheme.lower() != "bearer" or not fitting:
            raise ApiError(
                401,
                "This needs an API key that is known here: send `Authorization: Bearer <key>`.",
                "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return fitting[0]

    def count(self, entry: KeyEntry) -> None:
        """Take one request from a key's allowance.

        Raises:
            ApiError: If it is used up.
        """
        wait_s = self._buckets[entry.name].take(self._clock_s())
        if wait_s > 0:
            raise later(
                f"The key {entry.name} may ask {entry.requests_per_s:g} times a second.",
                "rate_limit_exceeded",
                status=429,
                retry_after_s=math.ceil(wait_s),
            )


@dataclass
class _Bucket:
    """A token bucket: `size` requests at once, `rate` more every second."""

    size: float
    rate: float
    left: float
    at_s: float

    def take(self, now_s: float) -> float:
        """Seconds to wait; 0 where the request was counted."""
        self.left = min(self.size, self.left + (now_s - self.at_s) * self.rate)
        self.at_s = now_s
        if self.left >= 1:
            self.left -= 1
            return 0.0
        return (1 - self.left) / self.rate


def make_key(*, name: str, admin: bool = False) -> None:
    """Print a new key once, and the entry of the file that lets it in."""
    key = f"pk-{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    sys.stderr.write(f"The key, shown this once: {key}\nAdd to the file of keys:\n")
    entry = {"name": name, "sha256": digest} | ({"admin": True} if admin else {})
    sys.stdout.write(yaml.safe_dump([entry], sort_keys=False))
