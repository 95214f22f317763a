"""SLOT IndexKind: which FAISS index is built over a catalogue's vectors, and how it is searched."""

from abc import ABC, abstractmethod
from argparse import ArgumentError
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from data_prep.errors import InputError

SEED = 1234
LEAST_PER_LIST = 39  # fewer vectors train a list badly; FAISS warns below this
LEAST_FOR_PRODUCT_CODES = 256  # an 8-bit code has as many centroids
SPARE = 16
MOST_ON_GPU = 2048


def load_faiss() -> ModuleType:
    """The FAISS library.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "FAISS is not installed; install this package with the extra cpu or gpu."
        ) from error
    return faiss


class IndexKind(ABC):
    """How an index over inner products is built, and which candidates it proposes.

    Laws, held by `tests/personalize/api/test_retrievers.py`: the same vectors give the same bytes,
    on one thread; candidates are rows that the selector allows, each once, -1 where there are
    fewer. Candidates are compared exactly by whoever asked, so their order says nothing.
    """

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether the candidates always hold the nearest vectors, but for rounding."""

    @abstractmethod
    def build(self, vectors: Float32[np.ndarray, "item width"]) -> Any:  # noqa: ANN401  (FAISS is untyped)
        """A FAISS index of the vectors, numbered by their rows.

        Raises:
            InputError: If such an index cannot be built over these vectors.
        """

    @abstractmethod
    def candidates(
        self,
        index: Any,  # noqa: ANN401
        queries: Float32[np.ndarray, "row width"],
        *,
        count: int,
        selector: Any = None,  # noqa: ANN401
    ) -> Int64[np.ndarray, "row candidate"]:
        """Rows among which the `count` nearest are, or most of them."""


@dataclass(frozen=True)
class FlatIndex(IndexKind):
    """Every query is compared with every vector."""

    @property
    def exact(self) -> bool:
        """Nothing is left out."""
        return True

    def build(self, vectors: Float32[np.ndarray, "item width"]) -> Any:  # noqa: ANN401
        """An `IndexFlatIP`."""
        index = load_faiss().IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors))
        return index

    def candidates(
        self,
        index: Any,  # noqa: ANN401
        queries: Float32[np.ndarray, "row width"],
        *,
        count: int,
        selector: Any = None,  # noqa: ANN401
    ) -> Int64[np.ndarray, "row candidate"]:
        """A few more than asked for, so that rounding and equal scores can be told apart."""
        faiss = load_faiss()
        parameters = None if selector is None else faiss.SearchParameters(sel=selector)
        wanted = min(count + SPARE, max(1, index.ntotal))
        return index.search(queries, wanted, params=parameters)[1]


@dataclass(frozen=True)
class HnswIndex(IndexKind):
    """A graph of near neighbours, walked from afar to the nearest.

    Attributes:
        links: Neighbours of a vector in the graph.
        build_depth: Candidates looked at while a vector is linked.
        search_depth: Candidates looked at while one query is answered; at least twice as many as
            are asked for.

    Raises:
        ValueError: If one of them is too small.

    Source:
        Malkov and Yashunin, 2020, doi:10.1109/TPAMI.2018.2889473, as in FAISS.
    """

    links: int = 32
    build_depth: int = 64
    search_depth: int = 128

    def __post_init__(self) -> None:
        if self.links < 2 or self.build_depth < 1 or self.search_depth < 1:
            raise ValueError(
                "HnswIndex needs links of at least 2, build_depth and search_depth of at least 1."
            )

    @property
    def exact(self) -> bool:
        """A walk can miss."""
        return False

    def build(self, vectors: Float32[np.ndarray, "item width"]) -> Any:  # noqa: ANN401
        """An `IndexHNSWFlat`."""
        faiss = load_faiss()
        index = faiss.IndexHNSWFlat(vectors.shape[1], self.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.build_depth
        index.add(np.ascontiguousarray(vectors))
        return index

    def candidates(
        self,
        index: Any,  # noqa: ANN401
        queries: Float32[np.ndarray, "row width"],
        *,
        count: int,
        selector: Any = None,  # noqa: ANN401
    ) -> Int64[np.ndarray, "row candidate"]:
        """As many as are asked for."""
        depth = max(self.search_depth, 2 * count)
        parameters = load_faiss().SearchParametersHNSW(efSearch=depth, sel=selector)
        return index.search(queries, min(count, index.ntotal), params=parameters)[1]


@dataclass(frozen=True)
class IvfIndex(IndexKind):
    """Vectors in lists by their nearest centroid; the lists nearest to a query are read.

    It suits vectors that lie in clusters; where they do not, many more probes are needed.

    Attributes:
        lists: Number of lists. Default: four times the square root of the number of vectors.
        probes: Lists read for one query.

    Raises:
        ValueError: If one of them is not positive.
    """

    lists: int | None = None
    probes: int = 32

    def __post_init__(self) -> None:
        _check_lists(self.lists, self.probes)

    @property
    def exact(self) -> bool:
        """A near vector can lie in a list that is not read."""
        return False

    def build(self, vectors: Float32[np.ndarray, "item width"]) -> Any:  # noqa: ANN401
        """An `IndexIVFFlat`."""
        faiss = load_faiss()
        width, lists = vectors.shape[1], _list_count(self.lists, len(vectors))
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT
        )
        return _filled(index, vectors)

    def candidates(
        self,
        index: Any,  # noqa: ANN401
        queries: Float32[np.ndarray, "row width"],
        *,
        count: int,
        selector: Any = None,  # noqa: ANN401
    ) -> Int64[np.ndarray, "row candidate"]:
        """As many as are asked for."""
        parameters = load_faiss().SearchParametersIVF(nprobe=self.probes, sel=selector)
        return index.search(queries, min(count, index.ntotal), params=parameters)[1]


