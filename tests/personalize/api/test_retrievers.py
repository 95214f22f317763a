"""Every retriever is held to the laws of the slot, against a slow search by sorting."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personalize.api import build_index
from personalize.api.exact_retriever import ExactRetriever
from personalize.api.exact_search import VectorTable
from personalize.api.index import FaissRetriever
from personalize.api.index_kind import FlatIndex, HnswIndex, IndexKind, IvfIndex, IvfPqIndex
from personalize.api.qdrant_index import QdrantRetriever, connect, upload
from personalize.api.retriever import IdFilter, Retriever
from personalize.api.vectors import StoredVectors
from tests.personalize.api.index_fixtures import clustered, slow_search

COUNT, WIDTH = 600, 16
IDS = np.arange(COUNT, dtype=np.int64) * 3 + 2
VECTORS = clustered(COUNT, WIDTH)
TABLE = dict(zip(IDS.tolist(), VECTORS, strict=True))
QUERIES = build_index.sample_queries(VECTORS, 50)
KINDS: dict[str, IndexKind] = {
    "flat": FlatIndex(),
    "hnsw": HnswIndex(links=8, search_depth=64),
    "ivf": IvfIndex(lists=8, probes=3),
    "ivfpq": IvfPqIndex(lists=4, probes=3, code_bytes=8, rerank=8),
}
COMPARING = ("exact", "flat")  # no rounding shows, and equal scores come by id to the last place
NAMES = ("exact", *KINDS, "qdrant")
ALL = pytest.mark.parametrize("name", NAMES)


@functools.cache
def index_of(name: str) -> Any:
    return build_index.built(KINDS[name], VECTORS)


def retriever_of(name: str, ids: np.ndarray = IDS, vectors: np.ndarray = VECTORS) -> Retriever:
    table = VectorTable(ids, vectors, 1.001 * float(np.linalg.norm(vectors, axis=1).max()))
    if name == "exact":
        return ExactRetriever(ids, vectors)
    if name == "qdrant":
        client = connect(None)
        upload(client, StoredVectors(table, "hash"), "things")
        return QdrantRetriever(client, "things", in_memory=True)
    index = index_of(name) if vectors is VECTORS else build_index.built(KINDS[name], vectors)
    return FaissRetriever(table, kind=KINDS[name], index=index, notes={})


unchanged = functools.cache(retriever_of)


def is_comparing(name: str, only: IdFilter, ids: np.ndarray = IDS) -> bool:
    """Whether the answer must be exact: always, or because few ids are allowed."""
    allowed = ids if only.only is None else np.intersect1d(ids, only.only)
    allowed = allowed if only.never is None else np.setdiff1d(allowed, only.never)
    return name in COMPARING or (name in KINDS and len(allowed) < 0.9 * len(ids))


def test_a_hand_worked_search() -> None:
    retriever = ExactRetriever(np.array([4, 7, 9]), np.array([[1, 0], [0, 2], [1, 1]], np.float32))
    found = retriever.search(np.array([[3, 1]], np.float32), count=2)
    assert found.ids.tolist() == [[9, 4]]
    assert found.scores.tolist() == [[4.0, 3.0]]


@ALL
@pytest.mark.parametrize("count", [1, 10])
def test_agrees_with_sorting(name: str, count: int) -> None:
    found = unchanged(name).search(QUERIES, count=count)
    hits = 0
    for query, ids, scores in zip(QUERIES, found.ids.tolist(), found.scores, strict=True):
        expected_ids, expected_scores = slow_search(TABLE, query, count)
        if name in COMPARING:
            assert ids == expected_ids
            assert scores.tolist() == expected_scores
        hits += len(set(ids) & set(expected_ids))
        np.testing.assert_allclose(
            scores, [TABLE[item] @ query for item in ids], rtol=1e-5, atol=1e-6
        )
    assert hits >= 0.93 * count * len(QUERIES)


def some_ids(most: int) -> st.SearchStrategy[np.ndarray]:
    ids = st.sets(st.integers(0, 3 * COUNT + 9), max_size=most)
    return ids.map(lambda chosen: np.array(sorted(chosen), np.int64))


filters = st.builds(IdFilter, only=st.none() | some_ids(60), never=st.none() | some_ids(300))


@ALL
@given(only=filters, count=st.integers(1, 40), row=st.integers(0, len(QUERIES) - 1))
@settings(max_examples=30)
def test_laws_of_filters(name: str, only: IdFilter, count: int, row: int) -> None:
    query = QUERIES[row]
    found = unchanged(name).search(query[None], count=count, only=only)
    ids, scores = found.ids[0].tolist(), found.scores[0].tolist()
    chosen = None if only.only is None else only.only.tolist()
    denied = [] if only.never is None else only.never.tolist()
    expected_ids, expected_scores = slow_search(TABLE, query, count, only=chosen, never=denied)
    assert len(ids) == count
    real = [item for item in ids if item >= 0]
    assert len(set(real)) == len(real) == sum(item >= 0 for item in expected_ids)
    assert ids[len(real) :] == [-1] * (count - len(real))
    assert scores[len(real) :] == [-np.inf] * (count - len(real))
    assert not set(real) & set(denied)
    assert set(real) <= (set(TABLE) if chosen is None else set(TABLE) & set(chosen))
    assert (
        sorted(zip([-s for s in scores], ids, strict=True))
        == list(zip([-s for s in scores], ids, strict=True))
        or len(real) < count
    )
    if is_comparing(name, only):
        assert ids == expected_ids
        assert scores == expected_scores


@ALL
def test_rows_do_not_influence_each_other(name: str) -> None:
    only = IdFilter(never=IDS[:40])
    together = unchanged(name).search(QUERIES, count=9, only=only)
    for row in range(0, len(QUERIES), 7):
        alone = unchanged(name).search(QUERIES[row : row + 1], count=9, only=only)
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])
        np.testing.assert_array_equal(alone.scores[0], together.scores[row])


@ALL
def test_no_rows_and_no_answer(name: str) -> None:
    retriever = unchanged(name)
    assert retriever.search(QUERIES[:0], count=3).ids.shape == (0, 3)
    nothing = IdFilter(only=np.array([0, 1], np.int64))  # ids that were never given
    for only in (nothing, IdFilter(only=IDS[:0]), IdFilter(only=IDS[:9], never=IDS[:9])):
        found = retriever.search(QUERIES[:2], count=3, only=only)
        assert (found.ids == -1).all()
        assert np.isneginf(found.scores).all()


@ALL
@pytest.mark.parametrize(("ids", "count"), [(IDS[:500], 500), (IDS[:200], 250), (IDS, 700)])
def test_as_many_come_back_as_are_allowed(name: str, ids: np.ndarray, count: int) -> None:
    found = unchanged(name).search(QUERIES[:2], count=count, only=IdFilter(only=ids))
    for row in found.ids:
        assert sorted(row[row >= 0]) == ids.tolist()[: len(row)]


@ALL
def test_denying_a_few_loses_nothing_of_what_is_found_without(name: str) -> None:
    first = unchanged(name).search(QUERIES[:9], count=40).ids
    for row, query in enumerate(QUERIES[:9]):
        only = IdFilter(never=first[row, 2:32])
        found = unchanged(name).search(query[None], count=10, only=only)
        assert found.ids[0].tolist() == [*first[row, :2].tolist(), *first[row, 32:].tolist()]


@ALL
def test_put_is_found_at_once_and_by_the_new_vector_alone(name: str) -> None:
    retriever = retriever_of(name)
    query = QUERIES[:1]
    before = retriever.search(query, count=3).ids[0]
    new = int(IDS[-1]) + 5
    retriever.put(np.array([before[0], new]), np.stack([-query[0], 2 * query[0]]))
    assert len(retriever) == COUNT + 1
    found = retriever.search(query, count=3)
    assert found.ids[0].tolist() == [new, *before[1:].tolist()]
    assert found.scores[0, 0] == pytest.approx(2 * float(query[0] @ query[0]), rel=1e-6)
    everywhere = retriever.search(query, count=COUNT + 1)
    assert everywhere.ids[0, -1] == before[0]
    assert len(set(everywhere.ids[0].tolist())) == COUNT + 1
    retriever.put(np.array([new]), -3 * query)
    assert len(retriever) == COUNT + 1
    assert retriever.search(query, count=COUNT + 1).ids[0, -1] == new
    only = IdFilter(only=np.array([new, before[1]]), never=np.array([before[1]]))
    assert retriever.search(query, count=2, only=only).ids[0].tolist() == [new, -1]


@ALL
def test_put_leaves_what_was_given_alone(name: str) -> None:
    ids, vectors = IDS.copy(), VECTORS.copy()
    retriever = retriever_of(name, ids, vectors)
    retriever.put(IDS[:3], np.zeros((3, WIDTH), np.float32))
    np.testing.assert_array_equal(ids, IDS)
    np.testing.assert_array_equal(vectors, VECTORS)


small = st.integers(-3, 3)
steps = st.lists(
    st.dictionaries(st.integers(0, 70), st.lists(small, min_size=2, max_size=2), max_size=6),
    min_size=1, max_size=5,
)  # fmt: skip


@pytest.mark.parametrize("name", ["exact", "flat", "hnsw", "ivf", "qdrant"])
@given(steps=steps, query=st.lists(small, min_size=2, max_size=2), count=st.integers(1, 60))
@settings(max_examples=25)
def test_a_history_of_puts_agrees_with_a_dictionary(
    name: str, steps: list[dict[int, list[int]]], query: list[int], count: int
) -> None:
    # Whole numbers: many equal scores, which must come by id, in and out of the index.
    random = np.random.default_rng(5)
    table = {int(i): random.integers(-2, 3, 2).astype(np.float32) for i in range(3, 53)}
    retriever = retriever_of(name, np.array(list(table)), np.stack(list(table.values())))
    question = np.array([query], np.float32)
    for step in steps:
        table |= {i: np.array(vector, np.float32) for i, vector in step.items()}
        vectors = np.array(list(step.values()), np.float32).reshape(-1, 2)
        retriever.put(np.array(list(step), np.int64), vectors)
        assert len(retriever) == len(table)
        found = retriever.search(question, count=count)
        expected_ids, expected_scores = slow_search(table, question[0], count)
        if name in COMPARING:
            assert found.ids[0].tolist() == expected_ids
        if name in (*COMPARING, "qdrant"):
            assert found.scores[0].tolist() == expected_scores
        real = found.ids[0][found.ids[0] >= 0].tolist()
        assert len(set(real)) == len(real) == min(count, len(table))
        own = [float(table[item] @ question[0]) for item in real]
        assert found.scores[0, : len(real)].tolist() == own


@pytest.mark.parametrize("name", COMPARING)
def test_equal_vectors_come_by_id_in_batches_of_any_size(name: str) -> None:
    vectors = np.tile(np.array([[0.1, 0.3]], np.float32), (300, 1))
    vectors[::50] *= -1
    retriever = retriever_of(name, IDS[:300], vectors)
    expected = [int(i) for place, i in enumerate(IDS[:300]) if place % 50][:7]
    for rows in (1, 3, 40):
        queries = np.tile(np.array([[0.7, 0.11]], np.float32), (rows, 1))
        assert retriever.search(queries, count=7).ids.tolist() == [expected] * rows


@pytest.mark.parametrize("name", COMPARING)
def test_rounding_does_not_decide_who_is_found(name: str) -> None:
    # Scores that differ by less than 32-bit sums of long vectors can tell apart.
    random = np.random.default_rng(3)
    base = 1000 * random.standard_normal(256)
    vectors = (base + 1e-4 * random.standard_normal((80, 256))).astype(np.float32)
    ids = np.arange(80)
    queries = random.standard_normal((30, 256)).astype(np.float32)
    table = dict(enumerate(vectors))
    filled = retriever_of(name, ids, vectors)
    put_to = retriever_of(name, ids[:1] + 80, 0 * vectors[:1])
    put_to.put(ids, vectors)
    for retriever in (filled, put_to):
        found = retriever.search(queries, count=5)
        for row, query in enumerate(queries):
            table |= {80: 0 * query} if retriever is put_to else {}
            assert found.ids[row].tolist() == slow_search(table, query, 5)[0]


@ALL
@pytest.mark.parametrize(
    ("queries", "count", "message"),
    [
        (QUERIES[:1], 0, "count must be at least 1, got 0"),
        (QUERIES[:1], -2, "count must be at least 1, got -2"),
        (QUERIES[:1, :5], 1, "a query must have 16 numbers, got 5"),
        (QUERIES[:2] * np.array([[1], [np.nan]], np.float32), 1, "query 1 is not finite"),
        (QUERIES[:1] + np.float32(np.inf), 1, "query 0 is not finite"),
        (QUERIES[:1] * np.float32(1e25), 1, "query 0 is not finite, or too long"),
    ],
)
def test_bad_questions(name: str, queries: np.ndarray, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unchanged(name).search(queries, count=count)


@ALL
@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        ([5, 5], QUERIES[:2], "an id comes twice"),
        ([-1], QUERIES[:1], "an id must not be negative, got -1"),
        ([5], QUERIES[:1, :5], "a vector must have 16 numbers, got 5"),
        ([5], QUERIES[:1] * np.float32(np.nan), "vector 0 is not finite"),
    ],
)
def test_bad_puts_change_nothing(
    name: str, ids: list[int], vectors: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        unchanged(name).put(np.array(ids), vectors)
    assert len(unchanged(name)) == COUNT
    found = unchanged(name).search(QUERIES[:1], count=1, only=IdFilter(only=np.array([5])))
    assert found.scores[0, 0] == pytest.approx(float(TABLE[5] @ QUERIES[0]), rel=1e-5)


@ALL
def test_facts_are_plain(name: str) -> None:
    facts = unchanged(name).facts()
    assert facts["vectors"] == COUNT == len(unchanged(name))
    assert facts["width"] == WIDTH == unchanged(name).width
    assert all(isinstance(value, str | int | float | bool) for value in facts.values())


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_same_vectors_give_the_same_bytes(name: str) -> None:
    import faiss

    again = build_index.built(KINDS[name], VECTORS)
    assert bytes(faiss.serialize_index(again)) == bytes(faiss.serialize_index(index_of(name)))


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_single_question_takes_one_thread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    seen: list[int] = []
    kind = type(KINDS[name])
    original: Callable[..., np.ndarray] = kind.candidates

    def watched(*arguments: object, **options: object) -> np.ndarray:
        seen.append(faiss.omp_get_max_threads())
        return original(*arguments, **options)

    monkeypatch.setattr(kind, "candidates", watched)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        retriever_of(name).search(QUERIES[:1], count=3)
        retriever_of(name).search(QUERIES[:2], count=3)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
    assert seen == [1, 2]


def test_an_index_that_does_not_fit_its_vectors() -> None:
    table = VectorTable(IDS[:5], VECTORS[:5], 1.0)
    with pytest.raises(ValueError, match="the index holds 600 vectors of 16 numbers, not 5 of 16"):
        FaissRetriever(table, kind=KINDS["flat"], index=index_of("flat"), notes={})
    table = VectorTable(IDS[::-1].copy(), VECTORS, 1.0)
    with pytest.raises(ValueError, match="ids of an index must be in order, each once"):
        FaissRetriever(table, kind=KINDS["flat"], index=index_of("flat"), notes={})


@pytest.mark.parametrize("name", sorted(KINDS))
def test_many_denied_are_left_out_by_the_index_itself(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("compared one by one")

    monkeypatch.setattr("personalize.api.index.FEW_DENIED", 5)
    first = unchanged(name).search(QUERIES, count=20).ids
    for row, query in enumerate(QUERIES):
        denied = first[row, :17]
        expected, _ = slow_search(TABLE, query, 3, never=denied.tolist())
        with monkeypatch.context() as patch:
            if name != "flat":
                patch.setattr("personalize.api.index.exact_search", refuse)
            found = unchanged(name).search(query[None], count=3, only=IdFilter(never=denied))
        assert found.ids[0].tolist() == first[row, 17:].tolist()
        assert name != "flat" or found.ids[0].tolist() == expected


class TestWithoutSelections:
    """An index that understands no selection of ids, as on a GPU."""

    def retriever(self, name: str = "flat") -> Retriever:
        table = VectorTable(IDS, VECTORS, 1.001)
        return FaissRetriever(
            table, kind=KINDS[name], index=index_of(name), notes={}, selects=False
        )

    @pytest.mark.parametrize("denied", [3, 50, 200, 590])
    def test_filters_hold(self, denied: int) -> None:
        never = IdFilter(never=IDS[:denied])
        here = self.retriever().search(QUERIES, count=15, only=never)
        there = unchanged("exact").search(QUERIES, count=15, only=never)
        np.testing.assert_array_equal(here.ids, there.ids)

    def test_no_selector_reaches_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = FlatIndex.candidates

        def watched(*arguments: object, **options: object) -> np.ndarray:
            assert options["selector"] is None
            return original(*arguments, **options)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(FlatIndex, "candidates", watched)
        self.test_filters_hold(50)
        monkeypatch.setattr("personalize.api.index.FEW_DENIED", 1)
        self.test_filters_hold(50)
