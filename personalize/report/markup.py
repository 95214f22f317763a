"""HTML and SVG by function calls; every text is escaped unless it was made here.

Text of reviews and items is untrusted. It reaches a page only as a child or an attribute of an
element, and both are escaped, so nothing that stands in the data can become markup.
"""

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is markup already; `element` does not escape it."""

    __slots__ = ()


_VOID = frozenset({"meta", "br", "hr", "input", "line", "circle", "rect", "path"})


def element(
    name: str, /, *children: str | int | float | None, **attributes: str | int | float | None
) -> Markup:
    """One element with its children.

    Args:
        name: Name of the element.
        children: Markup, or text to escape; None is left out.
        attributes: Attributes by name; a trailing underscore is dropped (`class_`), other
            underscores become hyphens, None is left out.

    Example:
        >>> element("p", "a < b", class_="x")
        '<p class="x">a &lt; b</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def joined(children: Iterable[str | int | float | None]) -> Markup:
    """Children one after another, text escaped.

    Example:
        >>> joined(["<", Markup("<b>"), None])
        '&lt;<b>'
    """
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(_text(child), quote=False)
            for child in children
            if child is not None
        )
    )


def table(
    head: Iterable[str | Markup],
    rows: Iterable[Iterable[str | int | float | None]],
    **attributes: str,
) -> Markup:
    """A table; a cell that is a `td` or `th` already is taken as it is."""
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", *(_cell(cell, "th") for cell in head))),
            element(
                "tbody",
                *(
                    row
                    if isinstance(row, Markup)
                    else element("tr", *(_cell(cell, "td") for cell in row))
                    for row in rows
                ),
            ),
            **attributes,
        ),
        class_="scroll",
    )


def _cell(cell: str | int | float | None, name: str) -> Markup:
    if isinstance(cell, Markup) and cell.startswith((f"<{name} ", f"<{name}>", "<td ", "<td>")):
        return cell
    return element(name, cell)


def _text(value: str | int | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)
