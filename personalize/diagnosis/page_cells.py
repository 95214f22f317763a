"""Numbers with interval and count as cells of the diagnosis report."""

from collections.abc import Mapping
from typing import Any

from personalize.report.markup import Markup, element
from personalize.report.words import DASH, number, signed

Numbers = Mapping[str, Any]


def figure(found: Numbers | None, digits: int = 3, *, plus: bool = False) -> Markup:
    """A cell with a number, its interval and its count; a dash where there is none."""
    if found is None or found["mean"] is None:
        return element("td", DASH, class_="n")
    value = signed(found["mean"], digits) if plus else number(found["mean"], digits)
    low, high = number(found["low"], digits), number(found["high"], digits)
    small = element("span", f"{low} to {high}; n {found['rows']:,}", class_="ci")
    return element("td", value, small, class_="n", data_sort=found["mean"])


def head(*words: str) -> list[Markup]:
    """Heads of columns: the first of words, the others of numbers."""
    return [element("th", words[0]), *(element("th", word, class_="n") for word in words[1:])]
