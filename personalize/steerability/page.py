"""The steerability report as one HTML page: made of `metrics.json` alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from personalize.report.markup import Markup, element, joined, table
from personalize.report.page import whole_page
from personalize.report.words import DASH, interval, model_name, number, share, signed
from personalize.steerability.pictures import (
    Curve,
    Spent,
    cost_against_gain,
    dose_curves,
    heat_map,
)

Numbers = Mapping[str, Any]
SECTIONS = (
    ("chains", "Chains"),
    ("response", "Responses"),
    ("doses", "Doses"),
    ("cost", "Cost"),
    ("coverage", "Coverage"),
    ("groups", "Groups"),
    ("space", "Goal space"),
    ("measured", "How measured"),
)
COLUMNS = (
    ("gain", "gain", "share of the asked way that was made; 1 is exact"),
    ("steering_error", "error", "distance from the goal, in goal space"),
    ("regret", "regret", "error less that of the nearest possible output"),
    ("miscalibration", "miscalibration", "distance of the gain from 1"),
    ("side_effects", "side effects", "sine of the angle between the asked way and the way made"),
    ("worst_tenth", "worst tenth", "mean error of the worst tenth"),
)
MOST_CELLS = 12


def page(metrics: Numbers) -> str:
    """The whole page."""
    links = [element("a", word, href=f"#{name}") for name, word in SECTIONS]
    body = joined(
        [
            _top(metrics),
            element("nav", element("div", *links)),
            element(
                "main",
                _chains(metrics),
                _responses(metrics),
                _doses(metrics),
                _cost(metrics),
                _coverage(metrics),
                _groups(metrics),
                _space(metrics),
                _measured(metrics),
            ),
            element(
                "footer",
                "Intervals are 95 % percentile bootstraps over contexts, all rows of one drawn "
                f"together, {metrics['configuration']['resamples']:,} resamples, seed "
                f"{metrics['configuration']['seed']}. Every number stands in metrics.json.",
            ),
        ]
    )
    return whole_page("Steerability report", body)


def _top(metrics: Numbers) -> Markup:
    reported = metrics["coverage"]["reported"]
    kept = [d["name"] for d in metrics["goal_space"]["dimensions"] if d["dropped"] is None]
    return element(
        "header",
        element("p", "Steerability report", class_="eyebrow"),
        element("h1", "Does it go where it is asked to go, and does anything else move?"),
        element(
            "p",
            f"{reported['rows']:,} goals in {reported['contexts']} contexts; asked for: "
            f"{', '.join(kept)}",
            class_="facts",
        ),
        *_notices(metrics),
        element("div", *(element("p", said) for said in metrics["verdict"]), class_="verdict"),
        class_="top",
    )


def _notices(metrics: Numbers) -> list[Markup]:
    if not metrics["facts"].get("simulated"):
        return []
    said = "Nothing about them is evidence about real people."
    return [element("p", element("strong", "Simulated data. "), said, class_="notice")]


def _chains(metrics: Numbers) -> Markup:
    names = metrics["quality_names"]
    head = [
        element("th", "chain"),
        element("th", "calls", class_="n", title="predictions of the generator per context"),
        *(element("th", word, class_="n", title=tip) for _, word, tip in COLUMNS),
        *(element("th", f"{name} change", class_="n") for name in names),
        element("th", "worst group"),
        element("th", "ms", class_="n", title="milliseconds per context"),
    ]
    chains = sorted(
        enumerate(metrics["chains"]),
        key=lambda found: (found[1]["generator_calls"], _value(found[1]["steering_error"])),
    )
    rows = [_row(colour, chain, metrics) for colour, chain in chains]
    return element(
        "section",
        element("h2", "Chains"),
        element(
            "p",
            f"{metrics['rule']} Rows are in order of generator calls: compare rows of one number. "
            "Side effects are blank where nothing moved, since standing still has none. Strengths "
            "were tuned on other contexts than these.",
        ),
        table(head, [*rows, _oracle_row(metrics)], class_="sortable"),
        id="chains",
    )


def _row(colour: int, chain: Numbers, metrics: Numbers) -> Markup:
    settings = ", ".join(f"{key} {_short(value)}" for key, value in chain["settings"].items())
    cells = [
        element(
            "td",
            model_name(chain["chain"], colour),
            element("span", settings or "no steering", class_="ci"),
        ),
        element("td", f"{chain['generator_calls']:,.5g}", class_="n"),
    ]
    still = chain["moved"] is None or chain["moved"]["value"] == 0
    cells += [
        _figure(None if still and name == "side_effects" else chain[name], 3)
        for name, _, _ in COLUMNS
    ]
    cells += [
        _figure(chain["quality"][name]["change"], 3, plus=True) for name in metrics["quality_names"]
    ]
    worst = next((g for g in chain["groups"] if g["group"] == chain["worst_group"]), None)
    shown = worst["steering_error"] if worst else None
    cells += [
        element("td", worst["group"], element("span", _words(shown), class_="ci"))
        if worst
        else element("td", DASH),
        element("td", f"{chain['milliseconds']:,.1f}", class_="n"),
    ]
    best = chain["chain"] == metrics["best"]
    return element("tr", *cells, style="font-weight:650" if best else None)


def _oracle_row(metrics: Numbers) -> Markup:
    """The nearest possible output, as the bound it is."""
    found = metrics["chains"][0]["oracle_error"]
    blank = len(COLUMNS) - 2 + len(metrics["quality_names"]) + 2
    return element(
        "tr",
        element("td", "nearest possible output"),
        element("td", DASH, class_="n"),
        element("td", DASH, class_="n"),
        _figure(found, 3),
        *(element("td", DASH, class_="n") for _ in range(blank)),
        class_="bound",
    )


def _responses(metrics: Numbers) -> Markup:
    panels = []
    for colour, chain in enumerate(metrics["chains"]):
        if chain["neutral"]:
            continue
        response = chain["response"]
        cells, names = response["cells"], response["dimensions"]

        def tip(row: int, column: int, cells: Any = cells, names: Any = names) -> str:  # noqa: ANN401
            found = cells[row][column]
            words = f"{_words(found, 3)}" if found else "never asked for alone"
            return f"asked for {names[row]}, {names[column]} moves: {words}"

        values = [[cell["value"] if cell else None for cell in row] for row in cells]
        picture = heat_map(values, names, title=f"Responses of {chain['chain']}", tips=tip)
        beside = response["side_to_target"]
        said = f"Off the diagonal over on it: {number(beside, 2)}."
        panels.append(
            element(
                "div",
                element("h3", model_name(chain["chain"], colour)),
                picture,
                element("p", said, class_="soft"),
            )
        )
    return element(
        "section",
        element("h2", "Responses"),
        element(
            "p",
            "Per unit asked of one dimension alone (row), how far each dimension (column) moves. "
            "Perfect steering is 1 on the diagonal and 0 off it.",
        ),
        element("div", *panels, class_="grid two"),
        id="response",
    )


def _doses(metrics: Numbers) -> Markup:
    panels = [
        panel
        for colour, chain in enumerate(metrics["chains"])
        for panel in _dose_panels(colour, chain)
    ]
    tuning = metrics["coverage"]["tuning"]
    return element(
        "section",
        element("h2", "Doses"),
        element(
            "p",
            f"From the tuning sweep: {tuning['rows']:,} goals in {tuning['contexts']} contexts, "
            "none of which is reported above. The shaded strength was taken. Quality is a share of "
            "what it is unsteered."
            if panels
            else "No chain lists strengths to try.",
        ),
        element("div", *panels, class_="grid two"),
        id="doses",
    )


def _dose_panels(colour: int, chain: Numbers) -> list[Markup]:
    """One figure per setting that was tried, the others as they were taken."""
    if not chain["trials"]:
        return []
    taken, found = chain["trials"][chain["chosen"]], []
    for name in taken["settings"]:
        rest = {key: value for key, value in taken["settings"].items() if key != name}
        trials = [t for t in chain["trials"] if rest.items() <= t["settings"].items()]
        trials.sort(key=lambda trial: trial["settings"][name])
        if len(trials) < 2:
            continue
        measures = (("gain", 0), ("steering_error", 1), ("side_effects", 2))
        curves = [Curve(key.replace("_", " "), c, [t[key] for t in trials]) for key, c in measures]
        quality = chain["main_quality"]
        if quality:
            shares = [_kept_share(trial["quality"][quality]) for trial in trials]
            curves.append(Curve(f"{quality} kept", 4, shares))
        picture = dose_curves(
            curves,
            [trial["settings"][name] for trial in trials],
            chosen=trials.index(taken),
            title=f"{chain['chain']} over {name}",
        )
        label = element("h3", model_name(chain["chain"], colour), f" over {name}")
        found.append(element("div", label, picture))
    return found


def _kept_share(quality: Numbers) -> dict[str, float] | None:
    """What is left of a quality as a share, with the interval of its change."""
    if quality["change"] is None or quality["before"]["value"] <= 0:
        return None
    before = quality["before"]["value"]
    return {end: 1 + quality["change"][end] / before for end in ("value", "low", "high")}


def _cost(metrics: Numbers) -> Markup:
    spent = [
        Spent(chain["chain"], chain["generator_calls"], chain["gain"], colour)
        for colour, chain in enumerate(metrics["chains"])
        if chain["gain"] is not None
    ]
    picture = cost_against_gain(spent, title="Gain over generator calls") if spent else None
    return element(
        "section",
        element("h2", "Cost"),
        element("p", "What more predictions of the generator buy; each mark is twice the last."),
        picture,
        id="cost",
    )


def _coverage(metrics: Numbers) -> Markup:
    coverage = metrics["coverage"]["reported"]
    spreads = [
        [name, number(found["unsteered"], 2), number(found["probe"], 2)]
        for name, found in coverage["distance_from_even"].items()
    ]
    means = [
        [
            element("td", model_name(chain["chain"], colour)),
            *(
                _figure(chain[key], 3)
                for key in (
                    "steering_error",
                    "plain_steering_error",
                    "with_correlation",
                    "against_correlation",
                )
            ),
        ]
        for colour, chain in enumerate(metrics["chains"])
    ]
    heads = ("even", "as they come", "with correlation", "against it")
    return element(
        "section",
        element("h2", "Coverage"),
        element(
            "p",
            f"{coverage['contexts']} of {coverage['of_contexts']} contexts were drawn so that "
            "unsteered outputs spread evenly over goal space; their effective number is "
            f"{share(coverage['effective_share'])} of that. Below, the Kolmogorov-Smirnov distance "
            "of each dimension from an even spread.",
        ),
        table(["dimension", "all contexts", "probe, weighted"], spreads),
        element("h3", "Steering error by what is asked"),
        table(["chain", *(element("th", head, class_="n") for head in heads)], means),
        *_hardest(metrics),
        id="coverage",
    )


def _hardest(metrics: Numbers) -> list[Markup]:
    """The requests that the best chain misses most."""
    chain = next((c for c in metrics["chains"] if c["chain"] == metrics["best"]), None)
    if chain is None:
        return []
    cells = [cell for cell in chain["cells"] if cell["steering_error"] is not None]
    cells.sort(key=lambda cell: -cell["steering_error"]["value"])
    rows = [
        [
            ", ".join(f"{name} {'up' if sign > 0 else 'down'}" for name, sign in cell["asked"]),
            element("td", f"{cell['rows']:,}", class_="n"),
            element("td", number(cell["correlation"], 2), class_="n"),
            _figure(cell["steering_error"], 3),
            _figure(cell["gain"], 3),
        ]
        for cell in cells[:MOST_CELLS]
    ]
    heads = ("goals", "correlation", "error", "gain")
    head = ["asked for", *(element("th", word, class_="n") for word in heads)]
    return [element("h3", f"Requests that {chain['chain']} misses most"), table(head, rows)]


def _groups(metrics: Numbers) -> Markup:
    parts = []
    for colour, chain in enumerate(metrics["chains"]):
        rows = [
            [
                group["group"],
                element("td", group["contexts"], class_="n"),
                _figure(group["steering_error"], 3),
                _figure(group["gain"], 3),
                _figure(group["quality_change"], 3, plus=True),
            ]
            for group in chain["groups"]
        ]
        quality = chain["main_quality"] or "quality"
        heads = ("contexts", "error", "gain", f"{quality} change")
        head = ["group", *(element("th", word, class_="n") for word in heads)]
        worst, payer = chain["worst_group"] or DASH, chain["paying_group"]
        said = f"Worst steered: {worst}."
        if payer and not chain["neutral"]:
            said += f" It costs {payer} most."
        parts += [
            element("h3", model_name(chain["chain"], colour)),
            element("p", said, class_="say"),
            table(head, rows),
        ]
    return element("section", element("h2", "Groups"), *parts, id="groups")


def _space(metrics: Numbers) -> Markup:
    dimensions = metrics["goal_space"]["dimensions"]
    rows = [
        [
            d["name"],
            d["meaning"],
            d["unit"],
            element("td", _limit(d["low"]), class_="n"),
            element("td", _limit(d["high"]), class_="n"),
            d["dropped"] or "asked for",
        ]
        for d in dimensions
    ]
    names, matrix = [d["name"] for d in dimensions], metrics["goal_space"]["correlation"]

    def tip(row: int, column: int) -> str:
        return f"{names[row]} and {names[column]}: {number(matrix[row][column], 3)}"

    return element(
        "section",
        element("h2", "Goal space"),
        element(
            "p",
            "Each dimension runs from 0 to 1 between its limits and is clipped there, so overshoot "
            "past a limit is not seen. Dimensions that rank outputs alike cannot be moved one "
            "without the other and are asked for once.",
        ),
        table(["dimension", "more of it is", "unit", "0 is", "1 is", "used"], rows),
        element("h3", "Rank correlation among unsteered outputs"),
        heat_map(matrix, names, title="Rank correlations", tips=tip),
        id="space",
    )


def _measured(metrics: Numbers) -> Markup:
    lost = []
    for colour, chain in enumerate(metrics["chains"]):
        left = chain["left_out"]
        values = ", ".join(f"{name} {count}" for name, count in left["values"].items())
        lost.append(
            [
                element("td", model_name(chain["chain"], colour)),
                element("td", f"{left['rows']:,} of {left['of_rows']:,}", class_="n"),
                values or "none",
                element("td", number(chain["spread"], 3), class_="n"),
            ]
        )
    facts = [[key, _short(value)] for key, value in metrics["facts"].items()]
    head = [
        "chain",
        element("th", "rows left out", class_="n"),
        "values that could not be measured once steered",
        element("th", "spread of samples", class_="n"),
    ]
    return element(
        "section",
        element("h2", "How measured"),
        *(element("p", said) for said in _METHOD),
        element("h3", "Left out"),
        table(head, lost),
        element("h3", "What was steered"),
        table(["fact", "value"], facts),
        element("h3", "Configuration"),
        element("pre", yaml.safe_dump(metrics["configuration"], sort_keys=False)),
        id="measured",
    )


_METHOD = (
    "The unsteered output of a context, with the same random numbers, is where a goal starts from. "
    "One to several dimensions are asked to move by 0.1 to 0.7 within reach; the others are left "
    "open to steering, and are wanted where they were.",
    "Error is the distance from the goal. Gain is the way made along the asked one as a share of "
    "it, and miscalibration its distance from 1. Side effects are the sine of the angle between "
    "the two. Regret takes off what even the nearest of many possible outputs misses by.",
    "Contexts were weighted by uniform over own density, from a classifier, so that rare places "
    "count as much as usual ones; the column `as they come` undoes that. Values that could not be "
    "measured leave their dimension out of the row and are counted below.",
)


def _figure(found: Numbers | None, digits: int, *, plus: bool = False) -> Markup:
    if found is None:
        return element("td", DASH, class_="n")
    value = signed(found["value"], digits) if plus else number(found["value"], digits)
    return element("td", value, interval(found, digits), class_="n", data_sort=found["value"])


def _words(found: Numbers | None, digits: int = 2) -> str:
    if found is None:
        return DASH
    return (
        f"{number(found['value'], digits)} ({number(found['low'], digits)} to "
        f"{number(found['high'], digits)})"
    )


def _value(found: Numbers | None) -> float:
    return float("inf") if found is None else found["value"]


def _limit(value: float | None) -> str:
    return DASH if value is None else f"{value:.4g}"


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_short(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_short(inner) for inner in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
