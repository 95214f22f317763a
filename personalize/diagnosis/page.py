"""The diagnosis report as one HTML page: made of `metrics.json` alone."""

from collections.abc import Mapping
from typing import Any

import yaml

from personalize.diagnosis.page_cells import Numbers, figure, head
from personalize.diagnosis.page_course import course
from personalize.diagnosis.page_rankings import rankings, reversals
from personalize.report.figures import Dot, interval_dots
from personalize.report.markup import Markup, element, joined, table
from personalize.report.page import whole_page
from personalize.report.words import DASH, number, p_value

SECTIONS = (
    ("evaluation", "Evaluation"),
    ("rankings", "Rankings"),
    ("likelihood", "Likelihood"),
    ("contexts", "Contexts"),
    ("course", "Course"),
    ("health", "Health"),
    ("measured", "How measured"),
)
CIRCLES = (
    ("cycle_rate", "circles"),
    ("certain_exploitability", "least by one answer"),
    ("exploitability_before", "before"),
    ("exploitability_after", "after"),
    ("exploitability_change", "change"),
)


def page(metrics: Numbers) -> str:
    """The whole page."""
    body = joined(
        [
            _top(metrics),
            element(
                "nav",
                element("div", *(element("a", word, href=f"#{name}") for name, word in SECTIONS)),
            ),
            element(
                "main",
                _evaluation(metrics),
                rankings(metrics),
                _likelihood(metrics),
                _contexts(metrics),
                course(metrics),
                _health(metrics),
                _measured(metrics),
            ),
            element(
                "footer",
                "Intervals are 95 % percentile bootstraps over contexts, "
                f"{metrics['settings']['resamples']:,} resamples, seed "
                f"{metrics['settings']['seed']}; n is what was resampled. Every number stands in "
                "metrics.json, every pair in rows.parquet.",
            ),
        ]
    )
    return whole_page("Diagnosis of tuning", body)


def _top(metrics: Numbers) -> Markup:
    held = metrics["held_out"]
    said = []
    for run in metrics["runs"]:
        if len(metrics["runs"]) > 1:
            said.append(element("p", element("strong", run["name"])))
        said += [element("p", sentence) for sentence in run["verdict"]]
    simulated = "Nothing about them is evidence about real people."
    notice = element("p", element("strong", "Simulated data. "), simulated, class_="notice")
    return element(
        "header",
        element("p", "Diagnosis of tuning", class_="eyebrow"),
        element("h1", "Did it learn what was preferred, and what did that cost?"),
        element(
            "p",
            f"{_runs(metrics)}: {held['pairs']:,} pairs of {held['comparisons']:,} comparisons in "
            f"{held['contexts']:,} held-out contexts; made by {held['builder']}",
            class_="facts",
        ),
        notice if metrics["facts"].get("simulated") else None,
        element("div", *said, class_="verdict"),
        class_="top",
    )


def _runs(metrics: Numbers) -> str:
    return ", ".join(f"{run['name']} after {run['steps']:,} steps" for run in metrics["runs"])


def _evaluation(metrics: Numbers) -> Markup:
    rows = []
    for run in metrics["runs"]:
        found = run["evaluation"]
        for name in sorted(found["measures"], key=lambda one: (one != found["main"], one)):
            measure = found["measures"][name]
            if "difference" not in measure:
                rows.append([run["name"], name, *[DASH] * 3, "not measured"])
                continue
            better = ", lower is better" if measure["lower_is_better"] else ""
            rows.append(
                [
                    run["name"],
                    f"{name}{better}",
                    figure(measure["before"], 4),
                    figure(measure["after"], 4),
                    figure(measure["difference"], 4, plus=True),
                    measure["verdict"],
                ]
            )
    return element(
        "section",
        element("h2", "Evaluation"),
        element(
            "p",
            "The half's own evaluation on test contexts, before and after on the same ones. Better "
            "or worse is said only where the whole interval of the difference lies on one side of "
            "0; intervals are not widened for the number of measures or runs.",
        ),
        table(["run", *head("measure", "before", "after", "difference"), ""], rows),
        *(_group_table(run) for run in metrics["runs"] if run["groups"]),
        id="evaluation",
    )


