"""Figures of the report as SVG: drawn by hand, coloured by the page, with tool-tips."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from personalize.report.markup import Markup, element

_ROW = 26
_TICKS = 5


@dataclass(frozen=True)
class Dot:
    """One value with its interval.

    Attributes:
        label: What it is.
        value: The value.
        low: Lower end.
        high: Upper end.
        colour: Number of its colour in the page, from 0.
        hollow: An upper bound rather than a result: drawn apart.
    """

    label: str
    value: float
    low: float
    high: float
    colour: int = 0
    hollow: bool = False


def interval_dots(
    dots: Sequence[Dot], *, title: str, digits: int = 4, zero_line: bool = False
) -> Markup:
    """Values with their intervals on one scale, one line each.

    Args:
        dots: What is drawn, from top to bottom.
        title: What the figure says, for those who cannot see it.
        digits: Decimals of the labels.
        zero_line: Draw a line at 0: for differences.
    """
    left, width = 168, 520
    right = width - 66
    ends = [end for dot in dots for end in (dot.low, dot.high, dot.value)]
    ends += [0.0]
    low, high, step = _scale(min(ends), max(ends))
    height = len(dots) * _ROW + 34

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 2)

    parts = [_grid(x, (low, high, step), height, digits)]
    if zero_line:
        parts.append(element("line", x1=x(0.0), x2=x(0.0), y1=4, y2=height - 26, class_="zero"))
    for number, dot in enumerate(dots):
        y = number * _ROW + 18
        tip = f"{dot.label}: {dot.value:.{digits}f}, 95 % from {dot.low:.{digits}f} to "
        parts.append(
            element(
                "g",
                element("title", f"{tip}{dot.high:.{digits}f}"),
                element("rect", x=0, y=y - 12, width=width, height=24, class_="hover"),
                element("text", dot.label, x=left - 12, y=y + 4, class_="label"),
                element("line", x1=x(dot.low), x2=x(dot.high), y1=y, y2=y, class_="whisker"),
                element("circle", cx=x(dot.value), cy=y, r=5, class_="dot"),
                element("text", f"{dot.value:.{digits}f}", x=right + 14, y=y + 4, class_="value"),
                class_=f"c{dot.colour % 8}" + (" hollow" if dot.hollow else ""),
            )
        )
    return _svg(parts, width, height, title)


def histogram(
    counts: Sequence[int], labels: Sequence[str], *, title: str, colour: int, highest: float
) -> Markup:
    """Shares of rows as columns.

    Args:
        counts: Rows at each place; the last count is of the rows at none of them.
        labels: Names of the places, one fewer than counts.
        title: What the figure says.
        colour: Number of its colour in the page.
        highest: Share at the top of the scale, so that figures can share one.
    """
    width, height, base = 300, 150, 122
    total = max(sum(counts), 1)
    slot = (width - 16) / max(len(labels), 1)
    parts = []
    for number, (count, label) in enumerate(zip(counts, labels, strict=False)):
        share = count / total
        tall = round(share / max(highest, 1e-9) * (base - 26), 2)
        x = round(8 + number * slot, 2)
        parts.append(
            element(
                "g",
                element("title", f"rank {label}: {count} of {total} ({share:.1%})"),
                element("rect", x=x, y=4, width=round(slot, 2), height=base, class_="hover"),
                element(
                    "rect",
                    x=x + 2,
                    y=base - tall,
                    width=round(slot - 4, 2),
                    height=max(tall, 0.75),
                    rx=1.5,
                    class_="bar",
                ),
                element("text", label, x=x + slot / 2, y=base + 15, class_="tick middle"),
                element(
                    "text",
                    f"{share:.1%}",
                    x=x + slot / 2,
                    y=base - tall - 5,
                    class_="tick middle strong",
                ),
                class_=f"c{colour % 8}",
            )
        )
    parts.append(element("line", x1=4, x2=width - 4, y1=base, y2=base, class_="axis"))
    return _svg(parts, width, height, title)


def slopes(
    series: Sequence[tuple[str, int, Sequence[float | None]]],
    labels: Sequence[str],
    *,
    title: str,
) -> Markup:
    """One line per recommender over a few slices.

    Args:
        series: Name, colour and one value per slice; None where a slice has no row.
        labels: Names of the slices.
        title: What the figure says.
    """
    width, height, left, right, base = 700, 250, 64, 560, 210
    values = [value for _, _, row in series for value in row if value is not None]
    _, high, step = _scale(0.0, max([*values, 1e-6]))
    slot = (right - left) / max(len(labels), 1)

    def y(value: float) -> float:
        return round(base - value / high * (base - 16), 2)

    parts = []
    for number in range(round(high / step) + 1):
        value = number * step
        parts.append(element("line", x1=left, x2=right, y1=y(value), y2=y(value), class_="grid"))
        parts.append(element("text", f"{value:.3g}", x=left - 8, y=y(value) + 4, class_="tick end"))
    for number, label in enumerate(labels):
        x = left + slot * (number + 0.5)
        parts.append(element("text", label, x=x, y=base + 22, class_="tick middle"))
    ends = _spread([(y(row[-1]) if row[-1] is not None else float(base)) for _, _, row in series])
    for (name, colour, row), end in zip(series, ends, strict=True):
        places = [
            (round(left + slot * (n + 0.5), 2), y(value), value)
            for n, value in enumerate(row)
            if value is not None
        ]
        named = element("text", name, x=right - slot / 2 + 14, y=end + 4, class_="value")
        parts.append(_slope(name, places, named, colour))
    return _svg(parts, width, height, title)


def _slope(
    name: str, places: Sequence[tuple[float, float, float]], label: Markup, colour: int
) -> Markup:
    """One recommender's line: a dot at each place (across, down, value), and its name."""
    path = " ".join(f"{'M' if n == 0 else 'L'}{x} {y}" for n, (x, y, _) in enumerate(places))
    dots = [
        element("circle", element("title", f"{name}: {value:.4f}"), cx=x, cy=y, r=4.5, class_="dot")
        for x, y, value in places
    ]
    return element(
        "g",
        element("path", d=path or "M0 0", class_="line"),
        *dots,
        label,
        class_=f"c{colour % 8}",
    )


def _spread(places: Sequence[float], gap: float = 15.0) -> list[float]:
    """The same places moved apart until labels at them do not overlap."""
    order = sorted(range(len(places)), key=lambda n: places[n])
    moved = list(places)
    for one, two in pairwise(order):
        moved[two] = max(moved[two], moved[one] + gap)
    return moved


def _scale(low: float, high: float) -> tuple[float, float, float]:
    """Round ends and a round step that hold both values."""
    high = max(high, low + 1e-6)
    span = high - low
    raw = span / _TICKS
    magnitude = 10.0 ** floor(log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw)
    return floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step, step


def _grid(
    x: Callable[[float], float], ends: tuple[float, float, float], height: int, digits: int
) -> Markup:
    """Lines and numbers of a horizontal scale."""
    low, high, step = ends
    parts = []
    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        parts.append(element("line", x1=x(value), x2=x(value), y1=4, y2=height - 26, class_="grid"))
        shown = f"{value:.{max(digits - 1, 2)}f}".rstrip("0").rstrip(".")
        label = shown if shown not in ("-0", "") else "0"
        parts.append(element("text", label, x=x(value), y=height - 9, class_="tick middle"))
    return element("g", *parts)


def _svg(parts: Sequence[Markup], width: int, height: int, title: str) -> Markup:
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=title,
        class_="figure",
        style=f"max-width:{width}px",
    )
