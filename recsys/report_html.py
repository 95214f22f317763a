"""The report as one HTML page that opens from disk: made of `metrics.json` and nothing else."""

from collections.abc import Mapping
from typing import Any

from personalize.report.figures import Dot, histogram, interval_dots, slopes
from personalize.report.markup import Markup, element, joined, table
from personalize.report.page import whole_page
from personalize.report.words import DASH, interval, model_name, number, share, signed, yes_no
from recsys.report_axes_html import axes_section, lift_section
from recsys.report_examples_html import examples_section
from recsys.report_facts_html import (
    coverage_section,
    rejected_section,
    run_section,
    semantic_section,
)
from recsys.report_runs import METRICS
from recsys.report_words import condition_name

Numbers = Mapping[str, Any]
_SECTIONS = (
    ("results", "Results"),
    ("axes", "Axes"),
    ("people", "People"),
    ("places", "Where targets stand"),
    ("coverage", "Coverage"),
    ("rejected", "Rejected"),
    ("run", "Run card"),
)


def page(metrics: Numbers) -> str:
    """The whole page."""
    colours = {run["model"]: number for number, run in enumerate(metrics["runs"])}
    body = joined(
        [
            _top(metrics),
            element(
                "nav",
                element(
                    "div",
                    *(element("a", word, href=f"#{name}") for name, word in _SECTIONS),
                ),
            ),
            element(
                "main",
                _results(metrics, colours),
                axes_section(metrics, colours),
                lift_section(metrics, colours),
                examples_section(metrics, colours),
                _places(metrics, colours),
                semantic_section(metrics),
                coverage_section(metrics),
                rejected_section(metrics),
                run_section(metrics, colours),
            ),
            element(
                "footer",
                "Intervals are 95 % percentile bootstraps over people, "
                f"{metrics['settings']['resamples']:,} resamples, seed "
                f"{metrics['settings']['seed']}; paired p-values by sign flips, corrected by Holm. "
                "Every number stands in metrics.json, every row in rows.parquet.",
            ),
        ]
    )
    return whole_page(f"Evaluation report: {', '.join(colours)}", body)


def _top(metrics: Numbers) -> Markup:
    data = metrics["data"]
    source = ", ".join(data["files"]) or data["command"]
    notices = []
    if data["simulated"]:
        notices.append(
            element(
                "p",
                element("strong", "Simulated data. "),
                "The people, items and reviews below were made by a program. Nothing here is "
                "evidence about real shoppers.",
                class_="notice",
            )
        )
    if not data["reviews_with_text"]:
        notices.append(
            element(
                "p",
                element("strong", "No review text. "),
                "Preferences come from titles and categories of items a person met before: they "
                "say what was chosen, not why, and nothing is ever avoided.",
                class_="notice calm",
            )
        )
    return element(
        "header",
        element("p", "Evaluation report", class_="eyebrow"),
        element("h1", _title(metrics)),
        element(
            "p",
            f"{data['people']:,} people, {data['items']:,} items, "
            f"{data['interactions']:,} interactions; {data['split']} split of {source}",
            class_="facts",
        ),
        *notices,
        element("div", *(element("p", said) for said in metrics["verdict"]), class_="verdict"),
        class_="top",
    )


def _title(metrics: Numbers) -> str:
    models = [run["model"] for run in metrics["runs"]]
    ours = [run["model"] for run in metrics["runs"] if not run["baseline"]]
    if len(models) == 1:
        return f"How well does {models[0]} recommend?"
    if metrics["baseline"] and len(ours) == 1:
        return f"Does {ours[0]} beat {metrics['baseline']}?"
    return f"{len(models)} recommenders, one set of questions"


