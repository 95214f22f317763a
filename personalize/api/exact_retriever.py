"""Exact search in vectors held in memory: for small catalogues, and for what is added to others."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from personalize.api.exact_search import (
    VectorTable,
    allowed_rows,
    check_put,
    check_query,
    check_vectors,
    exact_search,
)
from personalize.api.retriever import EVERYTHING, Found, IdFilter, Retriever


class ExactRetriever(Retriever):
    """Compares every query with every vector; needs nothing but numpy.

    Args:
        ids: Distinct, not negative.
        vectors: One per id; they are copied when the first one is put, not before.

    Raises:
        ValueError: As `put`.
    """

    def __init__(
        self, ids: Int64[np.ndarray, " item"], vectors: Float32[np.ndarray, "item width"]
    ) -> None:
        check_put(ids, vectors, width=vectors.shape[1])
        self._ids, self._values = ids, vectors
        self._count = len(ids)
        self._longest = float(
            check_vectors(vectors, width=vectors.shape[1], what="vector").max(initial=0.0)
        )
        self._row_of: dict[int, int] | None = None

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._values.shape[1]

    def __len__(self) -> int:
        """Number of vectors that can be found."""
        return self._count

    def search(
        self,
        queries: Float32[np.ndarray, "row width"],
        *,
        count: int,
        only: IdFilter = EVERYTHING,
    ) -> Found:
        """As `Retriever.search`; equal scores in the order of their ids."""
        check_query(queries, width=self.width, count=count)
        table = VectorTable(self._ids[: self._count], self._values[: self._count], self._longest)
        return exact_search(table, queries, count=count, rows=allowed_rows(table.ids, only))

    def put(
        self, ids: Int64[np.ndarray, " row"], vectors: Float32[np.ndarray, "row width"]
    ) -> None:
        """As `Retriever.put`.

        Raises:
            ValueError: If an id is negative or comes twice, or a vector has another width or is
                not finite.
        """
        check_put(ids, vectors, width=self.width)
        lengths = check_vectors(vectors, width=self.width, what="vector")
        if self._row_of is None:
            self._row_of = {item: row for row, item in enumerate(self._ids.tolist())}
            self._ids, self._values = self._ids.copy(), np.array(self._values)
        rows = np.array([self._row_of.setdefault(i, len(self._row_of)) for i in ids.tolist()], int)
        self._count = len(self._row_of)
        if self._count > len(self._ids):
            room = 2 * self._count - len(self._ids)
            self._ids = np.concatenate([self._ids, np.zeros(room, np.int64)])
            more = np.zeros((room, self.width), np.float32)
            self._values = np.concatenate([self._values, more])
        self._ids[rows], self._values[rows] = ids, vectors
        self._longest = max(self._longest, float(lengths.max(initial=0.0)))

    def facts(self) -> Mapping[str, Any]:
        """What it is."""
        return {"retriever": "exact", "vectors": len(self), "width": self.width, "exact": True}
