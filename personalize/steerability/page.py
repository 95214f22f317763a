"""The steerability report as one HTML page: made of `metrics.json` alone."""

from personalize.report.markup import Markup, element, joined, table
from personalize.report.page import whole_page
from personalize.report.words import DASH, interval, model_name, number
from personalize.steerability.page_cells import Numbers, figure, short
from personalize.steerability.page_effects import doses, responses
from personalize.steerability.page_probe import coverage, groups, measured, space
from personalize.steerability.pictures import Spent, cost_against_gain

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
    ("steering_error", "error", "distance from the goal, what is not asked for included"),
    ("asked_error", "in asked", "distance from the goal in the dimensions that are asked for"),
    ("regret", "regret", "error less that of the nearest possible output"),
    ("miscalibration", "miscalibration", "distance of the gain from 1"),
    ("side_effects", "side effects", "sine of the angle between the asked way and the way made"),
    ("worst_tenth", "worst tenth", "mean error of the worst tenth"),
)


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
                responses(metrics),
                doses(metrics),
                _cost(metrics),
                coverage(metrics),
                groups(metrics),
                space(metrics),
                measured(metrics),
            ),
            element(
                "footer",
                "Intervals are 95 % percentile bootstraps over contexts, all rows of one drawn "
                f"together, {metrics['settings']['resamples']:,} resamples, seed "
                f"{metrics['settings']['seed']}. Every number stands in metrics.json.",
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
        element("th", "ms", class_="n", title="milliseconds per context"),
        *(element("th", word, class_="n", title=tip) for _, word, tip in COLUMNS),
        *(element("th", f"{name} change", class_="n") for name in names),
        element("th", "worst group", class_="n", title="mean error of the group with the largest"),
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
    settings = ", ".join(f"{key} {short(value)}" for key, value in chain["settings"].items())
    cells = [
        element(
            "td",
            model_name(chain["chain"], colour),
            element("span", settings or "no steering", class_="ci"),
        ),
        element("td", f"{chain['generator_calls']:,.5g}", class_="n"),
        element("td", f"{chain['milliseconds']:,.1f}", class_="n"),
    ]
    still = chain["moved"] is None or chain["moved"]["value"] == 0
    cells += [
        figure(None if still and name == "side_effects" else chain[name], 3)
        for name, _, _ in COLUMNS
    ]
    cells += [
        figure(chain["quality"][name]["change"], 3, plus=True) for name in metrics["quality_names"]
    ]
    cells.append(_worst_group(chain))
    best = chain["chain"] == metrics["best"]
    return element("tr", *cells, style="font-weight:650" if best else None)


def _worst_group(chain: Numbers) -> Markup:
    worst = next((g for g in chain["groups"] if g["group"] == chain["worst_group"]), None)
    if worst is None:
        return element("td", DASH, class_="n")
    found = worst["steering_error"]
    return element(
        "td",
        worst["group"],
        element("span", number(found["value"], 3), " ", interval(found, 3), class_="ci"),
        class_="n",
        data_sort=found["value"],
    )


def _oracle_row(metrics: Numbers) -> Markup:
    """The nearest possible output, as the bound it is."""
    found = metrics["chains"][0]["oracle_error"]
    blank = len(COLUMNS) - 2 + len(metrics["quality_names"]) + 1
    return element(
        "tr",
        element("td", "nearest possible output"),
        element("td", DASH, class_="n"),
        element("td", DASH, class_="n"),
        element("td", DASH, class_="n"),
        figure(found, 3),
        *(element("td", DASH, class_="n") for _ in range(blank)),
        class_="bound",
    )


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


def _value(found: Numbers | None) -> float:
    return float("inf") if found is None else found["value"]
