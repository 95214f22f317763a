"""The diagnosis report as one HTML page: made of `metrics.json` alone."""

import yaml

from personalize.diagnosis.page_cells import Numbers, figure, head
from personalize.diagnosis.page_course import course
from personalize.evaluation.context_suite import ADVERSARIAL, INFERRED, NONE, TRUE
from personalize.report.figures import Dot, interval_dots
from personalize.report.markup import Markup, element, joined, table
from personalize.report.page import whole_page
from personalize.report.words import DASH, number

SECTIONS = (
    ("evaluation", "Evaluation"),
    ("rankings", "Rankings"),
    ("likelihood", "Likelihood"),
    ("contexts", "Contexts"),
    ("course", "Course"),
    ("health", "Health"),
    ("measured", "How measured"),
)
CONDITIONS = (TRUE, NONE, INFERRED, ADVERSARIAL)
RANKINGS = (
    ("accuracy", "right", "share of pairs whose preferred response is likelier"),
    ("reference_accuracy", "before", "the same before tuning"),
    ("implicit_accuracy", "implicit", "share of pairs whose margin grew"),
    ("idealised_accuracy", "idealised", "what the exact minimum of the DPO loss would rank right"),
    ("alignment_gap", "gap", "idealised less reached"),
    ("errors_flipped", "errors flipped", "of pairs wrong before, share right after"),
    ("successes_kept", "kept right", "of pairs right before, share right after"),
    ("difficulty", "difficulty", "nats by which the wrong response was ahead before"),
    ("loss", "loss", "mean DPO loss"),
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
                _rankings(metrics),
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
            f"{held['pairs']:,} pairs of {held['comparisons']:,} comparisons in "
            f"{held['contexts']:,} held-out contexts; made by {held['builder']}",
            class_="facts",
        ),
        notice if metrics["facts"].get("simulated") else None,
        element("div", *said, class_="verdict"),
        class_="top",
    )


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
        table([*head("run"), "measure", *head("before", "after", "difference")[0:], ""], rows),
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
                f"(p = {number(groups['gap_p_value'], 3)}).{left}",
            ),
            table(head("group", "after", "change"), rows),
        ]
    )


def _rankings(metrics: Numbers) -> Markup:
    rows = [
        [run["name"], *(figure(run["ranking"][name]) for name, _, _ in RANKINGS)]
        for run in metrics["runs"]
    ]
    heads = [
        element("th", "run"),
        *(element("th", word, class_="n", title=tip) for _, word, tip in RANKINGS),
    ]
    worst = [
        f"{run['name']}: the worst annotator is {run['annotators']['worst']} with "
        f"{number(run['annotators']['worst_utility']['mean'], 3)} right "
        f"({number(run['annotators']['worst_utility']['low'], 3)} to "
        f"{number(run['annotators']['worst_utility']['high'], 3)})."
        for run in metrics["runs"]
        if run["annotators"]
    ]
    return element(
        "section",
        element("h2", "Rankings"),
        element(
            "p",
            "A loss can fall because margins grow while the wrong response stays ahead, so the "
            "implicit accuracy is no accuracy of the ranking. The idealised one supposes that "
            f"{metrics['settings']['judges_share']:.0%} of judges prefer each winner.",
        ),
        table(heads, rows),
        *(element("p", one) for one in worst),
        id="rankings",
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
    rows, cycles = [], []
    for run in metrics["runs"]:
        for when in ("before", "after") if run["context"] else ():
            suite = run["context"][when]
            rows.append(
                [
                    f"{run['name']}, {when}",
                    *(figure(suite["accuracy"].get(name)) for name in CONDITIONS),
                    figure(suite["reversal_rate"]),
                    figure(suite["wrong_way"]),
                ]
            )  # fmt: skip
        if run["cycles"]:
            names = ("cycle_rate", "certain_exploitability", "exploitability_before")
            names += ("exploitability_after", "exploitability_change")
            cycles.append([run["name"], *(figure(run["cycles"].get(name)) for name in names)])
    heads = head("run", *CONDITIONS, "turns", "turns wrongly")
    said = (
        "Two responses in two contexts that want opposite things: a score that does not read what "
        "is preferred is right on half of them, in every condition."
    )
    parts = [table(heads, rows)] if rows else [element("p", "No reward reads the context.")]
    if cycles:
        parts += [
            element("h3", "Circles"),
            element(
                "p",
                "Each reward is a judge. How many triples of candidates their majorities turn in a "
                "circle, and by how much the best single answer beats a policy beyond one half.",
            ),
            table(
                head("run", "circles", "least by one answer", "before", "after", "change"), cycles
            ),
        ]
    return element("section", element("h2", "Contexts"), element("p", said), *parts, id="contexts")


def _health(metrics: Numbers) -> Markup:
    rows = []
    for run in metrics["runs"]:
        for one in run["health"]:
            verdict = {True: "well", False: "look here", None: "not logged"}[one["well"]]
            style = {True: "pill yes", False: "pill", None: None}[one["well"]]
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
        element("p", "From the run's own log. Bounds are rules of thumb: they say where to look."),
        table(["run", "finding", element("th", "values", class_="n"), ""], rows),
        id="health",
    )


def _measured(metrics: Numbers) -> Markup:
    facts = [[key, str(value)] for key, value in metrics["facts"].items()]
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
