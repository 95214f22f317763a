"""The journal: whole lines or none, nothing acknowledged is lost, damage is named."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data_prep.errors import ArtifactMismatch
from personalize.api.journal import Journal, JournalMovedError

FIRST, SECOND = {"id": "a", "price_cents": 3}, {"id": "b", "title": "Zoë's\nlamp"}


def test_what_was_appended_is_read_again_in_order(tmp_path):
    journal = Journal(tmp_path / "made" / "items.jsonl")
    journal.append([FIRST, SECOND])
    journal.append([FIRST])
    assert journal.entries == [FIRST, SECOND, FIRST]
    assert Journal(journal.path).entries == [FIRST, SECOND, FIRST]


def test_nothing_appended_makes_no_file(tmp_path):
    journal = Journal(tmp_path / "items.jsonl")
    journal.append([])
    assert journal.entries == []
    assert not journal.path.exists()


def test_a_line_cut_anywhere_is_as_if_it_was_never_written(tmp_path):
    path = tmp_path / "items.jsonl"
    journal = Journal(path)
    journal.append([FIRST])
    kept = path.stat().st_size
    journal.append([SECOND, FIRST])
    whole = path.read_bytes()
    for cut in range(kept, len(whole)):
        path.write_bytes(whole[:cut])
        again = Journal(path)
        assert again.entries == [FIRST]
        again.append([SECOND])
        assert Journal(path).entries == [FIRST, SECOND]


@pytest.mark.parametrize("line", [0, 1])
def test_a_whole_line_that_was_changed_is_damage(tmp_path, line):
    path = tmp_path / "items.jsonl"
    journal = Journal(path)
    journal.append([FIRST])
    first_bytes = path.stat().st_size
    journal.append([SECOND])
    damaged = bytearray(path.read_bytes())
    damaged[line * first_bytes + 40] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArtifactMismatch, match=f"damaged {line * first_bytes} bytes from its"):
        Journal(path)


def test_two_journals_on_one_file_do_not_write_over_each_other(tmp_path):
    one = Journal(tmp_path / "items.jsonl")
    other = Journal(tmp_path / "items.jsonl")
    one.append([FIRST])
    with pytest.raises(JournalMovedError, match="another process"):
        other.append([SECOND])
    assert other.news() == [FIRST]
    assert other.news() == []
    other.append([SECOND])
    assert one.news() == [SECOND]
    assert one.entries == other.entries == [FIRST, SECOND]


def test_a_file_that_was_cut_or_removed_while_in_use_is_named(tmp_path):
    journal = Journal(tmp_path / "items.jsonl")
    journal.append([FIRST])
    journal.path.write_bytes(b"")
    with pytest.raises(ArtifactMismatch, match="cut short while it was in use"):
        journal.news()
    journal.path.unlink()
    with pytest.raises(ArtifactMismatch, match="is gone"):
        journal.news()


def test_nothing_is_appended_to_a_file_that_was_cut_or_removed(tmp_path):
    journal = Journal(tmp_path / "items.jsonl")
    journal.append([FIRST])
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:10])
    with pytest.raises(ArtifactMismatch, match="cut short while it was in use"):
        journal.append([SECOND])
    assert journal.path.read_bytes() == whole[:10]
    journal.path.unlink()
    with pytest.raises(ArtifactMismatch, match="is gone"):
        journal.append([SECOND])
    assert not journal.path.exists()
    assert journal.entries == [FIRST]


def test_nobody_reads_while_somebody_appends(tmp_path, monkeypatch):
    path = tmp_path / "items.jsonl"
    journal = Journal(path)
    journal.append([FIRST])
    read: list[list] = []

    def full(descriptor: int) -> None:
        reader = threading.Thread(target=lambda: read.append(Journal(path).entries))
        reader.start()
        time.sleep(0.1)
        assert not read
        readers.append(reader)
        raise OSError(28, "No space left on device")

    readers: list[threading.Thread] = []
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        journal.append([SECOND])
    readers[0].join(10)
    assert read == [[FIRST]]


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "items.jsonl")
    journal.append([FIRST])
    before = journal.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        journal.append([SECOND])
    monkeypatch.undo()
    assert journal.path.read_bytes() == before
    assert journal.entries == [FIRST]
    journal.append([SECOND])
    assert Journal(journal.path).entries == [FIRST, SECOND]


WRITER = """
import sys
from pathlib import Path
from personalize.api.journal import Journal
journal = Journal(Path(sys.argv[1]))
while True:
    number = len(journal.entries)
    journal.append([{"id": number, "title": "x" * 5000}])
    print(number, flush=True)
"""


@pytest.mark.parametrize("wait_s", [0.0, 0.003, 0.011, 0.02])
def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(tmp_path, wait_s):
    path = tmp_path / "items.jsonl"
    acknowledged = -1
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        time.sleep(wait_s)
        writer.send_signal(signal.SIGKILL)
        lines = writer.stdout.read().split()
        writer.wait()
        acknowledged = int(lines[-1]) if lines else acknowledged
        found = [int(entry["id"]) for entry in Journal(Path(path)).entries]
        assert found == list(range(len(found)))
        assert len(found) > acknowledged


def test_nothing_is_left_of_a_long_line_that_was_cut(tmp_path):
    path = tmp_path / "items.jsonl"
    journal = Journal(path)
    journal.append([FIRST])
    with path.open("ab") as stream:
        stream.write(b"x" * 10_000)
    journal.append([SECOND])
    assert path.read_bytes().endswith(b"}]\n")
    assert Journal(path).entries == [FIRST, SECOND]
