"""Both halves as test doubles: small, deterministic, and with the answers' full shape.

`python -m tests.page.fake_halves` serves them with the page, to try it by hand.
"""

import sys

from personalize.api.configuration import Serving
from personalize.api.files import NotServedError, ServedFiles
from personalize.api.ports import ItemsHalf, ItemsSource, ScenesHalf, ScenesSource
from tests.page.fake_items import ATTRIBUTES, FakeItems
from tests.page.fake_scenes import STYLE_DIMENSIONS, FakeScenes

__all__ = [
    "ATTRIBUTES",
    "STYLE_DIMENSIONS",
    "FakeItems",
    "FakeItemsSource",
    "FakeScenes",
    "FakeScenesSource",
    "MissingItems",
    "MissingScenes",
    "fake_serving",
]


class FakeItemsSource(ItemsSource):
    """The small shop, opened without a file."""

    def open(self, files: ServedFiles) -> ItemsHalf:
        return FakeItems()


class FakeScenesSource(ScenesSource):
    """The three roads, opened without a file."""

    def open(self, files: ServedFiles) -> ScenesHalf:
        return FakeScenes()


class MissingItems(ItemsSource):
    """A source whose artifacts were never made."""

    def open(self, files: ServedFiles) -> ItemsHalf:
        raise NotServedError("demo/fit/causal is not there.")


class MissingScenes(ScenesSource):
    """A source whose artifacts were never made."""

    def open(self, files: ServedFiles) -> ScenesHalf:
        raise NotServedError("demo-driving/scenes is not there.")


def fake_serving(*, items: bool = True, scenes: bool = True) -> Serving:
    """A configuration of the fake halves, either of which may be missing."""
    return Serving(
        items=FakeItemsSource() if items else MissingItems(),
        scenes=FakeScenesSource() if scenes else MissingScenes(),
    )


if __name__ == "__main__":
    import time

    from tests.personalize.api.served_here import served

    with served(fake_serving()) as running:
        sys.stdout.write(f"{running.address}/\n")
        sys.stdout.flush()
        while True:
            time.sleep(60)
