"""The catalogue read from artifacts."""

from pathlib import Path

import numpy as np
import torch

from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import ArtifactMismatch
from data_prep.schema import CODES, ITEM_TEXT_IDS, ITEMS, TEXTS
from recsys.catalogue import Catalogue


def load_catalogue(
    tables: Path, vectors: Path | None = None, semantic_ids: Path | None = None
) -> Catalogue:
    """What a retriever may know of the items, from artifacts.

    Args:
        tables: An artifact `reviews`.
        vectors: An artifact `vectors`; without it no item has a text and no text has a vector.
        semantic_ids: An artifact `semantic_ids`; without it items have no codes.

    Raises:
        ArtifactMismatch: If an artifact is damaged, of another kind, or numbers other items.
    """
    item_count = read_artifact(tables, kind="reviews").table(ITEMS).height
    codes, level_sizes = _item_codes(semantic_ids, item_count)
    text_ids = np.zeros(item_count, np.int64)
    text_mask = np.zeros(item_count, np.bool_)
    text_vectors, texts = torch.zeros(0, 0), ()
    if vectors is not None:
        source = read_artifact(vectors, kind="vectors")
        known = source.table(ITEM_TEXT_IDS)["text_id"]
        _check_item_count(source, known.len(), item_count)
        text_mask = known.is_not_null().to_numpy().astype(np.bool_)
        text_ids = known.fill_null(0).to_numpy().astype(np.int64)
        values = np.array(source.arrays("vectors")["values"], dtype=np.float32)
        text_vectors = torch.from_numpy(values)
        texts = tuple(source.table(TEXTS)["text"].to_list())
    return Catalogue(
        item_codes=codes,
        level_sizes=level_sizes,
        item_text_ids=torch.from_numpy(text_ids),
        item_text_mask=torch.from_numpy(text_mask),
        text_vectors=text_vectors,
        texts=texts,
    )


def _item_codes(semantic_ids: Path | None, item_count: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    if semantic_ids is None:
        return torch.zeros(item_count, 0, dtype=torch.int64), ()
    source = read_artifact(semantic_ids, kind="semantic_ids")
    codes = np.array(source.table(CODES)["codes"].to_list(), dtype=np.int64)
    _check_item_count(source, len(codes), item_count)
    level_sizes = tuple(int(size) for size in source.json("codec")["level_sizes"])
    if codes.ndim != 2 or codes.shape[1] != len(level_sizes) or (codes >= level_sizes).any():
        raise ArtifactMismatch(
            f"{source.folder} has codes that do not fit its level sizes {level_sizes}; run "
            "`recsys tokenize` again."
        )
    return torch.from_numpy(codes), level_sizes


def _check_item_count(source: Artifact, found: int, expected: int) -> None:
    if found != expected:
        raise ArtifactMismatch(
            f"{source.folder} ({source.manifest.kind}) numbers {found} items, the tables number "
            f"{expected}; make it again from these tables."
        )
