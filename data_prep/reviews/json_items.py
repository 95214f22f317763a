"""Item facts from lines of metadata: JSON, or the Python literals of the 2014 files."""

import ast
import html
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from data_prep.reviews.json_reviews import readable
from data_prep.reviews.raw_lines import Block, read_blocks
from data_prep.reviews.raw_review import RAW_ITEMS
from data_prep.reviews.rejects import Rejects

LONGEST_LITERAL_BYTES = 1 << 20
LONGEST_DESCRIPTION = 2000
_PRICE = re.compile(r"\$?\s*([0-9]{1,3}(?:,[0-9]{3})*|[0-9]+)(?:\.([0-9]{1,2}))?")
_TAG = re.compile(r"<[^<>]{1,200}>")
_SPACE = re.compile(r"\s+")


class ItemLayout(ABC):
    """How the metadata of one raw format is read.

    Attributes:
        key: Field that holds the item's key.
        python_literals: Whether lines may be Python literals instead of JSON.
    """

    key: str
    python_literals: bool = False

    @abstractmethod
    def facts(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Columns of `RAW_ITEMS` except the key."""


def read_items(
    path: Path,
    layout: ItemLayout,
    item_keys: Sequence[str],
    rejects: Rejects,
    *,
    allow_truncated: bool = False,
) -> pl.DataFrame:
    """What a metadata file says of the wanted items.

    Only lines that seem to speak of a wanted item are parsed. The first good line of an item
    counts; a later one is refused as a repeat.

    Args:
        path: The file.
        layout: How its lines are read.
        item_keys: Wanted items.
        rejects: Receives refused lines and the number of lines read.
        allow_truncated: As in `read_blocks`.
    """
    wanted = {key.encode() for key in item_keys}
    name = layout.key.encode()
    finder = re.compile(rb"""["']""" + re.escape(name) + rb"""["']\s*:\s*["']([^"'\\]+)["']""")
    rows: dict[str, dict[str, Any]] = {}
    for block in read_blocks(path, rejects, allow_truncated=allow_truncated):
        for offset, line in _wanted_lines(block, finder, wanted, rejects):
            _add_item(rows, line, layout, (path.name, block.first_line + offset), rejects)
    names = RAW_ITEMS.names()
    values = [[key, *(row[column] for column in names[1:])] for key, row in sorted(rows.items())]
    return pl.DataFrame(values, schema=RAW_ITEMS, orient="row")


def _wanted_lines(
    block: Block, finder: re.Pattern[bytes], wanted: set[bytes], rejects: Rejects
) -> list[tuple[int, bytes]]:
    """Lines of wanted items, and lines in which no key is found at all."""
    found = []
    for offset, line in enumerate(block.lines()):
        if not line.strip():
            continue
        rejects.read += 1
        keys = finder.findall(line)
        if not keys or any(key in wanted for key in keys):
            found.append((offset, line))
    return found


def _add_item(
    rows: dict[str, dict[str, Any]],
    line: bytes,
    layout: ItemLayout,
    place: tuple[str, int],
    rejects: Rejects,
) -> None:
    record = parse_record(line, python_literals=layout.python_literals)
    if isinstance(record, str):
        rejects.add(*place, record, line)
        return
    key = record.get(layout.key)
    if not isinstance(key, str) or not key:
        rejects.add(*place, f"{layout.key} is missing", line)
    elif key in rows:
        rejects.add(*place, "repeats an item", line)
    else:
        rows[readable(key)] = layout.facts(record)


def parse_record(line: bytes, *, python_literals: bool) -> dict[str, Any] | str:
    """One line of metadata as a mapping, or the reason why it is refused.

    A Python literal is read by `ast.literal_eval`, which builds values and calls nothing, and only
    up to 1 MiB.
    """
    try:
        text = line.decode("utf-8")
        record = json.loads(text) if not python_literals else _literal_or_json(text)
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        kind = "neither JSON nor a Python literal" if python_literals else "broken JSON"
        return f"{kind}: {str(error).splitlines()[0][:80] if str(error) else 'nested too deeply'}"
    return record if isinstance(record, dict) else "no mapping of fields"


def _literal_or_json(text: str) -> object:
    if text.lstrip().startswith('{"'):
        try:
            return json.loads(text)
        except ValueError:
            pass  # a Python literal may begin with a double quote, too
    if len(text) > LONGEST_LITERAL_BYTES:
        raise ValueError(f"longer than {LONGEST_LITERAL_BYTES >> 20} MiB")
    return ast.literal_eval(text.strip())


def cleaned(value: object, longest: int = 1000) -> str | None:
    """Text without HTML tags and entities, on one line; nothing where there is none.

    Web pages of the time left JavaScript in some titles; such text is no title.
    """
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return None
    text = _SPACE.sub(" ", _TAG.sub(" ", html.unescape(readable(value)))).strip()
    if not text or "getTime" in text:
        return None
    return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0]


def price_cents(value: object) -> int | None:
    """A price in cents from a number or a text such as "$1,299.00"; nothing for a range."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return round(value * 100) if 0 <= value < 1e7 else None
    match = _PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or len(match[1]) > len("9,999,999"):
        return None
    return int(match[1].replace(",", "")) * 100 + int((match[2] or "0").ljust(2, "0"))


def category_path(value: object) -> list[str]:
    """Category names, general to special; of several paths the longest, the first of equals."""
    if not isinstance(value, list):
        return []
    paths = [path for path in value if isinstance(path, list)] or [value]
    path = max(paths, key=len)
    names = (cleaned(name, 100) for name in path)
    return list(dict.fromkeys(name for name in names if name))