@dataclass(frozen=True)
class IvfPqIndex(IndexKind):
    """As `IvfIndex`, each vector kept as a few bytes; the real vectors decide among the best.

    The codes alone find a third of what should be found; so several times as many are fetched and
    compared exactly with the vectors, which are read from disk where they are needed.

    Attributes:
        lists: Number of lists. Default: four times the square root of the number of vectors.
        probes: Lists read for one query.
        code_bytes: Bytes of a code; the width must be a multiple of it.
        rerank: Candidates compared exactly, for each one asked for.

    Raises:
        ValueError: If one of them is not positive.

    Source:
        Jégou, Douze and Schmid, 2011, doi:10.1109/TPAMI.2010.57, as in FAISS.
    """

    lists: int | None = None
    probes: int = 32
    code_bytes: int = 32
    rerank: int = 10

    def __post_init__(self) -> None:
        _check_lists(self.lists, self.probes)
        if self.code_bytes < 1 or self.rerank < 1:
            raise ValueError("IvfPqIndex needs code_bytes and rerank of at least 1.")

    @property
    def exact(self) -> bool:
        """A near vector can lie in a list that is not read, or have a bad code."""
        return False

    def build(self, vectors: Float32[np.ndarray, "item width"]) -> Any:  # noqa: ANN401
        """An `IndexIVFPQ`.

        Raises:
            InputError: If there are too few vectors for the codes, or the width does not fit.
        """
        faiss = load_faiss()
        count, width = vectors.shape
        if count < LEAST_FOR_PRODUCT_CODES:
            raise InputError(
                f"IvfPqIndex needs at least {LEAST_FOR_PRODUCT_CODES} vectors, got {count}; take "
                "FlatIndex."
            )
        if width % self.code_bytes:
            raise InputError(
                f"IvfPqIndex needs a width that is a multiple of code_bytes, got {width} and "
                f"{self.code_bytes}; set code_bytes."
            )
        lists = _list_count(self.lists, count)
        index = faiss.IndexIVFPQ(
            faiss.IndexFlatIP(width), width, lists, self.code_bytes, 8, faiss.METRIC_INNER_PRODUCT
        )
        index.pq.cp.seed = SEED
        index.pq.cp.min_points_per_centroid = 1
        return _filled(index, vectors)

    def candidates(
        self,
        index: Any,  # noqa: ANN401
        queries: Float32[np.ndarray, "row width"],
        *,
        count: int,
        selector: Any = None,  # noqa: ANN401
    ) -> Int64[np.ndarray, "row candidate"]:
        """Several times as many as are asked for."""
        parameters = load_faiss().SearchParametersIVF(nprobe=self.probes, sel=selector)
        wanted = min(max(count, min(self.rerank * count, MOST_ON_GPU)), index.ntotal)
        return index.search(queries, wanted, params=parameters)[1]


def default_kind(count: int) -> IndexKind:
    """What is built where nothing is configured: exact up to 50,000 vectors, then a graph.

    Up to there one query costs less than two milliseconds. Lists are built faster and are searched
    faster than a graph, but find 0.83 of the ten nearest where vectors do not lie in clusters; a
    graph finds 0.9995 there too (`docs/experiments.md`).
    """
    return FlatIndex() if count <= 50_000 else HnswIndex()


def _check_lists(lists: int | None, probes: int) -> None:
    if (lists is not None and lists < 1) or probes < 1:
        raise ValueError("lists and probes must be at least 1.")


def _list_count(lists: int | None, count: int) -> int:
    wanted = lists if lists is not None else int(4 * count**0.5)
    return max(1, min(wanted, count // LEAST_PER_LIST))


def _filled(index: Any, vectors: Float32[np.ndarray, "item width"]) -> Any:  # noqa: ANN401
    """The index, trained from a fixed seed, with the vectors in it."""
    index.cp.seed = SEED
    index.cp.min_points_per_centroid = 1
    values = np.ascontiguousarray(vectors)
    index.train(values)
    index.add(values)
    return index


def configured_kind(chosen: Any, *, where: str) -> IndexKind:  # noqa: ANN401  (out of a file)
    """The kind that a `class_path` and its `init_args` name.

    Args:
        chosen: A mapping with these keys, or the name of a class alone; one of this file needs no
            module.
        where: Where it was read, for messages.

    Raises:
        InputError: If it names no such class, or the class does not take an option.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--kind", type=IndexKind, required=True)
    try:
        return parser.instantiate(parser.parse_object({"kind": chosen})).kind
    except (ArgumentError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()).removeprefix('Parser key "kind": ')[:300]
        raise InputError(
            f"{where} names no kind of index that can be built ({reason}); known are FlatIndex, "
            "HnswIndex, IvfIndex and IvfPqIndex."
        ) from error
