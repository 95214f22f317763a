"""Every item's semantic ID: the work behind `recsys tokenize`."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.artifact import Artifact, ArtifactWriter, create_artifact, file_sha256, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import CODES, ITEM_TEXT_IDS, ITEMS
from recsys.semantic_id.codec import SemanticIdCodec, with_collision_digit, with_moved_digit
from recsys.semantic_id.imported import ImportedCodes, codes_of_items, read_code_file
from recsys.semantic_id.quality import (
    quality_table,
    relative_reconstruction_error,
    semantic_id_quality,
)
from recsys.semantic_id.quantizer import Quantizer, one_thread
from recsys.semantic_id.residual_kmeans import ResidualKMeans
from recsys.semantic_id.rqvae import RqVae, RqVaeTraining

LEARNT: Mapping[str, Callable[..., Quantizer]] = {
    "residual-kmeans": ResidualKMeans,
    "rqvae": RqVae,
}
"""What `--quantizer` may name, beside `imported`."""

READ_BY: Mapping[str, str] = {
    "components": "residual-kmeans",
    "steps": "rqvae",
    "learning_rate": "rqvae",
    "commitment": "rqvae",
    "codebook_update": "rqvae",
}
"""Options that one quantizer alone reads."""

_EMA_DECAY = 0.99


@dataclass(frozen=True)
class ItemVectors:
    """One vector per item.

    Attributes:
        values: The vector of each item's text; the mean of all others where it has none.
        known: Which items have a text.
    """

    values: Float[Tensor, "item width"]
    known: Bool[Tensor, " item"]


def run(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    vectors: Path,
    tables: Path | None,
    out: Path,
    quantizer: str = "residual-kmeans",
    levels: int = 3,
    codes: int | None = None,
    seed: int = 0,
    codes_file: Path | None = None,
    collisions: str = "digit",
    collision_size: int | None = None,
    components: int | None = None,
    steps: int | None = None,
    learning_rate: float | None = None,
    commitment: float | None = None,
    codebook_update: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a `semantic_ids` artifact.

    Args:
        vectors: Vectors artifact; its item texts are quantized.
        tables: Reviews artifact the vectors were made from. Needed for a code file, and for
            `recsys assign` later on, because both know items by key.
        out: Folder of the new artifact.
        quantizer: `residual-kmeans`, `rqvae` or `imported`.
        levels: Number of levels before the collision digit.
        codes: Number of codes at each level; None derives it from the number of items.
        seed: Seed of the quantizer.
        codes_file: File of codes, where the quantizer is `imported`.
        collisions: `digit` adds a level that tells items with the same codes apart, `move` moves
            their last digit to a free one.
        collision_size: Number of codes of the added level; None takes twice the largest bucket,
            so that items that come later find room.
        components: Principal components that `residual-kmeans` clusters.
        steps: Training steps of `rqvae`.
        learning_rate: Step size of `rqvae`.
        commitment: Weight of the pull of an encoding of `rqvae` towards its codes.
        codebook_update: How the codebooks of `rqvae` learn, by `gradient` or as moving averages
            (`ema`).
        overwrite: Replace an artifact that is there.

    Raises:
        ArtifactMismatch: If the vectors were made from other tables.
        InputError: If the options do not fit together, or items cannot be told apart.
    """
    options = {
        "quantizer": quantizer, "levels": levels, "codes": codes, "seed": seed,
        "collisions": collisions, "collision_size": collision_size, "components": components,
        "steps": steps, "learning_rate": learning_rate, "commitment": commitment,
        "codebook_update": codebook_update,
    }  # fmt: skip
    _check_options(options, codes_file, tables)
    source = read_artifact(vectors, kind="vectors")
    inputs = {"vectors": source.content_hash}
    keys = None
    if tables is not None:
        reviews = read_artifact(tables, kind="reviews")
        keys = item_keys(reviews, source)
        inputs["reviews"] = reviews.content_hash
    if codes_file is not None and codes_file.is_file():
        inputs["codes_file"] = file_sha256(codes_file)
    items = item_vectors(source)
    if codes_file is not None and keys is not None:
        model, found = _import_codes(items, keys, codes_file)
    else:
        model, found = _learn_codes(items, options)
    codec = _distinct(found, model.level_sizes, collisions, collision_size)
    with create_artifact(
        out,
        kind="semantic_ids",
        command="recsys tokenize",
        configuration=options,
        inputs=inputs,
        overwrite=overwrite,
    ) as writer:
        write_codec(writer, codec, keys, quantizer_levels=found.shape[1])
        writer.write_arrays(
            "quantizer", {name: value.numpy() for name, value in model.state_dict().items()}
        )
        with one_thread():
            error = relative_reconstruction_error(
                items.values[items.known], model.reconstruct(found[items.known])
            )
        quality = semantic_id_quality(
            codec.item_codes,
            codec.level_sizes,
            quantizer_codes=found,
            reconstruction_error=error,
        )
        writer.write_json("quality", quality.as_json())
        writer.notes = {"items": codec.item_count, "items_without_text": int((~items.known).sum())}
    sys.stderr.write(quality_table(quality))


