"""The command `personalize index`: build an index of vectors and measure it before it is kept."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float32

from data_prep.artifact import create_artifact
from data_prep.errors import InputError
from personalize.api.exact_search import VectorTable, exact_search
from personalize.api.index import FAISS_FILE, INDEX_NAME, FaissRetriever, vectors_inside
from personalize.api.index_kind import IndexKind, configured_kind, default_kind, load_faiss
from personalize.api.vectors import read_vectors

QUERIES = 1000
NOISE = 0.5
RANKS = (10, 100)
SEED = 1234


def run(
    *,
    vectors: Path,
    out: Path,
    config: Path | None = None,
    kind: str | None = None,
    least_recall: float = 0.95,
    overwrite: bool = False,
) -> None:
    """Write an artifact `index`: the FAISS file, ids, and the vectors where FAISS has only codes.

    Args:
        vectors: Artifact with one vector per id, such as `scene_vectors` or `item_vectors`.
        out: Folder of the new artifact.
        config: YAML file with `class_path` and `init_args` of an `IndexKind`.
        kind: Name of an `IndexKind` with its defaults, instead. Default: by the number of vectors.
        least_recall: Recall at 10 against exact search below which nothing is written.
        overwrite: Replace an artifact that is there.

    Raises:
        InputError: If there are no vectors, they do not suit the index, or recall is too low.
        ArtifactMismatch: If the vectors are damaged.
    """
    if not 0 <= least_recall <= 1:
        raise InputError(f"--least-recall must lie between 0 and 1, got {least_recall:g}.")
    source = read_vectors(vectors)
    table = source.table
    if not len(table.ids):
        raise InputError(f"{vectors} holds no vector.")
    chosen = _chosen(config, kind, len(table.ids))
    with create_artifact(
        out,
        kind=INDEX_NAME,
        command="personalize index",
        configuration={"kind": kind_notes(chosen), "least_recall": least_recall},
        inputs={"vectors": source.content_hash},
        overwrite=overwrite,
    ) as writer:
        start = time.perf_counter()
        index = built(chosen, table.values)
        build_s = time.perf_counter() - start
        recalls = measured_recall(chosen, index, table)
        if recalls["recall_at_10"] < least_recall:
            raise InputError(
                f"{type(chosen).__name__} finds {recalls['recall_at_10']:.3f} of the 10 nearest "
                f"vectors of {vectors}, and {least_recall:g} is asked for; raise its depth or "
                "probes, take FlatIndex, or lower --least-recall."
            )
        load_faiss().write_index(index, str(writer.path(FAISS_FILE)))
        kept = {} if vectors_inside(index) is not None else {"vectors": table.values}
        writer.write_arrays(INDEX_NAME, {"ids": table.ids, **kept})
        writer.notes = {
            "kind": kind_notes(chosen),
            "count": len(table.ids),
            "width": table.values.shape[1],
            "metric": "inner product",
            "faiss_version": load_faiss().__version__,
            **recalls,
        }
    sys.stderr.write(
        f"{len(table.ids):,} vectors in {type(chosen).__name__}, built in {build_s:.1f} s, recall "
        f"at 10 of {recalls['recall_at_10']:.3f}: {out}\n"
    )


def built(kind: IndexKind, vectors: Float32[np.ndarray, "item width"]) -> Any:  # noqa: ANN401
    """The index, built on one thread, so that it is the same every time."""
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        return kind.build(vectors)
    finally:
        faiss.omp_set_num_threads(before)


def measured_recall(
    kind: IndexKind,
    index: Any,  # noqa: ANN401  (FAISS is untyped)
    table: VectorTable,
    *,
    count: int = QUERIES,
) -> dict[str, Any]:
    """Which part of the nearest vectors an index finds, as facts for its manifest.

    A found vector counts if it is as near as the last one that exact search finds, so equal
    vectors may stand for each other.
    """
    queries = sample_queries(table.values, count)
    retriever = FaissRetriever(table, kind=kind, index=index, notes={})
    facts: dict[str, Any] = {
        "recall_queries": len(queries),
        "recall_asked_with": f"vectors drawn and moved by noise of {NOISE:g} of their length",
    }
    exact = exact_search(table, queries, count=min(max(RANKS), len(table.ids))).scores
    for rank in RANKS:
        wanted = min(rank, len(table.ids))
        found = retriever.search(queries, count=wanted).scores
        facts[f"recall_at_{rank}"] = round(float((found >= exact[:, wanted - 1, None]).mean()), 6)
    return facts


def sample_queries(
    vectors: Float32[np.ndarray, "item width"], count: int = QUERIES
) -> Float32[np.ndarray, "row width"]:
    """Questions like the vectors: some of them, with noise of half their length, scaled back."""
    random = np.random.default_rng(SEED)
    drawn = vectors[random.choice(len(vectors), min(count, len(vectors)), replace=False)]
    lengths = np.linalg.norm(drawn, axis=1, keepdims=True)
    noise = random.standard_normal(drawn.shape) * NOISE / drawn.shape[1] ** 0.5
    moved = drawn + lengths * noise
    moved *= lengths / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
    return moved.astype(np.float32)


def kind_notes(kind: IndexKind) -> dict[str, Any]:
    """The class and options of an index, as a configuration names them."""
    options = asdict(kind)  # pyright: ignore[reportArgumentType]  (kinds are dataclasses)
    return {
        "class_path": f"{type(kind).__module__}.{type(kind).__qualname__}",
        "init_args": options,
    }


def _chosen(config: Path | None, kind: str | None, count: int) -> IndexKind:
    if config is not None and kind is not None:
        raise InputError("Give --config or --kind, not both.")
    if kind is not None:
        return configured_kind(kind, where="--kind")
    if config is None:
        return default_kind(count)
    try:
        text = config.read_text(encoding="utf-8")
        return configured_kind(yaml.safe_load(text), where=str(config))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"Cannot read {config}: {' '.join(str(error).split())}.") from error
