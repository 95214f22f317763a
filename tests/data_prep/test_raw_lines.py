"""Whole lines of raw files: every compression, every kind of damage."""

import gzip
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.reviews import raw_lines
from data_prep.reviews.raw_lines import read_blocks
from data_prep.reviews.rejects import Rejects

LINES = [f"line {number} {'x' * number}".encode() for number in range(300)]
CONTENT = b"\n".join(LINES) + b"\n"


def lines_of(path: Path, rejects: Rejects | None = None, **options: object) -> list[bytes]:
    rejects = Rejects() if rejects is None else rejects
    found: list[bytes] = []
    for block in read_blocks(path, rejects, **options):  # type: ignore[arg-type]
        assert block.first_line == len(found) + 1
        assert block.line_count == len(block.lines())
        found += block.lines()
    return found


@pytest.mark.parametrize(
    "packed",
    [
        CONTENT,
        CONTENT[:-1],
        gzip.compress(CONTENT),
        gzip.compress(CONTENT[:500]) + gzip.compress(CONTENT[500:]),
        gzip.compress(CONTENT) + b"\0" * 100,
        zstandard.compress(CONTENT),
        zstandard.compress(CONTENT[:500]) + zstandard.compress(CONTENT[500:]),
    ],
    ids=["plain", "no last line end", "gzip", "two members", "padded", "zstd", "two frames"],
)
@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 20])
def test_the_content_decides_how_a_file_is_read_not_its_name(
    tmp_path: Path, packed: bytes, block_bytes: int
) -> None:
    path = tmp_path / "misnamed.txt"
    path.write_bytes(packed)
    assert lines_of(path, block_bytes=block_bytes) == LINES


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"?")), min_size=1),
    block_bytes=st.integers(1, 60),
    piece=st.integers(1, 40),
    ended=st.booleans(),
)
def test_blocks_laid_end_to_end_are_the_file(
    lines: list[bytes], block_bytes: int, piece: int, ended: bool
) -> None:
    content = b"\n".join(lines) + (b"\n" if ended else b"")
    splitter = raw_lines._Splitter("f", Rejects(), block_bytes)
    blocks = []
    for start in range(0, len(content), piece):
        blocks += list(splitter.push(content[start : start + piece]))
    blocks += list(splitter.finish())
    assert b"".join(block.data for block in blocks) == content.removeprefix(b"\xef\xbb\xbf")
    next_line = 1
    for block in blocks:
        assert block.first_line == next_line
        next_line += block.line_count


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert lines_of(path) == [b"one", b"two"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_what_unpacks_to_many_times_its_size_is_read_whole(
    tmp_path: Path, pack: "type[bytes]"
) -> None:
    lines = [b"same " * 20] * 50_000
    path = tmp_path / "dense"
    path.write_bytes(pack(b"\n".join(lines)))
    assert lines_of(path) == lines


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(b"")
    assert lines_of(path) == []


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_file_that_was_cut_off_is_an_error_that_names_file_and_line(
    tmp_path: Path, pack: "type[bytes]"
) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(pack(CONTENT)[:-20])
    with pytest.raises(
        InputError, match=r"cut\.gz is cut off after line (\d+); .*--allow-truncated"
    ) as told:
        lines_of(path)
    kept = lines_of(path, allow_truncated=True)
    assert f"after line {len(kept)};" in str(told.value)


def test_the_whole_lines_before_a_cut_are_kept_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(CONTENT, compresslevel=0)[:-2000])
    rejects = Rejects()
    found = lines_of(path, rejects, allow_truncated=True)
    assert 100 < len(found) < 300
    assert found == LINES[: len(found)]
    [(file, line, reason, excerpt)] = rejects.rows
    assert (file, line, reason) == ("cut.gz", len(found) + 1, "the file is cut off here")
    assert LINES[len(found)].decode().startswith(excerpt)
    assert rejects.read == rejects.rows_refused == 1


def test_garbage_after_the_last_member_is_noted_and_the_lines_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "tail.gz"
    path.write_bytes(gzip.compress(CONTENT) + b"garbage")
    rejects = Rejects()
    assert lines_of(path, rejects) == LINES
    assert rejects.rows == [
        ("tail.gz", 0, "bytes that are no gzip follow the last gzip member", "")
    ]
    assert rejects.rows_refused == 0


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_damage_inside_a_file_is_an_error_that_names_it(
    tmp_path: Path, pack: "type[bytes]"
) -> None:
    packed = bytearray(pack(CONTENT * 50))
    for place in range(len(packed) // 2, len(packed) // 2 + 40):
        packed[place] ^= 0xFF
    path = tmp_path / "damaged.gz"
    path.write_bytes(bytes(packed))
    with pytest.raises(InputError, match=r"damaged\.gz is (damaged|cut off) after line \d+"):
        lines_of(path)


@pytest.mark.parametrize(
    ("start", "name"),
    [(b"PK\x03\x04", "zip"), (b"PAR1", "Parquet"), (b"\xff\xfe", "UTF-16"), (b"BZh9", "bzip2")],
)
def test_foreign_formats_are_named(tmp_path: Path, start: bytes, name: str) -> None:
    path = tmp_path / "reviews.json.gz"
    path.write_bytes(start + b"abc" * 20)
    with pytest.raises(InputError, match=rf"reviews\.json\.gz is .*{name}.*, not lines"):
        lines_of(path)


def test_a_line_of_ten_megabytes_is_refused_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_bytes(b"before\n" + b"y" * 10_000_000 + b"\nafter\nlast\n")
    rejects = Rejects()
    found = [
        (block.first_line, block.lines()) for block in read_blocks(path, rejects, block_bytes=1)
    ]
    assert found == [(1, [b"before"]), (3, [b"after", b"last"])]
    [(_, line, reason, _)] = rejects.rows
    assert (line, reason) == (2, "the line is longer than 4 MiB")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Cannot read .*nothing: No such file"):
        lines_of(tmp_path / "nothing")


def test_a_reader_that_stops_early_leaves_no_thread(tmp_path: Path) -> None:
    import threading

    path = tmp_path / "big.gz"
    path.write_bytes(gzip.compress(CONTENT * 3000, compresslevel=1))
    blocks = read_blocks(path, Rejects(), block_bytes=1000)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "decompress"]
