"""What was asked, of whom, in which space, and how it was measured."""

from typing import Any

import yaml

from personalize.report.markup import Markup, element, table
from personalize.report.words import DASH, model_name, number, share
from personalize.steerability.page_cells import Numbers, figure, short
from personalize.steerability.pictures import heat_map

MOST_CELLS = 12
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


def coverage(metrics: Numbers) -> Markup:
    """How evenly the probe covers goal space, and what that does to the numbers."""
    found = metrics["coverage"]["reported"]
    spreads = [
        [name, number(spread["unsteered"], 2), number(spread["probe"], 2)]
        for name, spread in found["distance_from_even"].items()
    ]
    means = [
        [
            element("td", model_name(chain["chain"], colour)),
            *(
                figure(chain[key], 3)
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
            f"{found['contexts']} of {found['of_contexts']} contexts were drawn so that "
            "unsteered outputs spread evenly over goal space. The effective number of all, so "
            f"weighted, is {share(found['effective_share_of_all'])} of them; of those drawn, "
            f"{share(found['effective_share'])}. Below, the Kolmogorov-Smirnov distance "
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
            figure(cell["steering_error"], 3),
            figure(cell["gain"], 3),
        ]
        for cell in cells[:MOST_CELLS]
    ]
    heads = ("goals", "correlation", "error", "gain")
    head = ["asked for", *(element("th", word, class_="n") for word in heads)]
    return [element("h3", f"Requests that {chain['chain']} misses most"), table(head, rows)]


def groups(metrics: Numbers) -> Markup:
    """What steering does to every group, the worst one named."""
    parts = []
    for colour, chain in enumerate(metrics["chains"]):
        rows = [
            [
                group["group"],
                element("td", group["contexts"], class_="n"),
                figure(group["steering_error"], 3),
                figure(group["gain"], 3),
                figure(group["quality_change"], 3, plus=True),
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


def space(metrics: Numbers) -> Markup:
    """The dimensions of goal space, which were dropped, and how they hang together."""
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


def measured(metrics: Numbers) -> Markup:
    """Definitions, what was left out, and how the run was configured."""
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
    facts = [[key, short(value)] for key, value in metrics["facts"].items()]
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
        element("pre", yaml.safe_dump(_asked(metrics), sort_keys=False)),
        id="measured",
    )


def _asked(metrics: Numbers) -> dict[str, Any]:
    """What was configured, without what is at its default."""
    configured = metrics["configuration"]["chains"]
    chains = {
        chain["chain"]: {"settled": dict(chain["settings"])}
        | {key: configured[chain["chain"]][key] for key in ("tune", "spend")
           if configured[chain["chain"]].get(key)}
        for chain in metrics["chains"]
    }  # fmt: skip
    source = metrics["configuration"]["source"]
    return {"source": source, "chains": chains, **metrics["settings"]}


def _limit(value: float | None) -> str:
    return DASH if value is None else f"{value:.4g}"
