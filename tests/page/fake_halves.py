"""Both halves as test doubles: small, deterministic, and with the answers' full shape."""

from tests.page.fake_items import ATTRIBUTES, FakeItems
from tests.page.fake_scenes import STYLE_DIMENSIONS, FakeScenes

__all__ = ["ATTRIBUTES", "STYLE_DIMENSIONS", "FakeItems", "FakeScenes"]
