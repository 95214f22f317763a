"""Preferences by the evidence behind them: who said it, about which items, and when at the latest.

Steering asks a person for something another person once said. Such a sentence is fair only if it
was said strictly before both targets, by neither of the two people, and about neither item.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

RECORDS_PER_TEXT = 32
ITEMS_PER_RECORD = 8
NEVER = np.iinfo(np.int64).max
_CHUNK = 512


@dataclass(frozen=True)
class EvidencePool:
    """Distinct texts and the records that state them, padded to a rectangle.

    Attributes:
        text_ids: The texts, ascending.
        owners: Who states it; -1 where the record is padding.
        latest_s: Time of the newest evidence; the end of time where the record is padding.
        items: Items the evidence is about; -1 where padding.
    """

    text_ids: Int[np.ndarray, " text"]
    owners: Int[np.ndarray, "text record"]
    latest_s: Int[np.ndarray, "text record"]
    items: Int[np.ndarray, "text record place"]

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.text_ids)


@dataclass(frozen=True)
class Swap:
    """Two targets whose histories are swapped, as numbers of items, people and the earlier time."""

    item_ids: Int[np.ndarray, " row"]
    other_item_ids: Int[np.ndarray, " row"]
    user_ids: Int[np.ndarray, " row"]
    other_user_ids: Int[np.ndarray, " row"]
    earlier_s: Int[np.ndarray, " row"]


def with_text_ids(preferences: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """Preferences with the number of their text, by subject, position and number."""
    return preferences.join(texts.select("text_id", "text"), on="text", how="inner").sort(
        "subject_id", "valid_from", "preference_number"
    )


def training_evidence(
    preferences: pl.DataFrame, interactions: pl.DataFrame, polarity: str
) -> pl.DataFrame:
    """What people said about items in training: one row per record and item.

    A record counts only if each of its sources is a training interaction. A source without a time
    counts as said at the beginning of time where no interaction has one, else at its end.

    Args:
        preferences: Preferences with their `text_id`.
        interactions: The table of that name.
        polarity: `like` or `avoid`.

    Returns:
        Columns `record`, `subject_id`, `text_id`, `aspect`, `valid_from`, `item_id` and
        `timestamp_s`, the newest time at which the record's person met the item.
    """
    unknown = 0 if interactions["timestamp_s"].null_count() == interactions.height else NEVER
    sources = interactions.select(
        "review_id",
        "item_id",
        pl.col("timestamp_s").fill_null(unknown),
        (pl.col("split") == "train").alias("trained"),
    )
    stated = (
        preferences.filter((pl.col("polarity") == polarity) & (pl.col("evidence").list.len() > 0))
        .with_columns(pl.col("evidence").list.eval(pl.element().struct.field("source_id")))
        .sort("subject_id", "text_id", "valid_from", "preference_number")
        .unique(["subject_id", "text_id", "evidence"], keep="first", maintain_order=True)
        .with_row_index("record")
        .select("record", "subject_id", "text_id", "aspect", "valid_from", "evidence")
    )
    about = stated.explode("evidence").join(
        sources, left_on="evidence", right_on="review_id", how="left"
    )
    keys = ["record", "subject_id", "text_id", "aspect", "valid_from", "item_id"]
    return (
        about.filter(pl.col("trained").fill_null(value=False).all().over("record"))
        .group_by(keys)
        .agg(pl.col("timestamp_s").max())
        .sort("record", "item_id")
    )


def evidence_pool(said: pl.DataFrame) -> EvidencePool:
    """The pool of texts that may steer.

    Of each person and text the earliest record counts, which has the least evidence; records
    about more than eight items are left out, and of each text the 32 earliest records are kept.

    Args:
        said: The result of `training_evidence`.
    """
    records = (
        said.group_by("record", "subject_id", "text_id")
        .agg(pl.col("timestamp_s").max().alias("latest_s"), pl.col("item_id").sort())
        .filter(pl.col("item_id").list.len() <= ITEMS_PER_RECORD)
        .sort("record")
        .unique(["subject_id", "text_id"], keep="first", maintain_order=True)
        .sort("text_id", "latest_s", "subject_id")
        .with_columns(pl.int_range(pl.len()).over("text_id").alias("place"))
        .filter(pl.col("place") < RECORDS_PER_TEXT)
    )
    text_ids, rows = np.unique(records["text_id"].to_numpy().astype(np.int64), return_inverse=True)
    shape = (len(text_ids), RECORDS_PER_TEXT)
    owners, latest = np.full(shape, -1, np.int64), np.full(shape, NEVER, np.int64)
    items = np.full((*shape, ITEMS_PER_RECORD), -1, np.int64)
    places = records["place"].to_numpy().astype(np.int64)
    owners[rows, places] = records["subject_id"].to_numpy()
    latest[rows, places] = records["latest_s"].to_numpy()
    lengths = records["item_id"].list.len().to_numpy().astype(np.int64)
    within = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
    flat = records["item_id"].explode(empty_as_null=False).to_numpy().astype(np.int64)
    items[np.repeat(rows, lengths), np.repeat(places, lengths), within] = flat
    return EvidencePool(text_ids, owners, latest, items)


def nearest_fair_texts(
    pool: EvidencePool,
    swap: Swap,
    item_vectors: Float[np.ndarray, "item width"],
    text_vectors: Float[np.ndarray, "text width"],
    *,
    most: int = 32,
) -> tuple[Int[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
    """The text nearest to each item among those that are fair to ask.

    Fair: nearer to the item than to the other item, stated by neither person, about neither item,
    strictly before both targets. Where the times of the targets are unknown `earlier_s` is the end
    of time, and "before" rests on the evidence being training evidence.

    Args:
        pool: The texts and their evidence.
        swap: The items, people and times.
        item_vectors: Unit vector of every item's text.
        text_vectors: Unit vectors of the pool's texts, in its order.
        most: How many of the nearest texts are looked at.

    Returns:
        Number of the text, and whether there is one; 0 where there is none.
    """
    rows = len(swap.item_ids)
    chosen, found = np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    most = min(most, len(pool))
    if not most:
        return chosen, found
    for begin in range(0, rows, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        here = item_vectors[swap.item_ids[part]] @ text_vectors.T
        there = item_vectors[swap.other_item_ids[part]] @ text_vectors.T
        near = np.where(here > there, here, -np.inf)
        order = np.argsort(-near, axis=1, kind="stable")[:, :most]
        fair = _fair(pool, order, swap, part) & np.isfinite(np.take_along_axis(near, order, 1))
        first = fair.argmax(axis=1)
        found[part] = fair.any(axis=1)
        chosen[part] = np.where(found[part], pool.text_ids[order[np.arange(len(order)), first]], 0)
    return chosen, found


def _fair(
    pool: EvidencePool, order: Int[np.ndarray, "row near"], swap: Swap, part: slice
) -> Bool[np.ndarray, "row near"]:
    owners, items = pool.owners[order], pool.items[order]
    people = (swap.user_ids[part], swap.other_user_ids[part])
    things = (swap.item_ids[part], swap.other_item_ids[part])
    fair = (owners >= 0) & (pool.latest_s[order] < swap.earlier_s[part][:, None, None])
    for person in people:
        fair &= owners != person[:, None, None]
    for thing in things:
        fair &= (items != thing[:, None, None, None]).all(axis=-1)
    return np.any(fair, axis=-1)