def _results(metrics: Numbers, colours: Mapping[str, int]) -> Markup:
    cells = [cell for cell in metrics["cells"] if cell["axis"] == "recommendation"]
    order = sorted(cells, key=lambda cell: cell["condition"] == "oracle")
    conditions = list(dict.fromkeys(cell["condition"] for cell in order))
    return element(
        "section",
        element("h2", "Results"),
        element(
            "p",
            "Each person's next item, ranked against the whole catalogue on item level. "
            "Small numbers are 95 % bootstrap intervals. The oracle picks preferences by looking "
            "at the answer: it bounds what better selection could give and is no result.",
        ),
        _tools("headline", conditions),
        _headline(order, metrics, colours),
        element(
            "div",
            *(
                element(
                    "div",
                    element("h3", f"{word}, with 95 % intervals"),
                    interval_dots(_dots(order, metric, colours), title=f"{word} by recommender"),
                )
                for metric, word in (("ndcg_10", "NDCG@10"), ("recall_10", "Recall@10"))
            ),
            class_="grid two",
        ),
        _comparison(metrics, colours),
        id="results",
    )


def _tools(identity: str, conditions: list[str]) -> Markup:
    return element(
        "div",
        element("input", type="search", placeholder="Filter rows", aria_label="Filter rows"),
        *(
            element("button", condition_name(c), type="button", value=c, aria_pressed="false")
            for c in (conditions if len(conditions) > 1 else [])
        ),
        class_="tools",
        data_for=identity,
        hidden="hidden",
    )


def _headline(order: list[Numbers], metrics: Numbers, colours: Mapping[str, int]) -> Markup:
    runs = {run["model"]: run for run in metrics["runs"]}
    results = [c for c in order if "metrics" in c and c["condition"] != "oracle"]
    best = {m: max((c["metrics"][m]["value"] for c in results), default=0.0) for m in METRICS}
    rows = []
    for cell in order:
        run = runs[cell["model"]]
        bound = cell["condition"] == "oracle"
        parts = [
            element("td", model_name(cell["model"], colours[cell["model"]])),
            element("td", condition_name(cell["condition"])),
        ]
        if "metrics" in cell:
            parts += [_metric_cell(cell, metric, best, bound=bound) for metric in METRICS]
        else:
            parts.append(element("td", cell["refused"], colspan=len(METRICS), class_="bad"))
        parts += [
            element("td", yes_no(run["trained_on_validation"], "trained on", "held out")),
            element("td", yes_no(run["seen_items_excluded"], "left out", "allowed")),
        ]
        kind = "bound" if bound else "base" if run["baseline"] else None
        rows.append(element("tr", *parts, class_=kind, data_condition=cell["condition"]))
    names = {"recall": "R", "ndcg": "NDCG", "mrr": "MRR"}
    heads = [names[m.partition("_")[0]] + "@" + m.partition("_")[2] for m in METRICS]
    return table(
        [
            "recommender",
            "preferences",
            *(element("th", head, class_="n") for head in heads),
            element("th", "validation", title="trained on validation interactions too?"),
            element("th", "seen", title="items of the history left out?"),
        ],
        rows,
        class_="sortable",
        id="headline",
    )


def _metric_cell(cell: Numbers, metric: str, best: Mapping[str, float], *, bound: bool) -> Markup:
    found = cell["metrics"][metric]
    top = not bound and found["value"] >= best[metric]
    return element(
        "td",
        number(found["value"]),
        interval(found),
        class_="n best" if top else "n",
        data_sort=found["value"],
    )


def _dots(order: list[Numbers], metric: str, colours: Mapping[str, int]) -> list[Dot]:
    return [
        Dot(
            f"{cell['model']}, {cell['condition']}"
            if cell["condition"] != "none"
            else cell["model"],
            cell["metrics"][metric]["value"],
            cell["metrics"][metric]["low"],
            cell["metrics"][metric]["high"],
            colours[cell["model"]],
            cell["condition"] == "oracle",
        )
        for cell in order
        if "metrics" in cell
    ]


def _comparison(metrics: Numbers, colours: Mapping[str, int]) -> Markup | None:
    tests = metrics["comparisons"]
    if not tests:
        return None
    rows = [_comparison_row(test, colours) for test in tests]
    return joined(
        [
            element("h3", f"Against {metrics['baseline']}, person by person"),
            element(
                "p",
                "Difference on the same people; coloured where the interval excludes zero. Both "
                "p-values are two-sided; the corrected one holds for all rows of its metric.",
                class_="say",
            ),
            table(
                [
                    "recommender",
                    "preferences",
                    "metric",
                    element("th", "difference", class_="n"),
                    element("th", "p", class_="n"),
                    element("th", "p, Holm", class_="n"),
                    element("th", "win / tie / loss", class_="n"),
                    element("th", "people", class_="n"),
                ],
                rows,
                class_="sortable",
            ),
        ]
    )


