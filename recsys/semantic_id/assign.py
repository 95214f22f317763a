"""Semantic IDs for items that came later: the work behind `recsys assign`."""

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from safetensors.torch import load_file
from torch import Tensor

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import CODES
from recsys.semantic_id.codec import SemanticIdCodec
from recsys.semantic_id.imported import ImportedCodes
from recsys.semantic_id.quality import quality_table, semantic_id_quality
from recsys.semantic_id.quantizer import Quantizer
from recsys.semantic_id.tokenize import (
    LEARNT,
    item_keys,
    item_vectors,
    own_settings,
    write_codec,
)


def run(
    *, semantic_ids: Path, vectors: Path, tables: Path, out: Path, overwrite: bool = False
) -> None:
    """Write a `semantic_ids` artifact for a catalogue that has grown (or shrunk).

    Items are recognised by key. Known ones keep their IDs; unseen ones get codes from the stored
    quantizer and the next free collision digit. Level sizes stay as they are, so a model trained
    on the old IDs can read the new ones.

    Args:
        semantic_ids: Artifact of `recsys tokenize`, made with `--tables`.
        vectors: Vectors artifact of the new catalogue, by the same sentence encoder.
        tables: Reviews artifact of the new catalogue.
        out: Folder of the new artifact.
        overwrite: Replace an artifact that is there.

    Raises:
        ArtifactMismatch: If the old IDs hold no item keys, or the vectors do not fit.
        InputError: If an unseen item finds no free collision digit.
    """
    old = read_artifact(semantic_ids, kind="semantic_ids")
    if not old.has("item_keys.json"):
        raise ArtifactMismatch(
            f"{semantic_ids} holds no item keys; run recsys tokenize with --tables."
        )
    new_vectors = read_artifact(vectors, kind="vectors")
    reviews = read_artifact(tables, kind="reviews")
    keys = item_keys(reviews, new_vectors)
    items = item_vectors(new_vectors)
    model = stored_quantizer(old, items.values.shape[1])
    codec, seen = grown_codec(
        _known_codes(old), tuple(old.json("codec")["level_sizes"]), keys, model.assign(items.values)
    )
    with create_artifact(
        out,
        kind="semantic_ids",
        command="recsys assign",
        configuration=dict(old.manifest.configuration),
        inputs={
            "semantic_ids": old.content_hash,
            "vectors": new_vectors.content_hash,
            "reviews": reviews.content_hash,
        },
        overwrite=overwrite,
    ) as writer:
        levels = old.json("codec")["quantizer_levels"]
        write_codec(writer, codec, keys, quantizer_levels=levels)
        writer.write_arrays(
            "quantizer", {name: value.numpy() for name, value in model.state_dict().items()}
        )
        quality = semantic_id_quality(
            codec.item_codes, codec.level_sizes, quantizer_codes=codec.item_codes[:, :levels]
        )
        writer.write_json("quality", quality.as_json())
        writer.notes = {"items": codec.item_count, "unseen_items": int((~seen).sum())}
    sys.stderr.write(f"{int((~seen).sum())} unseen items.\n{quality_table(quality)}")


def grown_codec(
    known: Mapping[str, tuple[int, ...]],
    level_sizes: tuple[int, ...],
    keys: Sequence[str],
    assigned: Int[Tensor, "item level"],
) -> tuple[SemanticIdCodec, Bool[Tensor, " item"]]:
    """A codec in which known items keep their IDs and unseen ones find a place beside them.

    An unseen item takes its assigned codes and the smallest free collision digit. Where IDs have
    no such digit, it takes the nearest free number at the last level. Items that are gone keep
    their IDs reserved, so an ID never changes its meaning.

    Args:
        known: Complete ID of every item of the old catalogue, by key.
        level_sizes: Number of codes at each level of the complete IDs.
        keys: Keys of the new catalogue.
        assigned: Codes the quantizer gives to every item of the new catalogue.

    Returns:
        The codec, and which items were known.

    Raises:
        InputError: If the last level has no free digit left.
    """
    taken = set(known.values())
    rows = []
    for key, codes in zip(keys, assigned.tolist(), strict=True):
        rows.append(known[key] if key in known else free_id(taken, level_sizes, key, codes))
        taken.add(rows[-1])
    seen = torch.tensor([key in known for key in keys])
    return SemanticIdCodec(torch.tensor(rows, dtype=torch.long), level_sizes), seen


def free_id(
    taken: Collection[tuple[int, ...]],
    level_sizes: tuple[int, ...],
    key: str,
    codes: Sequence[int],
) -> tuple[int, ...]:
    """A semantic ID for an unseen item, beside those that are taken; see `grown_codec`.

    Args:
        taken: Complete IDs that are not free.
        level_sizes: Number of codes at each level of the complete IDs.
        key: The item's key, to name it.
        codes: What the quantizer assigns to it.

    Raises:
        InputError: If the last level has no free digit left.
    """
    extra = len(level_sizes) - len(codes)
    prefix = tuple(codes) if extra else tuple(codes[:-1])
    wanted = 0 if extra else codes[-1]
    nearest = sorted(range(level_sizes[-1]), key=lambda digit: (abs(digit - wanted), digit))
    digit = next((digit for digit in nearest if (*prefix, digit) not in taken), None)
    if digit is None:
        raise InputError(
            f"The item {key} gets the codes {list(prefix)}, which {level_sizes[-1]} items "
            "share already; run recsys tokenize again with a larger --collision-size."
        )
    return (*prefix, digit)


def stored_quantizer(artifact: Artifact, width: int) -> Quantizer:
    """The quantizer of a `semantic_ids` artifact, ready to assign.

    Raises:
        ArtifactMismatch: If its weights do not fit vectors of this width.
    """
    options, document = artifact.manifest.configuration, artifact.json("codec")
    weights = load_file(artifact.file("quantizer.safetensors"))
    sizes = tuple(document["level_sizes"][: document["quantizer_levels"]])
    if options["quantizer"] == "imported":
        nothing = torch.zeros(0, len(sizes), dtype=torch.long)
        model: Quantizer = ImportedCodes(nothing, sizes, width=width)
    else:
        model = LEARNT[options["quantizer"]](
            width,
            levels=len(sizes),
            codes=sizes[0],
            seed=options["seed"],
            **own_settings(options),
        )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactMismatch(
            f"{artifact.folder} holds a quantizer that does not fit vectors of {width} numbers; "
            "encode with the model the semantic IDs were made with."
        ) from error
    return model


def _known_codes(artifact: Artifact) -> dict[str, tuple[int, ...]]:
    codes = artifact.table(CODES).sort("item_id")["codes"].to_list()
    return dict(zip(artifact.json("item_keys"), map(tuple, codes), strict=True))
