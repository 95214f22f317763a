"""Amazon reviews of 2023: one JSON object a line, times in milliseconds, `parent_asin` as item."""

from collections.abc import Mapping
from typing import Any

from data_prep.reviews.json_items import (
    LONGEST_DESCRIPTION,
    ItemLayout,
    category_path,
    cleaned,
    price_cents,
)
from data_prep.reviews.raw_review import ReviewLayout

REVIEWS_2023 = ReviewLayout(
    user="user_id",
    item="parent_asin",
    timestamp="timestamp",
    rating="rating",
    summary="title",
    text="text",
    milliseconds=True,
)


class Items2023(ItemLayout):
    """Metadata of 2023.

    Source:
        Hou et al., 2024, "Bridging language and items for retrieval and recommendation"
        (arXiv:2403.03952); the layout of its files.
    """

    key = "parent_asin"

    def facts(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Title, store as brand, categories (else the main one), price and description."""
        categories = category_path(record.get("categories"))
        main = cleaned(record.get("main_category"), 100)
        return {
            "title": cleaned(record.get("title")),
            "brand": cleaned(record.get("store"), 200),
            "categories": categories or ([main] if main else []),
            "price_cents": price_cents(record.get("price")),
            "description": cleaned(record.get("description"), LONGEST_DESCRIPTION),
        }