def _comparison_row(test: Numbers, colours: Mapping[str, int]) -> list[Markup | str]:
    """One recommender and metric against the yardstick."""
    clear = "good" if test["low"] > 0 else "bad" if test["high"] < 0 else "soft"
    span = element("span", f"{signed(test['low'])} to {signed(test['high'])}", class_="ci")
    return [
        model_name(test["model"], colours[test["model"]]),
        condition_name(test["condition"]),
        test["metric"].replace("_", "@").replace("ndcg", "NDCG").replace("recall", "R"),
        element(
            "td",
            signed(test["difference"]),
            span,
            class_=f"n {clear}",
            data_sort=test["difference"],
        ),
        element("td", number(test["p"]), class_="n"),
        element("td", number(test["p_holm"]), class_="n"),
        element(
            "td",
            f"{test['wins']:,} / {test['ties']:,} / {test['losses']:,}",
            class_="n",
            data_sort=test["wins"] - test["losses"],
        ),
        element("td", f"{test['rows']:,}", class_="n"),
    ]


def _places(metrics: Numbers, colours: Mapping[str, int]) -> Markup:
    edges = metrics["ranks"]["edges"]
    labels = [
        str(high) if high - low <= 1 else f"{low + 1}{DASH}{high}"
        for low, high in zip([0, *edges[:-1]], edges, strict=True)
    ]
    highest = max(
        (
            count / max(sum(entry["counts"]), 1)
            for entry in metrics["ranks"]["histograms"]
            for count in entry["counts"][:-1]
        ),
        default=1.0,
    )
    panels = [
        element(
            "div",
            model_name(entry["model"], colours[entry["model"]]),
            element("span", f" {condition_name(entry['condition'])}", class_="soft"),
            histogram(
                entry["counts"],
                labels,
                title=f"Rank of the target, {entry['model']}",
                colour=colours[entry["model"]],
                highest=highest,
            ),
            class_="panel",
        )
        for entry in metrics["ranks"]["histograms"]
    ]
    return element(
        "section",
        element("h2", "Where targets stand"),
        element(
            "p",
            f"Share of targets at each rank; what is missing to 100 % was not among the first "
            f"{edges[-1]}. Each recommender under its best condition that never looks at the "
            "target.",
        ),
        element("div", *panels, class_="grid"),
        _popularity(metrics, colours),
        id="places",
    )


def _popularity(metrics: Numbers, colours: Mapping[str, int]) -> Markup:
    slices, edges = metrics["popularity"]["slices"], metrics["popularity"]["edges"]
    sizes = {part["slice"]: part["rows"] for part in slices}
    starts = [0, *(edge + 1 for edge in edges)]
    labels = [
        f"{low} to {high}" if high is not None else f"{low} or more"
        for low, high in zip(starts, [*edges, None], strict=True)
    ]
    series = [
        (
            run["model"],
            colours[run["model"]],
            [part["recall_10"] for part in slices if part["model"] == run["model"]],
        )
        for run in metrics["runs"]
    ]
    shown = [f"{label} ({sizes.get(n, 0):,} targets)" for n, label in enumerate(labels)]
    rows = [
        [
            model_name(entry["model"], colours[entry["model"]]),
            condition_name(entry["condition"]),
            element("td", share(entry["catalogue_share"]), class_="n"),
            element("td", f"{entry['novelty_bits']:.2f}", class_="n"),
        ]
        for entry in metrics["beyond_accuracy"]
    ]
    return joined(
        [
            element("h3", "Recall@10 by how often the target occurs in training"),
            slopes(series, shown, title="Recall at 10 by popularity of the target"),
            element("h3", "Beyond accuracy, first ten items"),
            table(
                [
                    "recommender",
                    "preferences",
                    element("th", "share of catalogue ever shown", class_="n"),
                    element("th", "novelty, bits", class_="n"),
                ],
                rows,
                class_="sortable",
            ),
        ]
    )
