"""Vectors searched with FAISS: an index artifact opened, and the retriever over it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from data_prep.artifact import Artifact
from data_prep.errors import ArtifactMismatch, InputError
from personalize.api.exact_retriever import ExactRetriever
from personalize.api.exact_search import (
    VectorTable,
    check_put,
    check_query,
    check_vectors,
    exact_search,
    in_order,
    inner_products,
    merged,
    rounding_error,
)
from personalize.api.files import ServedFiles
from personalize.api.index_kind import HnswIndex, IndexKind, configured_kind, load_faiss
from personalize.api.retriever import EVERYTHING, Found, IdFilter, Retriever, RetrieverSource

INDEX_NAME = "index"
FAISS_FILE = f"{INDEX_NAME}.faiss"
FEW_DENIED = 128
EXACT_SHARE = 0.1
EXACT_ROWS = 10_000


@dataclass(frozen=True)
class StoredIndex(RetrieverSource):
    """An artifact that `personalize index` wrote.

    Attributes:
        folder: The artifact.
        gpu: Move the index to the first GPU; filters of many ids and what was added are then
            still searched on the CPU.
    """

    folder: Path
    gpu: bool = False

    def open(self, files: ServedFiles, *, vectors_hash: str) -> Retriever:
        """Read the index; every byte was compared with the manifest before FAISS sees one.

        Raises:
            NotServedError: If the artifact is not there.
            ArtifactMismatch: If it is damaged, or holds other vectors.
            InputError: If FAISS is not installed, or there is no GPU but one is asked for.
        """
        artifact = files.artifact(self.folder, kind=INDEX_NAME)
        if artifact.manifest.inputs.get("vectors") != vectors_hash:
            raise ArtifactMismatch(
                f"{artifact.folder} is an index of other vectors; run personalize index on the "
                "vectors that are served."
            )
        kind, index, table = _read(artifact)
        facts = {**artifact.manifest.notes, "content_hash": artifact.content_hash}
        if not self.gpu:
            return FaissRetriever(table, kind=kind, index=index, notes=facts)
        moved = _on_gpu(kind, index)
        return FaissRetriever(table, kind=kind, index=moved, notes=facts, selects=False)


class FaissRetriever(Retriever):
    """A FAISS index that is never changed, and an exact one of what was put since.

    The index proposes candidates; scores are always those of the vectors. Where few vectors are
    allowed they are compared one by one, for a graph or lists would miss them: where it is at most
    a tenth of all, or 10,000 (measured in `docs/experiments.md`). The same is done where the index
    proposes too few.

    Args:
        table: The vectors in the order of their ids.
        kind: How candidates are found.
        index: What `kind` built of the vectors.
        notes: Facts to tell.
        selects: Whether the index understands a selection of ids.

    Raises:
        ValueError: If ids are not in order, or the index has another size or width.
    """

    def __init__(
        self,
        table: VectorTable,
        *,
        kind: IndexKind,
        index: Any,  # noqa: ANN401  (FAISS is untyped)
        notes: Mapping[str, Any],
        selects: bool = True,
    ) -> None:
        if (np.diff(table.ids) <= 0).any():
            raise ValueError("the ids of an index must be in order, each once.")
        if (index.ntotal, index.d) != table.values.shape:
            raise ValueError(
                f"the index holds {index.ntotal} vectors of {index.d} numbers, not "
                f"{table.values.shape[0]} of {table.values.shape[1]}."
            )
        self._table, self._kind, self._index, self._notes = table, kind, index, dict(notes)
        self._selects = selects
        self._replaced = np.zeros(0, np.int64)
        self._added = ExactRetriever(
            np.zeros(0, np.int64), np.zeros((0, table.values.shape[1]), np.float32)
        )

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._table.values.shape[1]

    def __len__(self) -> int:
        """Number of vectors that can be found."""
        return len(self._table.ids) - len(self._replaced) + len(self._added)

    def search(
        self,
        queries: Float32[np.ndarray, "row width"],
        *,
        count: int,
        only: IdFilter = EVERYTHING,
    ) -> Found:
        """As `Retriever.search`; equal scores in the order of their ids."""
        check_query(queries, width=self.width, count=count)
        found = self._search_index(queries, count, self._allowed(only))
        if not len(self._added):
            return found
        return merged(found, self._added.search(queries, count=count, only=only))

    def put(
        self, ids: Int64[np.ndarray, " row"], vectors: Float32[np.ndarray, "row width"]
    ) -> None:
        """As `Retriever.put`.

        Raises:
            ValueError: If an id is negative or comes twice, or a vector has another width or is
                not finite.
        """
        check_put(ids, vectors, width=self.width)
        self._added.put(ids, vectors)
        self._replaced = np.union1d(self._replaced, self._rows_of(ids))

    def facts(self) -> Mapping[str, Any]:
        """What it is, and what was measured when it was built."""
        return {
            **self._notes,
            "retriever": "faiss",
            "vectors": len(self),
            "added": len(self._added),
            "width": self.width,
            "exact": self._kind.exact,
        }

    def _rows_of(self, ids: Int64[np.ndarray, " id"]) -> Int64[np.ndarray, " known"]:
        """Rows of those ids that the index knows, in order, each once."""
        wanted = np.unique(ids)
        places = np.searchsorted(self._table.ids, wanted)
        places = places[places < len(self._table.ids)]
        return places[np.isin(self._table.ids[places], wanted)]

    def _allowed(self, only: IdFilter) -> "_Allowed":
        never = np.zeros(0, np.int64) if only.never is None else only.never
        denied = np.union1d(self._replaced, self._rows_of(never))
        if only.only is None:
            return _Allowed(len(self._table.ids), None, denied)
        chosen = np.setdiff1d(self._rows_of(only.only), denied, assume_unique=True)
        return _Allowed(len(self._table.ids), chosen, denied)

    def _search_index(
        self, queries: Float32[np.ndarray, "row width"], count: int, allowed: "_Allowed"
    ) -> Found:
        """The best of the index, compared exactly."""
        if self._is_for_exact(count, allowed):
            return exact_search(self._table, queries, count=count, rows=allowed.rows())
        rows = self._candidates(queries, count, allowed)
        scores = inner_products(self._table.values, rows, queries)
        ids = np.where(rows < 0, -1, self._table.ids[rows])
        found = in_order(ids, scores, count=count)
        doubtful = np.flatnonzero(self._doubtful(queries, rows, scores, count, len(allowed)))
        if len(doubtful):
            again = exact_search(self._table, queries[doubtful], count=count, rows=allowed.rows())
            found.ids[doubtful], found.scores[doubtful] = again.ids, again.scores
        return found

    def _is_for_exact(self, count: int, allowed: "_Allowed") -> bool:
        """Whether comparing one by one is better than asking the index."""
        everything = len(self._table.ids)
        if len(allowed) == everything:
            return not everything
        if not self._selects and len(allowed.denied) > FEW_DENIED:
            return True
        few = max(EXACT_ROWS, EXACT_SHARE * everything)
        return allowed.chosen is not None and (
            not self._selects or (not self._kind.exact and len(allowed) <= few)
        )

    def _candidates(
        self, queries: Float32[np.ndarray, "row width"], count: int, allowed: "_Allowed"
    ) -> Int64[np.ndarray, "row candidate"]:
        """Rows that are allowed; where few are not, more are fetched and those dropped."""
        drop = allowed.chosen is None and len(allowed.denied) <= FEW_DENIED
        selector = None if drop else allowed.selector()
        wanted = count + (len(allowed.denied) if drop else 0)
        with _threads_for(len(queries)):
            rows = self._kind.candidates(self._index, queries, count=wanted, selector=selector)
        if drop and len(allowed.denied):
            rows = np.where(np.isin(rows, allowed.denied), -1, rows)
        return rows

    def _doubtful(
        self,
        queries: Float32[np.ndarray, "row width"],
        rows: Int64[np.ndarray, "row candidate"],
        scores: Float32[np.ndarray, "row candidate"],
        count: int,
        allowed: int,
    ) -> Bool[np.ndarray, " row"]:
        """Where too few came back; for an exact kind, also where rounding decided who is in."""
        there = (rows >= 0).sum(1)
        too_few = there < min(count, allowed)
        if not self._kind.exact or scores.shape[1] < count:
            return too_few
        last_in = -np.partition(-scores, count - 1, axis=1)[:, count - 1]
        last = np.where(rows >= 0, scores, np.inf).min(1, initial=np.inf)
        margin = 2 * rounding_error(queries, self._table.longest)
        return too_few | ((there < allowed) & ~(last_in - last > margin))


@dataclass(frozen=True)
class _Allowed:
    """Rows that may be found: those chosen, or all but those denied."""

    everything: int
    chosen: Int64[np.ndarray, " chosen"] | None
    denied: Int64[np.ndarray, " denied"]

    def __len__(self) -> int:
        return self.everything - len(self.denied) if self.chosen is None else len(self.chosen)

    def rows(self) -> Int64[np.ndarray, " allowed"] | None:
        """The rows themselves; None where it is all of them."""
        if self.chosen is not None or not len(self.denied):
            return self.chosen
        return np.delete(np.arange(self.everything), self.denied)

    def selector(self) -> Any:  # noqa: ANN401
        """The same for FAISS."""
        faiss = load_faiss()
        if self.chosen is None:
            return faiss.IDSelectorNot(faiss.IDSelectorBatch(self.denied))
        bits = np.zeros(self.everything, np.bool_)
        bits[self.chosen] = True
        return faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))


def vectors_inside(index: Any) -> Float32[np.ndarray, "item width"] | None:  # noqa: ANN401
    """The vectors as an index holds them, not copied; None where it holds only codes of them."""
    faiss = load_faiss()
    flat = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    if not isinstance(flat, faiss.IndexFlat):
        return None
    numbers = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
    return numbers.reshape(flat.ntotal, flat.d)


def _read(artifact: Artifact) -> tuple[IndexKind, Any, VectorTable]:
    faiss = load_faiss()
    notes = artifact.manifest.notes
    kind = configured_kind(notes.get("kind"), where=str(artifact.folder))
    arrays = artifact.arrays(INDEX_NAME)
    try:
        index = faiss.read_index(str(artifact.file(FAISS_FILE)))
    except RuntimeError as error:
        raise ArtifactMismatch(
            f"{artifact.file(FAISS_FILE)} cannot be read by FAISS {faiss.__version__}; write the "
            "index again."
        ) from error
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ArtifactMismatch(f"{artifact.folder} does not search by inner products.")
    inside = vectors_inside(index)
    values = arrays["vectors"] if inside is None else inside
    lengths = check_vectors(values, width=index.d, what="vector")
    return kind, index, VectorTable(arrays["ids"], values, float(lengths.max(initial=0.0)))


def _on_gpu(kind: IndexKind, index: Any) -> Any:  # noqa: ANN401
    faiss = load_faiss()
    if faiss.get_num_gpus() < 1:
        raise InputError("FAISS sees no GPU; set gpu to false, or install the extra gpu.")
    if isinstance(kind, HnswIndex):
        raise InputError("FAISS has no HnswIndex on a GPU; set gpu to false, or build FlatIndex.")
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


@contextmanager
def _threads_for(rows: int) -> Iterator[None]:
    """One thread for a single query, which is faster and steadier; all of them for several."""
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if rows == 1 else before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
