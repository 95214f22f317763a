"""Collections of Qdrant: filled, recognised, refused.

Without a server the client searches its own memory. That shows that our questions and answers mean
what we think they mean; it shows nothing of the network, of the server's graph and its recall, nor
that what was put is found at once there. Where an executable `qdrant` is on the path, the same laws
are asked of a real server.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.artifact import read_manifest
from data_prep.errors import ArtifactMismatch, InputError
from personalize.__main__ import main
from personalize.api import qdrant_index, upload_vectors
from personalize.api.build_index import sample_queries
from personalize.api.files import NotServedError, ServedFiles
from personalize.api.qdrant_index import QdrantRetriever, QdrantStore, connect, stored_hash, upload
from personalize.api.retriever import IdFilter
from personalize.api.vectors import read_vectors
from tests.personalize.api.index_fixtures import clustered, slow_search, write_item_vectors

COUNT, WIDTH = 300, 16
IDS = np.arange(COUNT, dtype=np.int64) * 3 + 2
VECTORS = clustered(COUNT, WIDTH)
QUERIES = sample_queries(VECTORS, 20)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vectors."""
    folder = tmp_path_factory.mktemp("served")
    write_item_vectors(folder / "vectors", IDS, VECTORS)
    return folder


def vectors_hash(root: Path) -> str:
    return read_manifest(root / "vectors").content_hash


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real server, or a skip where there is none."""
    program = shutil.which("qdrant")
    if program is None:
        pytest.skip("no executable qdrant is on the path")
    folder, port = tmp_path_factory.mktemp("qdrant"), free_port()
    settings = {
        "QDRANT__SERVICE__HOST": "127.0.0.1",
        "QDRANT__SERVICE__HTTP_PORT": str(port),
        "QDRANT__SERVICE__GRPC_PORT": str(free_port()),
        "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
        "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
        "QDRANT__TELEMETRY_DISABLED": "true",
    }
    with subprocess.Popen([program], cwd=folder, env={**os.environ, **settings}) as process:
        try:
            yield wait_for(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def wait_for(url: str) -> str:
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):
                return url
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError(url)


def test_vectors_are_tried_out_in_memory(root: Path) -> None:
    store = QdrantStore("things", vectors=Path("vectors"))
    retriever = store.open(ServedFiles(root), vectors_hash=vectors_hash(root))
    assert (len(retriever), retriever.width) == (COUNT, WIDTH)
    table = dict(zip(IDS.tolist(), VECTORS, strict=True))
    found = retriever.search(QUERIES, count=5)
    for row, query in enumerate(QUERIES):
        assert found.ids[row].tolist() == slow_search(table, query, 5)[0]
    assert retriever.facts()["exact"]


def test_what_cannot_be_opened(root: Path, tmp_path: Path) -> None:
    files = ServedFiles(root)
    store = QdrantStore("things", vectors=Path("vectors"))
    with pytest.raises(ArtifactMismatch, match="collection things holds other vectors"):
        store.open(files, vectors_hash="0" * 64)
    with pytest.raises(NotServedError, match="nowhere is not there"):
        QdrantStore("things", vectors=Path("nowhere")).open(files, vectors_hash="")
    with pytest.raises(InputError, match="lies outside"):
        QdrantStore("things", vectors=tmp_path).open(files, vectors_hash="")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "needs either a url, or vectors"),
        ({"url": "http://x", "vectors": Path("y")}, "needs either a url, or vectors"),
        ({"url": "http://x", "timeout_s": 0}, "timeout_s and search_depth must be at least 1"),
        ({"url": "http://x", "search_depth": 0}, "timeout_s and search_depth must be at least 1"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        QdrantStore("things", **options)


def test_a_collection_that_is_not_full_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, vectors = connect(None), read_vectors(root / "vectors")
    with pytest.raises(NotServedError, match="no collection things; fill it with personalize"):
        stored_hash(client, "things")
    monkeypatch.setattr(qdrant_index, "POINTS_AT_ONCE", 100)
    original, calls = qdrant_index.upsert, []

    def failing(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise InputError("no more")
        original(*arguments)

    monkeypatch.setattr(qdrant_index, "upsert", failing)
    with pytest.raises(InputError, match="no more"):
        upload(client, vectors, "things")
    assert client.count("things").count == 200
    assert stored_hash(client, "things") is None
    with pytest.raises(InputError, match="has a collection things already; choose another"):
        upload(client, vectors, "things")
    client.delete_collection("things")
    monkeypatch.setattr(qdrant_index, "upsert", original)
    upload(client, vectors, "things")
    assert stored_hash(client, "things") == vectors_hash(root)
    assert client.count("things").count == COUNT


def test_the_server_is_asked_for_what_is_configured(root: Path) -> None:
    client = connect(None)
    upload(client, read_vectors(root / "vectors"), "things")
    asked: list[list[Any]] = []
    original = client.query_batch_points

    def watched(name: str, *, requests: list[Any]) -> Any:
        asked.append(requests)
        plain = [request.model_copy(update={"params": None}) for request in requests]
        return original(name, requests=plain)

    client.query_batch_points = watched  # pyright: ignore[reportAttributeAccessIssue]
    QdrantRetriever(client, "things", search_depth=77).search(QUERIES[:4], count=3)
    assert [len(requests) for requests in asked] == [4]  # all rows in one call
    assert {request.params.hnsw_ef for request in asked[0]} == {77}
    assert {request.params.exact for request in asked[0]} == {False}
    QdrantRetriever(client, "things", exact=True).search(QUERIES[:1], count=3)
    assert asked[-1][0].params.exact
    asked.clear()
    few = IdFilter(only=IDS[:2])  # too few come back, so they are looked for exactly
    found = QdrantRetriever(client, "things").search(QUERIES[:2], count=3, only=few)
    assert [[request.params.exact for request in requests] for requests in asked] == [
        [False, False],
        [True, True],
    ]
    assert (found.ids[:, 2] == -1).all()


def test_long_filters_are_asked_in_several_calls(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(None)
    upload(client, read_vectors(root / "vectors"), "things")
    retriever = QdrantRetriever(client, "things", in_memory=True)
    only = IdFilter(only=IDS[:50], never=IDS[:10])
    at_once = retriever.search(QUERIES, count=4, only=only)
    monkeypatch.setattr(qdrant_index, "FILTER_IDS_AT_ONCE", 130)
    several = retriever.search(QUERIES, count=4, only=only)
    np.testing.assert_array_equal(at_once.ids, several.ids)
    assert set(at_once.ids.ravel()) <= set(IDS[10:50])


def test_a_server_that_does_not_answer(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    store = QdrantStore("things", url=url, timeout_s=1)
    with pytest.raises(InputError, match=r"Qdrant does not answer \(.*refused\); start it"):
        store.open(ServedFiles(root), vectors_hash="")
    arguments = ["--vectors", str(root / "vectors"), "--url", url, "--collection", "things"]
    assert main(["upload", *arguments, "--timeout-s", "1"]) == 2
    said = capsys.readouterr().err
    assert "Qdrant does not answer" in said
    assert said.count("\n") == 1


def test_a_server_that_stops_answering(root: Path) -> None:
    client = connect(None)
    upload(client, read_vectors(root / "vectors"), "things")
    retriever = QdrantRetriever(client, "things", in_memory=True)
    retriever._client = connect(f"http://127.0.0.1:{free_port()}", timeout_s=1)
    with pytest.raises(InputError, match="Qdrant does not answer"):
        retriever.search(QUERIES[:1], count=1)
    with pytest.raises(InputError, match="Qdrant does not answer"):
        retriever.put(IDS[:1], VECTORS[:1])


def test_addresses_and_keys(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ftp://x is no address of a Qdrant server"):
        connect("ftp://x")
    with pytest.raises(InputError, match=r"Cannot read the key of Qdrant in .*absent"):
        connect("https://x", api_key_file=tmp_path / "absent")
    (tmp_path / "key").write_text("secret\n")
    remote: Any = connect("https://x", api_key_file=tmp_path / "key")._client
    assert remote._rest_headers["api-key"] == "secret"


def test_without_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(InputError, match=r"client of Qdrant is not installed; .* extra qdrant"):
        connect(None)


def test_nothing_to_upload(tmp_path: Path) -> None:
    write_item_vectors(tmp_path / "none", IDS[:0], VECTORS[:0])
    with pytest.raises(InputError, match="holds no vector"):
        upload_vectors.run(vectors=tmp_path / "none", url="http://x", collection="things")


def test_a_real_server_keeps_the_laws(server: str, root: Path) -> None:
    vectors = root / "vectors"
    upload_vectors.run(vectors=vectors, url=server, collection="things")
    with pytest.raises(InputError, match="has a collection things already"):
        upload_vectors.run(vectors=vectors, url=server, collection="things")
    upload_vectors.run(vectors=vectors, url=server, collection="things", overwrite=True)
    store = QdrantStore("things", url=server)
    with pytest.raises(ArtifactMismatch, match="holds other vectors"):
        store.open(ServedFiles(root), vectors_hash="0" * 64)
    retriever = store.open(ServedFiles(root), vectors_hash=vectors_hash(root))
    table = dict(zip(IDS.tolist(), VECTORS, strict=True))
    hits = 0
    found = retriever.search(QUERIES, count=10)
    for row, query in enumerate(QUERIES):
        hits += len(set(found.ids[row].tolist()) & set(slow_search(table, query, 10)[0]))
    assert hits >= 0.95 * 10 * len(QUERIES)
    only = IdFilter(only=IDS[:7], never=IDS[:2])
    found = retriever.search(QUERIES, count=9, only=only)
    assert all(sorted(row[:5]) == IDS[2:7].tolist() for row in found.ids)
    assert (found.ids[:, 5:] == -1).all()
    retriever.put(np.array([1, IDS[0]]), np.stack([3 * QUERIES[0], -QUERIES[0]]))
    assert len(retriever) == COUNT + 1
    first = retriever.search(QUERIES[:1], count=COUNT + 1).ids[0]
    assert (first[0], first[-1]) == (1, IDS[0])
    assert len(set(first.tolist())) == COUNT + 1
