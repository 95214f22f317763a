"""Orchestration of `personalize extract`: tables in, preferences position by position out."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import InputError
from data_prep.progress import track
from data_prep.schema import INTERACTIONS, ITEM_TEXTS, ITEMS, PREFERENCES, REJECTED
from personalize.preferences.aggregate import AggregationSettings, ReadReview, snapshots
from personalize.preferences.answer_cache import AnswerCache
from personalize.preferences.aspects import AspectList, read_aspects
from personalize.preferences.extractive import ExtractiveExtractor
from personalize.preferences.extractor import Extractor, Review, ReviewOpinions
from personalize.preferences.items import (
    Choice,
    ItemSettings,
    item_snapshots,
    item_traits,
    kept_traits,
)
from personalize.preferences.record import Preference
from personalize.preferences.rows import PreferenceRows

Source = Literal["auto", "reviews", "items"]
_EXCERPT_CHARACTERS = 80


@dataclass(frozen=True)
class ModelOptions:
    """Options of the two extractors with a language model; see the command's `--help`."""

    url: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    concurrency: int = 16
    max_calls: int | None = None
    dry_run: bool = False
    cache: Path | None = None


@dataclass(frozen=True)
class Extraction:
    """What one extraction found.

    Attributes:
        preferences: Table of preferences.
        rejected: Table of what was thrown away.
        notes: Counts for the manifest.
    """

    preferences: pl.DataFrame
    rejected: pl.DataFrame
    notes: Mapping[str, int | float | str]


def run(
    *,
    tables: Path,
    out: Path,
    overwrite: bool,
    extractor: str,
    source: Source,
    aspects: Path | None,
    most: int,
    **model_options: object,
) -> int:
    """Write the preferences of everybody in the tables; returns the exit status.

    Raises:
        InputError: If the options do not fit one another or the tables hold nothing to read.
    """
    if most < 1:
        raise InputError(f"--most must be at least 1, got {most}.")
    options = ModelOptions(**model_options)  # type: ignore[arg-type]
    check_options(extractor, options)
    artifact = read_artifact(tables, kind="reviews")
    listed = read_aspects(aspects)
    interactions = artifact.table(INTERACTIONS)
    source = chosen_source(interactions, source)
    if source == "items":
        if extractor != "extractive":
            raise InputError(
                f"--extractor {extractor} reads reviews; there are none here, use extractive."
            )
        found = extract_from_items(artifact, interactions, most=most)
    else:
        if options.dry_run:
            return print_estimate(options, listed, interactions, out)
        reader = _reader(extractor, options, listed, interactions, out)
        found = extract_from_reviews(interactions, reader, listed, most=most)
    configuration = {
        "extractor": extractor,
        "source": source,
        "most": most,
        "aspects": listed.fingerprint,
        "model": options.model,
    }
    with create_artifact(
        out,
        kind="preferences",
        command="personalize extract",
        configuration=configuration,
        inputs={"reviews": artifact.content_hash},
        overwrite=overwrite,
    ) as writer:
        writer.write_table(PREFERENCES, found.preferences)
        writer.write_table(REJECTED, found.rejected)
        writer.notes.update(found.notes)
    _print_summary(out, found)
    return 0


def check_options(extractor: str, options: ModelOptions) -> None:
    """Refuse options that do not fit one another, before anything is loaded.

    Raises:
        InputError: If an extractor lacks what it needs, or is given what it cannot use.
    """
    if extractor == "extractive" and options.dry_run:
        raise InputError("--dry-run estimates calls; --extractor extractive makes none.")
    if extractor == "local" and options.dry_run:
        raise InputError("--dry-run estimates calls; --extractor local makes none.")
    if extractor == "chat" and not (options.model and (options.url or options.dry_run)):
        raise InputError("--extractor chat needs --url and --model.")
    if extractor == "local" and not options.model:
        raise InputError("--extractor local needs --model, the folder of a language model.")
    if options.concurrency < 1:
        raise InputError(f"--concurrency must be at least 1, got {options.concurrency}.")
    _api_key(options)


