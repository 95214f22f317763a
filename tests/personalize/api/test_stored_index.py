"""Indexes built, kept and opened; damaged ones never reach FAISS."""

import gc
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from safetensors.numpy import save_file

from data_prep.artifact import create_artifact, read_artifact, read_manifest
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import Column, TableSchema
from personalize.__main__ import main
from personalize.api import build_index
from personalize.api.exact_search import VectorTable
from personalize.api.files import NotServedError, ServedFiles
from personalize.api.index import FaissRetriever, StoredIndex, vectors_inside
from personalize.api.index_kind import (
    FlatIndex,
    HnswIndex,
    IndexKind,
    IvfIndex,
    IvfPqIndex,
    configured_kind,
    default_kind,
)
from personalize.api.vectors import read_vectors
from tests.personalize.api.index_fixtures import ITEM_VECTORS, clustered, write_item_vectors

COUNT, WIDTH = 400, 16
IDS = np.arange(COUNT, dtype=np.int64) * 2 + 1
VECTORS = clustered(COUNT, WIDTH)
KINDS: dict[str, IndexKind] = {
    "flat": FlatIndex(),
    "hnsw": HnswIndex(links=8, search_depth=64),
    "ivf": IvfIndex(lists=4, probes=3),
    "ivfpq": IvfPqIndex(lists=4, probes=3, code_bytes=8, rerank=8),
}
MUTATIONS = 60  # of each of the four kinds


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vectors and one index artifact per kind."""
    folder = tmp_path_factory.mktemp("served")
    write_item_vectors(folder / "vectors", IDS, VECTORS)
    for name, kind in KINDS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(build_index.kind_notes(kind)))
        arguments = ["--vectors", str(folder / "vectors"), "--out", str(folder / name)]
        arguments += ["--config", str(folder / f"{name}.yaml")]
        assert main(["index", *arguments]) == 0
    return folder


def vectors_hash(root: Path) -> str:
    return read_manifest(root / "vectors").content_hash


def copied(root: Path, name: str, target: Path) -> Path:
    shutil.copytree(root / name, target / name)
    return target / name


@pytest.fixture
def no_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where bytes would reach FAISS."""

    def refuse(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr("faiss.read_index", refuse)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_stored_index_answers_as_one_in_memory(name: str, root: Path) -> None:
    opened = StoredIndex(Path(name)).open(ServedFiles(root), vectors_hash=vectors_hash(root))
    table = VectorTable(IDS, VECTORS, 1.001)
    index = build_index.built(KINDS[name], VECTORS)
    in_memory = FaissRetriever(table, kind=KINDS[name], index=index, notes={})
    queries = build_index.sample_queries(VECTORS, 20)
    here, there = in_memory.search(queries, count=7), opened.search(queries, count=7)
    np.testing.assert_array_equal(here.ids, there.ids)
    np.testing.assert_array_equal(here.scores, there.scores)
    opened.put(np.array([2]), 9 * queries[:1])  # what is memory-mapped is not written to
    assert opened.search(queries[:1], count=1).ids.tolist() == [[2]]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_manifest_tells_what_was_built(name: str, root: Path) -> None:
    manifest = read_manifest(root / name)
    assert manifest.inputs == {"vectors": vectors_hash(root)}
    notes = manifest.notes
    assert (notes["count"], notes["width"], notes["metric"]) == (COUNT, WIDTH, "inner product")
    assert configured_kind(notes["kind"], where="") == KINDS[name]
    assert notes["recall_at_10"] >= 0.95
    assert notes["recall_queries"] == COUNT
    assert "of their length" in notes["recall_asked_with"]
    stored = {"vectors"} if name in ("ivf", "ivfpq") else set()
    assert set(read_artifact(root / name, kind="index").arrays("index")) == {"ids"} | stored
    opened = StoredIndex(Path(name)).open(ServedFiles(root), vectors_hash=vectors_hash(root))
    assert opened.facts()["recall_at_10"] == notes["recall_at_10"]
    assert opened.facts()["content_hash"] == manifest.content_hash


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_same_vectors_give_the_same_bytes(name: str, root: Path, tmp_path: Path) -> None:
    config, out = root / f"{name}.yaml", tmp_path / "again"
    build_index.run(vectors=root / "vectors", out=out, config=config)
    for path in sorted((root / name).iterdir()):
        assert path.read_bytes() == (out / path.name).read_bytes(), path.name


@pytest.mark.usefixtures("no_faiss")
@pytest.mark.parametrize("name", sorted(KINDS))
def test_no_damaged_file_reaches_faiss(name: str, root: Path, tmp_path: Path) -> None:
    folder = copied(root, name, tmp_path)
    files, wanted = ServedFiles(tmp_path), vectors_hash(root)
    random = np.random.default_rng(len(name))
    for turn in range(MUTATIONS):
        path = folder / ("index.safetensors" if turn % 6 == 5 else "index.faiss")
        whole = path.read_bytes()
        path.write_bytes(mutated(whole, turn, random))
        with pytest.raises(ArtifactMismatch, match=r"write (it|the artifact) again"):
            StoredIndex(Path(name)).open(files, vectors_hash=wanted)
        path.write_bytes(whole)


def mutated(whole: bytes, turn: int, random: np.random.Generator) -> bytes:
    """Bytes that differ: some changed, cut, doubled, swapped, or none left."""
    at = int(random.integers(0, len(whole))) if turn % 2 else int(random.integers(0, 60))
    if turn % 5 == 0:
        return whole[:at]
    if turn % 5 == 1:
        return whole + whole[at : at + 9]
    changed = bytearray(whole)
    changed[at] ^= 1 << int(random.integers(0, 8))
    if turn % 5 == 2:
        changed[at : at + 4] = b"\xff\xff\xff\x7f"
    return bytes(changed)


def test_a_damaged_file_with_a_fitting_manifest_is_refused_in_a_sentence(
    root: Path, tmp_path: Path
) -> None:
    folder = copied(root, "hnsw", tmp_path)
    (folder / "index.faiss").write_bytes(b"IxF2 and then nothing that FAISS knows")
    sign(folder)
    with pytest.raises(ArtifactMismatch, match=r"index.faiss cannot be read by FAISS"):
        StoredIndex(Path("hnsw")).open(ServedFiles(tmp_path), vectors_hash=vectors_hash(root))


def sign(folder: Path) -> None:
    """Let a manifest say what its folder holds, as a writer of bad files would."""
    from data_prep.artifact import file_sha256

    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name, entry in manifest["files"].items():
        entry["sha256"] = file_sha256(folder / name)
        entry["size_bytes"] = (folder / name).stat().st_size
    path.write_text(json.dumps(manifest))


def change_notes(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["notes"] |= changes
    path.write_text(json.dumps(manifest))


def test_an_index_by_distances_is_refused(root: Path, tmp_path: Path) -> None:
    import faiss

    folder = copied(root, "flat", tmp_path)
    index = faiss.IndexFlatL2(WIDTH)
    index.add(VECTORS)
    faiss.write_index(index, str(folder / "index.faiss"))
    sign(folder)
    with pytest.raises(ArtifactMismatch, match="does not search by inner products"):
        StoredIndex(Path("flat")).open(ServedFiles(tmp_path), vectors_hash=vectors_hash(root))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"ids": IDS[:5]}, "not one id per vector"),
        ({"ids": IDS.astype(np.int32)}, "not one id per vector"),
        ({"ids": IDS[::-1]}, "ids of an index must be in order"),
        ({"vectors": VECTORS}, "'ids'"),
    ],
)
def test_an_index_that_does_not_fit_its_ids(
    arrays: dict[str, np.ndarray], reason: str, root: Path, tmp_path: Path
) -> None:
    folder = copied(root, "flat", tmp_path)
    save_file(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        folder / "index.safetensors",
    )
    sign(folder)
    with pytest.raises(ArtifactMismatch, match=rf"flat does not fit together.*{reason}"):
        StoredIndex(Path("flat")).open(ServedFiles(tmp_path), vectors_hash=vectors_hash(root))