def item_vectors(vectors: Artifact) -> ItemVectors:
    """Every item's vector; an item without a text stands in the middle of all that have one.

    Raises:
        InputError: If no item has a text.
    """
    text_ids = vectors.table(ITEM_TEXT_IDS)["text_id"]
    known = torch.from_numpy(text_ids.is_not_null().to_numpy().copy())
    if not bool(known.any()):
        raise InputError(f"{vectors.folder} has no item with a text, so nothing can be quantized.")
    table = vectors.arrays("vectors")["values"]
    values = torch.from_numpy(np.array(table[text_ids.fill_null(0).to_numpy()], np.float32))
    with one_thread():
        values[~known] = values[known].double().mean(0).float()
    return ItemVectors(values, known)


def item_keys(reviews: Artifact, vectors: Artifact) -> list[str]:
    """Keys of all items, in the order of their ids.

    Raises:
        ArtifactMismatch: If the vectors were made from other tables.
    """
    if vectors.manifest.inputs.get("reviews", reviews.content_hash) != reviews.content_hash:
        raise ArtifactMismatch(
            f"{vectors.folder} was made from other tables than {reviews.folder}; "
            "run personalize encode on these tables."
        )
    return reviews.table(ITEMS).sort("item_id")["item_key"].to_list()


def codes_for(item_count: int) -> int:
    """Number of codes per level that suits a catalogue.

    The smallest power of two that is at least twice the square root of the number of items, and at
    most 256, the published number for about 12,000 items. With 256 codes a small catalogue would be
    told apart by the first digit alone, and the digits would mean nothing.
    """
    return min(256, 2 ** math.ceil(math.log2(2.0 * math.sqrt(max(item_count, 1)))))


def write_codec(
    writer: ArtifactWriter,
    codec: SemanticIdCodec,
    keys: Sequence[str] | None,
    *,
    quantizer_levels: int,
) -> None:
    """Write the codes, `codec.json` and, where they are known, the items' keys."""
    frame = pl.DataFrame(
        {"item_id": range(codec.item_count), "codes": codec.item_codes.tolist()},
        schema=CODES.polars,
    )
    writer.write_table(CODES, frame)
    writer.write_json(
        "codec",
        {
            "level_sizes": list(codec.level_sizes),
            "quantizer_levels": quantizer_levels,
            "vocabulary_size": codec.vocabulary_size,
            "offsets": list(codec.offsets),
        },
    )
    if keys is not None:
        writer.write_json("item_keys", list(keys))


def _check_options(
    options: Mapping[str, Any], codes_file: Path | None, tables: Path | None
) -> None:
    for name in ("levels", "codes", "collision_size", "components", "steps"):
        if options[name] is not None and options[name] < 1:
            raise InputError(f"{_flag(name)} must be at least 1, got {options[name]}.")
    for name in ("learning_rate", "commitment"):
        if options[name] is not None and not 0 < options[name] < math.inf:
            raise InputError(f"{_flag(name)} must be positive, got {options[name]:g}.")
    for name, reader in READ_BY.items():
        if options[name] is not None and options["quantizer"] != reader:
            raise InputError(
                f"{_flag(name)} is read by --quantizer {reader} alone, not by "
                f"{options['quantizer']}."
            )
    imported = options["quantizer"] == "imported"
    if imported != (codes_file is not None):
        raise InputError("--codes-file and --quantizer imported belong together.")
    if imported and tables is None:
        raise InputError("--quantizer imported needs --tables, which name the items.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def own_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the options say to the chosen quantizer alone; what is not said is left to it.

    Args:
        options: Options of `recsys tokenize`; one that is missing was not said.
    """
    if options.get("components") is not None:
        return {"components": options["components"]}
    said = {n: options[n] for n in ("steps", "learning_rate", "commitment") if options.get(n)}
    if options.get("codebook_update") is not None:
        said["ema_decay"] = _EMA_DECAY if options["codebook_update"] == "ema" else 0.0
    return {"training": RqVaeTraining(**said)} if said else {}


def _learn_codes(
    items: ItemVectors, options: Mapping[str, Any]
) -> tuple[Quantizer, Int[Tensor, "item level"]]:
    codes = options["codes"] or codes_for(len(items.values))
    model = LEARNT[options["quantizer"]](
        items.values.shape[1],
        levels=options["levels"],
        codes=codes,
        seed=options["seed"],
        **own_settings(options),
    )
    model.fit(items.values[items.known])
    return model, model.assign(items.values)


def _import_codes(
    items: ItemVectors, keys: Sequence[str], codes_file: Path
) -> tuple[Quantizer, Int[Tensor, "item level"]]:
    """Codes of the file, and for items it lacks those its codes suggest."""
    found, sizes, known = codes_of_items(read_code_file(codes_file), keys)
    model = ImportedCodes(found, sizes, width=items.values.shape[1])
    model.fit(items.values[known])
    codes = model.assign(items.values)
    codes[known] = found
    if not bool(known.all()):
        sys.stderr.write(f"{int((~known).sum())} items are not in {codes_file}; codes inferred.\n")
    return model, codes


def _distinct(
    codes: Int[Tensor, "item level"],
    sizes: tuple[int, ...],
    collisions: str,
    collision_size: int | None,
) -> SemanticIdCodec:
    if collisions == "move":
        return with_moved_digit(codes, sizes)
    if collision_size is None:
        _, buckets = torch.unique(codes, dim=0, return_counts=True)
        collision_size = min(256, 2 * int(buckets.max()))
    return with_collision_digit(codes, sizes, collision_size=collision_size)