def chosen_source(interactions: pl.DataFrame, source: Source) -> Source:
    """`reviews` or `items`: with `auto`, reviews wherever any has a text.

    Raises:
        InputError: If reviews are asked for and none has a text.
    """
    texts = interactions["text"].drop_nulls()
    with_text = int((texts.str.strip_chars().str.len_chars() > 0).sum())
    if source == "reviews" and not with_text:
        raise InputError("--source reviews needs review texts and these tables hold none.")
    if source == "auto":
        return "reviews" if with_text else "items"
    return source


def extract_from_reviews(
    interactions: pl.DataFrame, reader: Extractor, aspects: AspectList, *, most: int = 12
) -> Extraction:
    """Preferences read from review texts.

    The review at a person's last position is never given to the extractor: no preference could use
    it. So nothing that stands in a test review can be read, not even by mistake. Training reviews
    are read before the others, so a batch of them never holds a text from outside the training
    split, whose length would move the last bit of a vector.
    """
    read: dict[int, ReadReview] = {}
    refused: list[dict[str, object]] = []
    for reviews in readable_reviews(interactions):
        answers = track(reader.read(reviews), "Reading reviews", total=len(reviews))
        for review, answer in zip(reviews, answers, strict=True):
            read[review.review_id] = with_words(answer, review.text, aspects)
            refused += [
                {"line": r.review_id, "reason": r.reason, "excerpt": printable(r.excerpt)}
                for r in answer.refusals
            ]
    rows = PreferenceRows()
    settings = AggregationSettings(most=most)
    for user, ids in _by_user(interactions):
        in_order = [read.get(review_id) for review_id in ids]
        _add(rows, snapshots(user, in_order, aspects, settings))
    return Extraction(rows.frame(), _rejected(refused), dict(reader.notes()))


def extract_from_items(
    artifact: Artifact, interactions: pl.DataFrame, *, most: int = 12
) -> Extraction:
    """Preferences read from titles, brands and categories of past items."""
    settings = ItemSettings(most=most)
    described = (
        artifact.table(ITEMS)
        .join(artifact.table(ITEM_TEXTS), on="item_id", how="left", maintain_order="left")
        .select("item_id", "text", "title", "brand", "categories")
    )
    traits = kept_traits(
        {row[0]: tuple(item_traits(row[1], row[2], row[3], row[4])) for row in described.rows()},
        settings,
    )
    rows = PreferenceRows()
    ordered = interactions.sort("user_id", "position")
    grouped: dict[int, list[Choice]] = {}
    for user, review_id, item_id, rating in ordered.select(
        "user_id", "review_id", "item_id", "rating"
    ).iter_rows():
        grouped.setdefault(user, []).append(Choice(review_id, item_id, rating))
    for user, choices in track(grouped.items(), "Reading items", total=len(grouped)):
        _add(rows, item_snapshots(user, choices, traits, settings))
    without = sum(1 for found in traits.values() if not found)
    notes = {"interactions": interactions.height, "items_without_traits": without}
    return Extraction(rows.frame(), REJECTED.empty(), notes)


def readable_reviews(interactions: pl.DataFrame) -> tuple[list[Review], list[Review]]:
    """Reviews that some later position may use: those of the training split, then the others."""
    last = pl.col("position").max().over("user_id")
    usable = (
        interactions.filter((pl.col("position") < last) & pl.col("text").is_not_null())
        .sort("user_id", "position")
        .select("review_id", "text", "rating", "split")
    )
    training: list[Review] = []
    others: list[Review] = []
    for review_id, text, rating, split in usable.iter_rows():
        (training if split == "train" else others).append(Review(review_id, text, rating))
    return training, others


def training_reviews(interactions: pl.DataFrame) -> list[Review]:
    """Reviews of the training split, the only ones a model may be fitted to."""
    usable = interactions.filter(
        (pl.col("split") == "train") & pl.col("text").is_not_null()
    ).select("review_id", "text", "rating")
    return [Review(*row) for row in usable.iter_rows()]


def with_words(answer: ReviewOpinions, text: str, aspects: AspectList) -> ReadReview:
    """The opinions of one review, each with the word of the aspect list that shows it."""
    words = [
        aspects.cues.telling_word(o.aspect, o.polarity, text[o.start : o.end])
        for o in answer.opinions
    ]
    return ReadReview(
        answer.review_id, answer.opinions, words, answer.extractor, answer.extractor_version
    )


def printable(text: str) -> str:
    """The beginning of a text with everything unprintable made visible."""
    shown = text[:_EXCERPT_CHARACTERS]
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown)


