"""The driving report as one HTML page that opens from disk: made of `metrics.json` alone."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from data_prep.scenes.style_dimensions import STYLE_LABELS
from driving.evaluation.conditions import MEANINGS, is_oracle
from driving.evaluation.drive import SCORED_S
from driving.evaluation.tables import CLOSED_LOOP, OPEN_LOOP
from driving.report.pictures import scene_pictures, speed_curves
from driving.report.style_section import style_section
from personalize.report.figures import Dot, interval_dots
from personalize.report.markup import Markup, element, joined, table
from personalize.report.page import whole_page
from personalize.report.words import DASH, interval, model_name, number, share

Numbers = Mapping[str, Any]
SECTIONS = (
    ("results", "Results"),
    ("closed", "Closed loop"),
    ("style", "Style"),
    ("scenes", "Scenes"),
    ("data", "Data"),
    ("run", "Run card"),
)
COLUMNS = (
    ("ade_4s_m", "ADE 4 s", 2),
    ("fde_4s_m", "FDE 4 s", 2),
    ("pdms", "PDMS", 3),
    ("sm_pdms_released", "SM-PDMS released", 3),
    ("sm_pdms_fine", "SM-PDMS fine", 3),
    ("no_collision", "no collision", 3),
    ("drivable_area", "on the road", 3),
    ("time_to_collision", "TTC", 3),
    ("comfort", "comfort", 3),
    ("progress", "progress", 3),
)
WHOLE_RIDE = (
    ("no_collision_ride", "no collision, whole ride", 3),
    ("drivable_area_ride", "on the road, whole ride", 3),
)
"""More columns, of closed loops that last longer than the four seconds scores are defined on."""
STYLE_COLOURS = {"conservative": 2, "normal": 0, "aggressive": 1}


def page(metrics: Numbers) -> str:
    """The whole page."""
    colours = {run["planner"]: place for place, run in enumerate(metrics["runs"])}
    body = joined(
        [
            _top(metrics),
            element(
                "nav",
                element("div", *(element("a", word, href=f"#{name}") for name, word in SECTIONS)),
            ),
            element(
                "main",
                _results(metrics, colours, OPEN_LOOP),
                _results(metrics, colours, CLOSED_LOOP),
                style_section(metrics, colours),
                _scenes(metrics),
                _data(metrics),
                _runs(metrics),
            ),
            element(
                "footer",
                "Intervals are 95 % percentile bootstraps over recordings, "
                f"{metrics['settings']['resamples']:,} resamples, seed "
                f"{metrics['settings']['seed']}. Every number stands in metrics.json.",
            ),
        ]
    )
    style, script = (
        files("driving.report").joinpath(f"page.{ending}").read_text(encoding="utf-8")
        for ending in ("css", "js")
    )
    names = ", ".join(colours)
    return whole_page(f"Driving report: {names}", body, style=style, script=script)


def _top(metrics: Numbers) -> Markup:
    data = metrics["data"]
    notices = []
    if data["simulated"]:
        notices.append(
            element(
                "p",
                element("strong", "Simulated data. "),
                f"{data['simulated']} of {data['scenes']} scenes were made by a traffic simulator. "
                "Nothing about them is evidence about real drivers.",
                class_="notice",
            )
        )
    return element(
        "header",
        element("p", "Driving report", class_="eyebrow"),
        element("h1", "Which planner drives well, and in the style it was asked for?"),
        element(
            "p",
            f"{data['samples']:,} samples of {data['recordings']} recordings "
            f"({', '.join(data['sources'])}), split {data['split']}{_left_out(data)}",
            class_="facts",
        ),
        *notices,
        element("div", *(element("p", said) for said in metrics["verdict"]), class_="verdict"),
        class_="top",
    )


def _left_out(data: Numbers) -> str:
    if not data["left_out"]:
        return ""
    return f"; {data['left_out']:,} left out whose log ends before {data['ride_s']:g} s"


def _results(metrics: Numbers, colours: Mapping[str, int], loop: str) -> Markup:
    cells = [cell for cell in metrics["cells"] if cell["loop"] == loop]
    cells.sort(key=lambda cell: is_oracle(cell["condition"]))
    name, title = ("results", "Results") if loop == OPEN_LOOP else ("closed", "Closed loop")
    ride_s = metrics["data"]["ride_s"]
    longer = loop == CLOSED_LOOP and ride_s > SCORED_S
    closed = (
        f"Planned anew every half second for {ride_s:g} seconds; the others repeat the log or "
        "react, as the run card says."
    )
    if longer:
        closed += " Scores are those of the first four seconds, but for the last two columns."
    said = (
        "One plan for four seconds, driven by tracker and bicycle. Conditions that look at what "
        "is to be planned, or at a simulator's secrets, stand apart: they are bounds."
        if loop == OPEN_LOOP
        else closed
    )
    if not cells:
        return element("section", element("h2", title), element("p", "Not asked."), id=name)
    columns = [
        column
        for column in (*COLUMNS, *(WHOLE_RIDE if longer else ()))
        if any(column[0] in cell["metrics"] for cell in cells)
    ]
    return element(
        "section",
        element("h2", title),
        element("p", said),
        _cell_table(cells, columns, colours),
        _dots(cells, colours),
        id=name,
    )


def _cell_table(
    cells: Sequence[Numbers],
    columns: Sequence[tuple[str, str, int]],
    colours: Mapping[str, int],
) -> Markup:
    rows = []
    for cell in cells:
        shown = [
            element("td", model_name(cell["planner"], colours[cell["planner"]])),
            element("td", cell["condition"], title=MEANINGS.get(cell["condition"])),
        ]
        for name, _, digits in columns:
            found = cell["metrics"].get(name)
            shown.append(
                element("td", DASH, class_="n")
                if found is None
                else element(
                    "td",
                    number(found["value"], digits),
                    interval(found, digits),
                    class_="n",
                    data_sort=found["value"],
                )
            )
        frozen = cell["anti_freeze"]
        shown.append(element("td", share(frozen["value"]) if frozen else DASH, class_="n"))
        bound = "bound" if is_oracle(cell["condition"]) else None
        rows.append(element("tr", *shown, class_=bound))
    head = [
        element("th", "planner"),
        element("th", "style asked for"),
        *(element("th", word, class_="n") for _, word, _ in columns),
        element("th", "moves", class_="n", title="drove at least a fifth of the human's way"),
    ]
    return table(head, rows, class_="sortable")


def _dots(cells: Sequence[Numbers], colours: Mapping[str, int]) -> Markup:
    figures = []
    for name, title, digits in (("ade_4s_m", "ADE 4 s in metres", 2), ("pdms", "PDM score", 3)):
        dots = [
            Dot(
                label=f"{cell['planner']}, {cell['condition']}",
                value=cell["metrics"][name]["value"],
                low=cell["metrics"][name]["low"],
                high=cell["metrics"][name]["high"],
                colour=colours[cell["planner"]],
                hollow=is_oracle(cell["condition"]),
            )
            for cell in cells
            if name in cell["metrics"] and cell["condition"] not in STYLE_LABELS
        ]
        if dots:
            figures.append(
                element(
                    "div", element("h3", title), interval_dots(dots, title=title, digits=digits)
                )
            )
    return element("div", *figures, class_="grid two")


def _scenes(metrics: Numbers) -> Markup:
    parts = []
    for example in metrics["examples"]:
        shown = [name for name in STYLE_LABELS if name in example["drives"]]
        if not shown:
            continue
        pictures = scene_pictures(example, shown, STYLE_COLOURS)
        drives = [
            element(
                "div",
                element("h4", name, class_=f"c{STYLE_COLOURS[name]}"),
                pictures[name],
                element("small", _drive_facts(example["drives"][name])),
            )
            for name in shown
        ]
        parts.append(
            element(
                "article",
                element("h3", f"{example['planner']}: {example['title']}"),
                element("div", *drives, class_="drives"),
                speed_curves(example, shown, STYLE_COLOURS),
                class_="panel",
            )
        )
    return element(
        "section",
        element("h2", "Scenes"),
        element(
            "p",
            "The same seconds in three styles, seen from above; the ego starts to the right and "
            "leaves a dot for every second: the farther apart, the faster. Below, its speed.",
        ),
        element("div", element("button", "hold still", class_="motion", type="button", hidden=""),
                class_="tools"),
        *parts,
        id="scenes",
    )  # fmt: skip


def _drive_facts(drive: Numbers) -> str:
    facts = drive["facts"]
    speed = sum(drive["speed_mps"]) / len(drive["speed_mps"])
    return (
        f"{speed:.1f} m/s on average, {facts['progress_m']:.0f} m along the route, "
        f"PDMS {facts['pdms']:.2f}, driven {facts['driven_label']}"
    )


def _data(metrics: Numbers) -> Markup:
    data = metrics["data"]
    labels = [[name, f"{count:,}", share(count / max(sum(data["labels"].values()), 1))]
              for name, count in data["labels"].items()]  # fmt: skip
    types = [[name, f"{count:,}"] for name, count in data["scenario_types"].items()]
    rejected = [[reason, f"{count:,}"] for reason, count in data["rejected"].items()]
    truth = [element("p", line) for line in data["agreement"]]
    return element(
        "section",
        element("h2", "Data"),
        element(
            "div",
            element("div", element("h3", "Labels"), table(["label", "samples", "share"], labels)),
            element("div", element("h3", "Scenario types"), table(["type", "samples"], types)),
            class_="grid two",
        ),
        element("h3", "Refused input"),
        table(["reason", "pieces"], rejected) if rejected else element("p", "Nothing."),
        *([element("h3", "Labels against the simulator's truth"), *truth] if truth else []),
        id="data",
    )


def _runs(metrics: Numbers) -> Markup:
    parts = []
    for run in metrics["runs"]:
        rows = [[key, str(value)] for key, value in run["facts"].items()]
        parts += [element("h3", run["planner"]), table(["fact", "value"], rows)]
    settings = [[key, str(value)] for key, value in metrics["settings"].items()]
    return element(
        "section",
        element("h2", "Run card"),
        *parts,
        element("h3", "Settings"),
        table(["setting", "value"], settings),
        id="run",
    )
