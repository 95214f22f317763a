"""How numbers are written in a report."""

from collections.abc import Mapping
from typing import Any

from personalize.report.markup import Markup, element

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def model_name(model: str, colour: int) -> Markup:
    """A model's name with its colour."""
    return element("span", element("span", model), class_=f"name dotmark c{colour % 8}")


def number(value: float | int | None, digits: int = 4) -> str:
    """A number of fixed decimals, with a real minus sign; a dash where there is none.

    Example:
        >>> number(0.25, 1), number(-0.0001, 2)
        ('0.2', '0.00')
    """
    return DASH if value is None else _rounded(value, digits, "")


def signed(value: float | int, digits: int = 4) -> str:
    """A number with its sign, which nothing that is rounded to zero has."""
    return _rounded(value, digits, "+")


def chance(value: float) -> str:
    """A p-value in a table.

    Example:
        >>> chance(0.0312), chance(0.0004)
        ('0.031', '<0.001')
    """
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def p_value(value: float) -> str:
    """The same in a sentence.

    Example:
        >>> p_value(0.0312), p_value(0.0004)
        ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _rounded(value: float | int, digits: int, sign: str) -> str:
    if round(value, digits) == 0:
        return f"{0:.{digits}f}"
    return f"{value:{sign}.{digits}f}".replace("-", MINUS)


def interval(found: Mapping[str, Any], digits: int = 4) -> Markup:
    """The ends of an interval, small."""
    low, high = number(found["low"], digits), number(found["high"], digits)
    return element("span", f"{low}{DASH}{high}", class_="ci")


def share(value: float) -> str:
    """A share in per cent."""
    return f"{value:.1%}"


def yes_no(value: object, yes: str, no: str) -> Markup:
    """A fact of a protocol; what makes a number look better than it is stands out."""
    if value is None:
        return element("span", "not stated", class_="pill")
    return element("span", yes if value else no, class_="pill yes" if value else "pill")
