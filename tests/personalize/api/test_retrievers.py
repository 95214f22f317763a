"""Every retriever is held to the laws of the slot, against a slow search by sorting."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from personalize.api import build_index
from personalize.api.exact_retriever import ExactRetriever
from personalize.api.exact_search import VectorTable
from personalize.api.files import ServedFiles
from personalize.api.index import FaissRetriever, StoredIndex
from personalize.api.index_kind import FlatIndex, HnswIndex, IndexKind, IvfIndex, IvfPqIndex
from personalize.api.retriever import Retriever
from tests.personalize.api.index_fixtures import clustered, slow_search, write_item_vectors

WIDTH = 16
COUNT = 600
IDS = np.arange(COUNT, dtype=np.int64) * 3 + 2
VECTORS = clustered(COUNT, WIDTH)
TABLE = dict(zip(IDS.tolist(), VECTORS, strict=True))
KINDS: dict[str, IndexKind] = {
    "flat": FlatIndex(),
    "hnsw": HnswIndex(links=8, search_depth=64),
    "ivf": IvfIndex(lists=8, probes=3),
    "ivfpq": IvfPqIndex(lists=4, probes=2, code_bytes=8, rerank=8),
}
EXACT = ("exact", "flat")
BUILT = {name: build_index.built(kind, VECTORS) for name, kind in KINDS.items()}


def faiss_retriever(name: str) -> Retriever:
    table = VectorTable(IDS, VECTORS, 1.001)
    return FaissRetriever(table, kind=KINDS[name], index=BUILT[name], notes={})


MAKERS: dict[str, Callable[[], Retriever]] = {
    "exact": lambda: ExactRetriever(IDS, VECTORS),
    **{name: lambda name=name: faiss_retriever(name) for name in KINDS},
}
ALL = pytest.mark.parametrize("name", sorted(MAKERS))


def test_a_hand_worked_search() -> None:
    retriever = ExactRetriever(np.array([4, 7, 9]), np.array([[1, 0], [0, 2], [1, 1]], np.float32))
    found = retriever.search(np.array([[3, 1]], np.float32), count=2)
    assert found.ids.tolist() == [[9, 4]]
    assert found.scores.tolist() == [[4.0, 3.0]]


@ALL
def test_agrees_with_sorting(name: str) -> None:
    queries = build_index.sample_queries(VECTORS, 50)
    found = MAKERS[name]().search(queries, count=10)
    hits = 0
    for query, ids, scores in zip(queries, found.ids.tolist(), found.scores.tolist(), strict=True):
        expected_ids, expected_scores = slow_search(TABLE, query, 10)
        if name in EXACT:
            assert ids == expected_ids
            assert scores == expected_scores
        hits += len(set(ids) & set(expected_ids))
    assert hits >= 0.9 * 500


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with one index artifact per kind, and the hash of the vectors."""
    root = tmp_path_factory.mktemp("indexes")
    vectors_hash = write_item_vectors(root / "vectors", IDS, VECTORS)
    for name, kind in KINDS.items():
        config = root / f"{name}.yaml"
        config.write_text(yaml.safe_dump(build_index.kind_notes(kind)))
        build_index.run(vectors=root / "vectors", out=root / name, config=config, least_recall=0.9)
    return root, vectors_hash


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_stored_index_answers_as_the_one_in_memory(name: str, stored: tuple[Path, str]) -> None:
    root, vectors_hash = stored
    opened = StoredIndex(Path(name)).open(ServedFiles(root), vectors_hash=vectors_hash)
    queries = build_index.sample_queries(VECTORS, 20)
    here, there = faiss_retriever(name).search(queries, count=7), opened.search(queries, count=7)
    np.testing.assert_array_equal(here.ids, there.ids)
    np.testing.assert_array_equal(here.scores, there.scores)
    assert opened.facts()["recall_at_10"] >= 0.9
    assert len(opened) == COUNT
