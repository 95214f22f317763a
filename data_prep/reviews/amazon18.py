"""Amazon reviews of 2018: one JSON object a line, with `style` and `$`-prices in the metadata."""

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

REVIEWS_2018 = ReviewLayout(
    user="reviewerID",
    item="asin",
    timestamp="unixReviewTime",
    rating="overall",
    summary="summary",
    text="reviewText",
)


class Items2018(ItemLayout):
    """Metadata of 2018.

    Source:
        Ni, Li and McAuley, 2019, "Justifying recommendations using distantly-labeled reviews and
        fine-grained aspects"; the layout of its files.
    """

    key = "asin"

    def facts(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Title, brand, `category`, price (a text such as "$12.99") and description (a list)."""
        return {
            "title": cleaned(record.get("title")),
            "brand": cleaned(record.get("brand"), 200),
            "categories": category_path(record.get("category")),
            "price_cents": price_cents(record.get("price")),
            "description": cleaned(record.get("description"), LONGEST_DESCRIPTION),
        }
