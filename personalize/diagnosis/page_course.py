"""What moved along the runs: drift of answers, and proxy beside true reward."""

from personalize.diagnosis.page_cells import Numbers, figure, head
from personalize.report.figures import slopes
from personalize.report.markup import Markup, element, table
from personalize.report.words import number, share


def course(metrics: Numbers) -> Markup:
    """The section of the report."""
    parts: list[Markup] = []
    for run in metrics["runs"]:
        if run["hacking"]:
            parts += _hacking(run)
        for one in run["drift"]:
            parts += _drift(run, one)
    return element(
        "section",
        element("h2", "Course"),
        element(
            "p",
            "Answers drawn for the same probes at every checkpoint that is left of a run. The gap "
            "is what the held-out pairs ask for: the share of winners in a category less that of "
            "losers. Noise is what 95 % of random signs of the contexts' changes stay below.",
        ),
        *parts,
        id="course",
    )


def _drift(run: Numbers, one: Numbers) -> list[Markup]:
    names = [category["name"] for category in one["categories"]]
    series = [(name, colour, one["course"][name]) for colour, name in enumerate(names)]
    title = f"Answers of {run['name']} by {one['axis']}"
    rows = [
        [
            category["name"],
            figure(category["change"], plus=True),
            figure(category["value_gap"], plus=True),
            element("td", number(category["magnitude"], 3), class_="n"),
            element("td", share(category["time"]), class_="n"),
            element("td", "moved" if category["drifted"] else "within noise"),
        ]
        for category in one["categories"]
    ]
    return [
        element("h3", title),
        element(
            "p",
            f"{share(one['total'])} change their category; noise reaches {share(one['noise'])} "
            f"(p = {number(one['p_value'], 3)}; {one['probes']:,} probes).",
        ),
        slopes(series, [f"{step:,}" for step in one["steps"]], title=title),
        table([*head("category", "change", "gap of pairs", "largest", "reached after"), ""], rows),
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
