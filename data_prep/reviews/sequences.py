"""Sequences in the format of S3-Rec: a user and then item numbers, oldest first, on each line."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from data_prep.artifact import ArtifactWriter
from data_prep.reviews.json_items import ItemLayout, category_path, cleaned, parse_record
from data_prep.reviews.prepare import ReviewSource
from data_prep.reviews.raw_lines import read_blocks
from data_prep.reviews.raw_review import RAW_ITEMS, RAW_REVIEWS
from data_prep.reviews.rejects import Rejects
from data_prep.schema import RAW_ITEM_IDS


class SequenceItems(ItemLayout):
    """The item file: one JSON object a line with `item_id`, `asin`, `title` and `categories`."""

    key = "asin"

    def facts(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Title and categories; the format knows nothing else."""
        return {
            "title": cleaned(record.get("title")),
            "brand": cleaned(record.get("brand"), 200),
            "categories": category_path(record.get("categories")),
            "price_cents": None,
            "description": None,
        }


class SequenceSource(ReviewSource):
    """Interactions of which only the order is known; item keys are ASINs.

    Source:
        Zhou et al., 2020, "S3-Rec" (arXiv:2008.07873): the files of its repository.
    """

    def __init__(self, sequences: Path, items: Path, *, allow_truncated: bool = False) -> None:
        self.sequences, self.items_path = sequences, items
        self.allow_truncated = allow_truncated
        self.raw_ids: dict[int, str] = {}
        self._facts: dict[str, list[Any]] = {}
        self._item_rejects = Rejects()
        self._starts: list[int] = []

    def reviews(self, rejects: Rejects) -> Iterator[pl.DataFrame]:
        """One frame per block; every place of a sequence is one row."""
        self._read_items()
        number = 0
        users: set[str] = set()
        for block in read_blocks(self.sequences, rejects, allow_truncated=self.allow_truncated):
            rows = []
            for offset, line in enumerate(block.lines()):
                place = (self.sequences.name, block.first_line + offset)
                words = line.split()
                self._starts.append(number)
                number += max(0, len(words) - 1)
                if not words:
                    continue
                rejects.read += max(1, len(words) - 1)
                found = self._sequence(words, users)
                if isinstance(found, str):
                    rejects.rows_in_line += max(0, len(words) - 2)
                    rejects.add(*place, found, line)
                    continue
                user, keys = found
                users.add(user)
                start = self._starts[-1]
                rows += [(start + step, user, key) for step, key in enumerate(keys)]
            frame = pl.DataFrame(
                rows,
                schema={name: RAW_REVIEWS[name] for name in ("review_id", "user_key", "item_key")},
                orient="row",
            )
            yield frame.with_columns(
                pl.lit(None, dtype).alias(name)
                for name, dtype in RAW_REVIEWS.items()
                if name not in frame.columns
            ).select(RAW_REVIEWS.names())

    def _sequence(self, words: list[bytes], users: set[str]) -> tuple[str, list[str]] | str:
        """User and item keys of a line, or the reason why it is refused."""
        if not all(word.isdigit() and len(word) < 19 for word in words):
            return "not a user and item numbers"
        user = str(int(words[0]))
        if user in users:
            return f"user {user} has a line already"
        if len(words) == 1:
            return f"user {user} has no items"
        ids = [int(word) for word in words[1:]]
        unknown = [number for number in ids if number not in self.raw_ids]
        if unknown:
            return f"item {unknown[0]} is not in {self.items_path.name}"
        return user, [self.raw_ids[number] for number in ids]

    def _read_items(self) -> None:
        layout, rejects = SequenceItems(), self._item_rejects
        for block in read_blocks(self.items_path, rejects, allow_truncated=self.allow_truncated):
            for offset, line in enumerate(block.lines()):
                if not line.strip():
                    continue
                rejects.read += 1
                place = (self.items_path.name, block.first_line + offset)
                record = parse_record(line, python_literals=False)
                problem = record if isinstance(record, str) else self._problem(record)
                if isinstance(record, str) or problem:
                    rejects.add(*place, problem or "", line)
                    continue
                self.raw_ids[record["item_id"]] = record["asin"]
                facts = layout.facts(record)
                self._facts[record["asin"]] = [facts[name] for name in RAW_ITEMS.names()[1:]]

    def _problem(self, record: Mapping[str, Any]) -> str:
        number, key = record.get("item_id"), record.get("asin")
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            return "item_id is no whole number"
        if not isinstance(key, str) or not key:
            return "asin is missing"
        if number in self.raw_ids:
            return f"item_id {number} stands there twice"
        return f"asin {key} stands there twice" if key in self._facts else ""

    def items(self, item_keys: Sequence[str], rejects: Rejects) -> pl.DataFrame:
        """Title and categories of the wanted items."""
        rejects.read = self._item_rejects.read
        rejects.rows += self._item_rejects.rows
        rows = [[key, *self._facts[key]] for key in item_keys]
        return pl.DataFrame(rows, schema=RAW_ITEMS, orient="row")

    def place(self, review_id: int) -> tuple[str, int]:
        """File and line of the sequence an interaction stands in."""
        import bisect

        return self.sequences.name, bisect.bisect_right(self._starts, review_id)

    def write_raw_ids(
        self, writer: ArtifactWriter, interactions: pl.DataFrame, items: pl.DataFrame
    ) -> None:
        """Write the table that leads from our item numbers back to those of the raw file."""
        del interactions
        raw = pl.DataFrame(
            {"item_key": list(self.raw_ids.values()), "raw_id": list(self.raw_ids)},
            schema={"item_key": pl.String(), "raw_id": pl.Int64()},
        )
        found = items.select("item_id", "item_key").join(raw, on="item_key", how="left")
        writer.write_table(RAW_ITEM_IDS, found.select("item_id", "raw_id"))
