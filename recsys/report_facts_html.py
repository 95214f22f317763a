"""The report's facts: who was asked, what was rejected, how everything was made."""

import json
from collections.abc import Mapping
from typing import Any

from personalize.report.markup import Markup, element, table
from personalize.report.words import DASH, model_name
from recsys.report_words import AXIS_NAMES

Numbers = Mapping[str, Any]


def coverage_section(metrics: Numbers) -> Markup:
    """Who could be asked and who was; each line adds up."""
    coverage = metrics["coverage"]
    axes = []
    for name, account in coverage["axes"].items():
        reasons = [
            element("li", f"{count:,} dropped: {reason}")
            for reason, count in account["dropped"].items()
        ]
        axes.append(
            [
                AXIS_NAMES.get(name, name),
                account["unit"],
                _count(account["candidates"]),
                _count(account["kept"]),
                _count(sum(account["dropped"].values())),
                element("ul", *reasons, class_="plain") if reasons else DASH,
            ]
        )
    runs = [
        [
            run["model"],
            _count(run["questions"]),
            _count(run["answered"]),
            _count(run["failed"]),
            _count(run["not_asked"]),
        ]
        for run in coverage["runs"]
    ]
    missing = [
        element("li", f"{AXIS_NAMES.get(name, name)}: {reason}")
        for name, reason in coverage["not_built"].items()
    ]
    return element(
        "section",
        element("h2", "Coverage"),
        element(
            "p",
            "Candidates are kept, or dropped for a reason; questions are answered, failed or not "
            "asked.",
        ),
        element("h3", "What could be asked"),
        table(["axis", "unit", *_heads("candidates", "kept", "dropped"), "reasons"], axes),
        element("p", "Not built: ", element("ul", *missing)) if missing else None,
        element("h3", "What was answered"),
        table(["recommender", *_heads("questions", "answered", "failed", "not asked")], runs),
        element(
            "p",
            "A recommender that reads no preferences is not asked under conditions with some.",
            class_="say",
        ),
        id="coverage",
    )


def rejected_section(metrics: Numbers) -> Markup:
    """What was refused on the way from raw files to preferences, and why."""
    data = metrics["data"]
    parts: list[Markup] = []
    for name, title in (("reviews", "Reading reviews"), ("preferences", "Reading preferences")):
        rows = [[entry["reason"], _count(entry["rows"])] for entry in data["rejected"][name]]
        notes = data["reading"] if name == "reviews" else data["extracting"]
        parts.append(element("h3", title))
        parts.append(
            table(["reason", *_heads("rows")], rows)
            if rows
            else element("p", "Nothing was rejected.", class_="say")
        )
        parts.append(_details("Counts of this step", notes))
    return element(
        "section",
        element("h2", "Rejected"),
        element(
            "p",
            f"{data['preferences']:,} preference records by {', '.join(data['extractors'])}; "
            f"{data['reviews_with_text']:,} of {data['interactions']:,} interactions have a "
            "review text.",
        ),
        *parts,
        id="rejected",
    )


def semantic_section(metrics: Numbers) -> Markup | None:
    """Quality of the semantic IDs, where a recommender used some."""
    quality = metrics["semantic_ids"]
    if not quality:
        return None
    return element(
        "section",
        element("h2", "Semantic IDs"),
        _levels(quality.get("levels")),
        _facts({name: value for name, value in quality.items() if name != "levels"}),
        id="codes",
    )


def run_section(metrics: Numbers, colours: Mapping[str, int]) -> Markup:
    """Configuration, seeds, hashes and versions."""
    settings = metrics["settings"]
    rows = []
    for run in metrics["runs"]:
        speed = run["users_per_s"]
        rows.append(
            [
                model_name(run["model"], colours[run["model"]]),
                run["class"],
                _count(run["parameters"]),
                _count(run["training_step"]),
                _count(run["candidates"]),
                _count(run["distinct_questions"]),
                element("td", f"{speed:,.0f}" if speed else DASH, class_="n"),
                f"{run['device']}, {run['threads']} thread(s)",
                element("code", run["content_hash"][:12]),
            ]
        )
    hashes = [[name, element("code", value)] for name, value in settings["hashes"].items()]
    return element(
        "section",
        element("h2", "Run card"),
        table(
            [
                "recommender",
                "class",
                *_heads("parameters", "steps", "candidates", "questions", "users/s"),
                "device",
                "hash",
            ],
            rows,
        ),
        element("h3", "Content hashes"),
        table(["artifact", "SHA-256"], hashes),
        element("h3", "Versions and settings"),
        _facts(
            {
                **settings["versions"],
                **{f"benchmark {k}": v for k, v in settings["benchmark"].items()},
            }
        ),
        *(
            _details(
                f"Configuration of {run['model']}",
                {"predict": run["configuration"], "fit": run["training_configuration"]},
            )
            for run in metrics["runs"]
        ),
        id="run",
    )


def _levels(levels: object) -> Markup | None:
    """One row per level of the semantic ID, where the quality report has them."""
    if not isinstance(levels, list) or not all(isinstance(level, dict) for level in levels):
        return None
    names = list(dict.fromkeys(name for level in levels for name in level))
    rows = [
        [str(place), *(_number(level.get(name)) for name in names)]
        for place, level in enumerate(levels, 1)
    ]
    return table(["level", *_heads(*(name.replace("_", " ") for name in names))], rows)


def _number(value: object) -> Markup:
    shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
    return element("td", shown, class_="n")


def _facts(facts: Numbers) -> Markup:
    """Named values; lists of numbers on one line, deeper values as JSON."""
    rows = []
    for name, value in facts.items():
        if isinstance(value, float):
            shown: str | Markup = f"{value:,.4g}"
        elif isinstance(value, int) and not isinstance(value, bool):
            shown = f"{value:,}"
        elif isinstance(value, list) and all(isinstance(part, int | float) for part in value):
            shown = ", ".join(f"{part:,.4g}" for part in value)
        elif isinstance(value, dict | list):
            shown = element("code", json.dumps(value, ensure_ascii=False))
        else:
            shown = str(value)
        rows.append([name.replace("_", " "), shown])
    return table(["fact", "value"], rows)


def _details(title: str, value: object) -> Markup:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str)
    return element("details", element("summary", title), element("pre", text))


def _count(value: int | None) -> Markup:
    return element("td", DASH if value is None else f"{value:,}", class_="n")


def _heads(*names: str) -> list[Markup]:
    return [element("th", name, class_="n") for name in names]
