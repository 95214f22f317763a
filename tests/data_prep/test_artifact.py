"""An artifact is whole or it is not there, and a reader notices whatever was done to it since."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_prep.artifact import (
    MANIFEST_NAME,
    ArtifactWriter,
    FileEntry,
    Manifest,
    create_artifact,
    file_sha256,
    map_arrays,
    read_artifact,
    read_manifest,
)
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import REJECTED, USERS

USERS_FRAME = pl.DataFrame({"user_id": [1, 0, 2], "user_key": ["b", "a", "c"]}, schema=USERS.polars)


def _write(folder: Path, *, overwrite: bool = False, note: int = 0) -> None:
    with create_artifact(
        folder,
        kind="reviews",
        command="data-prep town",
        configuration={"seed": 3},
        inputs={"raw": "ab"},
        overwrite=overwrite,
    ) as writer:
        _fill(writer)
        writer.notes["note"] = note


def _write_and_fail(folder: Path) -> None:
    with create_artifact(
        folder, kind="x", command="", configuration={}, inputs={}, overwrite=True
    ) as writer:
        _fill(writer)
        raise ZeroDivisionError


def _fill(writer: ArtifactWriter) -> None:
    writer.write_table(USERS, USERS_FRAME)
    writer.write_arrays("values", {"b": np.arange(6.0).reshape(2, 3), "a": np.arange(2)})
    writer.write_json("axes", {"z": 1, "a": ["é", None]})
    writer.path("pages/report.html").write_text("<p>")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """One small artifact of every kind of file."""
    _write(tmp_path / "artifact")
    return tmp_path / "artifact"


class TestRoundTrip:
    def test_what_was_written_is_read(self, artifact: Path) -> None:
        with read_artifact(artifact, kind="reviews") as found:
            assert found.table(USERS)["user_key"].to_list() == ["a", "b", "c"]  # sorted by key
            arrays = found.arrays("values")
            assert arrays["b"].tolist() == [[0, 1, 2], [3, 4, 5]]
            assert arrays["a"].dtype == np.int64
            assert found.json("axes") == {"z": 1, "a": ["é", None]}
            assert found.file("pages/report.html").read_text() == "<p>"
            assert found.has("users.parquet")
            assert not found.has("items.parquet")
            assert found.manifest.files["users.parquet"].rows == 3
            assert found.manifest.configuration == {"seed": 3}
            assert found.manifest.inputs == {"raw": "ab"}

    def test_arrays_are_mapped_and_read_only(self, artifact: Path) -> None:
        values = read_artifact(artifact, kind="reviews").arrays("values")["b"]
        assert isinstance(values, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            values[0, 0] = 1

    def test_the_same_input_gives_the_same_bytes(self, tmp_path: Path) -> None:
        _write(tmp_path / "one")
        _write(tmp_path / "two")
        assert _bytes_of(tmp_path / "one") == _bytes_of(tmp_path / "two")

    def test_the_hash_follows_the_content_and_nothing_else(self, tmp_path: Path) -> None:
        _write(tmp_path / "one")
        _write(tmp_path / "two", note=1)  # a note is no content
        assert (
            read_manifest(tmp_path / "one").content_hash
            == read_manifest(tmp_path / "two").content_hash
        )
        with create_artifact(
            tmp_path / "three", kind="reviews", command="", configuration={}, inputs={}
        ) as writer:
            _fill(writer)
            writer.write_json("axes", {"z": 2})
        assert (
            read_manifest(tmp_path / "three").content_hash
            != read_manifest(tmp_path / "one").content_hash
        )

    def test_the_hash_does_not_follow_the_order_of_files(self) -> None:
        files = {"b.json": FileEntry(1, "bb"), "a.json": FileEntry(2, "aa")}
        turned = dict(sorted(files.items()))
        one, two = (Manifest("reviews", "", {}, {}, files=each) for each in (files, turned))
        assert one.content_hash == two.content_hash

    @given(
        hnp.arrays(
            st.sampled_from([np.float32, np.int32, np.uint8, np.bool_, np.float16, np.int64]),
            hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
        )
    )
    def test_any_array_comes_back(
        self, tmp_path_factory: pytest.TempPathFactory, array: np.ndarray
    ) -> None:
        folder = tmp_path_factory.mktemp("arrays")
        ArtifactWriter(folder).write_arrays("x", {"first": array, "second": array.T})
        found = map_arrays(folder / "x.safetensors")
        np.testing.assert_array_equal(found["first"], array)
        np.testing.assert_array_equal(found["second"], array.T)
        assert found["first"].dtype == array.dtype

    def test_nan_is_no_json(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            ArtifactWriter(tmp_path).write_json("axes", {"mean": float("nan")})


class TestDestination:
    def test_an_artifact_is_replaced_only_when_asked_for(self, artifact: Path) -> None:
        before = _bytes_of(artifact)
        with pytest.raises(InputError, match="exists; pass --overwrite to replace it"):
            _write(artifact)
        assert _bytes_of(artifact) == before
        _write(artifact, overwrite=True, note=7)
        assert read_manifest(artifact).notes == {"note": 7}
        assert [path.name for path in artifact.parent.iterdir()] == ["artifact"]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_what_is_no_artifact_is_never_touched(self, tmp_path: Path, overwrite: bool) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.jpg").touch()
        with pytest.raises(InputError, match="exists and is no artifact; choose another --out"):
            _write(tmp_path / "photos", overwrite=overwrite)
        assert (tmp_path / "photos" / "cat.jpg").exists()

    def test_an_error_leaves_nothing_and_keeps_the_old_artifact(self, artifact: Path) -> None:
        before = _bytes_of(artifact)
        for folder in (artifact, artifact.parent / "new"):
            with pytest.raises(ZeroDivisionError):
                _write_and_fail(folder)
        assert _bytes_of(artifact) == before
        assert [path.name for path in artifact.parent.iterdir()] == ["artifact"]

    def test_a_file_where_a_folder_should_be_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match=r"Cannot write beside .*; choose another --out"):
            _write(tmp_path / "file" / "artifact")

    def test_a_folder_without_write_permission_is_one_sentence(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o555)
        if os.access(closed, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(InputError, match="Permission denied; choose another --out"):
            _write(closed / "artifact")

    @pytest.mark.parametrize("what", ["table", "arrays", "json", "file"])
    def test_a_full_disk_is_one_sentence_and_leaves_nothing(
        self, tiny_disk: Path, what: str
    ) -> None:
        with pytest.raises(InputError, match="No space left on device; free space or choose"):
            _overfill(tiny_disk / "artifact", what)
        assert list(tiny_disk.iterdir()) == []


def _overfill(folder: Path, what: str) -> None:
    noise = np.random.default_rng(0).integers(0, 2**62, 100_000)
    with create_artifact(folder, kind="x", command="", configuration={}, inputs={}) as writer:
        if what == "table":
            keys = pl.Series("user_key", noise).cast(pl.String)
            ids = pl.Series("user_id", np.arange(len(noise), dtype=np.int32))
            writer.write_table(USERS, pl.DataFrame([ids, keys]))
        elif what == "arrays":
            writer.write_arrays("values", {"noise": noise})
        elif what == "json":
            writer.write_json("noise", noise.tolist())
        else:
            writer.path("noise").write_bytes(noise.tobytes())


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, or a skip where this user may not mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a tiny file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


OLD_WRITER = """
import sys
from pathlib import Path
import numpy as np
from data_prep.artifact import create_artifact
from data_prep.schema import USERS
with create_artifact(Path(sys.argv[1]), kind="reviews", command="", configuration={},
                     inputs={}) as writer:
    writer.write_table(USERS, USERS.empty())
    writer.write_arrays("values", {"a": np.full(1000, 1)})
    writer.write_json("content", 1)
