"""The part of a driving report that says whether planners follow the style asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.scenes.style_dimensions import STYLE_LABELS
from driving.evaluation.tables import CLOSED_LOOP
from personalize.report.markup import Markup, element, table
from personalize.report.words import DASH, interval, model_name, number, share, signed

Numbers = Mapping[str, Any]
RAW = (
    ("mean_speed_mps", "speed", "m/s"),
    ("time_gap_s", "time gap", "s"),
    ("smallest_gap_m", "gap", "m"),
    ("peak_acceleration_mps2", "acceleration", "m/s²"),
    ("peak_braking_mps2", "braking", "m/s²"),
    ("peak_jerk_mps3", "jerk", "m/s³"),
    ("peak_lateral_acceleration_mps2", "lateral", "m/s²"),
)
"""Measures that stand beside an answer, as `STYLE_MEASURES` has them, and their units."""


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
        *_by_loop(metrics["monotonicity"], colours),
        element("h3", "Is the style read off the ride?"),
        element(
            "p",
            "A classifier that learnt on other recordings names the style of a ride from what was "
            "measured of it and the scene it began in; in “alike” samples all three rides are the "
            "same to a metre, so nobody could.",
            class_="say",
        ),
        _recovery(metrics["recovery"], colours),
        element("h3", "Does style cost safety?"),
        element(
            "p",
            "Aggressive minus normal on the same samples, over the whole ride; the time to "
            "collision over its first four seconds.",
            class_="say",
        ),
        _safety(metrics["safety"], colours),
        element("h3", "Does the right style help, and a wrong one hurt?"),
        _comparisons(metrics["comparisons"], colours),
        *_responses(metrics["responses"]),
        id="style",
    )


def _by_loop(rows: Sequence[Numbers], colours: Mapping[str, int]) -> list[Markup]:
    """The closed loop's table in sight, the open loop's folded away."""
    closed = [row for row in rows if row["loop"] == CLOSED_LOOP]
    others = [row for row in rows if row["loop"] != CLOSED_LOOP]
    if not closed:
        return [_monotonicity(others, colours)]
    folded = element(
        "details",
        element("summary", "the same in open loop, over one plan of four seconds"),
        _monotonicity(others, colours),
    )
    return [_monotonicity(closed, colours), *([folded] if others else [])]


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
        "alike",
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
            element("td", share(row["alike"]), class_="n"),
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
            row["metric"].replace("_ride", ", whole ride").replace("_", " "),
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
    if not matrices:
        return []
    parts = [
        element("h3", "One dimension at a time"),
        element(
            "p",
            "Each dimension asked for alone, from one end to the other; movements in units of the "
            "style vector, which ends at -1 and 1. “Teacher” is how far the rules moved that "
            "planners learnt from. The ratio is the mean size of what moved unasked over what "
            "was asked; beside it, the raw measures.",
            class_="say",
        ),
    ]
    for found in matrices:
        title = f"{found['planner']}, {found['loop']} loop"
        parts += [element("h4", title), _answers(found["rows"]), _whole_matrix(found)]
    return parts


def _answers(rows: Sequence[Numbers]) -> Markup:
    head = ["asked for", "moved", "teacher", "largest side effect", "ratio", "samples"]
    body = []
    for row in rows:
        effect, moved = row["side_effect"], row["side_effect_moved"]
        body.append(
            [
                element("th", _words(row["dimension"])),
                _signed_cell(row["own"], 2, class_="n best"),
                _signed_cell(row["teacher"], 2),
                f"{_words(effect)} {signed(moved, 2)}" if effect else DASH,
                element("td", number(row["side_effect_ratio"], 2), class_="n"),
                element("td", f"{row['samples']:,}", class_="n"),
                *(_signed_cell(row["measures"][name], 2) for name, _, _ in RAW),
            ]
        )
    return table([*head, *(f"{word}, {unit}" for _, word, unit in RAW)], body)


def _whole_matrix(found: Numbers) -> Markup:
    names = [_words(name) for name in found["dimensions"]]
    rows = [
        [
            element("th", name),
            *(
                _signed_cell(value, 2, class_="n best" if place == at else "n")
                for place, value in enumerate(moved)
            ),
        ]
        for at, (name, moved) in enumerate(zip(names, found["moved"], strict=True))
    ]
    return element(
        "details",
        element("summary", "every answer to every request"),
        table(["asked for", *names], rows),
    )


def _signed_cell(value: float | None, digits: int, *, class_: str = "n") -> Markup:
    return element("td", DASH if value is None else signed(value, digits), class_=class_)


def _words(name: str) -> str:
    return name.replace("_", " ")