def _add(rows: PreferenceRows, found: Iterable[Sequence[Preference]]) -> None:
    for snapshot in found:
        for number, preference in enumerate(snapshot):
            rows.add(number, preference)


def _by_user(interactions: pl.DataFrame) -> Iterator[tuple[int, list[int]]]:
    grouped = (
        interactions.sort("user_id", "position")
        .group_by("user_id", maintain_order=True)
        .agg("review_id")
    )
    yield from grouped.iter_rows()


def _rejected(refused: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Refusals as a table; the same refusal of the same review is one row."""
    if not refused:
        return REJECTED.empty()
    frame = pl.DataFrame(list(refused)).with_columns(
        file=pl.lit("interactions.parquet"), line=pl.col("line").cast(pl.Int64)
    )
    kept = frame.unique(["file", "line", "reason"], keep="first", maintain_order=True)
    return kept.select(REJECTED.polars.names())


def _reader(
    extractor: str,
    options: ModelOptions,
    aspects: AspectList,
    interactions: pl.DataFrame,
    out: Path,
) -> Extractor:
    """The extractor that was asked for, ready to read."""
    from personalize.conditioning.text import SentenceEncoder

    encoder = SentenceEncoder()
    embedded = ExtractiveExtractor.fitted(
        encoder,
        aspects,
        training_reviews(interactions),
        encoder_name=f"{encoder.model_name}-{encoder.fingerprint[:12]}",
    )
    if extractor == "extractive":
        return embedded
    if extractor == "chat":
        return _chat(options, aspects, embedded, out)
    return _local(options, aspects, embedded, out)


def _chat(options: ModelOptions, aspects: AspectList, embedded: Extractor, out: Path) -> Extractor:
    """The extractor that asks a chat server."""
    from personalize.preferences.chat import ChatExtractor
    from personalize.preferences.language_model import ChatClient

    client = ChatClient(
        options.url or "",
        options.model or "",
        api_key=_api_key(options),
        most_calls=options.max_calls,
    )
    cache = AnswerCache(_cache_path(options, out))
    return ChatExtractor(client, aspects.names, embedded, cache, concurrency=options.concurrency)


def _local(options: ModelOptions, aspects: AspectList, embedded: Extractor, out: Path) -> Extractor:
    """The extractor with a model in this process."""
    from personalize.preferences.local import LocalExtractor, LocalModel

    return LocalExtractor(
        LocalModel(options.model or ""),
        aspects.names,
        embedded,
        AnswerCache(_cache_path(options, out)),
        batch_size=options.concurrency,
        most_calls=options.max_calls,
    )


def _api_key(options: ModelOptions) -> str | None:
    """The key in the environment variable that was named, if one was.

    Raises:
        InputError: If that variable is not set.
    """
    if options.api_key_env is None:
        return None
    if not (key := os.environ.get(options.api_key_env)):
        raise InputError(f"--api-key-env names {options.api_key_env}, which is not set.")
    return key


def _cache_path(options: ModelOptions, out: Path) -> Path:
    return options.cache or out.with_name(f"{out.name}.answers.sqlite")


def print_estimate(
    options: ModelOptions, aspects: AspectList, interactions: pl.DataFrame, out: Path
) -> int:
    """Print what a run with a chat server would take; nothing is called or written."""
    from personalize.preferences.chat import estimate

    training, others = readable_reviews(interactions)
    path = _cache_path(options, out)
    cache = AnswerCache(path) if path.exists() else None
    found = estimate(training + others, options.model or "", aspects.names, cache)
    sys.stdout.write(
        f"{found.reviews} reviews: {found.cached} answers cached, {found.calls} calls to make, "
        f"about {found.tokens_in} tokens in and {found.tokens_out} out, repairs not counted.\n"
    )
    return 0


def _print_summary(out: Path, found: Extraction) -> None:
    people = found.preferences["subject_id"].n_unique()
    sys.stderr.write(
        f"{found.preferences.height} preferences of {people} people in {out}; "
        f"{found.preferences['text'].n_unique()} distinct texts, "
        f"{found.rejected.height} rejected.\n"
    )
    for name, value in found.notes.items():
        sys.stderr.write(f"  {name}: {value}\n")
