"""Where packages come from: pip's own configuration, and the same thing said to uv."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from environment.machine import Machine

_LEVELS = ("global", "install", ":env:")  # the later one wins, as in pip
_LINE = re.compile(r"^(?P<level>[^.]+)\.(?P<key>[\w-]+)='(?P<value>.*)'$", re.DOTALL)


@dataclass(frozen=True)
class PipSettings:
    """The part of pip's configuration that says where packages come from.

    Attributes:
        index_url: The index used instead of the public one.
        extra_index_urls: Further indexes.
        find_links: Folders or pages with wheels.
        trusted_hosts: Hosts whose certificate is not checked.
        certificates: File of certificates to trust.
        proxy: Proxy for every request.
        no_index: Use no index at all, only `find_links`.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    certificates: str | None = None
    proxy: str | None = None
    no_index: bool = False

    def uv_arguments(self) -> list[str]:
        """The same settings as options of `uv pip`.

        uv takes a package from the first index that has it; pip compares all of them, and a
        configuration written for pip relies on that, so uv is told to do the same.
        """
        arguments = ["--index-strategy", "unsafe-best-match"]
        if self.no_index:
            arguments.append("--no-index")
        if self.index_url:
            arguments += ["--default-index", self.index_url]
        for url in self.extra_index_urls:
            arguments += ["--index", url]
        for place in self.find_links:
            arguments += ["--find-links", place]
        for host in self.trusted_hosts:
            arguments += ["--allow-insecure-host", host]
        return arguments

    def uv_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment for uv: certificates and proxy, where none are set for it already."""
        merged = dict(environ)
        if self.certificates:
            merged.setdefault("SSL_CERT_FILE", self.certificates)
        if self.proxy:
            merged.setdefault("ALL_PROXY", self.proxy)
        return merged


def parse_pip_settings(listing: str) -> PipSettings:
    """Settings from the text of `pip config list`, environment over command over global."""
    values: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        match = _LINE.match(line.strip())
        if match and match["level"] in _LEVELS:
            level = _LEVELS.index(match["level"])
            key = match["key"].replace("_", "-")
            if level >= values.get(key, (-1, ""))[0]:
                values[key] = (level, match["value"].replace("\\n", " "))

    def words(key: str) -> tuple[str, ...]:
        return tuple(shlex.split(values[key][1])) if key in values else ()

    def word(key: str) -> str | None:
        return values[key][1].strip() or None if key in values else None

    return PipSettings(
        index_url=word("index-url"),
        extra_index_urls=words("extra-index-url"),
        find_links=words("find-links"),
        trusted_hosts=words("trusted-host"),
        certificates=word("cert"),
        proxy=word("proxy"),
        no_index=(word("no-index") or "").lower() in ("1", "true", "yes", "on"),
    )


def read_pip_settings(machine: Machine, python: str) -> PipSettings:
    """Settings as the pip of this interpreter reads them: its files and its PIP_* variables."""
    return parse_pip_settings(machine.run([python, "-m", "pip", "config", "list"]).text)
