"""Progress of long work: a rich bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(
    items: Iterable[Item],
    description: str,
    *,
    total: int | None = None,
    seconds_between: float = 10.0,
) -> Iterator[Item]:
    """The same items, while how far the work has come is shown on standard error.

    Args:
        items: What is worked through.
        description: What the work is, two or three words.
        total: Number of items, where `len` does not know it.
        seconds_between: Pause between two plain lines when no terminal is there.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        console = Console(stderr=True)
        yield from rich_track(items, description, total=total, console=console, transient=True)
        return
    shown = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - shown > seconds_between:
            shown = time.monotonic()
            of = f" of {total}" if total else ""
            sys.stderr.write(f"{description}: {number}{of}\n")
