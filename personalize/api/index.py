"""Vectors searched with FAISS: an index artifact opened, and the retriever over it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
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
INDEX_SHARE = 0.9


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
        facts = {**artifact.manifest.notes, "content_hash": artifact.content_hash}
        try:
            kind, index, table = _read(artifact)
            searched = _on_gpu(kind, index) if self.gpu else index
            return FaissRetriever(
                table, kind=kind, index=searched, notes=facts, selects=not self.gpu
            )
        except (KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise ArtifactMismatch(
                f"{artifact.folder} does not fit together ({error}); write the index again."
            ) from error


class FaissRetriever(Retriever):
    """A FAISS index that is never changed, and an exact one of what was put since.

    The index proposes candidates; scores are always those of the vectors. Where less than nine
    tenths of the vectors are allowed, those are compared one by one: an index finds too little
    among them (a graph 0.88 where half of the categories are allowed, 0.63 at a tenth) and is
    hardly faster. The same is done where the index proposes too few. Up to 128 that are not
    allowed are fetched as well and dropped, which loses nothing.

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
        found = self._search_index(queries, count, self._mask(only))
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
        """Rows of those ids that the index knows."""
        known = self._table.ids
        if not len(known):
            return np.zeros(0, np.int64)
        if known[-1] - known[0] == len(known) - 1:  # without gaps: nothing to look for
            ids = ids[(ids >= known[0]) & (ids <= known[-1])]
            return ids - known[0]
        places = np.searchsorted(known, ids).clip(max=len(known) - 1)
        return places[known[places] == ids]

    def _mask(self, only: IdFilter) -> Bool[np.ndarray, " item"] | None:
        """Which rows may be found; None where it is all of them."""
        if only.only is None and only.never is None and not len(self._replaced):
            return None
        mask = np.full(len(self._table.ids), only.only is None)
        if only.only is not None:
            mask[self._rows_of(only.only)] = True
        if only.never is not None:
            mask[self._rows_of(only.never)] = False
        mask[self._replaced] = False
        return mask

    def _search_index(
        self,
        queries: Float32[np.ndarray, "row width"],
        count: int,
        mask: Bool[np.ndarray, " item"] | None,
    ) -> Found:
        """The best of the index, compared exactly."""
        everything = len(self._table.ids)
        allowed = everything if mask is None else int(np.count_nonzero(mask))
        selects = self._selects or everything - allowed <= FEW_DENIED
        if not selects or allowed < INDEX_SHARE * everything or not allowed:
            return self._compare(queries, count, mask)
        rows = self._candidates(queries, count, mask, denied=everything - allowed)
        scores = inner_products(self._table.values, rows, queries)
        ids = np.where(rows < 0, -1, self._table.ids[rows])
        found = in_order(ids, scores, count=count)
        doubtful = np.flatnonzero(self._doubtful(queries, rows, scores, count, allowed))
        if len(doubtful):
            again = self._compare(queries[doubtful], count, mask)
            found.ids[doubtful], found.scores[doubtful] = again.ids, again.scores
        return found

    def _compare(
        self,
        queries: Float32[np.ndarray, "row width"],
        count: int,
        mask: Bool[np.ndarray, " item"] | None,
    ) -> Found:
        rows = None if mask is None else np.flatnonzero(mask)
        return exact_search(self._table, queries, count=count, rows=rows)

    def _candidates(
        self,
        queries: Float32[np.ndarray, "row width"],
        count: int,
        mask: Bool[np.ndarray, " item"] | None,
        *,
        denied: int,
    ) -> Int64[np.ndarray, "row candidate"]:
        """Rows that are allowed; where few are not, more are fetched and those dropped."""
        selector = None
        if mask is not None and denied > FEW_DENIED:
            bits = np.packbits(mask, bitorder="little")
            selector, denied = load_faiss().IDSelectorBitmap(bits), 0
        with _threads_for(len(queries)):
            rows = self._kind.candidates(
                self._index, queries, count=count + denied, selector=selector
            )
        return np.where(mask[rows], rows, -1) if mask is not None else rows

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


def vectors_inside(index: Any) -> Float32[np.ndarray, "item width"] | None:  # noqa: ANN401
    """The vectors as an index holds them, not copied; None where it holds only codes of them.

    The array keeps the index alive.
    """
    faiss = load_faiss()
    flat = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    if not isinstance(flat, faiss.IndexFlat) or not flat.ntotal:
        return None
    numbers = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
    lent = SimpleNamespace(__array_interface__=numbers.__array_interface__, owner=index)
    return np.asarray(lent).reshape(flat.ntotal, flat.d)


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
    if arrays["ids"].dtype != np.int64 or arrays["ids"].shape != (index.ntotal,):
        raise ArtifactMismatch(f"{artifact.folder} does not fit together: not one id per vector.")
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
