"""What moved along the runs: drift of answers, and proxy beside true reward."""

from personalize.diagnosis.page_cells import Numbers, figure, head
from personalize.diagnosis.verdict import drifted
from personalize.report.figures import slopes
from personalize.report.markup import Markup, element, table
from personalize.report.words import chance, number, p_value, share

FIRST = ("category", "safety gates")
"""Axes that are shown in full whether anything moves along them or not."""


def course(metrics: Numbers) -> Markup:
    """The section of the report."""
    parts: list[Markup] = []
    for run in metrics["runs"]:
        if run["hacking"]:
            parts += _hacking(run)
        if run["drift"]:
            parts += _drifts(run)
    return element(
        "section",
        element("h2", "Course"),
        element(
            "p",
            "Answers drawn for the same probes at every checkpoint that is left of a run, sorted "
            "by what kind they are and by thirds of each reward before tuning.",
        ),
        *parts,
        id="course",
    )


def _drifts(run: Numbers) -> list[Markup]:
    """All axes in one table, then each in full; those along which nothing moves folded away."""
    moved = [one["axis"] for one in drifted(run["drift"])]
    rows = [
        [
            one["axis"],
            *(
                element("td", said, class_="n")
                for said in (share(one["total"]), share(one["noise"]), chance(one["p_value"]))
            ),
            element("td", "moves" if one["axis"] in moved else "not shown to move"),
        ]
        for one in run["drift"]
    ]
    shown = [one for one in run["drift"] if one["axis"] in (*FIRST, *moved)]
    folded = [one for one in run["drift"] if one not in shown]
    told = [part for one in shown for part in _drift(run, one)]
    if folded:
        told.append(
            element(
                "details",
                element("summary", f"The other {len(folded)} axes of {run['name']}"),
                *(part for one in folded for part in _drift(run, one)),
            )
        )
    return [
        element("h3", f"Where answers of {run['name']} go"),
        element(
            "p",
            "The share of answers that change their category, and what 95 % of random signs of the "
            f"contexts' changes stay below. With {len(rows)} axes one moves for certain below "
            f"p = {0.05 / len(rows):.3g}.",
        ),
        table([*head("axis", "change category", "noise", "p"), ""], rows),
        *told,
    ]


def _drift(run: Numbers, one: Numbers) -> list[Markup]:
    names = [category["name"] for category in one["categories"]]
    series = [(name, colour, one["course"][name]) for colour, name in enumerate(names)]
    title = f"Answers of {run['name']} by {one['axis']}"
    rows = [
        [
            category["name"],
            element("td", share(category["first"]), class_="n"),
            figure(category["change"], plus=True),
            figure(category["value_gap"], plus=True),
            element("td", number(category["magnitude"], 3), class_="n"),
            element("td", share(category["time"]), class_="n"),
            element("td", "beyond noise" if category["drifted"] else "within noise"),
        ]
        for category in one["categories"]
    ]
    heads = [
        *head("category", "before", "change"),
        element("th", "pairs ask for", class_="n", title="share of winners less that of losers"),
        element("th", "largest", class_="n", title="largest change on the way"),
        element("th", "reached after", class_="n", title="share of the steps until then"),
        "",
    ]
    return [
        element("h3", title),
        element(
            "p",
            f"{share(one['total'])} change their category; noise reaches {share(one['noise'])} "
            f"({p_value(one['p_value'])}; {one['probes']:,} probes). Pairs ask for the share "
            "of winners in a category less that of losers. The figure is of steps.",
        ),
        slopes(series, [f"{step:,}" for step in one["steps"]], title=title),
        table(heads, rows),
    ]


def _hacking(run: Numbers) -> list[Markup]:
    found = run["hacking"]
    rows = [
        [
            f"{step:,}",
            element("td", number(point["kl"], 3), class_="n"),
            figure(point["proxy"], plus=True),
            figure(point["true"], plus=True),
            figure(point["gap"], plus=True),
        ]
        for step, point in zip(found["steps"], found["points"], strict=True)
    ]
    return [
        element("h3", f"{found['proxy']} and {found['true']} of {run['name']}"),
        element(
            "p",
            "Gains in standard deviations of contexts before tuning. The peak of the true reward "
            "is looked for on half of the probes and the fall since is measured on the others.",
        ),
        table(head("steps", "KL, nats", found["proxy"], found["true"], "gap"), rows),
    ]
