"""Every table: its columns, types, units, key and order; checked when written and when read."""

from dataclasses import dataclass

import polars as pl

from data_prep.errors import ArtifactMismatch, InputError


@dataclass(frozen=True)
class Column:
    """One column of a table: name, type, meaning (with its unit) and whether it may be null."""

    name: str
    dtype: pl.DataType
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class TableSchema:
    """One table: its file name, its columns in order, and the key that orders and identifies rows.

    Attributes:
        name: Name of the table and of its Parquet file.
        meaning: What one row is.
        key: Columns that together identify a row; rows are sorted by them.
        columns: The columns, in the order in which they are written.
    """

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def polars(self) -> pl.Schema:
        """The same columns as a Polars schema."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def empty(self) -> pl.DataFrame:
        """A table of these columns without rows."""
        return pl.DataFrame(schema=self.polars)

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with its columns in order, sorted by key and checked.

        Raises:
            InputError: If a column is missing, unknown or of another type, a value that must be
                there is null, or a key repeats.
        """
        self.check_rows(frame)
        ordered = frame.select(self.polars.names()).sort(list(self.key), maintain_order=True)
        if self.key and ordered.height:
            repeated = ordered.select(pl.struct(self.key).is_duplicated().any()).item()
            if repeated:
                raise InputError(
                    f"The table {self.name} repeats a key ({', '.join(self.key)}); keys are unique."
                )
        return ordered

    def check_rows(self, frame: pl.DataFrame) -> None:
        """Compare a part of the table that is to be written with this schema.

        Raises:
            InputError: If columns, types or nulls differ; order and key are not looked at.
        """
        self._check(frame, where=f"the table {self.name}", error=InputError)

    def check(self, frame: pl.DataFrame, *, where: str) -> None:
        """Compare a frame that was read with this schema.

        Raises:
            ArtifactMismatch: If columns, types or nulls differ.
        """
        self._check(frame, where=where, error=ArtifactMismatch)

    def _check(self, frame: pl.DataFrame, *, where: str, error: type[InputError]) -> None:
        expected, found = self.polars, frame.schema
        missing = [name for name in expected.names() if name not in found]
        unknown = [name for name in found.names() if name not in expected]
        if missing or unknown:
            parts = [f"lacks {', '.join(missing)}"] if missing else []
            parts += [f"has unknown {', '.join(unknown)}"] if unknown else []
            raise error(f"{where} {' and '.join(parts)}.")
        for column in self.columns:
            if found[column.name] != column.dtype:
                raise error(
                    f"{where} holds {column.name} as {found[column.name]}, not {column.dtype}."
                )
            if not column.nullable and frame[column.name].null_count():
                raise error(f"{where} has a null in {column.name}, which must always be there.")


_text, _int32, _int64, _float32 = pl.String(), pl.Int32(), pl.Int64(), pl.Float32()

SPLITS = ("train", "validation", "test")

USERS = TableSchema(
    "users",
    "one person",
    ("user_id",),
    (
        Column("user_id", _int32, "dense number from 0, in the order of user_key"),
        Column("user_key", _text, "the person's name in the raw file"),
    ),
)
ITEMS = TableSchema(
    "items",
    "one thing of the catalogue",
    ("item_id",),
    (
        Column("item_id", _int32, "dense number from 0, in the order of item_key"),
        Column("item_key", _text, "the item's name in the raw file, such as its ASIN"),
        Column("title", _text, "title", nullable=True),
        Column("brand", _text, "brand", nullable=True),
        Column("categories", pl.List(pl.String()), "categories, general to special"),
        Column("price_cents", _int32, "price in cents", nullable=True),
        Column("description", _text, "description", nullable=True),
    ),
)
INTERACTIONS = TableSchema(
    "interactions",
    "one person's meeting with one item, at its place in the person's history",
    ("user_id", "position"),
    (
        Column("user_id", _int32, "who"),
        Column("position", _int32, "place in the person's history, 0 is the oldest"),
        Column("item_id", _int32, "what"),
        Column("timestamp_s", _int64, "seconds since 1970, UTC", nullable=True),
        Column("rating", _float32, "stars, 1 to 5", nullable=True),
        Column("summary", _text, "headline of the review", nullable=True),
        Column("text", _text, "body of the review", nullable=True),
        Column("review_id", _int64, "number of the row in the raw files, from 0"),
        Column("split", _text, "train, validation or test"),
    ),
)
ITEM_TEXTS = TableSchema(
    "item_texts",
    "the text an item is known by: metadata, else its training reviews only",
    ("item_id",),
    (
        Column("item_id", _int32, "what"),
        Column("text", _text, "the text; null where nothing is known", nullable=True),
        Column("source", _text, "metadata, training_reviews or none"),
    ),
)
RAW_ITEM_IDS = TableSchema(
    "raw_item_ids",
    "the number an item had in a raw file that numbers its items",
    ("item_id",),
    (
        Column("item_id", _int32, "what"),
        Column("raw_id", _int64, "its number in the raw file"),
    ),
)
REJECTED = TableSchema(
    "rejected",
    "one piece of input that was refused, and why",
    ("file", "line", "reason"),
    (
        Column("file", _text, "file name"),
        Column("line", _int64, "line number from 1; 0 where the whole file is meant"),
        Column("reason", _text, "why, in one short sentence"),
        Column("excerpt", _text, "the beginning of what was refused, made printable"),
    ),
)
PLANTED_PREFERENCES = TableSchema(
    "planted_preferences",
    "one true preference of a simulated person, and the positions at which it holds",
    ("user_id", "aspect", "valid_from"),
    (
        Column("user_id", _int32, "who"),
        Column("aspect", _text, "what it is about"),
        Column("polarity", _text, "like or avoid"),
        Column("strength", _float32, "0 to 1"),
        Column("valid_from", _int32, "first position at which it holds"),
        Column("valid_until", _int32, "first position at which it no longer holds", nullable=True),
    ),
)
PLANTED_MENTIONS = TableSchema(
    "planted_mentions",
    "one opinion that a simulated review really reveals",
    ("user_id", "position", "aspect"),
    (
        Column("user_id", _int32, "who"),
        Column("position", _int32, "the review's place in the person's history"),
        Column("aspect", _text, "what the sentence is about"),
        Column("polarity", _text, "like or avoid"),
        Column("sentence", _text, "the sentence, as it stands in the review"),
    ),
)

