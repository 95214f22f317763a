"""A retriever that compares with every vector, for tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from driving.embed import SCENE_VECTORS
from personalize.api.files import ServedFiles
from personalize.api.retriever import EVERYTHING, Found, IdFilter, Retriever, RetrieverSource


class ExactRetriever(Retriever):
    """Sorts all inner products."""

    def __init__(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self.ids, self.vectors = ids, vectors

    @property
    def width(self) -> int:
        return self.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, queries: np.ndarray, *, count: int, only: IdFilter = EVERYTHING) -> Found:
        allowed = np.ones(len(self.ids), np.bool_)
        if only.only is not None:
            allowed &= np.isin(self.ids, only.only)
        if only.never is not None:
            allowed &= ~np.isin(self.ids, only.never)
        scores = queries @ self.vectors[allowed].T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        ids = np.full((len(queries), count), -1, np.int64)
        best = np.full((len(queries), count), -np.inf, np.float32)
        ids[:, : order.shape[1]] = self.ids[allowed][order]
        best[:, : order.shape[1]] = np.take_along_axis(scores, order, 1)
        return Found(ids, best)

    def put(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        raise NotImplementedError

    def facts(self) -> Mapping[str, Any]:
        return {"class": "ExactRetriever", "vectors": len(self)}


class ExactSource(RetrieverSource):
    """Over an artifact `scene_vectors`."""

    def __init__(self, vectors: Path) -> None:
        self.vectors = vectors

    def open(self, files: ServedFiles, *, vectors_hash: str) -> ExactRetriever:
        source = files.artifact(self.vectors, kind="scene_vectors")
        assert source.content_hash == vectors_hash
        ids = source.table(SCENE_VECTORS)["sample_id"].to_numpy().astype(np.int64)
        return ExactRetriever(ids, np.asarray(source.arrays("scene_vectors")["values"]))