@pytest.mark.usefixtures("no_faiss")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (None, "names no kind of index that can be built"),
        ({"class_path": "json.JSONDecoder", "init_args": {}}, "names no kind of index"),
        ({"class_path": "json.loads", "init_args": {"s": "1"}}, "names no kind of"),
        ({"class_path": "HnswIndex", "init_args": {"lnks": 3}}, "'lnks' is not accepted"),
        ({"class_path": "HnswIndex", "init_args": {"links": 1}}, "links of at least 2"),
        ({"class_path": "IvfIndex", "init_args": {"probes": 0}}, "must be at least 1"),
        ({"class_path": "IvfPqIndex", "init_args": {"rerank": 0}}, "rerank of at least 1"),
    ],
)
def test_a_manifest_that_names_no_kind(
    kind: object, reason: str, root: Path, tmp_path: Path
) -> None:
    folder = copied(root, "flat", tmp_path)
    change_notes(folder, kind=kind)
    with pytest.raises(InputError, match=reason):
        StoredIndex(Path("flat")).open(ServedFiles(tmp_path), vectors_hash=vectors_hash(root))


@pytest.mark.usefixtures("no_faiss")
def test_what_is_not_served(root: Path, tmp_path: Path) -> None:
    files, wanted = ServedFiles(root), vectors_hash(root)
    with pytest.raises(ArtifactMismatch, match="is an index of other vectors; run personalize"):
        StoredIndex(Path("flat")).open(files, vectors_hash="0" * 64)
    with pytest.raises(ArtifactMismatch, match="holds item_vectors, but index is needed"):
        StoredIndex(Path("vectors")).open(files, vectors_hash=wanted)
    with pytest.raises(NotServedError, match="nowhere is not there"):
        StoredIndex(Path("nowhere")).open(files, vectors_hash=wanted)
    with pytest.raises(InputError, match="lies outside"):
        StoredIndex(tmp_path).open(files, vectors_hash=wanted)
    with pytest.raises(InputError, match="lies outside"):
        StoredIndex(Path("../flat")).open(ServedFiles(root / "hnsw"), vectors_hash=wanted)


