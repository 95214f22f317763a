"""Amazon reviews of 2014: `reviews_*.json.gz`, with or without `meta_*.json.gz`."""

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

REVIEWS_2014 = ReviewLayout(
    user="reviewerID",
    item="asin",
    timestamp="unixReviewTime",
    rating="overall",
    summary="summary",
    text="reviewText",
)


class Items2014(ItemLayout):
    """Metadata of 2014; its lines are Python literals in the files as first published.

    Source:
        McAuley, Targett, Shi and van den Hengel, 2015, "Image-based recommendations on styles and
        substitutes"; the layout of the files on snap.stanford.edu.
    """

    key = "asin"
    python_literals = True

    def facts(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Title, brand, categories, price (a number of dollars) and description."""
        return {
            "title": cleaned(record.get("title")),
            "brand": cleaned(record.get("brand"), 200),
            "categories": category_path(record.get("categories")),
            "price_cents": price_cents(record.get("price")),
            "description": cleaned(record.get("description"), LONGEST_DESCRIPTION),
        }
