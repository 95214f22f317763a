"""The report's tables of evaluation axes, and what preferences add on each."""

from collections.abc import Mapping
from typing import Any

from personalize.report.figures import Dot, interval_dots
from personalize.report.markup import Markup, element, table
from personalize.report.words import interval, model_name, number
from recsys.report_words import AXIS_MEANINGS, AXIS_NAMES, condition_name

Numbers = Mapping[str, Any]
_SHOWN = ("recall_5", "recall_10", "ndcg_5", "ndcg_10")
_HEADS = ("R@5", "R@10", "NDCG@5", "NDCG@10")


def axes_section(metrics: Numbers, colours: Mapping[str, int]) -> Markup:
    """Every axis but recommendation, with the same rows asked without preferences beside it."""
    parts: list[Markup | None] = []
    for axis, name in AXIS_NAMES.items():
        if axis == "recommendation":
            continue
        parts.append(element("h3", f"{name}: {AXIS_MEANINGS[axis]}"))
        if axis in metrics["coverage"]["not_built"]:
            reason = metrics["coverage"]["not_built"][axis]
            parts.append(
                element("p", f"Could not be built from this data: {reason}.", class_="say")
            )
            continue
        pairs = [cell for cell in metrics["pairs"] if cell["axis"] == axis]
        cells = [cell for cell in metrics["cells"] if cell["axis"] == axis]
        account = metrics["coverage"]["axes"].get(axis)
        if account:
            parts.append(element("p", account["rule"], class_="say"))
        if pairs:
            parts.append(
                element(
                    "p",
                    "Found: returned when wanted. Spared: left out when avoided. m counts pairs "
                    "with both, so it is 0 for a recommender that hears no difference.",
                    class_="say",
                )
            )
            parts.append(_pair_table(pairs, colours))
        elif cells:
            parts.append(_axis_table(cells, colours))
        else:
            parts.append(element("p", "No recommender was asked.", class_="say"))
    return element(
        "section",
        element("h2", "Axes"),
        element(
            "p",
            "What else a recommender that reads preferences should do. The rows without "
            "preferences ask the same questions, so what the sentence adds is the difference.",
        ),
        *parts,
        id="axes",
    )


def lift_section(metrics: Numbers, colours: Mapping[str, int]) -> Markup | None:
    """What preferences add on every axis, as differences with intervals."""
    lifts = [lift for lift in metrics["lifts"] if lift["metric"] == "recall_10"]
    if not lifts:
        return None
    lifts = sorted(lifts, key=lambda lift: lift["condition"] == "oracle")
    several = len({lift["model"] for lift in lifts}) > 1
    dots = [
        Dot(
            f"{AXIS_NAMES.get(lift['axis'], lift['axis'])}, {_short(lift['condition'])}"
            + (f", {lift['model']}" if several else ""),
            lift["difference"],
            lift["low"],
            lift["high"],
            colours[lift["model"]],
            lift["condition"] == "oracle",
        )
        for lift in lifts
    ]
    return element(
        "section",
        element("h2", "What preferences add"),
        element(
            "p",
            "Recall@10 with preferences less recall@10 of the same recommender on the same rows "
            "without them. Right of the dashed line they help. Hollow: the oracle, no result.",
        ),
        interval_dots(dots, title="Recall at 10 added by preferences", zero_line=True),
        id="lifts",
    )


def _axis_table(cells: list[Numbers], colours: Mapping[str, int]) -> Markup:
    rows = []
    for cell in cells:
        parts = [
            element("td", model_name(cell["model"], colours[cell["model"]])),
            element("td", condition_name(cell["condition"])),
            element("td", f"{cell['answered']:,}", class_="n"),
        ]
        if "metrics" in cell:
            parts += [_value(cell["metrics"][metric]) for metric in _SHOWN]
        else:
            parts.append(element("td", cell["refused"], colspan=len(_SHOWN), class_="bad"))
        kind = "bound" if cell["condition"] == "oracle" else None
        rows.append(element("tr", *parts, class_=kind))
    heads = [element("th", head, class_="n") for head in ("rows", *_HEADS)]
    return table(["recommender", "preferences", *heads], rows, class_="sortable")


def _pair_table(cells: list[Numbers], colours: Mapping[str, int]) -> Markup:
    """m@k between its parts: a high product needs both."""
    rows = []
    for cell in cells:
        parts = [
            element("td", model_name(cell["model"], colours[cell["model"]])),
            element("td", condition_name(cell["condition"])),
            element("td", f"{cell['pairs']:,}", class_="n"),
        ]
        if "at" in cell:
            parts += [
                _value(cell["at"][k][part])
                for k in ("5", "10")
                for part in ("both", "wanted", "spared")
            ]
        else:
            parts.append(element("td", cell.get("refused", "no pair"), colspan=6, class_="bad"))
        rows.append(element("tr", *parts))
    heads = [
        element("th", head, class_="n")
        for k in (5, 10)
        for head in (f"m@{k}", f"found@{k}", f"spared@{k}")
    ]
    return table(
        ["recommender", "preferences", element("th", "pairs", class_="n"), *heads],
        rows,
        class_="sortable",
    )


def _value(found: Numbers) -> Markup:
    return element(
        "td",
        number(found["value"]),
        interval(found),
        class_="n",
        data_sort=found["value"],
    )


def _short(condition: str) -> str:
    return condition if condition != "oracle" else "oracle (bound)"
