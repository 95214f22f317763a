"""The part of a driving report that says whether planners follow the style asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.scenes.style_dimensions import STYLE_LABELS
from personalize.report.markup import Markup, element, table
from personalize.report.words import DASH, interval, model_name, number

Numbers = Mapping[str, Any]


def style_section(metrics: Numbers, colours: Mapping[str, int]) -> Markup:
    """Monotonicity, recovery, safety, paired comparisons and side effects, in tables."""
    return element(
        "section",
        element("h2", "Style"),
        element(
            "p",
            "The same sample and seed, asked for in three styles. A tau of 1 means that every "
            "sample moved the right way from conservative over normal to aggressive.",
        ),
        _monotonicity(metrics["monotonicity"], colours),
        element("h3", "Is the style read off the ride?"),
        _recovery(metrics["recovery"], colours),
        element("h3", "Does style cost safety?"),
        element("p", "Aggressive minus normal on the same samples.", class_="say"),
        _safety(metrics["safety"], colours),
        element("h3", "Does the right style help, and a wrong one hurt?"),
        _comparisons(metrics["comparisons"], colours),
        *_responses(metrics["responses"]),
        id="style",
    )


def _monotonicity(rows: Sequence[Numbers], colours: Mapping[str, int]) -> Markup:
    body = []
    for row in rows:
        tau = row.get("tau")
        means = row.get("means")
        body.append(
            [
                model_name(row["planner"], colours[row["planner"]]),
                row["loop"],
                row["measure"].replace("_", " "),
                element("td", number(tau["value"], 2), interval(tau, 2), class_="n")
                if tau
                else element("td", DASH, class_="n"),
                *(
                    element("td", number(mean, 2), class_="n")
                    for mean in (means or [None, None, None])
                ),
                element("td", f"{row['samples']:,}", class_="n"),
            ]
        )
    head = ["planner", "loop", "measure", "Kendall's tau", *STYLE_LABELS, "samples"]
    return table(head, body, class_="sortable")


def _recovery(rows: Sequence[Numbers], colours: Mapping[str, int]) -> Markup:
    head = [
        "planner",
        "loop",
        "macro-F1, classifier",
        "nearest mean",
        "by the rules",
        "always normal",
        "rides",
    ]
    body = [
        [
            model_name(row["planner"], colours[row["planner"]]),
            row["loop"],
            element("td", number(row["macro_f1_by_classifier"], 3), class_="n"),
            element("td", number(row["macro_f1_by_nearest_mean"], 3), class_="n"),
            element("td", number(row["macro_f1_by_rules"], 3), class_="n"),
            element("td", number(row["macro_f1_of_normal"], 3), class_="n"),
            element("td", f"{row['rides']:,}", class_="n"),
        ]
        for row in rows
    ]
    return table(head, body)


def _safety(rows: Sequence[Numbers], colours: Mapping[str, int]) -> Markup:
    body = [
        [
            model_name(row["planner"], colours[row["planner"]]),
            row["loop"],
            row["metric"].replace("_", " "),
            element("td", number(row["value"], 3), interval(row, 3), class_="n"),
        ]
        for row in rows
    ]
    return table(["planner", "loop", "score", "difference"], body)


def _comparisons(rows: Sequence[Numbers], colours: Mapping[str, int]) -> Markup:
    body = [
        [
            model_name(row["planner"], colours[row["planner"]]),
            row["loop"],
            f"{row['condition']} against {row['against']}",
            row["metric"].replace("_", " "),
            element("td", number(row["difference"], 3), interval(row, 3), class_="n"),
            element("td", number(row["p_holm"], 3), class_="n"),
        ]
        for row in rows
    ]
    return table(["planner", "loop", "conditions", "metric", "difference", "p (Holm)"], body)


def _responses(matrices: Sequence[Numbers]) -> list[Markup]:
    parts = []
    for found in matrices:
        names = [name.replace("_", " ") for name in found["dimensions"]]
        rows = [
            [
                element("th", name),
                *(
                    element("td", number(value, 2), class_="n best" if place == at else "n")
                    for place, value in enumerate(moved)
                ),
            ]
            for at, (name, moved) in enumerate(zip(names, found["moved"], strict=True))
        ]
        parts += [
            element("h3", f"One dimension at a time: {found['planner']}, {found['loop']} loop"),
            element(
                "p",
                "Rows: what was asked for, from one end to the other. Columns: how far the ride "
                "moved. On the diagonal what was asked, beside it side effects.",
                class_="say",
            ),
            table(["asked for", *names], rows),
        ]
    return parts
