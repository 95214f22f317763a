"""Figures of the steerability report: heat maps, dose curves, cost against gain; SVG by hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log2
from typing import Any

from personalize.report.markup import Markup, element
from personalize.report.words import number

_CELL, _ROW = 58, 30
_POSITIVE, _NEGATIVE = 0, 1


def heat_map(
    values: Sequence[Sequence[float | None]],
    names: Sequence[str],
    *,
    title: str,
    tips: Callable[[int, int], str],
    most: float = 1.0,
) -> Markup:
    """A square matrix as coloured cells with their numbers.

    Args:
        values: Rows of the matrix; None is left blank.
        names: Names of rows and of columns.
        title: What the figure says, for those who cannot see it.
        tips: Words of the tool-tip, by row and column.
        most: Absolute value of full colour.
    """
    names = [name.replace("_", " ") for name in names]
    left = 16.0 + 7 * max(len(name) for name in names)
    top = left * 0.72
    width, height = left + _CELL * len(names) + 12, top + _ROW * len(names) + 8
    parts = []
    for place, name in enumerate(names):
        x, y = left + _CELL * (place + 0.5), top + _ROW * (place + 0.5)
        parts.append(element("text", name, x=left - 8, y=y + 4, class_="label"))
        turned = f"translate({x - 2:.0f} {top - 8:.0f}) rotate(-40)"
        parts.append(element("text", name, transform=turned))
    for row, shown in enumerate(values):
        for column, value in enumerate(shown):
            parts.append(_cell((left, top), (row, column), value, tips(row, column), most))
    return _svg(parts, width, height, title)


def _cell(
    corner: tuple[float, float], place: tuple[int, int], value: float | None, tip: str, most: float
) -> Markup:
    x, y = corner[0] + _CELL * place[1], corner[1] + _ROW * place[0]
    opacity = 0.0 if value is None else round(min(abs(value) / most, 1.0) * 0.75, 3)
    colour = _POSITIVE if (value or 0) >= 0 else _NEGATIVE
    return element(
        "g",
        element("title", tip),
        element(
            "rect",
            x=round(x + 1, 1),
            y=round(y + 1, 1),
            width=_CELL - 2,
            height=_ROW - 2,
            rx=3,
            fill="currentColor",
            fill_opacity=opacity,
        ),
        element("text", number(_rounded(value), 2), x=x + _CELL / 2, y=y + 19, class_="middle"),
        class_=f"c{colour}",
    )


def _rounded(value: float | None) -> float | None:
    """To two decimals, without a minus before a nought."""
    return None if value is None else round(value, 2) + 0.0


@dataclass(frozen=True)
class Curve:
    """One line of a dose figure.

    Attributes:
        name: What it is.
        colour: Number of its colour in the page.
        points: An interval per dose; None where there is none.
    """

    name: str
    colour: int
    points: Sequence[Mapping[str, Any] | None]


def dose_curves(
    curves: Sequence[Curve], doses: Sequence[float], *, chosen: int | None, title: str
) -> Markup:
    """Measures over the strengths that were tried, with intervals; the one taken is marked.

    Args:
        curves: Lines on one scale.
        doses: Strengths, equally far apart whatever they are.
        chosen: Number of the one that was taken.
        title: What the figure says.
    """
    width, height, left, right, base = 520.0, 250.0, 46.0, 396.0, 208.0
    ends = [p[end] for curve in curves for p in curve.points if p for end in ("low", "high")]
    ticks = _ticks(ends)
    low, high = ticks[0], ticks[-1]
    slot = (right - left) / max(len(doses), 1)

    def x(place: int) -> float:
        return round(left + slot * (place + 0.5), 2)

    def y(value: float) -> float:
        return round(base - (value - low) / (high - low) * (base - 14), 2)

    parts = [_rule(y, left, right, value) for value in ticks]
    if chosen is not None:
        taken = {"x": x(chosen) - slot * 0.4, "width": slot * 0.8, "y": 10, "height": base - 10}
        parts.append(element("rect", element("title", "taken"), **taken, class_="bound", rx=4,
                             fill="currentColor", fill_opacity=0.08))  # fmt: skip
    parts += [
        element("text", f"{dose:g}", x=x(place), y=base + 20, class_="tick middle")
        for place, dose in enumerate(doses)
    ]
    for line, curve in enumerate(curves):
        parts.append(_curve(curve, x, y))
        key = element("text", curve.name, x=right + 26, y=24 + 19 * line, class_="value")
        mark = element("circle", cx=right + 14, cy=20 + 19 * line, r=5, class_="dot")
        parts.append(element("g", mark, key, class_=f"c{curve.colour % 8}"))
    return _svg(parts, width, height, title)


def _curve(curve: Curve, x: Callable[[int], float], y: Callable[[float], float]) -> Markup:
    known = [(place, point) for place, point in enumerate(curve.points) if point is not None]
    path = " ".join(
        f"{'L' if n else 'M'}{x(place)} {y(point['value'])}"
        for n, (place, point) in enumerate(known)
    )
    dots = []
    for place, point in known:
        tip = f"{curve.name}: {point['value']:.3f}, 95 % {point['low']:.3f} to {point['high']:.3f}"
        dots.append(
            element(
                "g",
                element("title", tip),
                element("line", x1=x(place), x2=x(place), y1=y(point["low"]), y2=y(point["high"]),
                        class_="whisker"),
                element("circle", cx=x(place), cy=y(point["value"]), r=4, class_="dot"),
            )
        )  # fmt: skip
    line = element("path", d=path or "M0 0", class_="line")
    return element("g", line, *dots, class_=f"c{curve.colour % 8}")


@dataclass(frozen=True)
class Spent:
    """What one chain costs and brings.

    Attributes:
        name: Its name.
        calls: Generator calls of a context.
        gain: Interval of its gain.
        colour: Number of its colour in the page.
    """

    name: str
    calls: float
    gain: Mapping[str, Any]
    colour: int


def cost_against_gain(spent: Sequence[Spent], *, title: str) -> Markup:
    """Gain over generator calls; every step to the right is twice the calls."""
    width, height, left, right, base = 700.0, 300.0, 52.0, 560.0, 256.0
    calls = [log2(max(one.calls, 1.0)) for one in spent]
    first, last = floor(min(calls) - 0.2), ceil(max(calls) + 0.2)
    ends = [one.gain[end] for one in spent for end in ("low", "high")]
    ticks = _ticks(ends)
    low, high = ticks[0], ticks[-1]

    def x(log_calls: float) -> float:
        return round(left + (log_calls - first) / (last - first) * (right - left), 2)

    def y(value: float) -> float:
        return round(base - (value - low) / (high - low) * (base - 14), 2)

    parts = [_rule(y, left, right, value) for value in ticks]
    every = max(1, (last - first) // 8)
    parts += [
        element("text", f"{2**power:,}" if power >= 0 else "", x=x(float(power)), y=base + 20,
                class_="tick middle")
        for power in range(first, last + 1, every)
    ]  # fmt: skip
    parts.append(element("text", "generator calls of a context", x=(left + right) / 2,
                         y=base + 38, class_="tick middle"))  # fmt: skip
    heights = [y(one.gain["value"]) for one in spent]
    for one, across, label in zip(spent, calls, _apart(heights), strict=True):
        gain = one.gain
        tip = f"{one.name}: {one.calls:.4g} calls, gain {gain['value']:.3f}, 95 % "
        parts.append(
            element(
                "g",
                element("title", f"{tip}{gain['low']:.3f} to {gain['high']:.3f}"),
                element("line", x1=x(across), x2=x(across), y1=y(gain["low"]), y2=y(gain["high"]),
                        class_="whisker"),
                element("circle", cx=x(across), cy=y(gain["value"]), r=5, class_="dot"),
                element("text", one.name, x=x(across) + 10, y=label + 4, class_="value"),
                class_=f"c{one.colour % 8}",
            )
        )  # fmt: skip
    return _svg(parts, width, height, title)


def _apart(heights: Sequence[float], gap: float = 14.0) -> list[float]:
    """Heights of labels, moved down until none lies over another."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    moved = list(heights)
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + gap)
    return moved


def _ticks(ends: Sequence[float]) -> list[float]:
    """Round values from below all ends to above them; 0 and 1 are between."""
    low, high = min([0.0, *ends]), max([1.0, *ends])
    step = 0.25 if high - low <= 2 else float(ceil((high - low) / 6))
    return [step * place for place in range(floor(low / step), ceil(high / step) + 1)]


def _rule(y: Callable[[float], float], left: float, right: float, value: float) -> Markup:
    kind = "zero" if value == 0 else "grid"
    return element(
        "g",
        element("line", x1=left, x2=right, y1=y(value), y2=y(value), class_=kind),
        element("text", number(value, 2), x=left - 8, y=y(value) + 4, class_="tick end"),
    )


def _svg(parts: Sequence[Markup], width: float, height: float, title: str) -> Markup:
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=title,
        class_="figure",
        style=f"max-width:{width:.0f}px",
    )
