"""Vectors searched in a Qdrant collection: filled once, searched and added to by any server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float32, Int64

from data_prep.errors import ArtifactMismatch, InputError
from personalize.api.exact_search import check_put, check_query, in_order, nothing_found
from personalize.api.files import NotServedError, ServedFiles
from personalize.api.retriever import EVERYTHING, Found, IdFilter, Retriever, RetrieverSource
from personalize.api.vectors import StoredVectors, read_vectors

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

HASH_KEY = "vectors"
SPARE = 16
POINTS_AT_ONCE = 1000
FILTER_IDS_AT_ONCE = 200_000  # of all queries in one call, about 2 MB
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class QdrantStore(RetrieverSource):
    """A collection that `personalize upload` filled, on a server of version 1.16 or later.

    What is put while serving stays in the collection, and every server that searches it finds it,
    after a restart too: one that does not know an id has to leave it out.

    Attributes:
        collection: Its name.
        url: Of the server, such as `http://localhost:6333`. Without one the vectors are held in
            this process by the client's own exact search, to try things out.
        vectors: Without a `url`: the artifact to fill it with.
        api_key_file: File that holds the key, where the server asks for one.
        timeout_s: Seconds until a call is given up.
        search_depth: Candidates the server looks at for one query. Default: as it is configured.
        exact: Compare with every vector instead.

    Raises:
        ValueError: If there is neither `url` nor `vectors`, or both, or a number is not positive.
    """

    collection: str
    url: str | None = None
    vectors: Path | None = None
    api_key_file: Path | None = None
    timeout_s: int = 10
    search_depth: int | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        if (self.url is None) == (self.vectors is None):
            raise ValueError("QdrantStore needs either a url, or vectors to try it out with.")
        if self.timeout_s < 1 or (self.search_depth is not None and self.search_depth < 1):
            raise ValueError("timeout_s and search_depth must be at least 1.")

    def open(self, files: ServedFiles, *, vectors_hash: str) -> Retriever:
        """Connect, and look whether the collection holds these vectors.

        Raises:
            NotServedError: If there is no such collection.
            ArtifactMismatch: If it was filled with other vectors, or not to the end.
            InputError: If the client is not installed or the server does not answer.
        """
        if self.url is None:
            client = connect(None)
            upload(client, read_vectors(files.there(self.vectors or Path())), self.collection)
        else:
            client = connect(self.url, api_key_file=self.api_key_file, timeout_s=self.timeout_s)
        found = stored_hash(client, self.collection)
        if found != vectors_hash:
            raise ArtifactMismatch(
                f"The collection {self.collection} holds other vectors, or not all of them; "
                "run personalize upload with the vectors that are served."
            )
        return QdrantRetriever(
            client,
            self.collection,
            search_depth=self.search_depth,
            exact=self.exact,
            in_memory=self.url is None,
        )


class QdrantRetriever(Retriever):
    """Asks a collection; all queries of one search go in one call, or few where filters are long.

    Scores are the server's. Equal ones come in the order of their ids, but which of them are the
    last to come in is the server's choice where more than a few are equal.

    Args:
        client: Connected client.
        collection: Name of a collection that `upload` filled.
        search_depth: Candidates the server looks at for one query. Default: as it is configured.
        exact: Compare with every vector.
        in_memory: The client has no server: it compares with every vector whatever it is told.

    Raises:
        InputError: If the server does not answer.
    """

    def __init__(
        self,
        client: "QdrantClient",
        collection: str,
        *,
        search_depth: int | None = None,
        exact: bool = False,
        in_memory: bool = False,
    ) -> None:
        self._client, self._collection, self._in_memory = client, collection, in_memory
        self._search_depth, self._exact = search_depth, exact or in_memory
        described = answered(lambda: client.get_collection(collection))
        vectors: Any = described.config.params.vectors
        self._width = int(vectors.size)
        self._count = self._counted()

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._width

    def __len__(self) -> int:
        """Number of vectors in the collection when it was opened or last put to."""
        return self._count

    def search(
        self,
        queries: Float32[np.ndarray, "row width"],
        *,
        count: int,
        only: IdFilter = EVERYTHING,
    ) -> Found:
        """As `Retriever.search`.

        Raises:
            ValueError: If a query has another width or is not finite, or `count` is not positive.
            InputError: If the server does not answer.
        """
        check_query(queries, width=self.width, count=count)
        if only.only is not None and not len(only.only):
            return nothing_found(len(queries), count)
        found = self._ask(queries, count, only, exact=self._exact)
        few = np.flatnonzero((found.ids < 0).any(1))
        if len(few) and not self._exact:
            again = self._ask(queries[few], count, only, exact=True)
            found.ids[few], found.scores[few] = again.ids, again.scores
        return found

    def put(
        self, ids: Int64[np.ndarray, " row"], vectors: Float32[np.ndarray, "row width"]
    ) -> None:
        """As `Retriever.put`; the answer waits until the server can find them.

        Raises:
            ValueError: If an id is negative or comes twice, or a vector has another width or is
                not finite.
            InputError: If the server does not answer.
        """
        check_put(ids, vectors, width=self.width)
        upsert(self._client, self._collection, ids, vectors)
        self._count = self._counted()

    def facts(self) -> Mapping[str, Any]:
        """What it is."""
        return {
            "retriever": "qdrant",
            "collection": self._collection,
            "vectors": len(self),
            "width": self.width,
            "exact": self._exact,
        }

    def _counted(self) -> int:
        return answered(lambda: self._client.count(self._collection, exact=True)).count

    def _ask(
        self,
        queries: Float32[np.ndarray, "row width"],
        count: int,
        only: IdFilter,
        *,
        exact: bool,
    ) -> Found:
        from qdrant_client import models

        passes = _filter(only)
        parameters = models.SearchParams(exact=exact, hnsw_ef=self._search_depth)
        best = nothing_found(len(queries), count)
        named = sum(len(ids) for ids in (only.only, only.never) if ids is not None)
        at_once = max(1, FILTER_IDS_AT_ONCE // max(1, named))
        for start in range(0, len(queries), at_once):
            requests = [
                models.QueryRequest(
                    query=query.tolist(),
                    limit=count + SPARE,
                    filter=passes,
                    params=None if self._in_memory else parameters,
                )
                for query in queries[start : start + at_once]
            ]
            answers = answered(
                lambda requests=requests: self._client.query_batch_points(
                    self._collection, requests=requests
                )
            )
            for row, answer in enumerate(answers, start):
                ids = np.array([int(point.id) for point in answer.points], np.int64)
                scores = np.array([point.score for point in answer.points], np.float32)
                first = in_order(ids[None], scores[None], count=count)
                best.ids[row], best.scores[row] = first.ids[0], first.scores[0]
        return best


def connect(
    url: str | None, *, api_key_file: Path | None = None, timeout_s: int = 10
) -> "QdrantClient":
    """A client of a server, or without a URL one that keeps its collections in this process.

    Raises:
        InputError: If the client is not installed, or the key cannot be read.
    """
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise InputError(
            "The client of Qdrant is not installed; install this package with the extra qdrant."
        ) from error
    if url is None:
        return QdrantClient(":memory:")
    try:
        key = None if api_key_file is None else api_key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the key of Qdrant in {api_key_file}: {error}.") from error
    try:
        return QdrantClient(url=url, api_key=key, timeout=timeout_s, check_compatibility=False)
    except ValueError as error:
        raise InputError(f"{url} is no address of a Qdrant server: {error}.") from error


def stored_hash(client: "QdrantClient", collection: str) -> str | None:
    """Hash of the vectors a collection was filled with; None while it is not full.

    Raises:
        NotServedError: If there is no such collection.
        InputError: If the server does not answer.
    """
    if not answered(lambda: client.collection_exists(collection)):
        raise NotServedError(
            f"Qdrant has no collection {collection}; fill it with personalize upload."
        )
    described = answered(lambda: client.get_collection(collection))
    return (described.config.metadata or {}).get(HASH_KEY)


def upload(client: "QdrantClient", vectors: StoredVectors, collection: str) -> None:
    """Make a collection and fill it; it says what it holds only when all of it is there.

    Raises:
        InputError: If there is such a collection, or the server does not answer.
    """
    from qdrant_client import models

    if answered(lambda: client.collection_exists(collection)):
        raise InputError(
            f"Qdrant has a collection {collection} already; choose another name, or pass "
            "--overwrite to fill it anew."
        )
    ids, values = vectors.table.ids, vectors.table.values
    size = models.VectorParams(size=values.shape[1], distance=models.Distance.DOT)
    answered(lambda: client.create_collection(collection, vectors_config=size))
    for start in range(0, len(ids), POINTS_AT_ONCE):
        end = start + POINTS_AT_ONCE
        upsert(client, collection, ids[start:end], values[start:end])
    mark = {HASH_KEY: vectors.content_hash}
    answered(lambda: client.update_collection(collection, metadata=mark))


def upsert(
    client: "QdrantClient",
    collection: str,
    ids: Int64[np.ndarray, " row"],
    vectors: Float32[np.ndarray, "row width"],
) -> None:
    """Add or replace points, and wait until they can be found.

    Raises:
        InputError: If the server does not answer.
    """
    from qdrant_client import models

    for start in range(0, len(ids), POINTS_AT_ONCE):
        end = start + POINTS_AT_ONCE
        batch = models.Batch(ids=ids[start:end].tolist(), vectors=vectors[start:end].tolist())
        answered(lambda batch=batch: client.upsert(collection, points=batch, wait=True))


def answered(call: Callable[[], Answer]) -> Answer:
    """What a call to the server gives.

    Raises:
        InputError: If it does not answer, or refuses.
    """
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    try:
        return call()
    except (ApiException, QdrantException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"Qdrant does not answer ({reason}); start it, or set its url.") from error


def _filter(only: IdFilter) -> "models.Filter | None":
    from qdrant_client import models

    must: list[models.Condition] = []
    if only.only is not None:
        must.append(models.HasIdCondition(has_id=only.only.tolist()))
    never: list[models.Condition] = []
    if only.never is not None and len(only.never):
        never.append(models.HasIdCondition(has_id=only.never.tolist()))
    return models.Filter(must=must, must_not=never) if must or never else None