PLANTED_ATTRIBUTES = TableSchema(
    "planted_attributes",
    "how good a simulated item truly is in one aspect",
    ("item_id", "aspect"),
    (
        Column("item_id", _int32, "what"),
        Column("aspect", _text, "which aspect; one that makes no sense for the item has no row"),
        Column("value", _float32, "-1 (bad) to 1 (good: light, quiet, cheap, compact, ...)"),
    ),
)

EVIDENCE = pl.List(pl.Struct({"source_id": pl.Int64(), "start": pl.Int32(), "end": pl.Int32()}))
PREFERENCES = TableSchema(
    "preferences",
    "one preference of a subject, as known at one position from evidence strictly before it",
    ("subject_id", "valid_from", "preference_number"),
    (
        Column("subject_id", _int32, "user (or scene) it belongs to"),
        Column("valid_from", _int32, "position; every evidence lies strictly before it"),
        Column("preference_number", _int32, "0 is the strongest at this position"),
        Column("text", _text, "the preference as a sentence"),
        Column("polarity", _text, "like or avoid"),
        Column("aspect", _text, "what it is about"),
        Column("strength", _float32, "0 to 1"),
        Column("confidence", _float32, "0 to 1"),
        Column("evidence", EVIDENCE, "review_id and character span of every source"),
        Column("extractor", _text, "chat, local or extractive"),
        Column("extractor_version", _text, "version of the extractor and of its model"),
    ),
)
TEXTS = TableSchema(
    "texts",
    "one distinct text; row `text_id` of the array `values` is its vector",
    ("text_id",),
    (
        Column("text_id", _int32, "dense number from 0, in the order of the text"),
        Column("text", _text, "the text"),
    ),
)
ITEM_TEXT_IDS = TableSchema(
    "item_text_ids",
    "which text an item is known by",
    ("item_id",),
    (
        Column("item_id", _int32, "what"),
        Column("text_id", _int32, "its text; null where it has none", nullable=True),
    ),
)
CODES = TableSchema(
    "codes",
    "one item's semantic ID",
    ("item_id",),
    (
        Column("item_id", _int32, "what"),
        Column("codes", pl.List(pl.Int32()), "one code per level, the collision digit last"),
    ),
)
BENCHMARK_ROWS = TableSchema(
    "rows",
    "one question to a recommender: a history, preferences, and the target it should find",
    ("axis", "condition", "row_id"),
    (
        Column("axis", _text, "recommendation, fine_steering, coarse_steering, ..."),
        Column("condition", _text, "how the preferences were chosen: none, latest, ..., oracle"),
        Column("row_id", _int32, "number within axis; the same question in every condition"),
        Column("split", _text, "validation or test"),
        Column("user_id", _int32, "whose question it is"),
        Column("history_item_ids", pl.List(pl.Int32()), "oldest first"),
        Column("preference_text_ids", pl.List(pl.Int32()), "texts of the vectors artifact"),
        Column("preference_polarities", pl.List(pl.String()), "like or avoid, one per text"),
        Column("target_item_id", _int32, "the item asked about"),
        Column("target_wanted", pl.Boolean(), "false where the preference asks to avoid it"),
        Column("pair_id", _int32, "joins a wanted and an avoided row", nullable=True),
    ),
)
RECOMMENDATIONS = TableSchema(
    "recommendations",
    "what a recommender answered to one question, best first",
    ("axis", "condition", "row_id"),
    (
        Column("axis", _text, "as in the benchmark"),
        Column("condition", _text, "as in the benchmark"),
        Column("row_id", _int32, "as in the benchmark"),
        Column("item_ids", pl.List(pl.Int32()), "distinct items, best first"),
        Column("scores", pl.List(pl.Float32()), "higher is better"),
        Column("target_rank", _int32, "1 is best; null when not among item_ids", nullable=True),
    ),
)
