"""Reviews from lines of JSON: Polars for good blocks, line by line where a block has a fault."""

import json
import math
import re
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from data_prep.ordered_map import ordered_map
from data_prep.reviews.raw_lines import Block, read_blocks
from data_prep.reviews.raw_review import RAW_REVIEWS, ReviewLayout
from data_prep.reviews.rejects import Rejects

_NO_TEXT = r"^(?:[\[{]|-?[0-9][0-9.eE+-]*$|true$|false$|null$)"
_ESCAPED_ASCII = "|".join(rf"\\u00{digit}" for digit in range(2, 8))  # faster than a class


def read_json_reviews(
    path: Path,
    layout: ReviewLayout,
    rejects: Rejects,
    lines_before: int,
    *,
    allow_truncated: bool = False,
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Reviews of a file as frames of `RAW_REVIEWS`, each with the number of its last line.

    A review's number counts the lines of all files, bad ones included, so that it stays the same
    when a neighbour is refused.

    Args:
        path: File of JSON lines.
        layout: Which field holds what.
        rejects: Receives refused lines and the number of lines read.
        lines_before: Lines of earlier files.
        allow_truncated: As in `read_blocks`.
    """

    def parse(block: Block) -> tuple[pl.DataFrame, int, Rejects]:
        found = Rejects()
        frame = parse_block(block, layout, path.name, lines_before, found)
        return frame, block.first_line + block.line_count - 1, found

    blocks = read_blocks(path, rejects, allow_truncated=allow_truncated)
    for frame, last_line, found in ordered_map(parse, blocks, workers=pl.thread_pool_size()):
        rejects.extend(found)
        yield frame, last_line


def parse_block(
    block: Block, layout: ReviewLayout, file: str, lines_before: int, rejects: Rejects
) -> pl.DataFrame:
    """Reviews of one block; what is refused goes to `rejects`.

    Args:
        block: Whole lines.
        layout: Which field holds what.
        file: Name of the file, for refused lines.
        lines_before: Lines of earlier files, added to the review numbers.
        rejects: Receives refused lines.
    """
    fields = _parse_quickly(block, layout)
    if fields is None:
        fields = _parse_slowly(block, layout, file, rejects)
    else:
        rejects.read += fields.height
    fields = fields.with_columns(layout.reason().alias("reason"))
    if fields["reason"].null_count() < fields.height:
        lines = block.lines()
        bad = fields.filter(pl.col("reason").is_not_null()).select("offset", "reason")
        for offset, reason in bad.iter_rows():
            rejects.add(file, block.first_line + offset, reason, lines[offset])
        fields = fields.filter(pl.col("reason").is_null())
    number = (pl.col("offset").cast(pl.Int64) + (lines_before + block.first_line - 1)).alias(
        "review_id"
    )
    return fields.select(number, *layout.shared()).select(RAW_REVIEWS.names())


def _parse_quickly(block: Block, layout: ReviewLayout) -> pl.DataFrame | None:
    """All lines at once, or nothing where Polars might have bent what the file says.

    Polars turns a number or a list into a string where a string is asked for, keeps one of two
    equal keys, and reads half a surrogate pair as NUL. So no key may stand in a row twice, no
    string may hold a NUL, and strings that may have been something else are looked up in the file.
    """
    try:
        frame = pl.read_ndjson(block.data, schema=layout.fields())
        text = pl.Series([block.data]).cast(pl.String)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    if frame.height != block.line_count or not _each_key_once(text, frame):
        return None
    if any(not _always_quoted(text, frame, name) for name in _unlike_text(frame)):
        return None
    if any(frame.select(pl.col(pl.String).str.contains("\0", literal=True).any()).row(0)):
        return None
    return frame.with_row_index("offset")


def _each_key_once(text: pl.Series, frame: pl.DataFrame) -> bool:
    """Whether no row says a wanted key twice, and none says null.

    A value needs its key, so a key stands there at least as often as it has values; if all of them
    together stand there just as often as all have values, none is repeated. One pass tells so of
    nearly every block. A key whose letters are escaped cannot make up for one that is repeated,
    because every escaped letter of ASCII counts as a key. Where the sums differ nothing need be
    wrong: a text may be the name of a key, or hold such a letter. Then the keys are counted one by
    one, each with its colon.
    """
    present = {name: frame.height - frame[name].null_count() for name in frame.columns}
    names = "|".join(_key(name) for name in present)
    if _count(text, rf"{names}|{_ESCAPED_ASCII}") == sum(present.values()):
        return True
    return not _count(text, rf'(?:{_ESCAPED_ASCII})[^"]*"\s*:') and all(
        _count(text, rf"{_key(name)}\s*:") == values for name, values in present.items()
    )


def _unlike_text(frame: pl.DataFrame) -> list[str]:
    """String columns of which a value may have been a number, a truth, a list or an object."""
    looks = frame.select(pl.col(pl.String).str.contains(_NO_TEXT).any())
    return [name for name, unlike in looks.row(0, named=True).items() if unlike]


def _always_quoted(text: pl.Series, frame: pl.DataFrame, name: str) -> bool:
    """Whether every value of a key begins with a quote, where each key stands there once a row.

    Inside a JSON string every quote has a backslash before it, so a text cannot feign a key.
    """
    values = frame.height - frame[name].null_count()
    return _count(text, rf'{_key(name)}\s*:\s*"') == values


def _key(name: str) -> str:
    return re.escape(json.dumps(name))


def _count(text: pl.Series, pattern: str) -> int:
    return text.str.count_matches(pattern).item()


def _parse_slowly(block: Block, layout: ReviewLayout, file: str, rejects: Rejects) -> pl.DataFrame:
    fields = layout.fields()
    rows = []
    for offset, line in enumerate(block.lines()):
        if not line.strip():
            continue
        rejects.read += 1
        values = _parse_line(line, fields)
        if isinstance(values, str):
            rejects.add(file, block.first_line + offset, values, line)
        else:
            rows.append((offset, *values))
    return pl.DataFrame(rows, schema={"offset": pl.UInt32(), **fields}, orient="row")


def _parse_line(line: bytes, fields: dict[str, pl.DataType]) -> list[Any] | str:
    """The wanted values of one line, or the reason why it is refused."""
    try:
        record = json.loads(line.decode("utf-8"), object_pairs_hook=partial(_unique, fields))
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    except RecursionError:
        return "nested too deeply"
    except json.JSONDecodeError as error:
        return f"broken JSON at character {error.pos}: {error.msg}"
    except _RepeatedKeyError as error:
        return f"the key {error} stands there twice"
    except ValueError as error:  # Python refuses to read integers of thousands of digits
        return f"broken JSON: {error}"
    if not isinstance(record, dict):
        return "no JSON object"
    values = []
    for name, dtype in fields.items():
        value = record.get(name)
        if value is not None:
            value = _typed(value, dtype)
            if value is None:
                kind = "text" if dtype == pl.String() else "a number"
                return f"{name} is {_kind(record[name])}, not {kind}"
        values.append(value)
    return values


class _RepeatedKeyError(ValueError):
    """A JSON object says one key twice."""


def _unique(wanted: Container[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose wanted keys stand there once; other keys are nobody's business."""
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen and key in wanted:
                raise _RepeatedKeyError(key)
            seen.add(key)
    return record


def _typed(value: object, dtype: pl.DataType) -> object:
    """The value where its type fits, else nothing."""
    if dtype == pl.String():
        return readable(value) if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if dtype == pl.Float64():
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return value if isinstance(value, int) and abs(value) < 1 << 62 else None


def readable(text: str) -> str:
    """The text with NUL and halves of surrogate pairs, which no UTF-8 file can hold, replaced."""
    cleaned = text.replace("\0", "\ufffd")
    return cleaned.encode("utf-8", errors="surrogatepass").decode("utf-8", errors="replace")


def _kind(value: object) -> str:
    names = {bool: "true or false", list: "a list", dict: "an object", str: "text"}
    return names.get(type(value), "a number out of range")
