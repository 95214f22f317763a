"""The command `recsys fit-edits`: maps on a retriever's encoder that move what it recommends."""

from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
import polars as pl
from jaxtyping import Bool, Float
from torch import Tensor

from data_prep.artifact import read_artifact, read_manifest
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS, ITEMS
from personalize.steering.contrasting_rows import contrasting_rows
from personalize.steering.edits import Forward
from personalize.steering.fitted_maps import Ends, FittedMaps, FittingOptions
from recsys.batch import HistoryBatch
from recsys.collate import prefix_batch, windows
from recsys.histories import Histories
from recsys.load import LoadedRecommender, load_recommender
from recsys.recommender import Recommender
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.generative import GenerativeRetriever

NEXT_ITEMS = 3
"""Items after a context whose mean says at which end it is."""

Attribute = tuple[Float[np.ndarray, " item"], Bool[np.ndarray, " item"]]
"""A value per item, and where it is known."""


def write_activation_maps(
    *,
    checkpoint: Path,
    out: Path,
    tables: Path | None = None,
    vectors: Path | None = None,
    semantic_ids: Path | None = None,
    overwrite: bool = False,
    **fitting: Unpack[FittingOptions],
) -> None:
    """Write an artifact `activation_maps`: one set of maps for every attribute of items.

    Maps lead from training contexts whose next items are low on an attribute to those whose next
    items are high on it. Neither validation nor test interactions are looked at.

    Args:
        checkpoint: A run, whose best one is taken, or a checkpoint.
        out: Folder of the artifact.
        tables: Artifact `reviews`. Default: the one trained on; likewise `vectors` and
            `semantic_ids`.
        vectors: Artifact `vectors`.
        semantic_ids: Artifact `semantic_ids`.
        overwrite: Replace an artifact that is there.
        fitting: Which attributes and modules, and how.

    Raises:
        InputError: If an attribute or module is not there, an option is out of range, too few
            people have contexts at an end, or the recommender has no encoder to edit.
        ArtifactMismatch: If an artifact is damaged or not the one trained on.
    """
    loaded = load_recommender(checkpoint, tables=tables, vectors=vectors, semantic_ids=semantic_ids)
    attributes = item_attributes(loaded.paths["tables"])
    learnt = learnt_histories(loaded.paths["tables"])
    fitted = FittedMaps.of(
        loaded.recommender,
        list(attributes),
        lambda name: attribute_ends(
            loaded,
            learnt,
            attributes[name],
            count=fitting["rows"],
            share=fitting["share"],
            seed=fitting["seed"],
        ),
        fitting,
    )
    fitted.write(
        out,
        command="recsys fit-edits",
        checkpoint=checkpoint,
        inputs={
            "checkpoint": read_manifest(loaded.folder).content_hash,
            **{name: read_manifest(path).content_hash for name, path in loaded.paths.items()},
        },
        overwrite=overwrite,
    )


def item_attributes(tables: Path) -> dict[str, Attribute]:
    """What is known of every item from its metadata and from training interactions.

    `popularity` is the logarithm of 1 + how often it was met, `rating` its mean stars, `recency`
    the time it was met first in seconds, `price` the logarithm of its cents. One that no item has
    is left out.

    Raises:
        ArtifactMismatch: If the artifact is damaged or of another kind.
    """
    source = read_artifact(tables, kind="reviews")
    met = source.table(INTERACTIONS).filter(pl.col("split") == "train")
    facts = (
        source.table(ITEMS)
        .select("item_id", "price_cents")
        .join(
            met.group_by("item_id").agg(
                pl.len().alias("count"),
                pl.col("rating").mean(),
                pl.col("timestamp_s").min(),
            ),
            on="item_id",
            how="left",
        )
        .sort("item_id")
        .select(
            popularity=pl.col("count").fill_null(0).log1p(),
            rating="rating",
            recency="timestamp_s",
            price=pl.when(pl.col("price_cents") > 0).then(pl.col("price_cents").log()),
        )
    )
    return {
        name: (
            facts[name].fill_null(0).to_numpy().astype(np.float64),
            facts[name].is_not_null().to_numpy().astype(np.bool_),
        )
        for name in facts.columns
        if facts[name].is_not_null().any()
    }


def learnt_histories(tables: Path) -> Histories:
    """Training interactions alone, so that what comes next in them is known in training too.

    Raises:
        ArtifactMismatch: If the artifact is damaged or of another kind.
    """
    interactions = read_artifact(tables, kind="reviews").table(INTERACTIONS)
    return Histories.from_interactions(interactions.filter(pl.col("split") == "train"))


def attribute_ends(
    loaded: LoadedRecommender,
    histories: Histories,
    attribute: Attribute,
    *,
    count: int,
    share: float,
    seed: int,
) -> Ends:
    """Runs on training contexts whose next items are low, and high, on an attribute.

    Args:
        loaded: The recommender.
        histories: See `learnt_histories`.
        attribute: Value per item.
        count: Contexts of each end.
        share: Share of the contexts that makes an end.
        seed: Seed of the draw.

    Raises:
        InputError: If the recommender has no encoder that is known here.
        ValueError: As `contrasting_rows`.
    """
    contexts = histories.prefixes(("train",), maximum_history=loaded.maximum_history)
    targets = contexts.starts + contexts.lengths
    values, mask = next_items_mean(histories, targets, attribute)
    chosen = contrasting_rows(
        values, mask, histories.user_ids[targets], count=count, share=share, seed=seed
    )
    low, high = (
        prefix_batch(
            rows,
            windows(histories.item_ids, contexts.starts[rows], contexts.lengths[rows]),
            histories.item_ids[targets[rows]],
        )
        for rows in chosen
    )
    return Ends(reading(loaded.recommender, low), reading(loaded.recommender, high))


def next_items_mean(
    histories: Histories, targets: np.ndarray, attribute: Attribute
) -> tuple[Float[np.ndarray, " target"], Bool[np.ndarray, " target"]]:
    """Mean of an attribute over the next few items from every target on, and where it is known.

    Args:
        histories: The interactions.
        targets: Places in them.
        attribute: Value per item.
    """
    total, known = np.zeros(len(targets)), np.zeros(len(targets))
    for ahead in range(NEXT_ITEMS):
        places = np.minimum(targets + ahead, len(histories.item_ids) - 1)
        same = (targets + ahead == places) & (
            histories.user_starts[places] == histories.user_starts[targets]
        )
        items = histories.item_ids[places]
        there = same & attribute[1][items]
        total += np.where(there, attribute[0][items], 0.0)
        known += there
    return total / np.maximum(known, 1), known > 0


def reading(recommender: Recommender, batch: HistoryBatch) -> Forward:
    """A run of a recommender's encoder on a batch; returns which positions are real.

    Raises:
        InputError: If it has no encoder that is known here.
    """
    if isinstance(recommender, GenerativeRetriever):
        return partial(_encoded, recommender, batch)
    if isinstance(recommender, CausalRetriever):
        return partial(_read, recommender, batch)
    raise InputError(
        f"{type(recommender).__name__} has no encoder to edit; fit edits to a retriever that "
        "generates semantic IDs."
    )


def _encoded(recommender: GenerativeRetriever, batch: HistoryBatch) -> Tensor:
    return recommender.encode(batch)[1]


def _read(recommender: CausalRetriever, batch: HistoryBatch) -> Tensor:
    recommender.read_histories(batch)
    return batch.history_mask
