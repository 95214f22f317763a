"""Vector indexes: recall against exact search, queries per second, seconds to build, bytes.

On one thread, in processor time, over unit vectors of 128 numbers: a hundredth as many centres are
drawn from a normal distribution, a vector is a centre and noise as long as it, scaled to length 1.
Queries are vectors with noise of half their length. `small filter` is one query where a tenth of
the ids is allowed, `few denied` one where 50 are not.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from personalize.api.build_index import built, measured_recall, sample_queries
from personalize.api.exact_search import VectorTable
from personalize.api.index import FaissRetriever, vectors_inside
from personalize.api.index_kind import (
    FlatIndex,
    HnswIndex,
    IndexKind,
    IvfIndex,
    IvfPqIndex,
    load_faiss,
)
from personalize.api.retriever import EVERYTHING, IdFilter

WIDTH = 128
QUERIES = 256
RECALL_QUERIES = 200
RANK = 10
LEAST_S = 2.0
KINDS: dict[str, IndexKind] = {
    "flat": FlatIndex(),
    "hnsw": HnswIndex(),
    "ivf": IvfIndex(),
    "ivfpq": IvfPqIndex(),
}


def main() -> None:
    """Measure, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=list(KINDS))
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    load_faiss().omp_set_num_threads(1)
    rows = []
    print(
        "vectors   kind   build s       MB  recall@10  recall@100  queries/s: one   64 at once  "
        "small filter  few denied"
    )
    for size in options.sizes:
        table = clustered(size)
        for name in options.kinds:
            row = measured(name, table)
            rows.append(row)
            print(
                f"{size:<9} {name:6} {row['build_s']:7.1f} {row['megabytes']:8.1f}  "
                f"{row['recall_at_10']:9.4f}  {row['recall_at_100']:10.4f}  "
                f"{row['queries_per_s']:14.0f}  {row['queries_per_s_64']:11.0f}  "
                f"{row['small_filter_per_s']:12.0f}  {row['few_denied_per_s']:10.0f}",
                flush=True,
            )
    if options.json:
        print(json.dumps({"width": WIDTH, "rows": rows, "faiss": load_faiss().__version__}))


def clustered(count: int) -> VectorTable:
    """Unit vectors around a hundredth as many centres."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((max(1, count // 100), WIDTH), dtype=np.float32)
    values = centres[random.integers(0, len(centres), count)]
    for start in range(0, count, 1 << 16):
        part = values[start : start + (1 << 16)]
        part += random.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return VectorTable(np.arange(count), values, 1.0001)


def measured(name: str, table: VectorTable) -> dict[str, Any]:
    """One kind over one table."""
    kind = KINDS[name]
    start = time.process_time()
    index = built(kind, table.values)
    build_s = time.process_time() - start
    size = load_faiss().serialize_index(index).nbytes
    size += table.values.nbytes if vectors_inside(index) is None else 0
    retriever = FaissRetriever(table, kind=kind, index=index, notes={})
    recall = measured_recall(kind, index, table, count=RECALL_QUERIES)
    queries = sample_queries(table.values, QUERIES)
    random = np.random.default_rng(1)
    tenth = np.sort(random.choice(len(table.ids), len(table.ids) // 10, replace=False))

    def search(at_once: int, only: IdFilter = EVERYTHING) -> Callable[[int], object]:
        return lambda turn: retriever.search(
            queries[turn * at_once % QUERIES :][:at_once], count=RANK, only=only
        )

    return {
        "vectors": len(table.ids), "kind": name, "build_s": build_s, "megabytes": size / 1e6,
        "recall_at_10": recall["recall_at_10"], "recall_at_100": recall["recall_at_100"],
        "queries_per_s": rate(search(1)), "queries_per_s_64": 64 * rate(search(64)),
        "small_filter_per_s": rate(search(1, IdFilter(only=tenth))),
        "few_denied_per_s": rate(search(1, IdFilter(never=np.arange(50)))),
    }  # fmt: skip


def rate(action: Callable[[int], object]) -> float:
    """Calls per second of processor time."""
    action(0)
    start, turns = time.process_time(), 0
    while time.process_time() - start < LEAST_S:
        action(turns)
        turns += 1
    return turns / (time.process_time() - start)


if __name__ == "__main__":
    main()