def _group_table(run: Numbers) -> Markup:
    groups = run["groups"]
    rows = [
        [one["name"], figure(one["utility"], 4), figure(one["change"], 4, plus=True)]
        for one in groups["groups"]
    ]
    left = f" Too few contexts: {', '.join(groups['left_out'])}." if groups["left_out"] else ""
    return joined(
        [
            element("h3", f"Groups of {run['name']}, by {run['evaluation']['main']}"),
            element(
                "p",
                f"The worst off is {groups['worst']}. Groups lie "
                f"{number(groups['gap']['mean'], 4)} apart; groups of these sizes "
                f"drawn at random, {number(groups['chance_gap'], 4)} "
                f"({p_value(groups['gap_p_value'])}).{left}",
            ),
            table(head("group", "after", "change"), rows),
        ]
    )


def _likelihood(metrics: Numbers) -> Markup:
    columns = ("winner_change", "loser_change", "winner_falls", "displaced")
    rows = [
        [run["name"], *(figure(run["displacement"][name]) for name in columns)]
        for run in metrics["runs"]
    ]
    pictures = []
    for run in metrics["runs"]:
        mass = run["displacement"]["mass"]
        if mass is None:
            continue
        dots = [
            Dot(name, one["mean"], one["low"], one["high"], colour)
            for colour, (name, one) in enumerate(mass.items())
        ]
        title = f"Change of probability, {run['name']}"
        pictures += [element("h3", title), interval_dots(dots, title=title, zero_line=True)]
    heads = head(
        "run", "preferred, nats", "not preferred, nats", "preferred falls", "falls, lead grows"
    )
    return element(
        "section",
        element("h2", "Likelihood"),
        element(
            "p",
            "Whether what is preferred becomes likelier, or only less unlikely than the other; and "
            "where the probability goes, in the probes.",
        ),
        table(heads, rows),
        *pictures,
        id="likelihood",
    )


def _contexts(metrics: Numbers) -> Markup:
    runs = [run for run in metrics["runs"] if run["cycles"]]
    known = {name for run in runs for name in run["cycles"]}
    shown = [(name, word) for name, word in CIRCLES if name in known]
    cycles = [
        [run["name"], *(figure(run["cycles"].get(name)) for name, _ in shown)] for run in runs
    ]
    parts = reversals(metrics)
    if cycles:
        parts += [
            element("h3", "Circles"),
            element(
                "p",
                "Each reward is a judge. How many triples of candidates their majorities turn in a "
                "circle, and by how much the best single answer beats a policy beyond one half.",
            ),
            table(head("run", *(word for _, word in shown)), cycles),
        ]
    return element("section", element("h2", "Contexts"), *parts, id="contexts")


def _health(metrics: Numbers) -> Markup:
    rows = []
    for run in metrics["runs"]:
        for one in run["health"]:
            verdict = {True: "well", False: "look here", None: "not logged"}[one["well"]]
            style = {True: "pill", False: "pill yes", None: "pill"}[one["well"]]  # `yes` is red
            rows.append(
                [
                    run["name"],
                    one["sentence"],
                    element("td", f"{one['count']:,}", class_="n"),
                    element("td", element("span", verdict, class_=style)),
                ]
            )
    return element(
        "section",
        element("h2", "Health of the loop"),
        element(
            "p",
            "From the run's own log. Bounds are rules of thumb: they say where to look. What was "
            "not logged is no part of the method, or the run is too short for its log to hold any.",
        ),
        table(["run", "finding", element("th", "values", class_="n"), ""], rows),
        id="health",
    )


def _measured(metrics: Numbers) -> Markup:
    facts = [[key, _fact(value)] for key, value in metrics["facts"].items()]
    runs = [[run["name"], run["checkpoint"], f"{run['steps']:,}"] for run in metrics["runs"]]
    return element(
        "section",
        element("h2", "How measured"),
        table(["run", "checkpoint", element("th", "steps", class_="n")], runs),
        element("h3", "What was tuned"),
        table(["fact", "value"], facts),
        element("h3", "Configuration"),
        element("pre", yaml.safe_dump(dict(metrics["configuration"]), sort_keys=False)),
        id="measured",
    )


def _fact(value: Any) -> str:  # noqa: ANN401  (a plain value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_fact(inner) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
