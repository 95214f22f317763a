"""A source of Amazon reviews of any year: files of reviews and perhaps one of metadata."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from data_prep.errors import InputError
from data_prep.reviews.json_items import ItemLayout, read_items
from data_prep.reviews.json_reviews import read_json_reviews
from data_prep.reviews.prepare import ReviewSource
from data_prep.reviews.raw_review import RAW_ITEMS, ReviewLayout
from data_prep.reviews.rejects import Rejects


@dataclass
class AmazonSource(ReviewSource):
    """Reviews as JSON lines and metadata as lines.

    Attributes:
        paths: Files of reviews, in the order in which their lines are numbered.
        layout: Which field of a review holds what.
        metadata: File of metadata, or none.
        item_layout: How metadata are read.
        allow_truncated: Accept compressed files that were cut off.
    """

    paths: Sequence[Path]
    layout: ReviewLayout
    metadata: Path | None
    item_layout: ItemLayout
    allow_truncated: bool = False
    _ends: list[int] = field(default_factory=list)

    def reviews(self, rejects: Rejects) -> Iterator[pl.DataFrame]:
        """Good reviews; see `ReviewSource`.

        Raises:
            InputError: If two files have the same name, so that a line could not be found again.
        """
        names = [path.name for path in self.paths]
        if len(set(names)) < len(names):
            raise InputError("Two files of --reviews have the same name; rename one of them.")
        self._ends.clear()
        before = 0
        for path in self.paths:
            lines = 0
            for frame, last_line in read_json_reviews(
                path, self.layout, rejects, before, allow_truncated=self.allow_truncated
            ):
                lines = last_line
                yield frame
            before += lines
            self._ends.append(before)

    def items(self, item_keys: Sequence[str], rejects: Rejects) -> pl.DataFrame:
        """Item facts; see `ReviewSource`."""
        if self.metadata is None:
            return pl.DataFrame(schema=RAW_ITEMS)
        return read_items(
            self.metadata,
            self.item_layout,
            item_keys,
            rejects,
            allow_truncated=self.allow_truncated,
        )

    def place(self, review_id: int) -> tuple[str, int]:
        """File and line of a review number."""
        start = 0
        for path, end in zip(self.paths, self._ends, strict=True):
            if review_id < end:
                return path.name, review_id - start + 1
            start = end
        raise ValueError(f"review_id {review_id} is not in any file.")
