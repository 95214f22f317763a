"""What a killed command leaves goes with the next one; what a living one fills is left alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_prep.artifact import create_artifact, read_manifest
from data_prep.temporary_folder import remove_abandoned, replace_folder, temporary_folder
from personalize.checkpoint_plugin import FolderCheckpoints, RunRecord

PROJECT = Path(__file__).parents[2]
WRITER = """
import sys, time
from pathlib import Path
from data_prep.artifact import create_artifact
with create_artifact(Path(sys.argv[1]), kind="x", command="", configuration={}, inputs={},
                     overwrite=True) as writer:
    writer.write_json("half", [1, 2, 3])
    print("writing", flush=True)
    time.sleep(600)
"""
REPLACER = """
import os, signal, sys
from pathlib import Path
from data_prep import temporary_folder
destination = Path(sys.argv[1])
with temporary_folder.temporary_folder(destination) as folder:
    rename = Path.rename
    def killed(self, target):
        if self == folder:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)
    Path.rename = killed
    temporary_folder.replace_folder(folder, destination)
"""

Begin = Callable[[Path], subprocess.Popen]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a process that is in the midst of writing an artifact."""
    started = []

    def run(destination: Path) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(destination)],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "writing\n"
        return process

    yield run
    for process in started:
        _kill(process)


def _kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _write(destination: Path, *, value: int = 0) -> None:
    with create_artifact(
        destination, kind="x", command="", configuration={}, inputs={}, overwrite=True
    ) as writer:
        writer.write_json("value", value)


def _hidden(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith("."))


def test_a_killed_writers_folder_is_removed_by_the_next_one_and_a_living_ones_is_not(
    begin: Begin, tmp_path: Path
) -> None:
    destination = tmp_path / "tables"
    _kill(begin(destination))
    [left] = _hidden(tmp_path)
    assert (left / "half.json").is_file()
    alive = begin(destination)  # removes what the killed one left, and fills its own
    [filling] = _hidden(tmp_path)
    assert filling != left
    _write(destination)
    assert _hidden(tmp_path) == [filling]
    assert (filling / "half.json").is_file()
    _kill(alive)
    _write(destination)
    assert _hidden(tmp_path) == []
    assert read_manifest(destination).kind == "x"


def test_only_folders_of_the_same_destination_are_looked_at(begin: Begin, tmp_path: Path) -> None:
    _kill(begin(tmp_path / "tables"))
    for name in (".tables.mine.tmp", ".tables.old", ".tablesX.abcdefgh.tmp", ".tables.abcdefgh"):
        (tmp_path / name).mkdir()
    (tmp_path / ".tables.abcdefgh.tmp").touch()  # a file
    before = _hidden(tmp_path)
    _write(tmp_path / "others")
    _write(tmp_path / "table")
    assert _hidden(tmp_path) == before
    _write(tmp_path / "tables")
    assert len(_hidden(tmp_path)) == len(before) - 1


def test_a_link_of_such_a_name_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / ".tables.abcdefgh.tmp").symlink_to(tmp_path / "photos")
    _write(tmp_path / "tables")
    assert (tmp_path / "photos" / "cat.jpg").is_file()


def test_what_was_moved_aside_when_its_replacer_was_killed_comes_back(tmp_path: Path) -> None:
    destination = tmp_path / "tables"
    _write(destination, value=7)
    done = subprocess.run(
        [sys.executable, "-c", REPLACER, str(destination)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert not destination.exists()
    assert len(_hidden(tmp_path)) == 2
    remove_abandoned(tmp_path, "tables")
    assert _hidden(tmp_path) == []
    assert (destination / "value.json").read_text() == "7\n"


def test_a_failed_rename_keeps_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "kept").touch()
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError(5, "no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with (
        temporary_folder(tmp_path / "old") as folder,
        pytest.raises(OSError, match="no"),
    ):
        replace_folder(folder, tmp_path / "old")
    assert (tmp_path / "old" / "kept").is_file()
    assert _hidden(tmp_path) == []


def test_a_folder_that_vanishes_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = os.open

    def vanishing(path: Path, *arguments: int) -> int:
        opened.append(Path(path))
        if len(opened) == 1:
            Path(path).rmdir()
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", vanishing)
    with temporary_folder(tmp_path / "tables") as folder:
        assert folder == opened[1] != opened[0]
        assert folder.is_dir()


def test_a_killed_runs_half_written_checkpoint_goes_when_the_next_one_is_saved(
    begin: Begin, tmp_path: Path
) -> None:
    _kill(begin(tmp_path / "last-00000040"))
    assert len(_hidden(tmp_path)) == 1
    saved = {"state_dict": {}, "epoch": 0, "global_step": 60}
    FolderCheckpoints(RunRecord("recsys fit")).save_checkpoint(saved, tmp_path / "last-00000060")
    assert [path.name for path in tmp_path.iterdir()] == ["last-00000060"]
