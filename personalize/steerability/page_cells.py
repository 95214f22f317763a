"""Numbers with intervals as cells and words of the steerability report."""

from collections.abc import Mapping, Sequence
from typing import Any

from personalize.report.markup import Markup, element
from personalize.report.words import DASH, interval, number, signed

Numbers = Mapping[str, Any]


def figure(found: Numbers | None, digits: int, *, plus: bool = False) -> Markup:
    """A cell with a number and its interval; a dash where there is none."""
    if found is None:
        return element("td", DASH, class_="n")
    value = signed(found["value"], digits) if plus else number(found["value"], digits)
    return element("td", value, interval(found, digits), class_="n", data_sort=found["value"])


def words(found: Numbers | None, digits: int = 2) -> str:
    """A number with its interval, in words; a dash where there is none."""
    if found is None:
        return DASH
    return (
        f"{number(found['value'], digits)} ({number(found['low'], digits)} to "
        f"{number(found['high'], digits)})"
    )


def short(value: object) -> str:
    """Plain values in one line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {short(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(short(inner) for inner in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
