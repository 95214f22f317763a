"""Goal values of items read from artifacts: only what training knew of them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS, ITEMS, PREFERENCES
from recsys.catalogue import Catalogue
from recsys.goals import (
    BRAND,
    CATEGORY,
    DIVERSITY,
    ITEM_GOALS,
    POPULARITY,
    PRICE,
    RECENCY,
    SENTIMENT,
    ItemGoals,
    shares_of,
    unit_texts,
)

LEAST_KNOWN = 0.2
"""A dimension that fewer of the items have a value of is left out."""
DOUBT = 2.0
"""Opinions that nobody voiced, half for and half against: one alone says little."""


def item_goals(
    tables: Path,
    catalogue: Catalogue,
    *,
    preferences: Path | None = None,
    category: str | None = None,
    brand: str | None = None,
) -> tuple[ItemGoals, tuple[str, ...], Mapping[str, str]]:
    """Goal values of a catalogue's items.

    Args:
        tables: Artifact `reviews`.
        catalogue: The same items, with texts where they are to be told apart.
        preferences: Artifact `preferences`, for what was said of aspects.
        category: The category whose share is a goal; the most frequent one that at most a third of
            the items have by default.
        brand: Likewise for the brand.

    Returns:
        The values; the names of the aspects; and for each dimension what it is about, or why it was
        left out.

    Raises:
        InputError: If a category or brand is named that no item has.
        ArtifactMismatch: If an artifact is damaged or of another kind.
    """
    source = read_artifact(tables, kind="reviews")
    items = source.table(ITEMS)
    train = source.table(INTERACTIONS).filter(pl.col("split") == "train")
    count = items.height
    columns: dict[str, tuple[Tensor, Tensor]] = {}
    notes: dict[str, str] = {}
    columns[PRICE] = _prices(items)
    columns[POPULARITY] = _popularity(train, count)
    columns[RECENCY] = _recency(train, count)
    columns[CATEGORY], notes[CATEGORY] = _share(items, "category", category)
    columns[BRAND], notes[BRAND] = _share(items, "brand", brand)
    aspects, sentiment = _sentiment(preferences, train, count)
    heard = torch.tensor(bool(aspects)).expand(count)
    columns[SENTIMENT] = torch.zeros(count), heard
    texts = torch.zeros(count, 1)
    if len(catalogue.text_vectors):
        texts = catalogue.text_vectors[catalogue.item_text_ids]
    columns[DIVERSITY] = torch.zeros(count), catalogue.item_text_mask
    names = []
    for name in ITEM_GOALS:
        known = float(columns[name][1].float().mean())
        if known >= LEAST_KNOWN:
            names.append(name)
        else:
            notes[name] = f"left out: known of {known:.0%} of the items"
    values, mask = (torch.stack([columns[name][n] for name in names], 1) for n in (0, 1))
    goals = ItemGoals(
        tuple(names), values * mask, mask, sentiment, unit_texts(texts, catalogue.item_text_mask)
    )
    return goals, aspects, {name: note for name, note in notes.items() if note}


def strongest_aspects(
    preferences: Artifact, aspects: tuple[str, ...]
) -> Mapping[tuple[int, int], int]:
    """The aspect each person cares about most, by person and position; see `ItemGoals`."""
    known = {name: number for number, name in enumerate(aspects)}
    first = preferences.table(PREFERENCES).filter(pl.col("preference_number") == 0)
    rows = first.select("subject_id", "valid_from", "aspect").iter_rows()
    return {(subject, start): known[aspect] for subject, start, aspect in rows if aspect in known}


def _prices(items: pl.DataFrame) -> tuple[Float[Tensor, " item"], Bool[Tensor, " item"]]:
    known = items["price_cents"].is_not_null() & (items["price_cents"].fill_null(0) > 0)
    mask = torch.from_numpy(known.to_numpy().copy())
    cents = torch.from_numpy(items["price_cents"].fill_null(0).to_numpy().astype(np.float32))
    return shares_of(cents, mask), mask


def _popularity(
    train: pl.DataFrame, count: int
) -> tuple[Float[Tensor, " item"], Bool[Tensor, " item"]]:
    seen = np.bincount(train["item_id"].to_numpy(), minlength=count).astype(np.float32)
    every = torch.ones(count, dtype=torch.bool)
    return shares_of(torch.from_numpy(seen), every), every


def _recency(
    train: pl.DataFrame, count: int
) -> tuple[Float[Tensor, " item"], Bool[Tensor, " item"]]:
    """By the moment an item was met first: the one that came last is the most recent."""
    timed = train.filter(pl.col("timestamp_s").is_not_null())
    first = timed.group_by("item_id").agg(pl.col("timestamp_s").min())
    seconds, mask = torch.zeros(count), torch.zeros(count, dtype=torch.bool)
    places = torch.from_numpy(first["item_id"].to_numpy().astype(np.int64))
    began = first["timestamp_s"].to_numpy()
    seconds[places] = torch.from_numpy(
        (began - (began.min() if len(began) else 0)) / 86_400
    ).float()
    mask[places] = True
    return shares_of(seconds, mask), mask


def _share(
    items: pl.DataFrame, kind: str, wanted: str | None
) -> tuple[tuple[Float[Tensor, " item"], Bool[Tensor, " item"]], str]:
    """Which items are of one category or brand, and which one it is."""
    if kind == "brand":
        named = [{name} if name else set() for name in items["brand"]]
    else:
        named = [set(names) for names in items["categories"]]
    counts = Counter(name for names in named for name in names)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    if wanted is not None and wanted not in counts:
        raise InputError(
            f"no item is of the {kind} {wanted}; there are {', '.join(ranked[:5]) or 'none'}."
        )
    fitting = [name for name in ranked if 3 * counts[name] <= len(named)]
    chosen = wanted if wanted is not None else next(iter(fitting), None)
    if chosen is None:
        return (torch.zeros(len(named)), torch.zeros(len(named), dtype=torch.bool)), ""
    known = torch.tensor([bool(names) for names in named])
    return (torch.tensor([float(chosen in names) for names in named]), known), f"share of {chosen}"


def _sentiment(
    preferences: Path | None, train: pl.DataFrame, count: int
) -> tuple[tuple[str, ...], Float[Tensor, "item aspect"]]:
    """What training reviews say of every aspect of every item."""
    if preferences is None:
        return (), torch.zeros(count, 1)
    said = (
        read_artifact(preferences, kind="preferences")
        .table(PREFERENCES)
        .select(
            "aspect", "polarity", pl.col("evidence").list.eval(pl.element().struct["source_id"])
        )
        .explode("evidence", empty_as_null=False)
        .unique()
        .join(train.select("review_id", "item_id"), left_on="evidence", right_on="review_id")
    )
    aspects = tuple(sorted(said["aspect"].unique().to_list()))
    if not aspects:
        return (), torch.zeros(count, 1)
    place = {name: number for number, name in enumerate(aspects)}
    total = np.zeros((2, count, len(aspects)), np.float32)
    for aspect, polarity, item in said.select("aspect", "polarity", "item_id").iter_rows():
        total[int(polarity == "like"), item, place[aspect]] += 1
    against, in_favour = total
    found = (in_favour - against) / (in_favour + against + DOUBT)
    return aspects, torch.from_numpy(found)