"""
KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np, polars as pl
from data_prep.artifact import create_artifact
from data_prep.schema import USERS

root = Path(sys.argv[1])

def write(folder, content):
    with create_artifact(folder, kind="reviews", command="", configuration={}, inputs={},
                         overwrite=True) as writer:
        writer.write_table(USERS, USERS.empty())
        writer.write_arrays("values", {"a": np.full(1000, content)})
        writer.write_json("content", content)

def child(folder, moment):
    seen = 0
    def count(event, arguments):
        nonlocal seen
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    write(folder, 2)
    os._exit(0)

moment = 0
killed = True
while killed:
    moment += 1
    folder = root / f"{moment:03d}" / "artifact"
    folder.parent.mkdir()
    if sys.argv[2] == "old":
        import shutil
        shutil.copytree(root / "old", folder)
    process = os.fork()
    if process == 0:
        child(folder, moment)
    killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
"""


class TestKilled:
    @pytest.mark.parametrize("before", ["nothing", "old"])
    def test_a_kill_at_any_moment_leaves_a_whole_artifact_or_none(
        self, tmp_path: Path, before: str
    ) -> None:
        if before == "old":
            subprocess.run(
                [sys.executable, "-c", OLD_WRITER, str(tmp_path / "old")], check=True, timeout=60
            )
        subprocess.run(
            [sys.executable, "-c", KILLED_WRITER, str(tmp_path), before], check=True, timeout=120
        )
        moments = sorted(tmp_path.glob("[0-9]*"))
        assert len(moments) > 15  # a kill at every file opened, folder made and name changed
        contents = []
        for moment in moments:
            folders = [moment / "artifact"]
            if not folders[0].exists():
                # Between the two renames of a replacement the old artifact lies aside, whole.
                folders = list(moment.glob(".artifact.old.*/artifact"))
            contents.append(
                [read_artifact(folder, kind="reviews").json("content") for folder in folders]
            )
        assert contents[-1] == [2]  # the last one was not killed
        if before == "old":
            assert all(found in ([1], [2]) for found in contents)
            assert contents[0] == [1]
        else:
            assert all(found in ([], [2]) for found in contents)
            assert contents[0] == []


