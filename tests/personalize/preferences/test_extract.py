"""Tests of the extraction as a whole: what lies ahead never reaches a preference."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.schema import PREFERENCES
from personalize.preferences.extract import (
    chosen_source,
    extract_from_reviews,
    printable,
    training_reviews,
)
from tests.personalize.preferences.small_reviews import (
    WordHashEncoder,
    small_aspects,
    small_extractor,
    small_tables,
)

PLANTED = " It stinks and smells terrible! The tone is muddy, far too expensive, it broke at once."


def preferences_of(tables: pl.DataFrame, *, fit_on: pl.DataFrame | None = None) -> pl.DataFrame:
    extractor = small_extractor(training_reviews(tables if fit_on is None else fit_on))
    found = extract_from_reviews(tables, extractor, small_aspects()).preferences
    return PREFERENCES.conform(found)


def planted(tables: pl.DataFrame, user: int, position: int) -> pl.DataFrame:
    """The tables with a sentence added to one person's review at a position and all later ones."""
    ahead = (pl.col("user_id") == user) & (pl.col("position") >= position)
    return tables.with_columns(
        text=pl.when(ahead).then(pl.col("text") + PLANTED).otherwise(pl.col("text"))
    )


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10_000),
    user=st.integers(0, 4),
    position=st.integers(0, 7),
)
def test_nothing_ahead_changes_a_preference(seed: int, user: int, position: int) -> None:
    tables = small_tables(seed=seed)
    before = preferences_of(tables)
    after = preferences_of(planted(tables, user, position), fit_on=tables)
    known = (pl.col("subject_id") != user) | (pl.col("valid_from") <= position)
    assert before.filter(known).equals(after.filter(known))


@pytest.mark.parametrize("position", [6, 7])
def test_nothing_outside_the_training_split_reaches_what_is_fitted(position: int) -> None:
    tables = small_tables(seed=3)
    before = preferences_of(tables)
    after = preferences_of(planted(tables, 2, position))
    known = (pl.col("subject_id") != 2) | (pl.col("valid_from") <= position)
    assert before.filter(known).equals(after.filter(known))


def test_the_planted_sentence_would_show_afterwards() -> None:
    tables = small_tables(seed=3)
    before, after = preferences_of(tables), preferences_of(planted(tables, 2, 4), fit_on=tables)
    later = (pl.col("subject_id") == 2) & (pl.col("valid_from") > 4)
    assert not before.filter(later).equals(after.filter(later))


def test_the_review_at_the_last_position_is_never_read() -> None:
    seen: list[str] = []

    class Watching(WordHashEncoder):
        def encode(self, texts):
            seen.extend(texts)
            return super().encode(texts)

    from personalize.preferences.extractive import ExtractiveExtractor

    tables = planted(small_tables(), 1, 7)
    extractor = ExtractiveExtractor.fitted(Watching(), small_aspects(), training_reviews(tables))
    extract_from_reviews(tables, extractor, small_aspects())
    assert not any("smells terrible!" in text for text in seen)


def test_every_preference_has_evidence_strictly_before_it() -> None:
    tables = small_tables(users=8, length=10)
    found = preferences_of(tables).explode("evidence").unnest("evidence")
    joined = found.join(tables, left_on="source_id", right_on="review_id")
    assert joined.height == found.height > 50
    assert joined.filter(pl.col("user_id") != pl.col("subject_id")).is_empty()
    assert joined.filter(pl.col("position") >= pl.col("valid_from")).is_empty()
    spans = joined.select("start", "end", "text_right").rows()
    assert all(0 <= start < end <= len(text) for start, end, text in spans)


def test_a_null_text_changes_nothing() -> None:
    tables = small_tables()
    holed = tables.with_columns(
        text=pl.when(pl.col("position") == 2).then(None).otherwise(pl.col("text"))
    )
    found = preferences_of(holed)
    assert not found.is_empty()
    assert 3 not in found["valid_from"].to_list()


def test_reviews_are_read_where_there_are_any() -> None:
    tables = small_tables()
    without = tables.with_columns(text=pl.lit(None, dtype=pl.String))
    assert chosen_source(tables, "auto") == "reviews"
    assert chosen_source(without, "auto") == "items"
    with pytest.raises(InputError, match="--source reviews needs review texts and these tables"):
        chosen_source(without, "reviews")


def test_an_excerpt_is_short_and_printable() -> None:
    assert printable("a\u200b\n" + "b" * 200) == "a\\u200b\\u000a" + "b" * 77


def test_example_sentences_are_encoded_once() -> None:
    from personalize.preferences.extractive import ExtractiveExtractor

    asked: list[str] = []

    class Counting(WordHashEncoder):
        def encode(self, texts):
            asked.extend(texts)
            return super().encode(texts)

    ExtractiveExtractor.fitted(Counting(), small_aspects(), [])
    assert len(asked) == len(set(asked)) > 100
