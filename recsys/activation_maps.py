"""The command `recsys fit-edits`: maps on a retriever's encoder that move what it recommends."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float
from torch import Tensor

from data_prep.artifact import create_artifact, read_artifact, read_manifest
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS, ITEMS
from personalize.steering.contrasting_rows import contrasting_rows
from personalize.steering.edits import Forward
from personalize.steering.fitted_maps import (
    ENCODER_BLOCKS,
    Ends,
    fitted_sets,
    known_ends,
    known_names,
    modules_matching,
    settings_of,
    told,
)
from personalize.steering.stored_maps import KIND, write_maps
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


def write_activation_maps(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    checkpoint: Path,
    out: Path,
    tables: Path | None = None,
    vectors: Path | None = None,
    semantic_ids: Path | None = None,
    dimensions: Sequence[str] | None = None,
    rows: int = 32,
    share: float = 0.25,
    modules: str | None = None,
    steps: int = 300,
    sparsity: float = 0.8,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
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
        dimensions: Attributes; all that are known of enough items by default.
        rows: Contexts of each end, of as many people.
        share: Share of the contexts that makes an end.
        modules: Regular expression of module names; the encoder's blocks by default.
        steps: Steps of the fit.
        sparsity: Pull of every number towards the identity.
        seed: Seed of the draw of contexts.
        overwrite: Replace an artifact that is there.

    Raises:
        InputError: If an attribute or module is not there, an option is out of range, too few
            people have contexts at an end, or the recommender has no encoder to edit.
        ArtifactMismatch: If an artifact is damaged or not the one trained on.
    """
    loaded = load_recommender(checkpoint, tables=tables, vectors=vectors, semantic_ids=semantic_ids)
    names = modules_matching(loaded.recommender, modules or ENCODER_BLOCKS)
    attributes = item_attributes(loaded.paths["tables"])
    settings = settings_of(steps, sparsity)
    ends, left_out = known_ends(
        known_names(dimensions, list(attributes)),
        lambda name: attribute_ends(loaded, attributes[name], count=rows, share=share, seed=seed),
        needed=dimensions is not None,
    )
    sets, facts = fitted_sets(loaded.recommender, names, ends, settings)
    with create_artifact(
        out,
        kind=KIND,
        command="recsys fit-edits",
        configuration={
            "checkpoint": str(checkpoint), "dimensions": list(sets), "rows": rows, "share": share,
            "modules": names, "steps": steps, "sparsity": sparsity, "seed": seed,
        },
        inputs={
            "checkpoint": read_manifest(loaded.folder).content_hash,
            **{name: read_manifest(path).content_hash for name, path in loaded.paths.items()},
        },
        overwrite=overwrite,
    ) as writer:  # fmt: skip
        write_maps(writer, sets)
        writer.notes.update({"fits": facts, "left_out": left_out})
    sys.stderr.write(told(facts, left_out))
    return 0


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


def attribute_ends(
    loaded: LoadedRecommender, attribute: Attribute, *, count: int, share: float, seed: int
) -> Ends:
    """Runs on training contexts whose next items are low, and high, on an attribute.

    Args:
        loaded: The recommender.
        attribute: Value per item.
        count: Contexts of each end.
        share: Share of the contexts that makes an end.
        seed: Seed of the draw.

    Raises:
        InputError: If the recommender has no encoder that is known here.
        ValueError: As `contrasting_rows`.
    """
    source = read_artifact(loaded.paths["tables"], kind="reviews")
    learnt = source.table(INTERACTIONS).filter(pl.col("split") == "train")
    histories = Histories.from_interactions(learnt)
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