class TestDamage:
    def test_another_kind_is_refused(self, artifact: Path) -> None:
        with pytest.raises(ArtifactMismatch, match="holds reviews, but vectors is needed here"):
            read_artifact(artifact, kind="vectors")

    def test_a_folder_without_manifest_is_no_artifact(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactMismatch, match=r"is no artifact: it has no manifest\.json"):
            read_artifact(tmp_path, kind="reviews")

    @pytest.mark.parametrize("name", ["users.parquet", "values.safetensors", "pages/report.html"])
    def test_a_changed_cut_or_missing_file_is_refused(self, artifact: Path, name: str) -> None:
        path = artifact / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ArtifactMismatch, match="was changed after it was written"):
            read_artifact(artifact, kind="reviews")
        assert read_artifact(artifact, kind="reviews", verify=False)  # only sizes are compared
        path.write_bytes(content[:-1])
        with pytest.raises(ArtifactMismatch, match="is missing or cut short"):
            read_artifact(artifact, kind="reviews", verify=False)
        path.unlink()
        with pytest.raises(ArtifactMismatch, match="is missing or cut short"):
            read_artifact(artifact, kind="reviews")

    @pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "pages/../../secret"])
    def test_a_manifest_names_nothing_outside_its_folder(self, artifact: Path, name: str) -> None:
        secret = artifact.parent / "secret"
        secret.write_text("secret")
        raw = json.loads((artifact / MANIFEST_NAME).read_text())
        raw["files"][name] = {"size_bytes": 6, "sha256": file_sha256(secret), "rows": None}
        (artifact / MANIFEST_NAME).write_text(json.dumps(raw))
        with pytest.raises(ArtifactMismatch, match="names a file outside its folder"):
            read_artifact(artifact, kind="reviews")

    @pytest.mark.parametrize(
        "text",
        [
            b"{",
            b"[]",
            b"null",
            b"\xff\xfe",
            b"{}",
            b'{"files": {"a": 5}}',
            b'{"files": {"a": {"size": 5}}}',
            b'{"files": {}, "surprise": 1}',
            b'{"files": [], "kind": "reviews"}',
        ],
    )
    def test_a_broken_manifest_is_one_sentence(self, artifact: Path, text: bytes) -> None:
        (artifact / MANIFEST_NAME).write_bytes(text)
        with pytest.raises(ArtifactMismatch, match="is no manifest"):
            read_artifact(artifact, kind="reviews")

    def test_another_schema_version_is_refused(self, artifact: Path) -> None:
        raw = json.loads((artifact / MANIFEST_NAME).read_text())
        (artifact / MANIFEST_NAME).write_text(json.dumps(raw | {"schema_version": 99}))
        with pytest.raises(ArtifactMismatch, match="has schema version 99, this program reads 1"):
            read_artifact(artifact, kind="reviews")

    def test_a_file_the_manifest_does_not_list_is_not_there(self, artifact: Path) -> None:
        (artifact / "slipped_in.json").write_text("{}")
        found = read_artifact(artifact, kind="reviews")
        with pytest.raises(ArtifactMismatch, match=r"holds no slipped_in\.json; it holds axes"):
            found.json("slipped_in")

    def test_a_table_of_other_columns_is_refused(self, tmp_path: Path) -> None:
        with create_artifact(
            tmp_path / "odd", kind="reviews", command="", configuration={}, inputs={}
        ) as writer:
            REJECTED.empty().write_parquet(writer.path("users.parquet"))
        found = read_artifact(tmp_path / "odd", kind="reviews")
        with pytest.raises(ArtifactMismatch, match="lacks user_id, user_key and has unknown file"):
            found.table(USERS)


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