@pytest.mark.usefixtures("no_faiss")
@pytest.mark.parametrize("what", ["", "index.faiss", "index.safetensors", "manifest.json"])
def test_a_link_that_leads_outside(what: str, root: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    if what:
        copied(root, "flat", served)
        (served / "flat" / what).unlink()
    (served / "flat" / what if what else served / "flat").symlink_to(root / "flat" / what)
    with pytest.raises(InputError, match="lies outside"):
        StoredIndex(Path("flat")).open(ServedFiles(served), vectors_hash=vectors_hash(root))


def test_too_little_recall_is_not_kept(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "kind.yaml", tmp_path / "out"
    config.write_text("class_path: IvfIndex\ninit_args: {lists: 10, probes: 1}\n")
    arguments = ["--vectors", str(root / "vectors"), "--out", str(out), "--config", str(config)]
    assert main(["index", *arguments]) == 2
    said = capsys.readouterr().err
    assert "IvfIndex finds 0." in said
    assert "and 0.95 is asked for" in said
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kind.yaml"]
    assert main(["index", *arguments, "--least-recall", "0.1"]) == 0
    assert 0.1 < read_manifest(out).notes["recall_at_10"] < 0.95


def test_recall_counts_what_is_as_near_as_the_last_that_should_be_found() -> None:
    class HalfBlind(FlatIndex):
        @property
        def exact(self) -> bool:
            return False

        def candidates(self, index, queries, *, count, selector=None):
            rows = np.arange(index.ntotal) // 2 * 2
            return np.tile(np.unique(rows), (len(queries), 1))

    index = build_index.built(FlatIndex(), VECTORS)
    table = VectorTable(IDS, VECTORS, 1.001)
    blind = build_index.measured_recall(HalfBlind(), index, table)
    assert 0.4 < blind["recall_at_10"] < 0.6
    pairs = np.repeat(VECTORS[::2], 2, axis=0)  # each vector twice: the other one will do
    index = build_index.built(FlatIndex(), pairs)
    twice = build_index.measured_recall(HalfBlind(), index, VectorTable(IDS, pairs, 1.001))
    assert twice["recall_at_10"] == pytest.approx(0.5, abs=0.01)
    full = build_index.measured_recall(FlatIndex(), index, VectorTable(IDS, pairs, 1.001))
    assert (full["recall_at_10"], full["recall_at_100"]) == (1.0, 1.0)


def test_the_default_is_exact_for_small_catalogues(tmp_path: Path) -> None:
    assert default_kind(50_000) == FlatIndex()
    assert default_kind(50_001) == HnswIndex()
    write_item_vectors(tmp_path / "vectors", IDS[:3], VECTORS[:3])
    build_index.run(vectors=tmp_path / "vectors", out=tmp_path / "index")
    assert read_manifest(tmp_path / "index").notes["kind"] == {
        "class_path": "personalize.api.index_kind.FlatIndex",
        "init_args": {},
    }


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--kind", "NoIndex"], "--kind names no kind of index that can be built"),
        (["--kind", "IvfPqIndex"], "multiple of code_bytes, got 16 and 32"),
        (["--least-recall", "1.5"], "must lie between 0 and 1, got 1.5"),
        (["--config", "absent.yaml"], "Cannot read absent.yaml"),
        (["--config", "absent.yaml", "--kind", "FlatIndex"], "--config or --kind, not both"),
    ],
)
def test_options_that_cannot_be(
    options: list[str],
    reason: str,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--vectors", str(root / "vectors"), "--out", str(tmp_path / "out")]
    assert main(["index", *arguments, *options]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_product_codes_need_vectors_to_learn_from() -> None:
    with pytest.raises(InputError, match="needs at least 256 vectors, got 200; take FlatIndex"):
        IvfPqIndex(code_bytes=8).build(VECTORS[:200])


def test_an_unreadable_configuration(root: Path, tmp_path: Path) -> None:
    config = tmp_path / "kind.yaml"
    config.write_text("class_path: [")
    with pytest.raises(InputError, match=r"Cannot read .*kind.yaml: while parsing"):
        build_index.run(vectors=root / "vectors", out=tmp_path / "out", config=config)


def test_a_gpu_is_asked_for_in_vain(root: Path) -> None:
    import faiss

    if faiss.get_num_gpus():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="FAISS sees no GPU; set gpu to false"):
        StoredIndex(Path("flat"), gpu=True).open(ServedFiles(root), vectors_hash=vectors_hash(root))


def test_what_moves_to_a_gpu(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the wiring: nothing of a GPU is tried here."""
    import faiss

    moved: list[int] = []

    def move(resources: object, device: int, index: object) -> object:
        moved.append(device)
        return index

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", move, raising=False)
    files, wanted = ServedFiles(root), vectors_hash(root)
    with pytest.raises(InputError, match="FAISS has no HnswIndex on a GPU"):
        StoredIndex(Path("hnsw"), gpu=True).open(files, vectors_hash=wanted)
    there = StoredIndex(Path("flat"), gpu=True).open(files, vectors_hash=wanted)
    assert moved == [0]
    queries = build_index.sample_queries(VECTORS, 5)
    here = StoredIndex(Path("flat")).open(files, vectors_hash=wanted)
    np.testing.assert_array_equal(
        there.search(queries, count=9).ids, here.search(queries, count=9).ids
    )


@pytest.mark.parametrize("name", ["flat", "hnsw"])
def test_vectors_inside_an_index_outlive_its_name(name: str) -> None:
    def lent() -> np.ndarray:
        values = vectors_inside(KINDS[name].build(VECTORS))
        assert values is not None
        return values

    values = lent()
    gc.collect()
    other = [KINDS[name].build(0 * VECTORS) for _ in range(3)]  # would take the freed memory
    np.testing.assert_array_equal(values, VECTORS)
    assert len(other) == 3


def test_without_faiss(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"FAISS is not installed; install .* extra cpu or gpu"):
        StoredIndex(Path("flat")).open(ServedFiles(root), vectors_hash=vectors_hash(root))


def test_vectors_are_read_in_the_order_of_their_ids(root: Path) -> None:
    table = read_vectors(root / "vectors").table
    np.testing.assert_array_equal(table.ids, IDS)
    np.testing.assert_array_equal(table.values, VECTORS)
    assert table.longest == pytest.approx(1.0, abs=1e-6)


def write_table(out: Path, frame: pl.DataFrame, values: np.ndarray, kind: str = "scenes") -> Path:
    columns = tuple(Column(name, frame[name].dtype, "any", nullable=True) for name in frame.columns)
    schema = TableSchema(kind, "any", (), columns)
    with create_artifact(out, kind=kind, command="t", configuration={}, inputs={}) as writer:
        writer.write_table(schema, frame)
        writer.write_arrays(kind, {"values": values})
    return out


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"a": [1, 2]}, "has no id as its first column and no vector_row"),
        ({"vector_row": [0, 1], "a": [1, 2]}, "has no id as its first column"),
        ({"a": ["x", "y"], "vector_row": [0, 1]}, "has a a that is no number"),
        ({"a": [1, None], "vector_row": [0, 1]}, "has a a that is no number, or is not there"),
        ({"a": [1, 2], "vector_row": [0.0, 1.0]}, "has a vector_row that is no number"),
        ({"a": [1, 1], "vector_row": [0, 1]}, "repeats a a; an id has one vector"),
        ({"a": [-1, 1], "vector_row": [0, 1]}, "has a negative a"),
        ({"a": [1, 2], "vector_row": [0, 2]}, "names a vector_row that `values` does not have"),
        ({"a": [1, 2], "vector_row": [-1, 1]}, "names a vector_row that `values` does not have"),
    ],
)
def test_tables_that_name_no_vectors(
    frame: dict[str, list[object]], reason: str, tmp_path: Path
) -> None:
    out = write_table(tmp_path / "x", pl.DataFrame(frame), np.eye(2, dtype=np.float32))
    with pytest.raises(InputError, match=reason):
        read_vectors(out)


def test_arrays_that_are_no_vectors(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1, 2], "vector_row": [0, 1]})
    for place, values in enumerate((np.eye(2), np.zeros(2, np.float32))):
        with pytest.raises(InputError, match="has no array `values` of vectors in 32 bit"):
            read_vectors(write_table(tmp_path / str(place), frame, values))
    bad = np.array([[1, 2], [np.nan, 0]], np.float32)
    with pytest.raises(InputError, match="vector 1 is not finite"):
        read_vectors(write_table(tmp_path / "nan", frame, bad))
    with pytest.raises(ArtifactMismatch, match="is no artifact"):
        read_vectors(tmp_path)
    empty = write_table(tmp_path / "none", frame[:0], np.zeros((0, 3), np.float32))
    assert read_vectors(empty).table.values.shape == (0, 3)
    with pytest.raises(InputError, match="holds no vector"):
        build_index.run(vectors=empty, out=tmp_path / "out")


def test_an_artifact_without_a_table_of_its_name(root: Path) -> None:
    with pytest.raises(InputError, match=r"\(index\) has no table and array of its own name"):
        read_vectors(root / "flat")


def test_a_row_that_several_ids_share(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [9, 4, 6], "vector_row": [1, 1, 0]})
    table = read_vectors(write_table(tmp_path / "x", frame, np.eye(2, dtype=np.float32))).table
    assert table.ids.tolist() == [4, 6, 9]
    assert table.values.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_the_fixture_writes_the_array_in_another_order(root: Path) -> None:
    artifact = read_artifact(root / "vectors", kind="item_vectors")
    rows = artifact.table(ITEM_VECTORS)["vector_row"].to_numpy()
    assert not np.array_equal(rows, np.arange(COUNT))
