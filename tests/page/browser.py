"""A browser of this machine, and a page in it that may neither complain nor ask anybody else."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE_MS = 8_000


@contextmanager
def browser() -> Iterator[Any]:
    """The browser, or a skip with the reason why there is none."""
    library = pytest.importorskip(
        "playwright.sync_api", reason="playwright, which drives the browser, is not installed"
    )
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(NAMES)} is on the PATH")
    with library.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield started
        started.close()


@contextmanager
def watched_page(started: Any, address: str, **options: Any) -> Iterator[Any]:
    """A fresh page; at the end nothing was on its console and nobody else was asked.

    The page has `complaints`, to which a test may add what it expects with `forgive`.
    """
    settings = {"viewport": {"width": 1280, "height": 900}} | options
    context = started.new_context(**settings)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on(
        "request",
        lambda asked: (
            complaints.append(f"asked {asked.url}")
            if not asked.url.startswith(f"{address}/")
            else None
        ),
    )
    yield page
    context.close()
    expected = getattr(page, "forgive", ())
    left = [one for one in complaints if not any(part in one for part in expected)]
    assert not left, left
