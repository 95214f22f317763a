"""A small world with reviews, as the artifacts a benchmark is made of.

Reviews are lists of opinions written `like:tone` or `avoid:tone`. A preference is read from them
the plain way: at every position, all opinions of strictly earlier reviews of the same person.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from data_prep.artifact import create_artifact
from data_prep.schema import (
    INTERACTIONS,
    ITEM_TEXT_IDS,
    ITEM_TEXTS,
    ITEMS,
    PREFERENCES,
    REJECTED,
    TEXTS,
    USERS,
)

ASPECTS = ("tone", "price", "weight", "colour", "case", "neck")
TOPICS = 4
WIDTH = 16


@dataclass
class World:
    """Interactions as lists of one list per person, oldest first."""

    items: list[list[int]]
    reviews: list[list[list[str]]]
    item_count: int
    times_s: list[list[int | None]] = field(default_factory=list)
    titles: list[str | None] = field(default_factory=list)


def make_world(seed: int = 0, *, people: int = 60, item_count: int = 40) -> World:
    """People who like one topic; items of a topic share their praised aspects."""
    generator = np.random.default_rng(seed)
    items, reviews, times = [], [], []
    for _ in range(people):
        length = int(generator.integers(5, 9))
        topic = int(generator.integers(TOPICS))
        own = [i for i in range(item_count) if i % TOPICS == topic]
        chosen = generator.permutation(own)[: length - 2].tolist()
        chosen += generator.permutation([i for i in range(item_count) if i not in chosen])[
            :2
        ].tolist()
        items.append([int(item) for item in chosen])
        reviews.append([_review(generator, item) for item in chosen])
        start = int(generator.integers(0, 50))
        times.append([86_400 * (start + 10 * step) for step in range(len(chosen))])
    titles = [f"Thing {item}" for item in range(item_count)]
    return World(items, reviews, item_count, times, list(titles))


def _review(generator: np.random.Generator, item: int) -> list[str]:
    said = [f"like:{ASPECTS[item % len(ASPECTS)]}"]
    if generator.random() < 0.5:
        said.append(f"avoid:{ASPECTS[(item + int(generator.integers(3))) % len(ASPECTS)]}")
    return said


def sentence(opinion: str) -> str:
    """The words of an opinion."""
    polarity, aspect = opinion.split(":")
    return f"Looks for a good {aspect}." if polarity == "like" else f"Avoids a bad {aspect}."


def interactions_table(world: World) -> pl.DataFrame:
    """Leave-last-out interactions."""
    rows, review_id = [], 0
    for user, (items, reviews) in enumerate(zip(world.items, world.reviews, strict=True)):
        for position, item in enumerate(items):
            left = len(items) - position
            rows.append(
                {
                    "user_id": user,
                    "position": position,
                    "item_id": item,
                    "timestamp_s": world.times_s[user][position],
                    "rating": 5.0,
                    "summary": None,
                    "text": " ".join(reviews[position]),
                    "review_id": review_id,
                    "split": {1: "test", 2: "validation"}.get(left, "train"),
                }
            )
            review_id += 1
    return pl.DataFrame(rows, schema=INTERACTIONS.polars)


def preferences_table(world: World) -> pl.DataFrame:
    """All that was said strictly before each position."""
    rows, review_id = [], 0
    for user, reviews in enumerate(world.reviews):
        known: dict[str, list[int]] = {}
        for position, said in enumerate(reviews):
            rows.extend(
                {
                    "subject_id": user,
                    "valid_from": position,
                    "preference_number": number,
                    "text": sentence(opinion),
                    "polarity": opinion.split(":")[0],
                    "aspect": opinion.split(":")[1],
                    "strength": 0.5,
                    "confidence": 0.9,
                    "evidence": [{"source_id": i, "start": 0, "end": 4} for i in sources],
                    "extractor": "extractive",
                    "extractor_version": "test",
                }
                for number, (opinion, sources) in enumerate(known.items())
            )
            for opinion in said:
                known.setdefault(opinion, []).append(review_id)
            review_id += 1
    return pl.DataFrame(rows, schema=PREFERENCES.polars)


def _vector(text: str, item_count: int) -> np.ndarray:
    """Items of a topic lie together; a sentence lies near the items of its aspect."""
    values = np.random.default_rng(list(text.encode())).normal(size=WIDTH) * 0.35
    if text.startswith("thing "):
        item = int(text.split()[1])
        values[item % TOPICS] += 1.0
        values[TOPICS + item % len(ASPECTS)] += 0.8
    for number, aspect in enumerate(ASPECTS):
        values[TOPICS + number] += 1.5 * (aspect in text)
    return (values / np.linalg.norm(values)).astype(np.float32)


def write_world(folder: Path, world: World) -> dict[str, Path]:
    """The artifacts `tables`, `preferences` and `vectors` of a world."""
    paths = {name: folder / name for name in ("tables", "preferences", "vectors")}
    shared = {"command": "test", "configuration": {}}
    with create_artifact(paths["tables"], kind="reviews", inputs={}, **shared) as writer:
        people = len(world.items)
        writer.write_table(
            USERS,
            pl.DataFrame(
                {"user_id": range(people), "user_key": [f"u{n}" for n in range(people)]},
                schema=USERS.polars,
            ),
        )
        numbers = range(world.item_count)
        writer.write_table(
            ITEMS,
            pl.DataFrame(
                {
                    "item_id": numbers,
                    "item_key": [f"i{n:03d}" for n in numbers],
                    "title": world.titles,
                    "brand": [None] * world.item_count,
                    "categories": [[]] * world.item_count,
                    "price_cents": [None] * world.item_count,
                    "description": [None] * world.item_count,
                },
                schema=ITEMS.polars,
            ),
        )
        writer.write_table(
            ITEM_TEXTS,
            pl.DataFrame(
                {
                    "item_id": numbers,
                    "text": [f"thing {n}" for n in numbers],
                    "source": ["metadata"] * world.item_count,
                },
                schema=ITEM_TEXTS.polars,
            ),
        )
        writer.write_table(INTERACTIONS, interactions_table(world))
        writer.write_table(REJECTED, REJECTED.empty())
    preferences = preferences_table(world)
    with create_artifact(paths["preferences"], kind="preferences", inputs={}, **shared) as writer:
        writer.write_table(PREFERENCES, preferences)
        writer.write_table(REJECTED, REJECTED.empty())
    texts = sorted({f"thing {n}" for n in range(world.item_count)} | set(preferences["text"]))
    with create_artifact(paths["vectors"], kind="vectors", inputs={}, **shared) as writer:
        writer.write_table(
            TEXTS,
            pl.DataFrame({"text_id": range(len(texts)), "text": texts}, schema=TEXTS.polars),
        )
        writer.write_table(
            ITEM_TEXT_IDS,
            pl.DataFrame(
                {
                    "item_id": range(world.item_count),
                    "text_id": [texts.index(f"thing {n}") for n in range(world.item_count)],
                },
                schema=ITEM_TEXT_IDS.polars,
            ),
        )
        values = np.stack([_vector(text, world.item_count) for text in texts])
        writer.write_arrays("vectors", {"values": values})
    return paths
