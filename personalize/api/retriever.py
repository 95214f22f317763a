"""SLOT Retriever: the nearest vectors to a query, by the catalogue's own ids."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from personalize.api.files import ServedFiles


@dataclass(frozen=True)
class Found:
    """The nearest vectors to each query, best first.

    Attributes:
        ids: Ids as they were given; -1 only where fewer are allowed than were asked for.
        scores: Inner products with the query, higher is nearer; `-inf` beside -1.
    """

    ids: Int64[np.ndarray, "row rank"]
    scores: Float32[np.ndarray, "row rank"]


@dataclass(frozen=True)
class IdFilter:
    """Which ids may be found, the same for all rows of a search.

    Attributes:
        only: Nothing but these, where given.
        never: None of these.
    """

    only: Int64[np.ndarray, " allowed"] | None = None
    never: Int64[np.ndarray, " denied"] | None = None


EVERYTHING = IdFilter()


class Retriever(ABC):
    """Finds vectors with a large inner product with a query.

    Unit vectors make it cosine similarity. Laws, held by `tests/personalize/api/test_retrievers.py`
    for every variant: ids are distinct and were given; a filtered id is never found; rows do not
    influence each other; as many come back as are asked for, unless fewer are allowed; a vector
    that was put is found at once, and one that was put anew is found by its new vector alone.
    """

    @property
    @abstractmethod
    def width(self) -> int:
        """Length of a vector."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of vectors that can be found."""

    @abstractmethod
    def search(
        self,
        queries: Float32[np.ndarray, "row width"],
        *,
        count: int,
        only: IdFilter = EVERYTHING,
    ) -> Found:
        """The `count` nearest vectors to each query among those allowed.

        Raises:
            ValueError: If a query has another width or is not finite, or `count` is not positive.
        """

    @abstractmethod
    def put(
        self, ids: Int64[np.ndarray, " row"], vectors: Float32[np.ndarray, "row width"]
    ) -> None:
        """Add vectors, or replace those of ids that are known.

        Nothing of it is kept on disk here: who adds also keeps what was added.
        """

    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What it is, as plain JSON values: class, number of vectors, width, measured recall."""


class RetrieverSource(ABC):
    """SLOT: where vectors are searched. Building one opens nothing."""

    @abstractmethod
    def open(self, files: ServedFiles, *, vectors_hash: str) -> Retriever:
        """Get ready to search.

        Args:
            files: What may be opened.
            vectors_hash: Content hash of the artifact whose vectors are to be searched.

        Raises:
            NotServedError: If the artifact is not there.
            ArtifactMismatch: If it is damaged, or holds other vectors.
        """
